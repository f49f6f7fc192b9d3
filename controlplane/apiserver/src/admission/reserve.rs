//! Reservations: what an object takes from a pool that all objects share, such as an address.
//!
//! Owns: the moments of taking and giving back. Must not know: the pools. A newcomer's trap: a
//! reservation that is neither committed nor aborted, because the request was cut off, stays taken
//! until the pool's own repair finds that nobody holds it.

use futures::future::BoxFuture;
use serde_json::Value;

use super::Attributes;
use crate::status::ApiError;

/// A pool.
pub trait Allocator: Send + Sync {
    /// Takes what the final object needs and writes it into the object. On a dry run nothing is
    /// taken, though the object looks as if.
    fn reserve<'a>(
        &'a self,
        attributes: &'a Attributes<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<Reservation, ApiError>>;

    /// Gives back what a deleted object had.
    fn release<'a>(
        &'a self,
        attributes: &'a Attributes<'a>,
        object: &'a Value,
    ) -> BoxFuture<'a, ()>;
}

/// What was taken for an object that is about to be stored.
#[must_use = "a reservation is either committed or aborted"]
#[derive(Default)]
pub struct Reservation {
    on_commit: Vec<BoxFuture<'static, ()>>,
    on_abort: Vec<BoxFuture<'static, ()>>,
}

impl std::fmt::Debug for Reservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reservation").finish_non_exhaustive()
    }
}

impl Reservation {
    /// A reservation of nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// What to do when the object is stored: give back what it no longer needs.
    pub fn on_commit(&mut self, undo: BoxFuture<'static, ()>) {
        self.on_commit.push(undo);
    }

    /// What to do when it is not: give back what was taken.
    pub fn on_abort(&mut self, undo: BoxFuture<'static, ()>) {
        self.on_abort.push(undo);
    }

    /// The object was stored.
    pub async fn commit(self) {
        for one in self.on_commit {
            one.await;
        }
    }

    /// The object was not stored.
    pub async fn abort(self) {
        for one in self.on_abort {
            one.await;
        }
    }

    /// Both as one.
    pub fn and(mut self, other: Self) -> Self {
        self.on_commit.extend(other.on_commit);
        self.on_abort.extend(other.on_abort);
        self
    }
}
