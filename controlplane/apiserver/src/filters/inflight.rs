//! Room for requests: at most so many reads and so many writes at a time.
//!
//! Owns: the two counts. Must not know: whose request it is, but that administrators' requests are
//! never refused. A newcomer's trap: watches and streams are not counted; they would fill the room.

use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::exchange::{self, ApiRequest, Response};
use crate::metrics::Metrics;
use crate::request::RequestInfo;
use crate::user::MASTERS;

/// The two rooms.
#[derive(Debug)]
pub struct InFlight {
    read_only: Semaphore,
    mutating: Semaphore,
    sizes: (usize, usize),
}

impl InFlight {
    /// Rooms of the given sizes.
    pub fn new(read_only: usize, mutating: usize) -> Self {
        Self {
            read_only: Semaphore::new(read_only),
            mutating: Semaphore::new(mutating),
            sizes: (read_only, mutating),
        }
    }

    /// Whether the request is let in without being counted.
    pub(super) fn is_exempt(request: &ApiRequest) -> bool {
        request.user.is_in(MASTERS)
    }

    /// A place until it is dropped, `None` if there is no more.
    pub(super) fn enter(
        &self,
        info: &RequestInfo,
        metrics: &Metrics,
    ) -> Option<SemaphorePermit<'_>> {
        let (room, size, kind) = if info.is_read_only() {
            (&self.read_only, self.sizes.0, "readOnly")
        } else {
            (&self.mutating, self.sizes.1, "mutating")
        };
        let place = room.try_acquire().ok();
        metrics.set_in_flight(kind, size - room.available_permits());
        if place.is_none() {
            metrics.dropped(kind);
        }
        place
    }
}

/// 429, in the form upstream gives it.
pub(super) fn too_many() -> Response {
    let text = "Too many requests, please try again later.\n";
    let mut response = exchange::text(StatusCode::TOO_MANY_REQUESTS, text);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn reads_and_writes_have_rooms_of_their_own() {
        let metrics = Metrics::new("v1").unwrap();
        let rooms = InFlight::new(1, 1);
        let info = |method| RequestInfo::parse(&method, "/api/v1/pods", None).unwrap();
        let read = rooms.enter(&info(Method::GET), &metrics);
        assert!(read.is_some());
        assert!(rooms.enter(&info(Method::GET), &metrics).is_none());
        assert!(rooms.enter(&info(Method::POST), &metrics).is_some());
        drop(read);
        assert!(rooms.enter(&info(Method::GET), &metrics).is_some());
    }
}
