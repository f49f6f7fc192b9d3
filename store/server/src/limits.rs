//! The bounds of a member that are nobody else's; the store's common ones are in
//! `kijabi_base::limits`.

/// Bytes of requests that wait for the batcher; more are refused with `too many requests`.
pub(crate) const PROPOSAL_QUEUE_BYTES_MAX: usize = 256 << 20;
/// Bytes written to the Raft log after which the state is made durable and the log cut, however
/// few entries they are.
pub(crate) const LOG_BYTES_BEFORE_SNAPSHOT: u64 = 256 << 20;
/// Bytes of a batch that are set aside for the answer to a request that reads.
pub(crate) const ANSWER_ROOM_BYTES: usize = 1 << 10;
/// Levels of a JSON body; Go's `encoding/json` goes as far.
pub(crate) const GATEWAY_JSON_DEPTH_MAX: usize = 10_000;
/// Levels of messages in a JSON body: what the decoder of protocol buffers allows.
pub(crate) const GATEWAY_MESSAGE_DEPTH_MAX: usize = 100;
/// Bytes of JSON for each byte of the message that may come of it: base64 takes 4/3, and numbers,
/// names and quotes their part.
pub(crate) const GATEWAY_BYTES_PER_MESSAGE_BYTE: usize = 2;
/// Requests that wait for a lock or an election on this member; more are refused with `too many
/// requests`.
pub(crate) const LOCK_WAITERS_MAX: usize = 10_000;
