//! Authentication: who sent this request.
//!
//! Owns: the order in which proofs are tried and the removal of what only a proxy may say. Must not
//! know: rights. A newcomer's trap: a proof that fails makes the request `401` unless another proof
//! holds; only a request without any proof can be anonymous.

pub mod jwt;
pub mod token;

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use kijabi_base::clock;

use crate::request::RequestInfo;
use crate::status::ApiError;
use crate::tls::PeerIdentity;
use crate::user::{AUTHENTICATED, User};
use token::Tokens;

/// Paths that need no identity, with all below them.
const OPEN_PATHS: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];

/// Finds out who sent a request.
pub struct Authenticator {
    tokens: Arc<Tokens>,
    anonymous: bool,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator").field("anonymous", &self.anonymous).finish_non_exhaustive()
    }
}

impl Authenticator {
    /// An authenticator; `anonymous` says whether requests without a proof go on at all paths.
    pub fn new(tokens: Arc<Tokens>, anonymous: bool) -> Self {
        Self { tokens, anonymous }
    }

    /// The user, or 401. Headers that carry identities are removed.
    pub async fn authenticate(
        &self,
        peer: &PeerIdentity,
        info: &RequestInfo,
        headers: &mut HeaderMap,
    ) -> Result<User, ApiError> {
        let bearer = take_bearer(headers)?;
        if let PeerIdentity::Verified { user, not_after } = peer
            && *not_after >= (clock::wall_ms() / 1_000) as i64
        {
            return Ok(with_authenticated(user.clone()));
        }
        if let Some(token) = bearer {
            let user = self.tokens.authenticate(&token).await?;
            return user.map(with_authenticated).ok_or_else(ApiError::unauthorized);
        }
        if *peer == PeerIdentity::None && (self.anonymous || is_open(&info.path)) {
            return Ok(User::anonymous());
        }
        Err(ApiError::unauthorized())
    }
}

fn is_open(path: &str) -> bool {
    OPEN_PATHS.iter().any(|open| {
        path.strip_prefix(open).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn with_authenticated(mut user: User) -> User {
    if !user.is_in(AUTHENTICATED) {
        user.groups.push(AUTHENTICATED.into());
    }
    user
}

/// The bearer token, if there is one, and the headers without it. Two `Authorization` headers mean
/// two things, so they mean nothing.
fn take_bearer(headers: &mut HeaderMap) -> Result<Option<String>, ApiError> {
    let from_proxies: Vec<_> =
        headers.keys().filter(|name| name.as_str().starts_with("x-remote-")).cloned().collect();
    for name in from_proxies {
        headers.remove(name);
    }
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (first, second) = (values.next().cloned(), values.next());
    if second.is_some() {
        return Err(ApiError::unauthorized());
    }
    headers.remove(AUTHORIZATION);
    let Some(value) = first else { return Ok(None) };
    let Ok(value) = value.to_str() else { return Err(ApiError::unauthorized()) };
    let Some((scheme, token)) = value.trim().split_once(' ') else { return Ok(None) };
    let token = token.trim();
    Ok((scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn identity_headers_never_reach_a_handler() {
        let mut all = headers(&[
            ("Authorization", "Bearer abc"),
            ("X-Remote-User", "admin"),
            ("X-Remote-Extra-Scopes", "x"),
            ("Accept", "application/json"),
        ]);
        assert_eq!(take_bearer(&mut all).unwrap().as_deref(), Some("abc"));
        assert_eq!(all.keys().map(|k| k.as_str()).collect::<Vec<_>>(), ["accept"]);
    }

    #[test]
    fn two_authorization_headers_are_refused() {
        let mut two = headers(&[("Authorization", "Bearer a"), ("Authorization", "Bearer b")]);
        assert_eq!(take_bearer(&mut two).unwrap_err().code(), 401);
    }

    #[test]
    fn only_health_and_version_are_open() {
        for path in ["/healthz", "/healthz/etcd", "/readyz", "/livez/ping", "/version"] {
            assert!(is_open(path), "{path}");
        }
        for path in ["/", "/healthzz", "/api", "/metrics", "/openapi/v2", "/versions"] {
            assert!(!is_open(path), "{path}");
        }
    }
}
