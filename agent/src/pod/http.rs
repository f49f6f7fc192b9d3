//! One HTTP GET into a pod, for probes and hooks.
//!
//! Must not know: what the answer means. A newcomer's trap: as in Kubernetes, HTTPS here checks no
//! certificate: it asks whether the container answers, not who it is.
// Differs from Kubernetes: redirects are not followed; an answer with code 3xx counts as success
// as it is, so no probe can be led to another host.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container as Wanted, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;

use crate::limits::PROBE_BODY_BYTES;

/// What to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) host: String,
    pub(super) port: u16,
    path: String,
    tls: bool,
    headers: Vec<(String, String)>,
}

impl Request {
    /// The request a probe or hook describes, to the pod unless it names a host.
    pub(super) fn new(get: &HTTPGetAction, wanted: &Wanted, ip: &str) -> Result<Self, String> {
        let path = get.path.clone().unwrap_or_default();
        let headers = get.http_headers.iter().flatten();
        Ok(Self {
            host: get.host.clone().filter(|it| !it.is_empty()).unwrap_or_else(|| ip.to_owned()),
            port: port(&get.port, wanted)?,
            path: if path.starts_with('/') { path } else { format!("/{path}") },
            tls: get.scheme.as_deref() == Some("HTTPS"),
            headers: headers.map(|it| (it.name.clone(), it.value.clone())).collect(),
        })
    }
}

/// A port by number, or by the name a container gives it.
pub(super) fn port(port: &IntOrString, wanted: &Wanted) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => wanted
            .ports
            .iter()
            .flatten()
            .find(|it| it.name.as_ref() == Some(name))
            .map(|it| it.container_port)
            .or_else(|| name.parse().ok()),
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("couldn't find port: {port:?}"))
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// Asks, and waits for the answer no longer than `patience`.
pub(super) async fn get(request: &Request, patience: Duration) -> Result<Answer, String> {
    match tokio::time::timeout(patience, exchange(request)).await {
        Ok(answer) => answer.map_err(|error| {
            let scheme = if request.tls { "https" } else { "http" };
            let Request { host, port, path, .. } = request;
            format!("Get \"{scheme}://{host}:{port}{path}\": {error}")
        }),
        Err(_) => {
            Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
                .to_owned())
        }
    }
}

async fn exchange(request: &Request) -> Result<Answer, String> {
    let Request { host, port, .. } = request;
    let stream = TcpStream::connect((host.as_str(), *port))
        .await
        .map_err(|error| format!("dial tcp {host}:{port}: connect: {}", go_errno(&error)))?;
    if !request.tls {
        return speak(request, TokioIo::new(stream)).await;
    }
    let name = ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls_config()?));
    let stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
    speak(request, TokioIo::new(stream)).await
}

/// A connection error in Go's words, which are what users know from events.
pub(super) fn go_errno(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        std::io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        _ => error.to_string(),
    }
}

async fn speak<S>(request: &Request, stream: S) -> Result<Answer, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(stream).await.map_err(|error| error.to_string())?;
    let mut builder = http::Request::get(&request.path);
    let has = |name: &str| request.headers.iter().any(|(it, _)| it.eq_ignore_ascii_case(name));
    for (name, default) in [
        ("Host", format!("{}:{}", request.host, request.port)),
        ("User-Agent", "kube-probe/1.36".to_owned()),
        ("Accept", "*/*".to_owned()),
    ] {
        if !has(name) {
            builder = builder.header(name, default);
        }
    }
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    let ask = builder
        .header("Connection", "close")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| error.to_string())?;
    let talk = async {
        let answer = sender.send_request(ask).await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        let mut body = answer.into_body();
        let mut bytes = Vec::new();
        while bytes.len() < PROBE_BODY_BYTES {
            match body.frame().await {
                Some(Ok(frame)) => bytes.extend(frame.into_data().unwrap_or_default()),
                Some(Err(_)) | None => break,
            }
        }
        bytes.truncate(PROBE_BODY_BYTES);
        Ok(Answer { status, body: String::from_utf8_lossy(&bytes).into_owned() })
    };
    // The connection is driven here, so that nothing of it outlives the request.
    let mut connection = std::pin::pin!(connection);
    let mut talk = std::pin::pin!(talk);
    tokio::select! {
        answer = &mut talk => answer,
        ended = &mut connection => match ended {
            Ok(()) => talk.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

fn tls_config() -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    Ok(config)
}

/// Takes any certificate. Signatures are still checked, so the handshake itself is sound.
#[derive(Debug)]
struct Anyone(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_found_by_number_and_by_name() {
        let wanted: Wanted = serde_json::from_value(serde_json::json!({
            "name": "c", "ports": [{"name": "web", "containerPort": 8080}]}))
        .unwrap();
        assert_eq!(port(&IntOrString::Int(80), &wanted), Ok(80));
        assert_eq!(port(&IntOrString::String("web".to_owned()), &wanted), Ok(8080));
        assert!(port(&IntOrString::String("none".to_owned()), &wanted).is_err());
        assert!(port(&IntOrString::Int(70_000), &wanted).is_err());
    }
}
