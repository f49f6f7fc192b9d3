//! A stored object: its bytes, and the revision that is its resourceVersion.
//!
//! Owns: the stored form, JSON without `metadata.resourceVersion`. Must not know: kinds. A
//! newcomer's trap: the version is not part of the value; it is the revision the store gave the
//! write, put back in when the object is read (RV-1).

use bytes::Bytes;
use serde_json::Value;

use super::{Revision, StoreError};

/// One key with its value as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Bytes,
    /// The stored bytes.
    pub value: Bytes,
    /// When it was last written.
    pub revision: Revision,
    /// The lease it lives by, 0 for none.
    pub lease: i64,
}

impl Record {
    /// The object, with its resourceVersion.
    pub fn object(&self) -> Result<Value, StoreError> {
        decode(&self.key, &self.value, self.revision)
    }
}

/// The object in `value`, with its resourceVersion.
pub fn decode(key: &[u8], value: &[u8], revision: Revision) -> Result<Value, StoreError> {
    let corrupt =
        |why: String| StoreError::Corrupt { key: String::from_utf8_lossy(key).into_owned(), why };
    let mut object: Value = serde_json::from_slice(value).map_err(|e| corrupt(e.to_string()))?;
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return Err(corrupt("it has no metadata".into()));
    };
    metadata.insert("resourceVersion".into(), Value::String(revision.to_string()));
    Ok(object)
}

/// The bytes to store for `object`.
pub fn encode(object: &Value) -> Vec<u8> {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
        metadata.remove("selfLink");
    }
    serde_json::to_vec(&object).expect("a JSON value always has a JSON form")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_version_is_not_stored_but_comes_from_the_revision() {
        let object = json!({"metadata": {"name": "x", "resourceVersion": "3"}, "data": {"a": "b"}});
        let stored = encode(&object);
        assert_eq!(stored, br#"{"data":{"a":"b"},"metadata":{"name":"x"}}"#);
        let back = decode(b"/k", &stored, Revision(7)).unwrap();
        assert_eq!(back["metadata"]["resourceVersion"], "7");
    }

    #[test]
    fn a_value_that_is_no_object_is_an_error_that_names_its_key() {
        for bad in [&b"{"[..], b"[]", b"{}", b"k8s\0"] {
            let error = decode(b"/registry/pods/g/x", bad, Revision(1)).unwrap_err();
            assert!(error.to_string().contains("/registry/pods/g/x"), "{error}");
        }
    }
}
