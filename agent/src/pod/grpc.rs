//! The gRPC health check (`grpc.health.v1.Health/Check`) for probes.
//!
//! Its two messages are small enough to be written down here. A newcomer's trap: only the answer
//! SERVING is healthy; NOT_FOUND means the server does not know the service, and that is a failure.

use std::time::Duration;

use tonic::transport::Endpoint;

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `HealthCheckResponse.SERVING`.
const SERVING: i32 = 1;

/// Asks once. The error is what the probe's event tells.
pub(super) async fn check(
    ip: &str,
    port: i32,
    service: String,
    timeout: Duration,
) -> Result<(), String> {
    let ask = async {
        let endpoint = Endpoint::from_shared(format!("http://{ip}:{port}"))
            .map_err(|error| error.to_string())?
            .connect_timeout(timeout);
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| format!("failed to connect service \"{ip}:{port}\": {error}"))?;
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.map_err(|error| error.to_string())?;
        let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
        let request = tonic::Request::new(HealthCheckRequest { service });
        let answer = client.unary(request, path, codec).await;
        let status = answer.map_err(|error| format!("error: health rpc probe failed: {error}"))?;
        match status.into_inner().status {
            SERVING => Ok(()),
            other => Err(format!("service unhealthy (responded with {other})")),
        }
    };
    match tokio::time::timeout(timeout, ask).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("timeout: health rpc did not complete within {timeout:?}")),
    }
}
