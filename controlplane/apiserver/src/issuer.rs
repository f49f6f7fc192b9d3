//! What others need to check service-account tokens: the issuer's description and public keys.
//!
//! Owns: the two documents of OpenID discovery. Must not know: who asks. A newcomer's trap: the
//! issuer in the document must be, letter for letter, the one in the tokens.

use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue};
use serde_json::{Value, json};

use crate::authn::jwt::TokenKey;
use crate::exchange::{self, Response};

const CONFIGURATION: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/openid/v1/jwks";

/// The documents.
#[derive(Clone, Debug)]
pub struct Issuer {
    configuration: Value,
    keys: Value,
}

impl Issuer {
    /// The documents of an issuer whose keys others find at `server` (`https://host:port`).
    pub fn new(issuer: &str, server: &str, key: &TokenKey) -> Self {
        let configuration = json!({
            "issuer": issuer,
            "jwks_uri": format!("{server}{KEYS}"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        });
        Self { configuration, keys: json!({"keys": [key.jwk()]}) }
    }

    /// The answer at `path`, if it is one of these.
    pub fn answer(&self, path: &str) -> Option<Response> {
        let mut response = match path {
            CONFIGURATION => exchange::json(StatusCode::OK, &self.configuration),
            KEYS => exchange::with_type(
                StatusCode::OK,
                "application/jwk-set+json",
                self.keys.to_string(),
            ),
            _ => return None,
        };
        let hour = HeaderValue::from_static("public, max-age=3600");
        response.headers_mut().insert(CACHE_CONTROL, hour);
        Some(response)
    }
}
