//! Every bound of the clients' side by name.

use std::time::Duration;

/// Objects asked for in one page of a list (client-go's page).
pub const LIST_PAGE_OBJECTS: u32 = 500;
/// First wait after a watch failed.
pub const WATCH_BACKOFF_MIN: Duration = Duration::from_millis(200);
/// Longest wait between two attempts to watch.
pub const WATCH_BACKOFF_MAX: Duration = Duration::from_secs(5);
/// First wait before a key that failed is tried again (client-go's 5 ms).
pub const RETRY_BACKOFF_MIN: Duration = Duration::from_millis(5);
/// Longest wait before a key that failed is tried again.
///
/// Differs from Kubernetes: a minute, not a thousand seconds, and no key is ever given up.
pub const RETRY_BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Events waiting to be sent; beyond that they are dropped and counted, never waited for.
pub const EVENT_QUEUE_MAX: usize = 1_000;
/// Event requests in flight at a time.
pub const EVENT_REQUESTS_MAX: usize = 4;
/// Distinct events remembered for aggregation (client-go's LRU).
pub const EVENT_MEMORY_MAX: usize = 4_096;
/// Events of one source about one object that may go out in a burst (client-go's 25).
pub const EVENT_BURST_MAX: u32 = 25;
/// After a burst, one more event about the object each so many seconds (client-go's 1/300 qps).
pub const EVENT_REFILL: Duration = Duration::from_secs(300);
/// Similar events in [`EVENT_SIMILAR_WINDOW`] after which they are combined into one.
pub const EVENT_SIMILAR_MAX: usize = 10;
/// The window of [`EVENT_SIMILAR_MAX`].
pub const EVENT_SIMILAR_WINDOW: Duration = Duration::from_secs(600);
/// A repeated events.k8s.io event joins the series of the first one for so long.
pub const EVENT_SERIES_WINDOW: Duration = Duration::from_secs(360);
