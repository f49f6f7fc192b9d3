//! Kubernetes' protobuf: an envelope with the kind, and messages numbered by the schema table.
//!
//! Owns: the envelope, watch frames. Must not know: JSON rules (the result of decoding is brought to
//! normal form like any other body). A newcomer's trap: `kind` and `apiVersion` stand only in the
//! envelope, items of a list have none, and embedded Go structures are messages of their own.

mod decode;
mod encode;
mod wire;

use serde_json::Value;

use super::Named;
use super::json::{NESTING_MAX, Node};
use crate::schema::Type;

/// What an encoded object starts with.
const PREFIX: &[u8] = b"k8s\0";

/// Takes the envelope off: what the body says it is, and its message.
pub(super) fn opened(body: &[u8]) -> Result<(Named, &[u8]), String> {
    if body.is_empty() {
        return Err("empty data".into());
    }
    let Some(envelope) = body.strip_prefix(PREFIX) else {
        return Err("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]".into());
    };
    if envelope.is_empty() {
        return Err("empty body".into());
    }
    let mut reader = wire::Reader::new(envelope);
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    while let Some((number, value)) = reader.field()? {
        match number {
            1 => {
                let mut meta = wire::Reader::new(value.bytes("TypeMeta")?);
                while let Some((number, value)) = meta.field()? {
                    match number {
                        1 => api_version = value.text("APIVersion")?,
                        2 => kind = value.text("Kind")?,
                        _ => {}
                    }
                }
            }
            2 => raw = value.bytes("Raw")?,
            _ => {}
        }
    }
    Ok((Named::from_parts(&api_version, kind)?, raw))
}

/// Reads a message as a tree.
pub(super) fn message(bytes: &[u8], target: &'static Type) -> Result<Node, String> {
    let node = decode::message(bytes, target, 0)?;
    // Raw JSON within deep messages adds to their depth.
    if node.depth() > NESTING_MAX { Err("exceeded max depth".into()) } else { Ok(node) }
}

/// An object in its envelope: what `Content-Type: application/vnd.kubernetes.protobuf` holds.
pub fn encode(object: &Value, target: &'static Type) -> Vec<u8> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut meta = Vec::new();
    wire::put_bytes(&mut meta, 1, text("apiVersion").as_bytes());
    wire::put_bytes(&mut meta, 2, text("kind").as_bytes());
    let mut out = PREFIX.to_vec();
    wire::put_bytes(&mut out, 1, &meta);
    wire::put_bytes(&mut out, 2, &encode::message(object, target));
    wire::put_bytes(&mut out, 3, b"");
    wire::put_bytes(&mut out, 4, b"");
    out
}

/// One frame of `application/vnd.kubernetes.protobuf;stream=watch`: a length and a watch event
/// around an object encoded by [`encode`].
pub fn watch_frame(event_type: &str, object: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    wire::put_bytes(&mut raw, 1, object);
    let mut event = Vec::new();
    wire::put_bytes(&mut event, 1, event_type.as_bytes());
    wire::put_bytes(&mut event, 2, &raw);
    let mut frame = (event.len() as u32).to_be_bytes().to_vec();
    frame.append(&mut event);
    frame
}

#[cfg(test)]
mod tests {
    use super::super::{Expected, Media, decode, normalized};
    use super::*;
    use crate::schema;
    use proptest::prelude::*;
    use serde_json::json;

    /// Through protobuf and back an object stays what it is.
    fn round_trip(group: &str, version: &str, kind: &str, mut object: Value) {
        let api_version =
            if group.is_empty() { version.into() } else { format!("{group}/{version}") };
        object["apiVersion"] = api_version.into();
        object["kind"] = kind.into();
        let target = schema::type_of_kind(group, version, kind).unwrap();
        let object = normalized(object, target);
        let body = encode(&object, target);
        let expected = Expected { group, version, kind };
        let decoded = decode(&body, Media::Protobuf, expected).unwrap();
        assert_eq!(decoded.object, object);
    }

