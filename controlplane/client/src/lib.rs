//! What the controllers and the scheduler share as ordinary clients of the Kubernetes API.
//!
//! Owns: caches kept up to date by watches, the keyed work queue, leader election by Lease, and
//! the event recorder. Must not know: any controller, or how the apiserver stores anything. A
//! newcomer's trap: a cache may lag behind what this process itself wrote; decide with that in mind.

pub mod cache;
pub mod election;
pub mod events;
pub mod limits;
pub mod queue;
pub mod time;

pub use cache::{Cache, Change, Key};
pub use queue::WorkQueue;

/// The message of an API error as users know it, without the rest of the status around it.
pub fn message_of(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        error => error.to_string(),
    }
}
