//! The bounds of a member that are nobody else's; the store's common ones are in
//! `kijabi_base::limits`.

/// Bytes of requests that wait for the batcher; more are refused with `too many requests`.
pub(crate) const PROPOSAL_QUEUE_BYTES_MAX: usize = 256 << 20;
/// Bytes written to the Raft log after which the state is made durable and the log cut, however
/// few entries they are.
pub(crate) const LOG_BYTES_BEFORE_SNAPSHOT: u64 = 256 << 20;
/// Bytes of a batch that are set aside for the answer to a request that reads.
pub(crate) const ANSWER_ROOM_BYTES: usize = 1 << 10;
