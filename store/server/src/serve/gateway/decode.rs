//! From JSON to an encoded message, by the rules and in the words of Go's `protojson`.
//!
//! Owns: names, numbers, enums, bytes, and what is refused. Must not know: which messages there
//! are. A newcomer's trap: the message is written as it is read, never built in memory, so that a
//! body of a million empty objects costs no more than its bytes.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind as FieldKind, MessageDescriptor};

use super::token::{Kind, Token, Tokens, whole_number};
use crate::limits::GATEWAY_MESSAGE_DEPTH_MAX;

/// Why a value is not such a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The text for the client.
    Invalid(String),
    /// It is nested deeper than any message may be.
    TooDeep,
}

impl From<String> for Refusal {
    fn from(text: String) -> Self {
        Self::Invalid(format!("proto: {text}"))
    }
}

/// The message that `value`, one JSON value, describes.
pub(super) fn message(value: &[u8], descriptor: &MessageDescriptor) -> Result<Vec<u8>, Refusal> {
    let mut reader = Reader { tokens: Tokens::new(value), depth: 0 };
    let mut encoded = Vec::new();
    reader.message(descriptor, &mut encoded)?;
    Ok(encoded)
}

struct Reader<'a> {
    tokens: Tokens<'a>,
    depth: usize,
}

// === impl Reader ===

impl Reader<'_> {
    fn wrong(&self, token: &Token<'_>, text: &str) -> Refusal {
        format!("({}): {text}", self.tokens.place(token.start)).into()
    }

    fn unexpected(&self, token: &Token<'_>) -> Refusal {
        let place = self.tokens.place(token.start);
        format!("syntax error ({place}): unexpected token {}", token.raw()).into()
    }

    fn message(&mut self, of: &MessageDescriptor, out: &mut Vec<u8>) -> Result<(), Refusal> {
        self.depth += 1;
        if self.depth > GATEWAY_MESSAGE_DEPTH_MAX {
            return Err(Refusal::TooDeep);
        }
        let open = self.tokens.read()?;
        if open.kind != Kind::ObjectOpen {
            return Err(self.unexpected(&open));
        }
        let (mut seen, mut seen_oneofs) = (BTreeSet::new(), BTreeSet::new());
        loop {
            let name = self.tokens.read()?;
            let field = match &name.kind {
                Kind::ObjectClose => break,
                Kind::Text(text) => field(of, text),
                _ => return Err(self.unexpected(&name)),
            };
            let Some(field) = field else {
                self.skip()?;
                continue;
            };
            if !seen.insert(field.number()) {
                return Err(self.wrong(&name, &format!("duplicate field {}", name.raw())));
            }
            if self.tokens.peek()?.kind == Kind::Null {
                self.tokens.read()?;
                continue;
            }
            if field.is_list() {
                self.list(&field, out)?;
                continue;
            }
            if let Some(oneof) = field.containing_oneof()
                && !seen_oneofs.insert(oneof.full_name().to_owned())
            {
                let (raw, oneof) = (name.raw(), oneof.full_name());
                let text = format!("error parsing {raw}, oneof {oneof} is already set");
                return Err(self.wrong(&name, &text));
            }
            self.single(&field, out)?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn list(&mut self, field: &FieldDescriptor, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let open = self.tokens.read()?;
        if open.kind != Kind::ArrayOpen {
            return Err(self.unexpected(&open));
        }
        while self.tokens.peek()?.kind != Kind::ArrayClose {
            self.single(field, out)?;
        }
        self.tokens.read()?;
        Ok(())
    }

    fn single(&mut self, field: &FieldDescriptor, out: &mut Vec<u8>) -> Result<(), Refusal> {
        if let FieldKind::Message(of) = field.kind() {
            let mut inner = Vec::new();
            self.message(&of, &mut inner)?;
            write_bytes(field.number(), &inner, out);
            return Ok(());
        }
        let token = self.tokens.read()?;
        if scalar(field, &token, out) {
            return Ok(());
        }
        let (kind, name, raw) = (kind_name(&field.kind()), field.json_name(), token.raw());
        Err(self.wrong(&token, &format!("invalid value for {kind} field {name}: {raw}")))
    }

    /// Passes over the value of a field that is not known.
    fn skip(&mut self) -> Result<(), Refusal> {
        let mut open = 0_usize;
        loop {
            match self.tokens.read()?.kind {
                Kind::ObjectOpen | Kind::ArrayOpen => open += 1,
                Kind::ObjectClose | Kind::ArrayClose => open = open.saturating_sub(1),
                Kind::End => return Ok(()),
                _ => {}
            }
            if open == 0 {
                return Ok(());
            }
        }
    }
}

/// A field by the name it has in JSON or in the protocol.
fn field(of: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    of.get_field_by_json_name(name).or_else(|| of.get_field_by_name(name))
}

/// Writes a value that is no message; `false` if the token is none of the field's values.
fn scalar(field: &FieldDescriptor, token: &Token<'_>, out: &mut Vec<u8>) -> bool {
    let number = field.number();
    let varint = |value: u64, out: &mut Vec<u8>| {
        encode_key(number, WireType::Varint, out);
        encode_varint(value, out);
        true
    };
    let whole = |range: std::ops::RangeInclusive<i128>| {
        integer(token).filter(|number| range.contains(number))
    };
    let in_i32 = i128::from(i32::MIN)..=i128::from(i32::MAX);
    match (field.kind(), &token.kind) {
        (FieldKind::Bool, Kind::Bool(value)) => varint(u64::from(*value), out),
        (FieldKind::String, Kind::Text(text)) => {
            write_bytes(number, text.as_bytes(), out);
            true
        }
        (FieldKind::Bytes, Kind::Text(text)) => match from_base64(text) {
            Some(bytes) => {
                write_bytes(number, &bytes, out);
                true
            }
            None => false,
        },
        (FieldKind::Int32, _) => whole(in_i32).is_some_and(|value| varint(value as u64, out)),
        (FieldKind::Int64, _) => whole(i128::from(i64::MIN)..=i128::from(i64::MAX))
            .is_some_and(|value| varint(value as u64, out)),
        (FieldKind::Uint32, _) => {
            whole(0..=i128::from(u32::MAX)).is_some_and(|value| varint(value as u64, out))
        }
        (FieldKind::Uint64, _) => {
            whole(0..=i128::from(u64::MAX)).is_some_and(|value| varint(value as u64, out))
        }
        (FieldKind::Enum(of), Kind::Text(name)) => {
            // A name that is not known is passed over like a field that is not.
            enum_number(&of, name).is_none_or(|value| varint(i64::from(value) as u64, out))
        }
        (FieldKind::Enum(_), Kind::Number) => {
            whole(in_i32).is_some_and(|value| varint(value as u64, out))
        }
        _ => false,
    }
}

fn enum_number(of: &EnumDescriptor, name: &str) -> Option<i32> {
    of.get_value_by_name(name).map(|value| value.number())
}

/// A number, or a text that is exactly one.
fn integer(token: &Token<'_>) -> Option<i128> {
    match &token.kind {
        Kind::Number => whole_number(&token.raw()),
        Kind::Text(text) if !text.starts_with('+') => whole_number(text),
        _ => None,
    }
}

fn write_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

const fn engine(alphabet: &alphabet::Alphabet, padding: DecodePaddingMode) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(padding);
    GeneralPurpose::new(alphabet, config)
}

