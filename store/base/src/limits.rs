//! Every bound of the store by name: no queue, buffer or batch without one.

/// Largest client request in bytes (`--max-request-bytes`, etcd's default).
pub const REQUEST_BYTES_MAX: usize = 1_572_864;
/// What gRPC may receive beyond [`REQUEST_BYTES_MAX`] before the frame itself is refused.
pub const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;
/// Most operations in one branch of a transaction (`--max-txn-ops`).
pub const TXN_OPS_MAX: usize = 128;
/// Deepest nesting of transactions: below what the protobuf decoder takes, so that a request that
/// was accepted can be read back from the log.
pub const TXN_DEPTH_MAX: usize = 40;
/// Proposals waiting for the batcher; a full queue answers `too many requests`.
pub const PROPOSAL_QUEUE_MAX: usize = 16_384;
/// Most commands in one Raft entry.
pub const BATCH_COMMANDS_MAX: usize = 4_096;
/// Most bytes in one Raft entry; a larger single command still goes alone.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Responses queued for one watch stream; when it is full, the stream picks up nothing more until
/// its client reads, and catches up from history then.
pub const WATCH_STREAM_QUEUE_MAX: usize = 128;
/// Bytes of responses queued for one watch stream.
pub const WATCH_STREAM_BYTES_MAX: usize = 4 << 20;
/// Revisions whose events are kept in memory for watchers that are nearly up to date.
pub const EVENT_RING_REVISIONS_MAX: usize = 65_536;
/// Bytes of events kept in memory for them.
pub const EVENT_RING_BYTES_MAX: usize = 32 << 20;
/// Watch streams that the apply loop itself tells of an event; more are told by a task of its own,
/// and so many of them at a time.
pub const WATCH_FAN_OUT_INLINE_MAX: usize = 16;
/// Revisions read from disk for one round of a watcher that is behind.
pub const WATCH_CATCH_UP_REVISIONS_MAX: usize = 1_000;
/// Bytes of events after which a round of a watcher that is behind begins no further revision.
pub const WATCH_CATCH_UP_BYTES_MAX: usize = 1 << 20;
/// Bytes of values in the answer to one command that goes through the log, all its reads together.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Rows that such an answer may hold without being measured.
pub const ANSWER_ROWS_UNMEASURED: usize = 32;
/// Bytes of previous values kept with the events of one Raft entry; watchers read those beyond it
/// from history.
pub const EVENT_PREVIOUS_BYTES_MAX: usize = 8 << 20;
/// Bytes of previous values that one round of a watcher that is behind reads.
pub const WATCH_PREVIOUS_BYTES_MAX: usize = 64 << 20;
/// Rounds of watchers that are behind which read history at once; others wait.
pub const WATCH_HISTORY_READS_MAX: usize = 8;
/// Large ranges that are read and sent at once; others wait.
pub const LARGE_RANGES_MAX: usize = 8;
/// Rows that a range reads without leaving the thread it came in on.
pub const RANGE_INLINE_ROWS_MAX: usize = 256;
/// Bytes of records that a range reads without leaving the thread it came in on.
pub const RANGE_INLINE_BYTES_MAX: u64 = 64 << 10;
/// Bytes of records above which an answer is sent while it is read.
pub const RANGE_WHOLE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of answers that are held in memory as a whole, all of them together; more wait.
pub const RANGE_MEMORY_BYTES_MAX: u64 = 128 << 20;
/// What a decoded key of such an answer takes besides its record.
pub const RANGE_KEY_BYTES: u64 = 160;
/// Bytes of the lists of rows of all large ranges that are read at once; more wait. One that is
/// larger alone is read alone.
pub const RANGE_ROWS_BYTES_MAX: u64 = 64 << 20;
/// Reads that wait for their turn; more are refused with `too many requests`.
pub const RANGE_WAITERS_MAX: usize = 4_096;
/// Bytes of one piece of an answer that is sent while it is read.
pub const RANGE_PIECE_BYTES: usize = 128 << 10;
/// Pieces of such an answer that are ready before the client has taken them.
pub const RANGE_PIECES_READY_MAX: usize = 2;
/// Answers of one keep-alive stream handed to the transport before it has taken them.
pub const KEEP_ALIVE_HANDED_MAX: usize = 16;
/// Largest lease TTL in seconds, etcd's.
pub const LEASE_TTL_SECONDS_MAX: i64 = 9_000_000_000;
/// Smallest lease TTL in seconds at the default election timeout, etcd's.
pub const LEASE_TTL_SECONDS_MIN: i64 = 2;
/// Expired leases revoked in one Raft entry.
pub const LEASE_REVOKE_BATCH_MAX: usize = 1_000;
/// Leases renewed in one Raft entry.
pub const LEASE_RENEW_BATCH_MAX: usize = 1_000;
/// Renewals that wait for the leader to put them into the log; more are refused with `too many
/// requests`.
pub const LEASE_RENEWALS_WAITING_MAX: usize = 65_536;
/// Raft entries of renewals on their way through the log at once.
pub const LEASE_RENEW_BATCHES_IN_FLIGHT_MAX: usize = 4;
/// Revisions that one round of compaction looks at before it pauses.
pub const COMPACTION_BATCH_REVISIONS: usize = 1_000;
/// Entries committed but not applied beyond which proposals are refused, etcd's.
pub const APPLY_GAP_MAX: u64 = 5_000;
/// Raft entries of proposals on their way through the log at once; while they are, the next batch
/// collects.
pub const PROPOSAL_BATCHES_IN_FLIGHT_MAX: usize = 4;
/// Reads waiting for one round of the read barrier.
pub const READ_BARRIER_WAITERS_MAX: usize = 65_536;
/// Bytes of recent Raft entries kept in memory; older ones are read from the log's files.
pub const LOG_CACHE_BYTES_MAX: usize = 32 << 20;
/// Size of one file of the Raft log.
pub const LOG_SEGMENT_BYTES: u64 = 64 << 20;
/// Largest frame of the Raft log; a longer length in a file is corruption.
pub const LOG_FRAME_BYTES_MAX: usize = 64 << 20;
/// Bytes that the log's writer puts in one write and one sync.
pub const LOG_WRITE_BATCH_BYTES_MAX: usize = 4 << 20;
/// Raft entries between two snapshots of the state (`--snapshot-count` is etcd's name for it).
pub const SNAPSHOT_ENTRIES: u64 = 100_000;
/// Raft entries kept behind a snapshot so that a slow follower needs no snapshot.
pub const SNAPSHOT_CATCH_UP_ENTRIES: u64 = 5_000;
/// Bytes of keys and values in one chunk of a snapshot stream.
pub const SNAPSHOT_CHUNK_BYTES: usize = 256 * 1024;
/// Digests of the last applied entries kept for a comparison with other members.
pub const DIGESTS_KEPT: usize = 16_384;
/// RocksDB's block cache in bytes.
pub const STATE_BLOCK_CACHE_BYTES: usize = 64 << 20;
/// Records of keys of so many bytes and more are kept apart from what has to be read at a start.
pub const STATE_LARGE_RECORD_BYTES: usize = 4 << 10;
/// RocksDB's memtables in bytes, all tables together.
pub const STATE_WRITE_BUFFER_BYTES: usize = 8 << 20;
/// Connections open on the client listeners at once.
pub const CLIENT_CONNECTIONS_MAX: usize = 32_768;
/// Deepest tree of a bbolt file: a real one of 2 keys a page would hold 4 billion pages.
pub const BBOLT_DEPTH_MAX: usize = 32;
/// Largest page of a bbolt file with all that belongs to it: several values of the largest size.
pub const BBOLT_PAGE_BYTES_MAX: u64 = 256 << 20;
/// Largest record of an etcd log that is read: etcd's largest request and more.
pub const ETCD_LOG_RECORD_BYTES_MAX: u64 = 256 << 20;
/// Snapshots for clients that are made or sent at once; each takes the database's size on disk.
pub const SNAPSHOT_STREAMS_MAX: usize = 4;
/// Bytes on the data folder's disk that making a snapshot leaves free.
pub const SNAPSHOT_DISK_RESERVE_BYTES: u64 = 256 << 20;
/// Bytes of rows taken over from etcd's database in one write.
pub const IMPORT_BATCH_BYTES: usize = 4 << 20;

/// Threads that do upkeep at the same time.
pub const UPKEEP_THREADS_MAX: usize = 4;
