//! The JSON gateway: each RPC as a POST below `/v3/`, as grpc-gateway serves it for etcd.
//!
//! Owns: the way from an HTTP request to a call and back. Must not know: what the RPCs do; it calls
//! the same services as gRPC does, in this process, so there is no second way past authorization.
//! A newcomer's trap: a stream's HTTP status is decided by its first message, so nothing is
//! answered before that has come.

mod body;
mod decode;
mod encode;
mod messages;
mod metadata;
pub(crate) mod routes;
mod scan;
mod token;
pub(super) mod websocket;

use futures::stream;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::{Full, StreamBody};
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};

use body::{JsonBody, data};
use encode::Html;
use messages::{Messages, framed, out_of_time};

use super::Grpc;
use crate::limits::GATEWAY_BYTES_PER_MESSAGE_BYTE;

/// What all paths of the gateway begin with.
pub(super) const ROOT: &str = "/v3/";

/// The gateway. Cloning shares.
#[derive(Clone)]
pub(crate) struct Gateway {
    grpc: Grpc,
    body_bytes_max: usize,
}

// === impl Gateway ===

impl Gateway {
    /// In front of `grpc`, whose messages may have `message_bytes_max` bytes.
    pub(crate) fn new(grpc: Grpc, message_bytes_max: usize) -> Self {
        Self { grpc, body_bytes_max: GATEWAY_BYTES_PER_MESSAGE_BYTE * message_bytes_max }
    }

    /// The largest body that is read.
    pub(super) fn body_bytes_max(&self) -> usize {
        self.body_bytes_max
    }

    /// Answers a request whose `path`, decoded, begins with [`ROOT`].
    pub(super) async fn answer(&self, path: &str, request: Request<Body>) -> Response<Body> {
        let Some(method) = path.strip_prefix(ROOT).and_then(routes::find) else {
            return refuse(&Status::not_found("Not Found"));
        };
        // Differs from etcd: no header changes the method.
        if request.method() != Method::POST {
            return refuse(&Status::unimplemented("Method Not Allowed"));
        }
        let answered = if method.is_server_streaming() {
            self.stream(method, request).await
        } else {
            self.single(method, request).await
        };
        answered.unwrap_or_else(|status| refuse(&status))
    }

    /// One request, one answer.
    async fn single(
        &self,
        method: &MethodDescriptor,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let mut messages = self.call(method, request).await?;
        let output = method.output();
        let message = messages.next().await?.ok_or_else(|| Status::internal("no answer"))?;
        messages.next().await?;
        let mut json = String::new();
        encode::message(&read(output, message)?, Html::Plain, &mut json);
        Ok(respond(StatusCode::OK, Body::new(Full::from(json))))
    }

    /// One request or many, and a stream of answers: a line each.
    async fn stream(
        &self,
        method: &MethodDescriptor,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let mut messages = self.call(method, request).await?;
        let output = method.output();
        let first = match messages.next().await {
            Ok(Some(message)) => line(read(output.clone(), message)),
            Ok(None) => return Ok(respond(StatusCode::OK, Body::empty())),
            Err(status) => {
                let body = Full::from(line(Err(status.clone())));
                return Ok(respond(http_status(status.code()), Body::new(body)));
            }
        };
        let first = stream::iter([data(first.into())]);
        let rest = stream::unfold(Some((messages, output)), |open| async {
            let (mut messages, output) = open?;
            match messages.next().await {
                Ok(Some(message)) => {
                    let line = line(read(output.clone(), message));
                    Some((data(line.into()), Some((messages, output))))
                }
                Ok(None) => None,
                Err(status) => Some((data(line(Err(status)).into()), None)),
            }
        });
        let lines = futures::StreamExt::chain(first, rest);
        Ok(respond(StatusCode::OK, Body::new(StreamBody::new(lines))))
    }

    async fn call(
        &self,
        method: &MethodDescriptor,
        request: Request<Body>,
    ) -> Result<Messages, Status> {
        let (head, body) = request.into_parts();
        let deadline = metadata::timeout(&head.headers)?.map(|timeout| Instant::now() + timeout);
        let mut requests = JsonBody::new(body, self.body_bytes_max, method.input());
        let calling = async {
            let body = if method.is_client_streaming() {
                requests.into_messages()
            } else {
                let message = requests.next().await?.unwrap_or_default();
                Body::new(Full::new(framed(&message)))
            };
            let mut call = Request::new(body);
            *call.method_mut() = Method::POST;
            *call.uri_mut() = uri(method);
            *call.version_mut() = Version::HTTP_2;
            *call.headers_mut() = metadata::of(&head.headers);
            Ok(self.grpc.answer(call).await)
        };
        let response = match deadline {
            None => calling.await,
            Some(deadline) => tokio::time::timeout_at(deadline, calling)
                .await
                .unwrap_or_else(|_elapsed| Err(out_of_time())),
        }?;
        Ok(Messages::of(response, deadline))
    }
}

fn uri(method: &MethodDescriptor) -> Uri {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    Uri::try_from(path).expect("names of RPCs are paths")
}

fn read(of: MessageDescriptor, message: bytes::Bytes) -> Result<DynamicMessage, Status> {
    DynamicMessage::decode(of, message).map_err(|error| Status::internal(error.to_string()))
}

/// A line of a stream.
fn line(message: Result<DynamicMessage, Status>) -> String {
    let mut json = String::new();
    match message {
        Ok(message) => {
            json.push_str("{\"result\":");
            encode::message(&message, Html::Escaped, &mut json);
        }
        Err(status) => {
            json.push_str("{\"error\":");
            encode::status(&status, Html::Escaped, &mut json);
        }
    }
    json.push_str("}\n");
    json
}

fn refuse(status: &Status) -> Response<Body> {
    let mut json = String::new();
    encode::status(status, Html::Plain, &mut json);
    let mut response = respond(http_status(status.code()), Body::new(Full::from(json)));
    if status.code() == Code::Unauthenticated
        && let Ok(text) = HeaderValue::from_str(status.message())
    {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, text);
    }
    response
}

fn respond(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if status == StatusCode::OK {
        let grpc = HeaderValue::from_static("application/grpc");
        headers.insert("grpc-metadata-content-type", grpc);
    }
    response
}

/// The HTTP status of a code, as grpc-gateway maps it.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        // nginx's "client closed request"; the number is a valid one.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
