//! One watch of a stream: what it wants, and how far it has got.
//!
//! Owns: matching, filtering and the position. Must not know: where events come from. A newcomer's
//! trap: `next` is the only position there is; an event below it is never delivered again and
//! never before its time, whichever way it arrives.

use std::sync::Arc;

use kijabi_machine::{KeyRange, RevisionEvents};
use kijabi_proto::etcdserverpb::WatchCreateRequest;
use kijabi_proto::etcdserverpb::watch_create_request::FilterType;
use kijabi_proto::mvccpb::{Event, event::EventType};

use super::encoded::{Encoded, Part};

/// A watch.
#[derive(Debug)]
pub(super) struct Watcher {
    key: Box<[u8]>,
    range_end: Box<[u8]>,
    no_put: bool,
    no_delete: bool,
    prev_kv: bool,
    /// Whether large answers are to be split.
    pub(super) fragment: bool,
    /// Whether it wants periodic progress.
    pub(super) progress_notify: bool,
    /// Whether nothing was sent since the last tick.
    pub(super) quiet: bool,
    /// The first revision it has not been given.
    ///
    /// Invariant (WATCH-1): only grows.
    pub(super) next: i64,
    /// The first revision that is delivered, if `start` is beyond the present; 0 for none.
    start: i64,
    /// Whether it reads history to catch up.
    pub(super) behind: bool,
    /// While behind: the first revision whose publication is sure to wake the stream for it.
    pub(super) live_from: i64,
    /// Whether the round of catching up that is under way reads for it.
    pub(super) in_round: bool,
}

impl Watcher {
    /// Reads a request whose key may be empty (then it means every key from the first on).
    pub(super) fn of(request: &WatchCreateRequest) -> Self {
        let key: &[u8] = if request.key.is_empty() { &[0] } else { &request.key };
        let filters = |filter: FilterType| request.filters.contains(&filter.into());
        Self {
            key: key.into(),
            range_end: request.range_end[..].into(),
            no_put: filters(FilterType::Noput),
            no_delete: filters(FilterType::Nodelete),
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            quiet: true,
            next: request.start_revision,
            start: request.start_revision,
            behind: false,
            live_from: 0,
            in_round: false,
        }
    }

    /// The keys it watches.
    pub(super) fn range(&self) -> KeyRange<'_> {
        KeyRange::of(&self.key, &self.range_end)
    }

    /// What a request for them says.
    pub(super) fn as_sent(&self) -> (&[u8], &[u8]) {
        (&self.key, &self.range_end)
    }

    /// Whether progress at `revision` may be told: everything up to it was delivered (WATCH-3),
    /// and it is not before the start that was asked for (etcd#20221).
    pub(super) fn has_progressed(&self, revision: i64) -> bool {
        !self.behind && self.start <= revision
    }

    /// Whether it wants previous values that `revision` could tell but does not.
    pub(super) fn misses_previous(&self, revision: &RevisionEvents) -> bool {
        self.prev_kv
            && revision.previous_left_out
            && revision.revision >= self.next
            && revision.events.iter().any(|event| {
                event.prev_kv.is_none()
                    && event.kv.as_ref().is_some_and(|kv| self.range().contains(&kv.key))
            })
    }

    /// Whether it wants previous values.
    pub(super) fn wants_previous(&self) -> bool {
        self.prev_kv
    }

    /// Adds the events of one revision that this watch wants.
    pub(super) fn take(&self, revision: &Arc<Encoded>, wanted: &mut Vec<Part>) {
        if revision.revision < self.next {
            return;
        }
        for (number, event) in revision.events.iter().enumerate() {
            let Some(kv) = &event.kv else { continue };
            if self.range().contains(&kv.key) && !self.filters_out(event) {
                wanted.push(revision.part(number, self.prev_kv));
            }
        }
    }

    fn filters_out(&self, event: &Event) -> bool {
        match event.r#type() {
            EventType::Put => self.no_put,
            EventType::Delete => self.no_delete,
        }
    }
}