/// Go's standard or URL-safe alphabet, with or without padding; line breaks are ignored.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    use DecodePaddingMode::{RequireCanonical, RequireNone};
    const STANDARD: [GeneralPurpose; 2] =
        [engine(&alphabet::STANDARD, RequireCanonical), engine(&alphabet::STANDARD, RequireNone)];
    const URL_SAFE: [GeneralPurpose; 2] =
        [engine(&alphabet::URL_SAFE, RequireCanonical), engine(&alphabet::URL_SAFE, RequireNone)];
    let engines = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
    let engine = &engines[usize::from(!text.len().is_multiple_of(4))];
    if text.contains(['\r', '\n']) {
        return engine.decode(text.replace(['\r', '\n'], "")).ok();
    }
    engine.decode(text).ok()
}

fn kind_name(kind: &FieldKind) -> &'static str {
    match kind {
        FieldKind::Bool => "bool",
        FieldKind::Int32 => "int32",
        FieldKind::Int64 => "int64",
        FieldKind::Uint32 => "uint32",
        FieldKind::Uint64 => "uint64",
        FieldKind::String => "string",
        FieldKind::Bytes => "bytes",
        FieldKind::Enum(_) => "enum",
        _ => "message",
    }
}

#[cfg(test)]
mod tests {
    use kijabi_proto::etcdserverpb as pb;

    use super::super::routes;
    use super::*;

    fn read<M: prost::Message + Default>(name: &str, json: &str) -> Result<M, Refusal> {
        let descriptor = routes::pool().get_message_by_name(name).unwrap();
        message(json.as_bytes(), &descriptor).map(|bytes| M::decode(&bytes[..]).unwrap())
    }

    fn range(json: &str) -> Result<pb::RangeRequest, Refusal> {
        read("etcdserverpb.RangeRequest", json)
    }

    fn error(json: &str) -> String {
        match range(json) {
            Err(Refusal::Invalid(text)) => text,
            other => panic!("{json}: {other:?}"),
        }
    }

