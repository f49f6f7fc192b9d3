//! The one place that reads a clock.
//!
//! Monotonic time is tokio's, which a paused or simulated runtime controls; wall-clock time is
//! only ever stored or shown, never compared across members.

/// A point on the monotonic clock.
#[cfg(feature = "runtime")]
pub use tokio::time::Instant;

/// Now, on the monotonic clock.
#[cfg(feature = "runtime")]
pub fn now() -> Instant {
    Instant::now()
}

/// Wall-clock time in milliseconds since the epoch. Zero if the clock stands before it.
#[allow(clippy::disallowed_types, reason = "this is the seam")]
pub fn wall_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// The same in microseconds.
#[allow(clippy::disallowed_types, reason = "this is the seam")]
pub fn wall_us() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}
