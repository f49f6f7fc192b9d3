//! What a request brings to prove a name.
//!
//! Owns: where it stands in a request, and what it proves. Must not know: requests. A newcomer's
//! trap: a stream keeps its credentials and proves them anew for each of its requests, because
//! tokens run out.

use std::sync::Arc;

use kijabi_machine::Caller;
use tonic::Request;
use tonic::metadata::MetadataMap;

use super::{Need, Rpc, Tokens};
use crate::error::Error;
use crate::serve::PeerIdentity;
use crate::store::Store;

/// Where a token stands: etcd's clients use the first, HTTP clients the second.
const TOKEN_KEYS: [&str; 2] = ["token", "authorization"];
/// A word that may stand before a token.
const BEARER: &str = "Bearer ";
/// The mark of a request that came through a gateway, whose own certificate it then is.
const GATEWAY_MARK: &str = "grpcgateway-accept";
/// No token of ours is longer; a longer one is wrong without a look.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// What a request brings to prove a name.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    token: Option<Box<str>>,
    common_name: Option<Arc<str>>,
}

impl Credentials {
    /// What `request` brings.
    pub(crate) fn of<T>(store: &Store, request: &Request<T>) -> Self {
        let metadata = request.metadata();
        let token = token(metadata);
        let counts = store.access().certificates && !metadata.contains_key(GATEWAY_MARK);
        let identity = request.extensions().get::<PeerIdentity>().filter(|_| counts);
        Self { token, common_name: identity.map(|identity| Arc::clone(&identity.common_name)) }
    }

    /// Whom they prove, if it may call `rpc` at all.
    pub(crate) async fn caller(&self, store: &Store, rpc: Rpc) -> Result<Caller, Error> {
        if !store.access().enabled() {
            return Ok(Caller::Anonymous);
        }
        let caller = self.prove(store).await?;
        let machine = store.machine().read();
        match rpc.need() {
            Need::Admin => machine.auth().permit_admin(&caller)?,
            Need::Login => machine.auth().permit_login(&caller)?,
            Need::Open | Need::Any | Need::Keys | Need::Own => {}
        }
        Ok(caller)
    }

    async fn prove(&self, store: &Store) -> Result<Caller, Error> {
        let access = store.access();
        let Some(token) = &self.token else {
            let Some(name) = &self.common_name else { return Ok(Caller::Anonymous) };
            return Ok(user(store, Arc::clone(name)));
        };
        match &access.tokens {
            Tokens::None => Err(Error::InvalidAuthToken),
            Tokens::Jwt(jwt) => {
                let claims = jwt.verify(token).ok_or(Error::InvalidAuthToken)?;
                let (name, auth_revision) = (claims.username.into(), claims.revision);
                Ok(Caller::User { name, auth_revision })
            }
            Tokens::Simple(tokens) => {
                let (secret, index) = split_simple(token).ok_or(Error::InvalidAuthToken)?;
                if let Some(name) = tokens.user(secret) {
                    return Ok(user(store, name));
                }
                // Made at another member, it may stand in an entry that is not applied here yet, or
                // is being applied: so there is another look when all of it is known here. It was
                // given to the client before this request, so the barrier is enough.
                if index > store.applied_index() {
                    store.read_barrier().await?;
                }
                let name = tokens.user(secret).ok_or(Error::InvalidAuthToken)?;
                Ok(user(store, name))
            }
        }
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("common_name", &self.common_name)
            .finish_non_exhaustive()
    }
}

/// A user whose name is proven now.
fn user(store: &Store, name: Arc<str>) -> Caller {
    Caller::User { name, auth_revision: store.machine().read().auth().revision() }
}

/// The token in a request; one that is no text is an empty one, which is wrong.
fn token(metadata: &MetadataMap) -> Option<Box<str>> {
    let value = TOKEN_KEYS.iter().find_map(|key| metadata.get(*key))?;
    let text = value.to_str().unwrap_or_default();
    let token = text.strip_prefix(BEARER).unwrap_or(text);
    Some(if token.len() > TOKEN_BYTES_MAX { "" } else { token }.into())
}

/// A simple token's secret part, and the log index behind it.
fn split_simple(token: &str) -> Option<(&str, u64)> {
    let (secret, index) = token.split_once('.')?;
    Some((secret, index.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_under_either_name_with_or_without_bearer() {
        let long = "x".repeat(TOKEN_BYTES_MAX + 1);
        type Given<'a> = &'a [(&'static str, &'a str)];
        let cases: &[(Given<'_>, Option<&str>)] = &[
            (&[], None),
            (&[("token", "a.1")], Some("a.1")),
            (&[("authorization", "a.1")], Some("a.1")),
            (&[("authorization", "Bearer a.1")], Some("a.1")),
            (&[("token", "Bearer a.1")], Some("a.1")),
            (&[("authorization", "b.2"), ("token", "a.1")], Some("a.1")),
            (&[("authorization", "Basic a.1")], Some("Basic a.1")),
            (&[("token", "")], Some("")),
            (&[("token", &long)], Some("")),
        ];
        for (given, expected) in cases {
            let mut metadata = MetadataMap::new();
            for (key, value) in *given {
                let key: tonic::metadata::AsciiMetadataKey = key.parse().unwrap();
                metadata.insert(key, value.parse().unwrap());
            }
            assert_eq!(token(&metadata).as_deref(), *expected, "{given:?}");
        }
    }

    #[test]
    fn a_simple_token_is_a_secret_and_an_index() {
        for (text, expected) in [
            ("abc.7", Some(("abc", 7))),
            ("abc", None),
            ("abc.", None),
            ("abc.x", None),
            ("abc.-1", None),
            ("abc.7.8", None),
            ("abc.99999999999999999999999", None),
            (".7", Some(("", 7))),
            ("", None),
        ] {
            assert_eq!(split_simple(text), expected, "{text}");
        }
    }
}