    #[test]
    fn names_and_numbers_are_read_in_all_their_forms() {
        let expected = pb::RangeRequest {
            key: b"a".as_slice().into(),
            range_end: b"\xff\xfe".as_slice().into(),
            limit: 3,
            revision: -1,
            sort_order: 1,
            keys_only: true,
            ..Default::default()
        };
        for json in [
            r#"{"key":"YQ==","range_end":"//4=","limit":3,"revision":"-1","sort_order":"ASCEND",
               "keys_only":true}"#,
            r#"{"key":"YQ","rangeEnd":"__4=","limit":"3","revision":-1.0,"sortOrder":1,
               "keysOnly":true,"serializable":null}"#,
            r#"{"key":"YQ==\n\n\n\n","range_end":"__4","limit":3e0,"revision":"-1","sort_order":1,
               "keys_only":true,"zzz":[{"a":[1,2]},"b"]}"#,
        ] {
            assert_eq!(range(json).as_ref(), Ok(&expected), "{json}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_as_gos_library_says_it() {
        for (json, expected) in [
            (r#"{"key": "%%%"}"#, r#"(line 1:9): invalid value for bytes field key: "%%%""#),
            (
                r#"{"key": "YQ==", "limit": "x"}"#,
                r#"(line 1:26): invalid value for int64 field limit: "x""#,
            ),
            (r#"{"keys_only":1}"#, "(line 1:14): invalid value for bool field keysOnly: 1"),
            (
                r#"{"limit":9223372036854775808}"#,
                "(line 1:10): invalid value for int64 field limit: 9223372036854775808",
            ),
            (r#"{"limit":" 1"}"#, r#"(line 1:10): invalid value for int64 field limit: " 1""#),
            (r#"{"key":"","key":""}"#, r#"(line 1:11): duplicate field "key""#),
            ("[]", "syntax error (line 1:1): unexpected token ["),
            ("null", "syntax error (line 1:1): unexpected token null"),
        ] {
            assert_eq!(error(json), format!("proto: {expected}"), "{json}");
        }
        let twice = r#"{"create_request":{},"cancel_request":{}}"#;
        let refused = read::<pb::WatchRequest>("etcdserverpb.WatchRequest", twice).unwrap_err();
        let text = "(line 1:22): error parsing \"cancel_request\", oneof \
                    etcdserverpb.WatchRequest.request_union is already set";
        assert_eq!(refused, Refusal::from(text.to_owned()));
    }

    #[test]
    fn nested_messages_lists_and_unknown_names_of_enums() {
        let json = r#"{"create_request":{"key":"YQ==","filters":["NOPUT","LATER",1]}}"#;
        let request: pb::WatchRequest = read("etcdserverpb.WatchRequest", json).unwrap();
        let Some(pb::watch_request::RequestUnion::CreateRequest(create)) = request.request_union
        else {
            panic!("{request:?}")
        };
        assert_eq!(create.filters, [0, 1]);
    }

    proptest::proptest! {
        /// Whatever comes, it is a message or an error.
        #[test]
        fn nothing_makes_the_reader_stumble(text in r#"[{}\[\]:,"\\0-9a-z_ .-]{0,60}"#, key in ".{0,20}") {
            use super::super::scan::{Finder, Found};
            for body in [text.clone(), format!("{{\"key\":{text}}}"), format!("{{{key:?}:{text}}}")] {
                if let Ok(Found::Value(range)) = Finder::default().look(body.as_bytes(), true) {
                    let _ = self::range(&body[range]);
                }
            }
        }

        #[test]
        fn what_is_written_is_read_back(key: Vec<u8>, limit: i64, revision: i64, sort in 0..9_i32, flag: bool) {
            let request = pb::RangeRequest {
                key: key.clone().into(),
                range_end: key.into(),
                limit,
                revision,
                sort_order: sort,
                keys_only: flag,
                ..Default::default()
            };
            let descriptor = routes::pool().get_message_by_name("etcdserverpb.RangeRequest").unwrap();
            let dynamic = prost_reflect::DynamicMessage::decode(
                descriptor,
                &prost::Message::encode_to_vec(&request)[..],
            );
            let mut json = String::new();
            let html = super::super::encode::Html::Escaped;
            super::super::encode::message(&dynamic.unwrap(), html, &mut json);
            proptest::prop_assert_eq!(range(&json), Ok(request));
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| {
            let open = r#"{"success":[{"request_txn":"#.repeat(levels);
            format!("{open}{{}}{}", "}]}".repeat(levels))
        };
        let txn = |levels| read::<pb::TxnRequest>("etcdserverpb.TxnRequest", &nested(levels));
        assert!(txn(20).is_ok());
        assert_eq!(txn(4000), Err(Refusal::TooDeep));
    }
}
