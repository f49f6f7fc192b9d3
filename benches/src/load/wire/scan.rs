//! The fields of a protobuf message, without building it.
//!
//! Owns: their bytes. Must not know: which message it is. A newcomer's trap: this is for the few
//! fields a watcher looks at a hundred thousand times a second; everything else is decoded as usual.

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::load) enum Field<'a> {
    /// A number.
    Number(u64),
    /// Text, bytes or a message.
    Bytes(&'a [u8]),
}

/// The fields of `message` in order; what cannot be read ends it.
pub(in crate::load) fn fields(mut message: &[u8]) -> impl Iterator<Item = (u32, Field<'_>)> {
    std::iter::from_fn(move || {
        let tag = varint(&mut message)?;
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut message)?),
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                message = rest;
                Field::Bytes(bytes)
            }
            _ => return None,
        };
        Some(((tag >> 3) as u32, field))
    })
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use kijabi_proto::mvccpb::KeyValue;
    use prost::Message as _;

    use super::*;

    #[test]
    fn fields_are_those_of_the_message() {
        let kv = KeyValue {
            key: "k".into(),
            mod_revision: 300,
            value: vec![7; 200].into(),
            ..Default::default()
        };
        let bytes = kv.encode_to_vec();
        let seen: Vec<_> = fields(&bytes).collect();
        let expected =
            [(1, Field::Bytes(b"k")), (3, Field::Number(300)), (5, Field::Bytes(&[7; 200]))];
        assert_eq!(seen, expected);
        assert_eq!(fields(&bytes[..20]).count(), 2, "cut short");
        assert_eq!(fields(&[0xff; 30]).count(), 0);
    }
}
