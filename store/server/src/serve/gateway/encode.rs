//! From a message to JSON, as etcd sets up Go's `protojson`: names of the protocol, 64-bit numbers
//! as texts, nothing that has its zero value.
//!
//! Owns: the form. Must not know: which messages there are. A newcomer's trap: what a stream sends
//! goes through Go's `encoding/json` once more, which escapes what HTML would read; a single answer
//! does not.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, ReflectMessage as _, Value};
use tonic::Status;

/// Whether characters that HTML reads are escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Html {
    Plain,
    Escaped,
}

/// A message.
pub(super) fn message(message: &DynamicMessage, html: Html, out: &mut String) {
    out.push('{');
    let mut first = true;
    for field in message.descriptor().fields() {
        if !message.has_field(&field) {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        text(field.name(), html, out);
        out.push(':');
        value(&field, &message.get_field(&field), html, out);
    }
    out.push('}');
}

/// What a failed request is answered with.
pub(super) fn status(status: &Status, html: Html, out: &mut String) {
    let _ = write!(out, "{{\"code\":{}", status.code() as i32);
    if !status.message().is_empty() {
        out.push_str(",\"message\":");
        text(status.message(), html, out);
    }
    out.push('}');
}

fn value(field: &FieldDescriptor, of: &Value, html: Html, out: &mut String) {
    match of {
        Value::List(list) => {
            out.push('[');
            for (index, item) in list.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                value(field, item, html, out);
            }
            out.push(']');
        }
        Value::Message(inner) => message(inner, html, out),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::I64(number) => _ = write!(out, "\"{number}\""),
        Value::U64(number) => _ = write!(out, "\"{number}\""),
        Value::I32(number) => _ = write!(out, "{number}"),
        Value::U32(number) => _ = write!(out, "{number}"),
        Value::String(string) => text(string, html, out),
        Value::Bytes(bytes) => {
            out.push('"');
            BASE64_STANDARD.encode_string(bytes, out);
            out.push('"');
        }
        Value::EnumNumber(number) => match field.kind() {
            Kind::Enum(of) => match of.get_value(*number) {
                Some(known) => text(known.name(), html, out),
                None => _ = write!(out, "{number}"),
            },
            _ => _ = write!(out, "{number}"),
        },
        // No message of etcd has them; a test looks.
        Value::F32(_) | Value::F64(_) | Value::Map(_) => out.push_str("null"),
    }
}

fn text(of: &str, html: Html, out: &mut String) {
    out.push('"');
    for character in of.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..' ' => _ = write!(out, "\\u{:04x}", u32::from(character)),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' if html == Html::Escaped => {
                _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use kijabi_proto::etcdserverpb as pb;
    use kijabi_proto::mvccpb;

    use super::super::routes;
    use super::*;

    fn json(name: &str, of: &impl prost::Message) -> String {
        let descriptor = routes::pool().get_message_by_name(name).unwrap();
        let dynamic = DynamicMessage::decode(descriptor, &of.encode_to_vec()[..]).unwrap();
        let mut out = String::new();
        message(&dynamic, Html::Plain, &mut out);
        out
    }

    #[test]
    fn zero_values_are_left_out_and_long_numbers_are_texts() {
        let response = pb::RangeResponse {
            header: Some(pb::ResponseHeader { cluster_id: u64::MAX, ..Default::default() }),
            kvs: vec![mvccpb::KeyValue {
                key: b"\xff\xfe".as_slice().into(),
                mod_revision: -7,
                ..Default::default()
            }],
            more: true,
            count: 0,
        };
        assert_eq!(
            json("etcdserverpb.RangeResponse", &response),
            r#"{"header":{"cluster_id":"18446744073709551615"},"kvs":[{"key":"//4=","mod_revision":"-7"}],"more":true}"#
        );
    }

    #[test]
    fn a_chosen_alternative_is_written_though_it_is_zero() {
        let compare = pb::Compare {
            target: 2,
            target_union: Some(pb::compare::TargetUnion::ModRevision(0)),
            ..Default::default()
        };
        let written = json("etcdserverpb.Compare", &compare);
        assert_eq!(written, r#"{"target":"MOD","mod_revision":"0"}"#);
        let unknown = pb::AlarmMember { alarm: 9, member_id: 1 };
        assert_eq!(json("etcdserverpb.AlarmMember", &unknown), r#"{"memberID":"1","alarm":9}"#);
    }

    #[test]
    fn texts_are_escaped() {
        let mut out = String::new();
        text("a\"\\\n\u{1}<é>", Html::Plain, &mut out);
        assert_eq!(out, r#""a\"\\\n\u0001<é>""#);
        out.clear();
        text("<&>", Html::Escaped, &mut out);
        assert_eq!(out, r#""\u003c\u0026\u003e""#);
    }

    #[test]
    fn errors_have_code_and_text() {
        let mut out = String::new();
        status(&Status::not_found("Not Found"), Html::Plain, &mut out);
        assert_eq!(out, r#"{"code":5,"message":"Not Found"}"#);
    }
}
