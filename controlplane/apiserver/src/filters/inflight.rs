//! Room for requests: at most so many reads and so many writes at a time.
//!
//! Owns: the two counts. Must not know: whose request it is, but that administrators' requests are
//! never refused. A newcomer's trap: watches and streams are not counted; they would fill the room.

use std::sync::Arc;

use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::exchange::{self, ApiRequest, Response};
use crate::metrics::Metrics;
use crate::request::RequestInfo;
use crate::user::MASTERS;

/// The two rooms.
#[derive(Debug)]
pub struct InFlight {
    read_only: Room,
    mutating: Room,
}

#[derive(Debug)]
struct Room {
    kind: &'static str,
    size: usize,
    places: Arc<Semaphore>,
}

/// A place in a room, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    kind: &'static str,
    size: usize,
    places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl InFlight {
    /// Rooms of the given sizes.
    pub fn new(read_only: usize, mutating: usize) -> Self {
        let room = |kind, size| Room { kind, size, places: Arc::new(Semaphore::new(size)) };
        Self { read_only: room("readOnly", read_only), mutating: room("mutating", mutating) }
    }

    /// Whether the request is let in even when there is no place.
    pub(super) fn is_exempt(request: &ApiRequest) -> bool {
        request.user.is_in(MASTERS)
    }

    /// A place, `None` if there is no more.
    pub(super) fn enter(&self, info: &RequestInfo, metrics: &Arc<Metrics>) -> Option<Place> {
        let room = if info.is_read_only() { &self.read_only } else { &self.mutating };
        let permit = room.places.clone().try_acquire_owned().ok()?;
        let place = Place {
            permit: Some(permit),
            kind: room.kind,
            size: room.size,
            places: room.places.clone(),
            metrics: metrics.clone(),
        };
        place.show();
        Some(place)
    }

    /// Counts a request that got no place.
    pub(super) fn count_dropped(&self, info: &RequestInfo, metrics: &Metrics) {
        let room = if info.is_read_only() { &self.read_only } else { &self.mutating };
        metrics.dropped(room.kind);
    }
}

impl Place {
    fn show(&self) {
        self.metrics.set_in_flight(self.kind, self.size - self.places.available_permits());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.permit.take();
        self.show();
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
        let metrics = Arc::new(Metrics::new("v1").unwrap());
        let rooms = InFlight::new(1, 1);
        let info = |method| RequestInfo::parse(&method, "/api/v1/pods", None).unwrap();
        let read = rooms.enter(&info(Method::GET), &metrics);
        assert!(read.is_some());
        assert!(rooms.enter(&info(Method::GET), &metrics).is_none());
        assert!(rooms.enter(&info(Method::POST), &metrics).is_some());
        let shown = || String::from_utf8(metrics.render()).unwrap();
        let busy = "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 1";
        assert!(shown().contains(busy), "{}", shown());
        drop(read);
        assert!(!shown().contains(busy), "{}", shown());
        assert!(rooms.enter(&info(Method::GET), &metrics).is_some());
    }
}
