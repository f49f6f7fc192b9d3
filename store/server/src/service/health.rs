//! gRPC's own health service.
//!
//! Owns: whether the whole server serves. Must not know: why not. A newcomer's trap: only the
//! empty service name exists, as in etcd.

use kijabi_base::tasks::{self, Shutdown};
use kijabi_proto::health::health_check_response::ServingStatus;
use kijabi_proto::health::health_server::Health;
use kijabi_proto::health::{HealthCheckRequest, HealthCheckResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// The service.
pub(crate) struct HealthService {
    shutdown: Shutdown,
}

impl HealthService {
    /// Serving until `shutdown`.
    pub(crate) fn new(shutdown: Shutdown) -> Self {
        Self { shutdown }
    }

    fn now(&self) -> HealthCheckResponse {
        let serving = !self.shutdown.is_triggered();
        answer(if serving { ServingStatus::Serving } else { ServingStatus::NotServing })
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if request.get_ref().service.is_empty() {
            Ok(Response::new(self.now()))
        } else {
            Err(Status::not_found("unknown service"))
        }
    }

    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = request.get_ref().service.is_empty();
        let first = if known { self.now() } else { answer(ServingStatus::ServiceUnknown) };
        let (responses, receiver) = mpsc::channel(2);
        let shutdown = self.shutdown.clone();
        tasks::spawn("health watch", async move {
            let _ = responses.send(Ok(first)).await;
            tokio::select! {
                () = shutdown.wait() => {
                    if known {
                        let _ = responses.send(Ok(answer(ServingStatus::NotServing))).await;
                    }
                }
                () = responses.closed() => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
