//! Signed tokens: JSON web tokens with a user's name, an auth revision and an end.
//!
//! Owns: their form, and the options they are made by. Must not know: users. A newcomer's trap: the
//! algorithm is the configuration's to choose, never the token's, and a token stays good until its
//! end unless users or roles change, because its auth revision is then old.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kijabi_base::clock;
use serde_json::{Value, json};

use super::jwt_key::{Algorithm, Keys};
use crate::config::parse_duration;

/// etcd's default.
const TTL: Duration = Duration::from_secs(300);

/// Why the token options cannot be used; the texts are etcd's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadTokenOptions {
    #[error("auth: invalid auth options")]
    Invalid,
    #[error("auth: invalid auth options: {0}")]
    Because(String),
    #[error("auth: missing key data")]
    MissingKey,
    #[error("auth: public and private keys don't match")]
    KeyMismatch,
}

/// The options behind a token's kind: `name=value`, each once.
pub(super) type Options<'a> = Vec<(&'a str, &'a str)>;

/// Splits `jwt,name=value,…`.
pub(super) fn split_options(text: &str) -> Result<(&str, Options<'_>), BadTokenOptions> {
    let (kind, rest) = text.split_once(',').map_or((text, None), |(kind, rest)| (kind, Some(rest)));
    let mut options: Options<'_> = Vec::new();
    for pair in rest.into_iter().flat_map(|rest| rest.split(',')) {
        let (name, value) = pair.split_once('=').ok_or(BadTokenOptions::Invalid)?;
        if value.contains('=') || options.iter().any(|(known, _)| *known == name) {
            return Err(BadTokenOptions::Invalid);
        }
        options.push((name, value));
    }
    Ok((kind, options))
}

/// Makes and checks tokens.
pub(crate) struct Jwt {
    algorithm: Algorithm,
    keys: Keys,
    ttl: Duration,
}

/// What a good token says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) username: String,
    pub(super) revision: u64,
}

impl Jwt {
    pub(super) fn new(options: &Options<'_>) -> Result<Self, BadTokenOptions> {
        let of = |name| {
            let given = options.iter().find(|(known, _)| *known == name);
            given.map(|(_, value)| *value).filter(|value| !value.is_empty())
        };
        for (name, _) in options {
            if !["sign-method", "pub-key", "priv-key", "ttl"].contains(name) {
                tracing::warn!(option = name, "unknown JWT option");
            }
        }
        let ttl = match of("ttl") {
            Some(text) => {
                parse_duration(text).map_err(|error| BadTokenOptions::Because(error.to_string()))?
            }
            None => TTL,
        };
        let read = |path: &str| {
            std::fs::read(path)
                .map_err(|error| BadTokenOptions::Because(format!("{path}: {error}")))
        };
        let public = of("pub-key").map(read).transpose()?;
        let private = of("priv-key").map(read).transpose()?;
        let algorithm = Algorithm::named(of("sign-method").unwrap_or_default())?;
        let keys = Keys::new(algorithm, public.as_deref(), private.as_deref())?;
        Ok(Self { algorithm, keys, ttl })
    }

