//! Every bound of the API server by name: no queue, buffer or batch without one.
//!
//! Owns: the numbers. Must not know: who uses them. A newcomer's trap: the largest request body
//! is [`crate::body::REQUEST_BYTES_MAX`], beside the one function that reads bodies.

use std::time::Duration;

/// Objects read from the store in one round when a cache fills or a list skips the cache.
pub const LIST_PAGE_OBJECTS: i64 = 2_000;
/// Largest answer of the store that is taken: one page of the largest objects it would store.
pub const STORE_RESPONSE_BYTES_MAX: usize = 2_000 * 1_572_864;
/// How long one request to the store may take.
pub const STORE_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a request to the store is sent when it is known not to have arrived, or only reads.
pub const STORE_TRIES_MAX: u32 = 5;
/// How long connecting to the store may take.
pub const STORE_CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests waiting to be sent on one watch stream to the store.
pub const WATCH_REQUEST_QUEUE_MAX: usize = 16;
/// Events that a cache keeps for watches that start in the past.
pub const CACHE_WINDOW_EVENTS_MAX: usize = 8_192;
/// Bytes of objects that those events may hold beside the current ones.
pub const CACHE_WINDOW_BYTES_MAX: usize = 32 << 20;
/// How long a read waits until the cache has the version it needs.
pub const CACHE_FRESH_WAIT: Duration = Duration::from_secs(3);
/// How often the store is asked for progress while reads wait.
pub const CACHE_PROGRESS_PERIOD: Duration = Duration::from_millis(100);
/// How often the store is asked for progress though nobody waits, so that an idle cache is never
/// behind the store's compaction.
pub const CACHE_IDLE_PROGRESS_PERIOD: Duration = Duration::from_secs(60);
/// Events one watch sends before it lets others run.
pub const WATCH_BATCH_EVENTS_MAX: usize = 128;
/// How often a watch that asked for bookmarks gets one.
pub const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);
/// How long before its end a watch gets its last bookmark.
pub const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// Shortest life of a watch whose client did not say; the longest is twice that.
pub const WATCH_SECONDS_MIN: u64 = 1_800;
/// How often a change is tried again when others change the object at the same time.
pub const UPDATE_TRIES_MAX: usize = 64;
/// Names drawn for one `generateName` before giving up.
pub const GENERATE_NAME_TRIES: usize = 8;
/// How long events live.
pub const EVENT_TTL_SECONDS: i64 = 3_600;
/// How long one lease is shared by new events.
pub const LEASE_REUSE_SECONDS: i64 = 60;
/// How many objects share one lease.
pub const LEASE_OBJECTS_MAX: usize = 1_000;
/// How often the store's history is compacted; what is older than this is dropped.
pub const COMPACTION_PERIOD: Duration = Duration::from_secs(300);
/// Longest pause before a broken watch on the store is opened again.
pub const FEED_RETRY_MAX: Duration = Duration::from_secs(2);
/// Deletions of one deletecollection that run at the same time.
pub const DELETE_COLLECTION_WORKERS: usize = 4;
