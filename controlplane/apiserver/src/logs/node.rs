//! Requests to node agents over TLS.
//!
//! Owns: which addresses may be dialled, and the proof on both sides. Must not know: what is asked.
//! A newcomer's trap: the address comes from an object that its node wrote, so it is checked at the
//! moment of dialling, or a node could make the server talk to itself or to a metadata service.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use kijabi_base::tasks;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::pki::Pki;
use crate::tls::{TlsError, client_config};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an agent may take until its answer begins.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of an agent's error is read.
const ERROR_BYTES_MAX: usize = 50_000;

/// Where an agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Agent {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) allow_loopback: bool,
}

/// Why an agent did not answer, in the form of Go's client.
#[derive(Debug, thiserror::Error)]
#[error("Get \"https://{address}{target}\": {why}")]
pub(super) struct NodeError {
    address: SocketAddr,
    target: String,
    why: String,
}

/// A client of agents.
#[derive(Clone)]
pub(super) struct NodeClient(TlsConnector);

impl NodeClient {
    pub(super) fn new(pki: &Pki) -> Result<Self, TlsError> {
        let mut config = client_config(pki.ca_pem(), Some(pki.kubelet_client()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    pub(super) async fn get(
        &self,
        agent: &Agent,
        path: &str,
        query: &str,
    ) -> Result<Response<Incoming>, NodeError> {
        let address = SocketAddr::new(agent.address, agent.port);
        let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        let failed = |why: String| NodeError { address, target: target.clone(), why };
        if !may_dial(agent) {
            return Err(failed("address not allowed".into()));
        }
        let connect = async {
            let stream = TcpStream::connect(address)
                .await
                .map_err(|error| format!("dial tcp {address}: {error}"))?;
            let name = ServerName::IpAddress(agent.address.into());
            self.0.connect(name, stream).await.map_err(|error| format!("tls: {error}"))
        };
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_| failed(format!("dial tcp {address}: i/o timeout")))?
            .map_err(&failed)?;
        let answer = async {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            // It ends when the answer is read to its end or dropped.
            tasks::spawn("node-connection", async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "connection to a node ended");
                }
            });
            let request = Request::get(&target)
                .header(header::HOST, address.to_string())
                .header(header::USER_AGENT, "kube-apiserver")
                .body(Empty::<Bytes>::new());
            let request = request.map_err(|error| Failed::Request(error.to_string()))?;
            Ok::<_, Failed>(sender.send_request(request).await?)
        };
        tokio::time::timeout(ANSWER_TIMEOUT, answer)
            .await
            .map_err(|_| failed("net/http: timeout awaiting response headers".into()))?
            .map_err(|error| failed(error.to_string()))
    }
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Request(String),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// Neither this machine, nor a link's own services (cloud metadata), nor no machine at all.
fn may_dial(agent: &Agent) -> bool {
    let address = agent.address.to_canonical();
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if address.is_loopback() {
        return agent.allow_loopback;
    }
    !(address.is_unspecified() || address.is_multicast() || link_local)
}

/// The text of an agent's refusal, as far as it is read.
pub(super) async fn read_error(answer: Response<Incoming>) -> String {
    let mut body = answer.into_body();
    let mut text = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(piece) = frame.into_data() else { continue };
        let room = ERROR_BYTES_MAX - text.len();
        text.extend_from_slice(&piece[..piece.len().min(room)]);
        if text.len() == ERROR_BYTES_MAX {
            break;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_other_machines_are_dialled() {
        for (address, allow_loopback, want) in [
            ("192.0.2.1", false, true),
            ("10.0.0.7", false, true),
            ("fd00::7", false, true),
            ("127.0.0.1", false, false),
            ("127.0.0.1", true, true),
            ("::1", false, false),
            ("::ffff:127.0.0.1", false, false),
            ("169.254.169.254", true, false),
            ("fe80::1", true, false),
            ("0.0.0.0", true, false),
            ("224.0.0.1", true, false),
            ("255.255.255.255", true, false),
        ] {
            let agent = Agent { address: address.parse().unwrap(), port: 1, allow_loopback };
            assert_eq!(may_dial(&agent), want, "{address}");
        }
    }
}
