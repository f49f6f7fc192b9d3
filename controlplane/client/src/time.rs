//! Wall-clock time in the form API objects carry it.
//!
//! Owns: the conversion from the clock seam to `Time` and `MicroTime`. Must not know: who stamps
//! what. A newcomer's trap: `Time` has whole seconds on the wire, `MicroTime` microseconds.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use k8s_openapi::jiff::Timestamp;

/// Now, by the wall clock.
pub fn now() -> Timestamp {
    Timestamp::from_millisecond(kijabi_base::clock::wall_ms() as i64)
        .expect("a wall clock of this age fits a timestamp")
}

/// Now, as `metav1.Time`: whole seconds, as it will be read back.
pub fn now_time() -> Time {
    whole_seconds(now())
}

/// Now, as `metav1.MicroTime`.
pub fn now_micro() -> MicroTime {
    MicroTime(now())
}

/// `at` cut to whole seconds.
pub fn whole_seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).expect("cut from a valid timestamp"))
}

/// Milliseconds from `earlier` to `later`; negative if they stand the other way round.
pub fn millis_between(earlier: Timestamp, later: Timestamp) -> i64 {
    later.as_millisecond() - earlier.as_millisecond()
}