    #[test]
    fn objects_survive() {
        round_trip(
            "",
            "v1",
            "Pod",
            json!({"metadata": {"name": "p", "labels": {"a": "b", "c": ""}, "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 3,
                "managedFields": [{"manager": "m", "operation": "Update", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {".": {}}}}]},
            "spec": {"volumes": [{"name": "e", "emptyDir": {}}, {"name": "h", "hostPath": {"path": "/x", "type": ""}}], "priority": -5,
                "containers": [{"name": "c", "image": "nginx", "command": ["a", ""], "resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}},
                    "livenessProbe": {"httpGet": {"port": "web", "path": "/"}}, "readinessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 5},
                    "env": [{"name": "A", "value": "b"}, {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]}],
                "tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": 300}], "automountServiceAccountToken": false},
            "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": null}]}}),
        );
        round_trip(
            "",
            "v1",
            "Secret",
            json!({"data": {"k": "eA==", "empty": ""}, "type": "Opaque"}),
        );
        round_trip(
            "",
            "v1",
            "Event",
            json!({"eventTime": "2026-01-01T00:00:00.123456Z", "involvedObject": {"kind": "Pod"}}),
        );
        round_trip(
            "apps",
            "v1",
            "ControllerRevision",
            json!({"data": {"spec": {"x": [1, 2.5, "y"]}}, "revision": 1}),
        );
        round_trip(
            "authentication.k8s.io",
            "v1",
            "TokenReview",
            json!({"status": {"user": {"username": "u", "extra": {"k": ["a", "b"]}}}}),
        );
        round_trip("policy", "v1", "PodDisruptionBudget", json!({"spec": {"minAvailable": "50%"}}));
        round_trip(
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
            json!({"spec": {"group": "g", "scope": "Namespaced", "names": {"plural": "ws", "kind": "W"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "maximum": 1.5, "default": {"a": [null]},
                "additionalProperties": false, "items": {"type": "string"}, "enum": ["a", 1], "dependencies": {"x": ["y"]},
                "properties": {"p": {"type": "array", "items": [{"type": "integer"}], "additionalProperties": {"type": "string"}}}}}}]}}),
        );
        round_trip(
            "",
            "v1",
            "PodList",
            json!({"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]}),
        );
    }

    #[test]
    fn a_watch_frame_holds_the_object() {
        let frame = watch_frame("ADDED", b"k8s\0x");
        assert_eq!(frame[..4], (frame.len() as u32 - 4).to_be_bytes());
        assert!(frame.ends_with(b"k8s\0x"));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let expected = Expected { group: "", version: "v1", kind: "Pod" };
        for (body, why) in [
            (&b""[..], "empty data"),
            (b"k8s\0", "empty body"),
            (
                b"{}",
                "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
            ),
            (b"k8s\0\x0a\xff", "unexpected EOF"),
            (b"k8s\0\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "proto: integer overflow"),
        ] {
            let error = decode(body, Media::Protobuf, expected).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn deep_messages_are_refused() {
        let expected = Expected {
            group: "apiextensions.k8s.io",
            version: "v1",
            kind: "CustomResourceDefinition",
        };
        // A schema's field 25 (items) holds field 1 (schema), again and again.
        let mut bytes = Vec::new();
        for _ in 0..20_000 {
            let mut outer = Vec::new();
            wire::put_bytes(&mut outer, 1, &bytes);
            bytes.clear();
            wire::put_bytes(&mut bytes, 24, &outer);
            if bytes.len() > 200_000 {
                break;
            }
        }
        let mut body = bytes;
        for number in [1, 4, 7, 2] {
            let mut outer = Vec::new();
            wire::put_bytes(&mut outer, number, &body);
            body = outer;
        }
        let mut whole = PREFIX.to_vec();
        wire::put_bytes(&mut whole, 2, &body);
        let error = decode(&whole, Media::Protobuf, expected).unwrap_err().to_string();
        assert!(error.contains("exceeded max depth"), "{error}");
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..400, byte: u8) {
            let expected = Expected { group: "", version: "v1", kind: "Pod" };
            let target = schema::type_of_kind("", "v1", "Pod").unwrap();
            let mut body = PREFIX.to_vec();
            wire::put_bytes(&mut body, 2, &bytes);
            let _ = decode(&body, Media::Protobuf, expected);
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}}]}});
            let mut changed = encode(&pod, target);
            let length = changed.len();
            changed[at % length] = byte;
            let _ = decode(&changed, Media::Protobuf, expected);
        }
    }
}