    /// A token for a user whose password was right at an auth revision; `None` if there is no key
    /// to sign with.
    pub(crate) fn sign(&self, username: &str, revision: u64) -> Option<String> {
        let ends = Duration::from_millis(clock::wall_ms()).saturating_add(self.ttl).as_secs();
        let header = json!({"alg": self.algorithm.name(), "typ": "JWT"});
        let claims = json!({"exp": ends, "revision": revision, "username": username});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(&claims));
        let signature = self.keys.sign(message.as_bytes())?;
        Some(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// What a token says, if it is good.
    pub(super) fn verify(&self, token: &str) -> Option<Claims> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        if decode(header)?.get("alg")?.as_str()? != self.algorithm.name() {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        if !self.keys.verify(message.as_bytes(), &signature) {
            return None;
        }
        let claims = decode(claims)?;
        let now = clock::wall_ms() as f64 / 1000.0;
        // A time that is there must be a number; one that is not there sets no bound.
        let time = |name: &str| claims.get(name).map_or(Some(None), |at| at.as_f64().map(Some));
        if time("exp")?.is_some_and(|end| end <= now) || time("nbf")?.is_some_and(|from| now < from)
        {
            return None;
        }
        let username = claims.get("username")?.as_str()?.to_owned();
        let revision = claims.get("revision")?.as_f64()? as u64;
        Some(Claims { username, revision })
    }
}

impl std::fmt::Debug for Jwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jwt").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

fn decode(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hmac(secret: &str) -> Jwt {
        let algorithm = Algorithm::named("HS256").unwrap();
        let keys = Keys::new(algorithm, None, Some(secret.as_bytes())).unwrap();
        Jwt { algorithm, keys, ttl: TTL }
    }

    fn forge(jwt: &Jwt, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = jwt.keys.sign(message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    #[test]
    fn a_token_says_who_and_at_which_auth_revision() {
        let jwt = hmac("secret");
        let token = jwt.sign("alice", 7).unwrap();
        let claims = Claims { username: "alice".into(), revision: 7 };
        assert_eq!(jwt.verify(&token), Some(claims));
        assert_eq!(hmac("another").verify(&token), None);
    }

    #[test]
    fn tokens_that_are_not_as_they_should_be_are_refused() {
        let jwt = hmac("secret");
        let header = json!({"alg": "HS256", "typ": "JWT"});
        let now = clock::wall_ms() / 1000;
        let good = json!({"username": "a", "revision": 1, "exp": now + 60});
        assert!(jwt.verify(&forge(&jwt, &header, &good)).is_some());
        let cases = [
            ("another algorithm", json!({"alg": "HS512"}), good.clone()),
            ("no algorithm", json!({"alg": "none"}), good.clone()),
            ("no header", json!({}), good.clone()),
            ("past its end", header.clone(), json!({"username": "a", "revision": 1, "exp": now})),
            ("no time", header.clone(), json!({"username": "a", "revision": 1, "exp": "x"})),
            ("not yet", header.clone(), json!({"username": "a", "revision": 1, "nbf": now + 60})),
            ("no name", header.clone(), json!({"revision": 1})),
            ("no text", header.clone(), json!({"username": 1, "revision": 1})),
            ("no revision", header.clone(), json!({"username": "a"})),
            ("no claims", header.clone(), json!([])),
        ];
        for (why, header, claims) in cases {
            assert_eq!(jwt.verify(&forge(&jwt, &header, &claims)), None, "{why}");
        }
        let token = jwt.sign("a", 1).unwrap();
        let (message, _) = token.rsplit_once('.').unwrap();
        for text in ["", ".", "..", "a.b", "a.b.c", message, &format!("{message}.")] {
            assert_eq!(jwt.verify(text), None, "{text}");
        }
    }

    #[test]
    fn options_are_checked_as_etcd_checks_them() {
        let of = |text: &str| {
            split_options(text).map(|(kind, options)| (kind.to_owned(), options.len()))
        };
        assert_eq!(of("simple").unwrap(), ("simple".into(), 0));
        assert_eq!(of("jwt,sign-method=HS256,ttl=5m").unwrap(), ("jwt".into(), 2));
        for bad in ["jwt,", "jwt,ttl", "jwt,ttl=1=2", "jwt,ttl=1m,ttl=2m"] {
            assert_eq!(of(bad).unwrap_err().to_string(), "auth: invalid auth options", "{bad}");
        }
        let new = |options: &Options<'_>| Jwt::new(options).unwrap_err().to_string();
        assert_eq!(new(&vec![("sign-method", "HS256")]), "auth: missing key data");
        assert!(new(&vec![("sign-method", "X")]).starts_with("auth: invalid auth options"));
        assert!(new(&vec![]).starts_with("auth: invalid auth options"));
        assert!(new(&vec![("ttl", "x"), ("sign-method", "HS256")]).contains("time: invalid"));
        assert!(new(&vec![("pub-key", "/nowhere")]).contains("/nowhere"));
    }
}
