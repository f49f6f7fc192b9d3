//! Service-account tokens: what their claims mean and whether they still hold.
//!
//! Owns: the claims, for those who issue tokens too. Must not know: HTTP. A newcomer's trap: a
//! token outlives its signature check: the account, and the pod it is bound to, must still be there
//! with the same uid.

use std::collections::BTreeMap;
use std::sync::Arc;

use kijabi_base::clock;
use serde_json::{Value, json};

use super::jwt::TokenKey;
use crate::admission::{ObjectAt, Objects};
use crate::status::ApiError;
use crate::user::{SERVICE_ACCOUNT_PREFIX, SERVICE_ACCOUNTS, User};

/// How far the clocks of issuer and reader may differ.
const LEEWAY_SECONDS: i64 = 10;
const PRIVATE: &str = "kubernetes.io";

/// What a token is issued for.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The account's namespace.
    pub namespace: &'a str,
    /// The account's name.
    pub name: &'a str,
    /// The account's uid.
    pub uid: &'a str,
    /// What the token is bound to.
    pub bound: Bound,
    /// Who may take it.
    pub audiences: &'a [String],
    /// How long it holds.
    pub seconds: i64,
}

/// What a token is bound to: names and uids. It holds while those objects are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// The pod.
    pub pod: Option<(String, String)>,
    /// The node, or the node of the pod.
    pub node: Option<(String, String)>,
    /// The secret.
    pub secret: Option<(String, String)>,
}

/// Issues and checks tokens.
pub struct Tokens {
    key: Arc<TokenKey>,
    issuer: String,
    objects: Arc<dyn Objects>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Tokens of `issuer`, which is also the audience the API server takes.
    pub fn new(key: Arc<TokenKey>, issuer: String, objects: Arc<dyn Objects>) -> Self {
        Self { key, issuer, objects }
    }

    /// The issuer.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// A new token and when it ends, in seconds since the epoch.
    pub fn issue(&self, subject: &Subject<'_>) -> Result<(String, i64), ApiError> {
        let now = now_seconds();
        let expires = now + subject.seconds;
        let account = json!({"name": subject.name, "uid": subject.uid});
        let mut private = json!({"namespace": subject.namespace, "serviceaccount": account});
        let Bound { pod, node, secret } = &subject.bound;
        for (what, bound) in [("pod", pod), ("node", node), ("secret", secret)] {
            if let Some((name, uid)) = bound {
                private[what] = json!({"name": name, "uid": uid});
            }
        }
        let claims = json!({
            "aud": subject.audiences,
            "exp": expires,
            "iat": now,
            "iss": self.issuer,
            "jti": uuid::Uuid::new_v4().to_string(),
            PRIVATE: private,
            "nbf": now,
            "sub": format!("{SERVICE_ACCOUNT_PREFIX}{}:{}", subject.namespace, subject.name),
        });
        let token = self.key.sign(&claims).map_err(ApiError::internal)?;
        Ok((token, expires))
    }

    /// Whose token this is; `None` if it does not hold here.
    pub async fn authenticate(&self, token: &str) -> Result<Option<User>, ApiError> {
        let here = std::slice::from_ref(&self.issuer);
        Ok(self.authenticate_for(token, here).await?.map(|(user, _)| user))
    }

