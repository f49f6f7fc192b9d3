//! gRPC's framing: what stands before each message in a body.
//!
//! Owns: the five bytes. Must not know: what a message holds. A newcomer's trap: a body may be cut
//! anywhere, also within the five bytes. Source: gRPC over HTTP/2, "Length-Prefixed-Message".

use bytes::{Bytes, BytesMut};
use prost::Message;

/// Whether the message is compressed, and its length.
pub(crate) const PREFIX_BYTES: usize = 5;

/// What stands before a message of so many bytes that is not compressed.
pub(crate) fn prefix(message_bytes: u32) -> [u8; PREFIX_BYTES] {
    let [a, b, c, d] = message_bytes.to_be_bytes();
    [0, a, b, c, d]
}

/// The length of the message that these bytes stand before.
pub(crate) fn message_bytes([_flag, length @ ..]: [u8; PREFIX_BYTES]) -> usize {
    u32::from_be_bytes(length) as usize
}

/// A message and what stands before it, in one buffer. No message that is encoded here comes near
/// 4 GiB: large ranges are streamed.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + length);
    frame.extend_from_slice(&prefix(u32::try_from(length).unwrap_or(u32::MAX)));
    message.encode_raw(&mut frame);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use kijabi_proto::etcdserverpb::PutRequest;

    use super::*;

    #[test]
    fn a_framed_message_tells_its_length() {
        let message =
            PutRequest { key: "k".into(), value: vec![7; 70_000].into(), ..Default::default() };
        let frame = framed(&message);
        let (before, encoded) = frame.split_first_chunk::<PREFIX_BYTES>().unwrap();
        assert_eq!((before[0], message_bytes(*before)), (0, encoded.len()));
        assert_eq!(PutRequest::decode(encoded).unwrap(), message);
    }
}
