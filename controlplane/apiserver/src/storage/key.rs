//! Where an object lives in the store: `/registry/<prefix>/[<namespace>/]<name>`.
//!
//! Owns: the only way to make a key. Must not know: which resources exist. A newcomer's trap: a
//! segment with a slash, or `..`, would name another object (CVE-2022-3162), so keys are made of
//! checked segments only and never from a path.

use bytes::Bytes;

use super::StoreError;

const ROOT: &str = "/registry/";

/// The key of one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(Bytes);

impl Key {
    /// The key of an object; an empty namespace is a cluster-scoped object.
    pub fn object(prefix: &str, namespace: &str, name: &str) -> Result<Self, StoreError> {
        let mut text = format!("{ROOT}{prefix}/");
        if !namespace.is_empty() {
            push_segment(&mut text, namespace)?;
            text.push('/');
        }
        push_segment(&mut text, name)?;
        Ok(Self(text.into()))
    }

    /// A key of the store's own choosing, such as the compactor's.
    pub(super) fn plain(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// The bytes on the wire.
    pub fn bytes(&self) -> Bytes {
        self.0.clone()
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// All objects of a resource, or those of one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    start: Bytes,
    end: Bytes,
    probe: Bytes,
}

impl KeyRange {
    /// The objects below a storage prefix, all or those of a namespace.
    pub fn resource(prefix: &str, namespace: &str) -> Result<Self, StoreError> {
        let mut text = format!("{ROOT}{prefix}/");
        let probe = Bytes::from(format!("{ROOT}{prefix}"));
        if !namespace.is_empty() {
            push_segment(&mut text, namespace)?;
            text.push('/');
        }
        // A prefix ends with a slash, so the first key after all of its keys ends with a `0`.
        let mut end = text.clone().into_bytes();
        end.pop();
        end.push(b'/' + 1);
        Ok(Self { start: text.into(), end: end.into(), probe })
    }

    /// The first key of the range.
    pub fn start(&self) -> Bytes {
        self.start.clone()
    }

    /// The first key after the range.
    pub fn end(&self) -> Bytes {
        self.end.clone()
    }

    /// A key that cannot exist; reading it costs nothing and tells the current revision.
    pub fn probe(&self) -> Bytes {
        self.probe.clone()
    }

    /// What follows the range's prefix in `key`: `<namespace>/<name>` or `<name>`.
    pub fn rest_of<'a>(&self, key: &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(key.strip_prefix(self.start.as_ref())?).ok()
    }

    /// The key of the range that ends with `rest`, as a continue token names it.
    pub fn key_at(&self, rest: &str) -> Bytes {
        [self.start.as_ref(), rest.as_bytes()].concat().into()
    }
}

fn push_segment(text: &mut String, segment: &str) -> Result<(), StoreError> {
    let bad = segment.is_empty()
        || segment == "."
        || segment == ".."
        || segment.len() > 253
        || segment.contains(['/', '%', '\\'])
        || segment.chars().any(char::is_control);
    if bad {
        return Err(StoreError::BadSegment(segment.chars().take(300).collect()));
    }
    text.push_str(segment);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_kubernetes_keys() {
        let key = |p, ns, n| Key::object(p, ns, n).unwrap().to_string();
        assert_eq!(key("pods", "g", "x"), "/registry/pods/g/x");
        assert_eq!(key("services/specs", "g", "x"), "/registry/services/specs/g/x");
        assert_eq!(key("minions", "", "n1"), "/registry/minions/n1");
        let range = KeyRange::resource("pods", "").unwrap();
        assert_eq!(
            (&range.start()[..], &range.end()[..]),
            (&b"/registry/pods/"[..], &b"/registry/pods0"[..])
        );
        assert_eq!(range.probe(), "/registry/pods");
        assert_eq!(range.rest_of(b"/registry/pods/g/x"), Some("g/x"));
        let range = KeyRange::resource("pods", "g").unwrap();
        assert_eq!(range.end(), "/registry/pods/g0");
    }

    #[test]
    fn a_segment_that_could_name_another_object_is_refused() {
        let long = "a".repeat(254);
        for bad in ["", ".", "..", "a/b", "a%2fb", "a\0b", "a\nb", "a\\b", &long] {
            assert!(Key::object("pods", "g", bad).is_err(), "{bad:?} as a name");
            if !bad.is_empty() {
                assert!(Key::object("pods", bad, "x").is_err(), "{bad:?} as a namespace");
                assert!(KeyRange::resource("pods", bad).is_err(), "{bad:?} as a range");
            }
        }
    }
}