    /// Whose token this is, and for which of `audiences`; `None` if for none or it does not hold.
    pub async fn authenticate_for(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<(User, Vec<String>)>, ApiError> {
        let Some(claims) = self.key.verify(token).filter(|claims| self.is_timely(claims)) else {
            return Ok(None);
        };
        let named = |one: &&String| {
            claims["aud"].as_array().is_some_and(|all| all.iter().any(|aud| aud == one.as_str()))
        };
        let fitting: Vec<String> = audiences.iter().filter(named).cloned().collect();
        if fitting.is_empty() {
            return Ok(None);
        }
        let private = &claims[PRIVATE];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (namespace, account) = (text(&private["namespace"]), &private["serviceaccount"]);
        let (name, uid) = (text(&account["name"]), text(&account["uid"]));
        let subject = format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}");
        if claims["sub"] != subject.as_str() || namespace.is_empty() || name.is_empty() {
            return Ok(None);
        }
        if !self.exists("serviceaccounts", &namespace, &name, &uid).await? {
            return Ok(None);
        }
        let mut extra = BTreeMap::new();
        let mut add = |key: &str, value: String| {
            extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
        };
        add("credential-id", format!("JTI={}", text(&claims["jti"])));
        for what in ["pod", "node"] {
            let bound = &private[what];
            if bound.is_object() {
                add(&format!("{what}-name"), text(&bound["name"]));
                add(&format!("{what}-uid"), text(&bound["uid"]));
            }
        }
        // A pod's node may go before the pod; a node counts only when it is what the token is for.
        let by_node = private["pod"].is_null();
        for (what, plural, place) in [
            ("pod", "pods", namespace.as_str()),
            ("secret", "secrets", &namespace),
            ("node", "nodes", ""),
        ] {
            let bound = &private[what];
            if bound.is_object()
                && (what != "node" || by_node)
                && !self.exists(plural, place, &text(&bound["name"]), &text(&bound["uid"])).await?
            {
                return Ok(None);
            }
        }
        let groups = vec![SERVICE_ACCOUNTS.into(), format!("{SERVICE_ACCOUNTS}:{namespace}")];
        Ok(Some((User { name: subject, uid, groups, extra }, fitting)))
    }

    fn is_timely(&self, claims: &Value) -> bool {
        let now = now_seconds();
        let seconds = |claim: &str| claims[claim].as_i64();
        claims["iss"] == self.issuer.as_str()
            && seconds("exp").is_some_and(|end| now < end + LEEWAY_SECONDS)
            && seconds("nbf").is_none_or(|start| start <= now + LEEWAY_SECONDS)
    }

    async fn exists(
        &self,
        plural: &str,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<bool, ApiError> {
        let at = ObjectAt { group: "", plural, namespace, name };
        let is_same = |found: Option<Arc<Value>>| {
            found.is_some_and(|object| object["metadata"]["uid"] == uid)
        };
        // The cache may be behind for an object just made: only the store can say no.
        Ok(is_same(self.objects.get(at).await?) || is_same(self.objects.get_live(at).await?))
    }
}

fn now_seconds() -> i64 {
    (clock::wall_ms() / 1_000) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::fixture::Fixture;

    fn tokens(objects: Vec<Value>) -> Tokens {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let key = TokenKey::from_pkcs8(&pair.serialize_der()).unwrap();
        Tokens::new(Arc::new(key), "https://issuer".into(), Arc::new(Fixture::new(objects)))
    }

    fn account(uid: &str) -> Value {
        json!({"kind": "serviceaccounts", "metadata": {"namespace": "g", "name": "a", "uid": uid}})
    }

    fn subject(audiences: &[String], seconds: i64) -> Subject<'_> {
        let (namespace, name, uid) = ("g", "a", "u1");
        Subject { namespace, name, uid, bound: Bound::default(), audiences, seconds }
    }

    #[tokio::test]
    async fn a_token_names_its_account_while_the_account_is_the_same() {
        let ours = vec!["https://issuer".to_owned()];
        let tokens = tokens(vec![account("u1")]);
        let (token, _) = tokens.issue(&subject(&ours, 600)).unwrap();
        let user = tokens.authenticate(&token).await.unwrap().unwrap();
        assert_eq!(user.name, "system:serviceaccount:g:a");
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:g"]);

        let reborn = Tokens {
            objects: Arc::new(Fixture::new(vec![account("u2")])),
            key: tokens.key.clone(),
            issuer: tokens.issuer.clone(),
        };
        assert_eq!(reborn.authenticate(&token).await.unwrap(), None);
    }

    #[tokio::test]
    async fn expired_foreign_and_orphaned_tokens_do_not_hold() {
        let ours = vec!["https://issuer".to_owned()];
        let theirs = vec!["vault".to_owned()];
        let tokens = tokens(vec![account("u1")]);
        let (expired, _) = tokens.issue(&subject(&ours, -60)).unwrap();
        let (foreign, _) = tokens.issue(&subject(&theirs, 600)).unwrap();
        let gone = Bound { pod: Some(("gone".into(), "p1".into())), ..Bound::default() };
        let bound = Subject { bound: gone, ..subject(&ours, 600) };
        let (orphaned, _) = tokens.issue(&bound).unwrap();
        for (why, token) in [("expired", expired), ("audience", foreign), ("pod", orphaned)] {
            assert_eq!(tokens.authenticate(&token).await.unwrap(), None, "{why}");
        }
    }
}
