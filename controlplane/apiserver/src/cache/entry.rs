//! One object in a cache: its JSON, encoded once, and what selectors ask about.
//!
//! Owns: what is kept of an object. Must not know: who reads it. A newcomer's trap: the encoded
//! form already has its resourceVersion, so it can be sent to any JSON client as it is.

use bytes::Bytes;
use kijabi_meta::kind::Kind;
use serde_json::Value;

use crate::storage::{Record, Revision, StoreError, decode};

/// The fields that some kind can be selected by; those a kind supports are kept with its objects.
pub const SELECTABLE: &[&str] = &[
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
    "spec.unschedulable",
    "spec.clusterIP",
    "spec.type",
    "type",
    "status.replicas",
    "status.successful",
    "spec.signerName",
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingComponent",
    "reportingController",
    "source",
];

/// An object at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `<namespace>/<name>`, or `<name>`.
    pub place: Box<str>,
    /// The revision of its last write.
    pub revision: Revision,
    /// Its labels, sorted by key.
    pub labels: Vec<(Box<str>, Box<str>)>,
    /// The fields it can be selected by, with their values.
    pub fields: Vec<(&'static str, Box<str>)>,
    /// The object in JSON, with its resourceVersion; kind and apiVersion come first.
    pub encoded: Bytes,
    /// Where in `encoded` the rest begins, behind kind and apiVersion.
    pub rest_at: usize,
}

impl Entry {
    /// What is kept of `object`.
    pub fn new(kind: &Kind, place: &str, revision: Revision, object: &Value) -> Self {
        let labels = object["metadata"]["labels"].as_object();
        let label = |(key, value): (&String, &Value)| {
            (key.as_str().into(), value.as_str().unwrap_or_default().into())
        };
        let field = |&field: &&'static str| {
            let value = kind.strategy.selectable_field(object, field)?;
            Some((field, value.into_boxed_str()))
        };
        let (encoded, rest_at) = encode(object);
        Self {
            place: place.into(),
            revision,
            labels: labels.into_iter().flatten().map(label).collect(),
            fields: SELECTABLE.iter().filter_map(field).collect(),
            encoded,
            rest_at,
        }
    }

    /// The object without kind and apiVersion, as the JSON of a list has it: what follows a `{`.
    pub fn rest(&self) -> &[u8] {
        self.encoded.get(self.rest_at..).unwrap_or_default()
    }

    /// What is kept of a record of the store.
    pub fn read(kind: &Kind, place: &str, record: &Record) -> Result<Self, StoreError> {
        let object = decode(&record.key, &record.value, record.revision)?;
        Ok(Self::new(kind, place, record.revision, &object))
    }

    /// The object.
    pub fn object(&self) -> Value {
        serde_json::from_slice(&self.encoded).expect("it was encoded from a JSON value")
    }

    /// The same object under a later version, as a watch shows one that went away.
    pub fn at(&self, revision: Revision) -> Self {
        let mut object = self.object();
        object["metadata"]["resourceVersion"] = Value::String(revision.to_string());
        let (encoded, rest_at) = encode(&object);
        Self { revision, encoded, rest_at, ..self.clone() }
    }

    /// Its namespace, empty for a cluster-scoped object.
    pub fn namespace(&self) -> &str {
        self.place.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.place.split_once('/').map_or(&self.place, |(_, name)| name)
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(one, _)| one.as_ref().cmp(key)).ok()?;
        self.labels.get(at).map(|(_, value)| value.as_ref())
    }

    /// The value of a selectable field, empty if it has none.
    pub fn field(&self, field: &str) -> &str {
        match field {
            "metadata.name" => self.name(),
            "metadata.namespace" => self.namespace(),
            _ => self.fields.iter().find(|(one, _)| *one == field).map_or("", |(_, value)| value),
        }
    }
}

/// The JSON of an object with kind and apiVersion first, and where the rest of it begins.
fn encode(object: &Value) -> (Bytes, usize) {
    const ALWAYS: &str = "a JSON value always has a JSON form";
    let mut out = b"{".to_vec();
    for field in ["kind", "apiVersion"] {
        if let Some(value) = object.get(field) {
            out.extend_from_slice(format!("\"{field}\":").as_bytes());
            serde_json::to_writer(&mut out, value).expect(ALWAYS);
            out.push(b',');
        }
    }
    let rest_at = out.len();
    let fields = object.as_object().into_iter().flatten();
    for (key, value) in fields.filter(|(key, _)| !matches!(key.as_str(), "kind" | "apiVersion")) {
        if out.len() > rest_at {
            out.push(b',');
        }
        serde_json::to_writer(&mut out, key).expect(ALWAYS);
        out.push(b':');
        serde_json::to_writer(&mut out, value).expect(ALWAYS);
    }
    out.push(b'}');
    (out.into(), rest_at)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_encoded_once_for_watches_and_lists() {
        let object = json!({
            "kind": "Pod", "apiVersion": "v1", "metadata": {"name": "x"}, "a": ["\"", 1]
        });
        let (encoded, rest_at) = encode(&object);
        assert_eq!(serde_json::from_slice::<Value>(&encoded).unwrap(), object);
        let item = [b"{", &encoded[rest_at..]].concat();
        let item: Value = serde_json::from_slice(&item).unwrap();
        assert_eq!(item, json!({"metadata": {"name": "x"}, "a": ["\"", 1]}));
    }
}
