//! One watch on the store: every change below a prefix, in order, and progress.
//!
//! Owns: the etcd watch stream of one range. Must not know: who reads it. A newcomer's trap: a
//! revision's events may be several, and only when the next revision or a progress note arrives
//! is it known to be complete; etcd sends a revision whole in one response, which is relied on.

use kijabi_proto::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse, watch_request,
};
use kijabi_proto::mvccpb::{Event, event::EventType};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;

use super::client::record;
use super::{Client, KeyRange, Record, Revision, StoreError};
use crate::limits::WATCH_REQUEST_QUEUE_MAX;

/// One change of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub revision: Revision,
    /// What is there now; `None` after a removal.
    pub now: Option<Record>,
    /// What was there before.
    pub before: Option<Record>,
}

/// What a feed delivers: the changes of one response, and how far it is complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedItem {
    /// The changes, in order.
    pub changes: Vec<Change>,
    /// All changes up to here were delivered.
    pub revision: Revision,
}

/// An open watch.
#[derive(Debug)]
pub struct Feed {
    requests: mpsc::Sender<WatchRequest>,
    responses: tonic::Streaming<WatchResponse>,
}

impl Feed {
    /// Watches `range` for changes after `after`.
    pub async fn open(
        client: &Client,
        range: &KeyRange,
        after: Revision,
    ) -> Result<Self, StoreError> {
        let (requests, queue) = mpsc::channel(WATCH_REQUEST_QUEUE_MAX);
        let create = WatchCreateRequest {
            key: range.start(),
            range_end: range.end(),
            start_revision: after.0 + 1,
            progress_notify: true,
            prev_kv: true,
            ..Default::default()
        };
        let create = watch_request::RequestUnion::CreateRequest(create);
        requests
            .try_send(WatchRequest { request_union: Some(create) })
            .map_err(|_| StoreError::Other("the watch's queue is full at its start".into()))?;
        let mut request = tonic::Request::new(ReceiverStream::new(queue));
        // Without a leader no event comes; better to fail and try another endpoint.
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        let responses = client.watch_client().watch(request).await?.into_inner();
        Ok(Self { requests, responses })
    }

    /// Asks the store to say how far this watch is complete.
    pub fn request_progress(&self) {
        let progress = watch_request::RequestUnion::ProgressRequest(WatchProgressRequest {});
        // A full queue means that requests are under way already.
        let _ = self.requests.try_send(WatchRequest { request_union: Some(progress) });
    }

    /// The next changes or progress. An error ends the feed.
    pub async fn next(&mut self) -> Result<FeedItem, StoreError> {
        loop {
            let Some(response) = self.responses.message().await? else {
                return Err(StoreError::Unavailable("the watch stream ended".into()));
            };
            if response.canceled || response.compact_revision > 0 {
                return Err(canceled(&response));
            }
            if response.created {
                continue;
            }
            return item(response);
        }
    }
}

fn canceled(response: &WatchResponse) -> StoreError {
    if response.compact_revision > 0 {
        return StoreError::Compacted;
    }
    StoreError::Other(format!("the watch was cancelled: {}", response.cancel_reason))
}

fn item(response: WatchResponse) -> Result<FeedItem, StoreError> {
    let revision = Revision(response.header.as_ref().map_or(0, |header| header.revision));
    let changes =
        response.events.into_iter().map(change).collect::<Result<Vec<Change>, StoreError>>()?;
    // The header of a response with events may already be ahead of them; they end it.
    let revision = changes.last().map_or(revision, |last| last.revision);
    Ok(FeedItem { changes, revision })
}

fn change(event: Event) -> Result<Change, StoreError> {
    let removed = event.r#type() == EventType::Delete;
    let kv = event.kv.ok_or_else(|| StoreError::Other("an event without a key".into()))?;
    let created = kv.create_revision == kv.mod_revision;
    if event.prev_kv.is_none() && (removed || !created) {
        // Without it a selector could not tell what left it.
        let key = String::from_utf8_lossy(&kv.key).into_owned();
        return Err(StoreError::Other(format!("an event of {key} without its previous value")));
    }
    Ok(Change {
        revision: Revision(kv.mod_revision),
        before: event.prev_kv.map(record),
        now: (!removed).then(|| record(kv)),
    })
}
