//! The server as its own client: requests that never leave the process.
//!
//! Owns: the server's own identity. Must not know: what its callers want. A newcomer's trap: these
//! requests skip authentication and authorization, but not admission, defaults and validation, so
//! what they make looks like anyone's object.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, header};
use http_body_util::BodyExt as _;
use serde_json::Value;

use crate::body;
use crate::exchange::{ApiRequest, ResourceHandler, Warnings};
use crate::request::RequestInfo;
use crate::user::{MASTERS, User};

const USER: &str = "system:apiserver";
const USER_AGENT: HeaderValue = HeaderValue::from_static("kube-apiserver");

/// A request that was not answered with success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refused {
    /// The HTTP status code.
    pub code: u16,
    /// The Status' message.
    pub message: String,
}

/// The server's own client.
#[derive(Clone)]
pub struct Loopback(Arc<dyn ResourceHandler>);

impl std::fmt::Debug for Loopback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Loopback")
    }
}

impl Loopback {
    /// A client of `handler`.
    pub fn new(handler: Arc<dyn ResourceHandler>) -> Self {
        Self(handler)
    }

    /// GET; `None` if there is no such object.
    pub async fn get(&self, path: &str) -> Result<Option<Value>, Refused> {
        match self.send(Method::GET, path, None).await {
            Ok(found) => Ok(Some(found)),
            Err(refused) if refused.code == 404 => Ok(None),
            Err(refused) => Err(refused),
        }
    }

    /// POST; an object that is there already is no error.
    pub async fn ensure(&self, path: &str, object: &Value) -> Result<(), Refused> {
        match self.send(Method::POST, path, Some(object)).await {
            Ok(_) => Ok(()),
            Err(refused) if refused.code == 409 => Ok(()),
            Err(refused) => Err(refused),
        }
    }

    /// PUT.
    pub async fn update(&self, path: &str, object: &Value) -> Result<Value, Refused> {
        self.send(Method::PUT, path, Some(object)).await
    }

    /// DELETE; an object that is gone already is no error.
    pub async fn delete(&self, path: &str) -> Result<(), Refused> {
        match self.send(Method::DELETE, path, None).await {
            Ok(_) => Ok(()),
            Err(refused) if refused.code == 404 => Ok(()),
            Err(refused) => Err(refused),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        object: Option<&Value>,
    ) -> Result<Value, Refused> {
        let info = RequestInfo::parse(&method, path, None)
            .map_err(|error| Refused { code: 400, message: error.to_string() })?;
        let mut headers = HeaderMap::new();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::ACCEPT, json.clone());
        headers.insert(header::USER_AGENT, USER_AGENT);
        let mut bytes = Vec::new();
        if let Some(object) = object {
            headers.insert(header::CONTENT_TYPE, json);
            bytes = serde_json::to_vec(object).expect("a JSON value always has a JSON form");
        }
        let user = User { name: USER.into(), groups: vec![MASTERS.into()], ..User::default() };
        let warnings = Warnings::default();
        let body = body::full(bytes);
        let response =
            self.0.handle(ApiRequest { info, user, method, headers, body, warnings }).await;
        let code = response.status();
        let unreadable = |error: String| Refused { code: 500, message: error };
        let bytes = response.into_body().collect().await;
        let bytes = bytes.map_err(|error| unreadable(error.to_string()))?.to_bytes();
        let answer: Value =
            serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
        if code.is_success() {
            return Ok(answer);
        }
        let message = answer["message"].as_str().unwrap_or_default().to_owned();
        Err(Refused { code: code.as_u16(), message })
    }
}
