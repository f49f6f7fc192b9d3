//! The Watch service: opens a stream and hands it to the hub's session.
//!
//! Owns: the stream's terms. Must not know: events. A newcomer's trap: when a client has sent its
//! last request it still wants responses; only the end of the response stream ends a watch.

use std::sync::Arc;

use futures::TryStreamExt as _;
use futures::stream::Empty;
use kijabi_base::limits::GRPC_OVERHEAD_BYTES;
use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::watch_server::Watch;
use tonic::body::Body;
use tonic::{Request, Response, Status, Streaming};

use super::guard::{Learner, admit, requires_leader};
use super::range::Streamed;
use crate::access::Credentials;
use crate::serve::{Connection, reword};
use crate::store::Store;
use crate::watch::{Asker, Hub, Source, Terms, open};

/// The path of the call.
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// The service.
pub(crate) struct WatchService {
    store: Store,
    source: Source,
}

impl WatchService {
    /// The service on `store`, with events from `hub`.
    pub(crate) fn new(store: Store, hub: Arc<Hub>) -> Self {
        let source = Source {
            machine: Arc::clone(store.machine()),
            hub,
            header: Arc::new({
                let store = store.clone();
                move |revision| store.header(revision)
            }),
            connection: 0,
            fragment_bytes: store.config().max_request_bytes + GRPC_OVERHEAD_BYTES,
        };
        Self { store, source }
    }

    fn terms(&self, requires_leader: bool, credentials: Credentials) -> Terms {
        let config = self.store.config();
        Terms {
            progress_interval: config.watch_progress_interval,
            leader_grace: requires_leader.then_some(3 * config.election_timeout),
            standing: self.store.watch_standing(),
            shutdown: self.store.integrity().serving(),
            asker: Asker::new(self.store.clone(), credentials),
        }
    }
}

#[tonic::async_trait]
impl Watch for WatchService {
    /// The real responses take the place of this stream's.
    type WatchStream = Empty<Result<pb::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        admit(&self.store, request.metadata(), Learner::Refuses)?;
        let terms =
            self.terms(requires_leader(request.metadata()), Credentials::of(&self.store, &request));
        let connection = request.extensions().get::<Connection>().map_or(0, |it| it.0);
        let source = Source { connection, ..self.source.clone() };
        let requests = request.into_inner().map_err(|status| reword(WATCH, status));
        let responses = open(source, terms, requests);
        let mut response = Response::new(futures::stream::empty());
        response.extensions_mut().insert(Streamed::new(Body::new(responses)));
        Ok(response)
    }
}
