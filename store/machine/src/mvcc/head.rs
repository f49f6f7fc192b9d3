//! Heads of records: all that a member needs to know of a key-value pair when it starts.
//!
//! Owns: their form. Must not know: which records are kept apart from their heads. A newcomer's
//! trap: a record begins with its key's tag and never with a zero, so a head is never taken for one.
//!
//! ```text
//! 0 record_bytes:varint mvccpb.KeyValue without its value
//! ```

use prost::encoding::{decode_varint, encode_varint};

use super::load::Change;
use super::row::Row;

/// What a head begins with.
const MARK: u8 = 0;
/// The value's field in `mvccpb.KeyValue`.
const VALUE: u64 = 5;

/// The head of an encoded key-value pair; `None` if it is none.
pub fn record_head(record: &[u8]) -> Option<Vec<u8>> {
    let mut head = vec![MARK];
    encode_varint(record.len() as u64, &mut head);
    let mut rest = record;
    while !rest.is_empty() {
        let (field, after) = Field::read(rest)?;
        if field.number != VALUE {
            head.extend_from_slice(&rest[..rest.len() - after.len()]);
        }
        rest = after;
    }
    (record.first() != Some(&MARK)).then_some(head)
}

/// Whether it is a head and not a record.
pub fn is_record_head(bytes: &[u8]) -> bool {
    bytes.first() == Some(&MARK)
}

/// The key in a record, or in the head of one, without decoding the rest: it is the first field.
pub(super) fn record_key(record: &[u8]) -> Option<&[u8]> {
    let mut rest = record;
    if is_record_head(record) {
        rest = &rest[1..];
        decode_varint(&mut rest).ok()?;
    }
    match Field::read(rest)?.0 {
        Field { number: 1, content: Content::Bytes(key) } => Some(key),
        _ => None,
    }
}

/// Reads a record, or the head of one; `None` if it is neither.
pub(super) fn change(row: Row, record: &[u8]) -> Option<Change<'_>> {
    let (mut record_bytes, mut rest) = (record.len(), record);
    if is_record_head(record) {
        rest = &rest[1..];
        record_bytes = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
    }
    let mut change = Change { key: &[], row, record_bytes, created: 0, version: 0, lease: 0 };
    while !rest.is_empty() {
        let (field, after) = Field::read(rest)?;
        match (field.number, field.content) {
            (1, Content::Bytes(key)) => change.key = key,
            (2, Content::Number(number)) => change.created = number,
            (4, Content::Number(number)) => change.version = number,
            (6, Content::Number(number)) if !row.tombstone => change.lease = number,
            _ => {}
        }
        rest = after;
    }
    Some(change)
}

/// A field of a message.
struct Field<'a> {
    number: u64,
    content: Content<'a>,
}

enum Content<'a> {
    Number(i64),
    Bytes(&'a [u8]),
}

// === impl Field ===

impl<'a> Field<'a> {
    /// Reads a field of one of the two kinds that a key-value pair has, and what follows.
    fn read(mut bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let tag = decode_varint(&mut bytes).ok()?;
        let content = decode_varint(&mut bytes).ok()?;
        let number = tag >> 3;
        match tag & 7 {
            0 => Some((Self { number, content: Content::Number(content.cast_signed()) }, bytes)),
            2 => {
                let (field, after) = bytes.split_at_checked(usize::try_from(content).ok()?)?;
                Some((Self { number, content: Content::Bytes(field) }, after))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kijabi_proto::mvccpb::KeyValue;
    use prost::Message as _;

    use super::*;

    fn record() -> Vec<u8> {
        let kv = KeyValue {
            key: "key".into(),
            create_revision: 7,
            mod_revision: 1 << 40,
            version: 300,
            value: vec![0xff; 1000].into(),
            lease: -5,
        };
        kv.encode_to_vec()
    }

    #[test]
    fn a_record_and_its_head_say_the_same() {
        let record = record();
        let head = record_head(&record).unwrap();
        assert!(head.len() < 64, "{}", head.len());
        assert_eq!((is_record_head(&record), is_record_head(&head)), (false, true));
        let row = Row::new(1 << 40, 0, false);
        for bytes in [&record, &head] {
            let read = change(row, bytes).unwrap();
            assert_eq!((read.key, read.created, read.version), (&b"key"[..], 7, 300));
            assert_eq!((read.lease, read.record_bytes), (-5, record.len()));
            assert_eq!(record_key(bytes), Some(&b"key"[..]));
            let gone = change(Row { tombstone: true, ..row }, bytes).unwrap();
            assert_eq!(gone.lease, 0);
        }
    }

    /// Whatever is cut off or wrong is no record, or one with other fields, and nothing else.
    #[test]
    fn what_cannot_be_a_record_has_no_head() {
        let (record, row) = (record(), Row::new(1, 0, false));
        for cut in 0..record.len() {
            let whole = KeyValue::decode(Bytes::copy_from_slice(&record[..cut])).is_ok();
            assert_eq!(change(row, &record[..cut]).is_some(), whole, "{cut}");
            assert_eq!(record_head(&record[..cut]).is_some(), whole, "{cut}");
        }
        for broken in [&b"\x0b"[..], b"\x00\x00", b"\x00"] {
            assert!(record_head(broken).is_none());
        }
        assert!(change(row, b"\x00").is_none());
        assert!(change(row, b"\x00\x05\x0b").is_none());
    }
}
