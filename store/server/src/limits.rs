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
/// Largest message between members: one piece of the log, or one forwarded batch. A single command
/// may be as large as a frame of the log, and goes alone then.
pub(crate) const PEER_MESSAGE_BYTES_MAX: usize =
    kijabi_base::limits::LOG_FRAME_BYTES_MAX + REPLICATION_MESSAGE_BYTES + (1 << 20);
/// Bytes of entries in one message to a follower, if there is a choice.
pub(crate) const REPLICATION_MESSAGE_BYTES: usize = 1 << 20;
/// Messages to one follower that it has not answered yet.
pub(crate) const REPLICATION_IN_FLIGHT_MAX: usize = 32;
/// Entries in one message to a follower.
pub(crate) const REPLICATION_MESSAGE_ENTRIES_MAX: u64 = 512;
/// Requests to one member that wait for its connection.
pub(crate) const PEER_SEND_QUEUE_MAX: usize = 1_024;
/// Bytes in one message of a snapshot between members.
pub(crate) const SNAPSHOT_PART_BYTES_MAX: usize = 1 << 20;
/// Parts of a snapshot that are read ahead of the connection, or of the disk.
pub(crate) const SNAPSHOT_PARTS_AHEAD_MAX: usize = 4;
/// Looks at a leader that may be gone, at once.
pub(crate) const DEMISE_PROBES_MAX: usize = 16;
/// Batches of other members that the leader carries through the log at once.
pub(crate) const FORWARDED_BATCHES_MAX: usize = 256;
/// Batches of this member whose fate is not known yet. The one after waits.
pub(crate) const UNRESOLVED_BATCHES_MAX: usize = 1_024;
/// Largest file of a certificate, a key, an authority or a revocation list.
pub(crate) const TLS_FILE_BYTES_MAX: u64 = 16 << 20;
/// TLS handshakes of one listener under way at once; the oldest gives way to one more.
pub(crate) const HANDSHAKES_MAX: usize = 1_024;
/// Bytes of the headers of one HTTP/2 request.
pub(crate) const H2_HEADER_BYTES_MAX: u32 = 16 << 10;
/// Streams that a client opened and reset before they were looked at.
pub(crate) const H2_PENDING_RESETS_MAX: usize = 20;
/// Streams that were reset because of what the client did on them.
pub(crate) const H2_RESETS_BY_ERROR_MAX: usize = 1_024;
/// Bytes of answers on one HTTP/2 stream that the client has not taken yet.
pub(crate) const H2_SEND_BUFFER_BYTES: usize = 400 << 10;
/// Simple tokens that are good at once; with more, the one that was not used for longest is not.
pub(crate) const SIMPLE_TOKENS_MAX: usize = 65_536;
/// Passwords that wait to be hashed or checked; more are refused with `too many requests`.
pub(crate) const PASSWORD_CHECKS_WAITING_MAX: usize = 256;
/// Streams open on one connection, whatever the settings say: each costs memory.
pub(crate) const H2_STREAMS_MAX: u32 = 16_384;
/// Frames of one connection that ask for nothing (PING, SETTINGS, resets, empty data) which may come
/// at once, and how many of them come back in a second.
pub(crate) const H2_IDLE_FRAMES_BURST: u32 = 20_000;
pub(crate) const H2_IDLE_FRAMES_PER_SECOND: u32 = 5_000;
/// Changes of members that wait for their turn at the leader.
pub(crate) const MEMBER_CHANGES_WAITING_MAX: usize = 16;
/// Entries that a member may lack when it is made a voter.
pub(crate) const VOTER_LAG_ENTRIES_MAX: u64 = 500;
/// Election timeouts that a leader waits for the one it hands over to.
pub(crate) const LEADER_TRANSFER_TIMEOUTS_MAX: u32 = 2;
