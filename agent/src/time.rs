//! Wall-clock time in the shapes Kubernetes stores. Must not decide anything with it.
//!
//! A newcomer's trap: Kubernetes' `Time` has whole seconds; more digits would make every status
//! look changed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// Now, as the wall clock shows it.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_millisecond(kijabi_base::clock::wall_ms() as i64).unwrap_or(Timestamp::MIN)
}

/// A `Time` of whole seconds.
pub(crate) fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// A point given in nanoseconds, as CRI does; zero and negative mean "not yet".
pub(crate) fn from_nanos(nanos: i64) -> Option<Timestamp> {
    (nanos > 0).then(|| Timestamp::from_nanosecond(i128::from(nanos)).ok()).flatten()
}
