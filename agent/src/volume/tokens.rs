//! Service account tokens in use, so that each is asked for again in time and not before.
//!
//! Must not know: where they are written. A newcomer's trap: a token is bound to its pod, so it
//! dies with the pod in the API, whatever its expiry says.

use std::collections::BTreeMap;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccountTokenProjection};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use crate::api::ObjectSource;
use crate::time;

/// A token is renewed after this part of its life (the kubelet's), or after a day.
const RENEW_AFTER_PERCENT: i64 = 80;
const RENEW_AFTER_SECONDS: i64 = 24 * 3_600;
/// Lifetime asked for when the projection names none (Kubernetes' default).
const LIFETIME_SECONDS: i64 = 3_600;

/// Which token: pod uid, volume, path in the volume.
type Key = (String, String, String);

struct Token {
    text: String,
    renew_at: Timestamp,
}

/// Tokens by where they are used.
#[derive(Default)]
pub(super) struct Tokens(Mutex<BTreeMap<Key, Token>>);

impl Tokens {
    /// The token for this place: the one in use, or a new one if that is old.
    pub(super) async fn get(
        &self,
        pod: &Pod,
        volume: &str,
        projection: &ServiceAccountTokenProjection,
        source: &dyn ObjectSource,
    ) -> Result<String, String> {
        let meta = &pod.metadata;
        let uid = meta.uid.clone().unwrap_or_default();
        let key = (uid.clone(), volume.to_owned(), projection.path.clone());
        let now = time::now();
        if let Some(token) = self.0.lock().get(&key).filter(|token| now < token.renew_at) {
            return Ok(token.text.clone());
        }
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: projection
                    .audience
                    .clone()
                    .filter(|it| !it.is_empty())
                    .map(|it| vec![it]),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: meta.name.clone(),
                    uid: Some(uid),
                }),
                expiration_seconds: Some(projection.expiration_seconds.unwrap_or(LIFETIME_SECONDS)),
            }),
            ..TokenRequest::default()
        };
        let spec = pod.spec.as_ref();
        let account = spec
            .and_then(|spec| spec.service_account_name.clone())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "default".to_owned());
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let answer = source
            .token(namespace, &account, &request)
            .await
            .map_err(|error| format!("failed to fetch token: {error}"))?;
        let (Some(text), Some(end)) = (answer.token, answer.expiration_timestamp) else {
            return Err("failed to fetch token: the answer has no token".to_owned());
        };
        let life = end.0.as_second() - now.as_second();
        let renew_in = (life * RENEW_AFTER_PERCENT / 100).clamp(1, RENEW_AFTER_SECONDS);
        let renew_at = Timestamp::from_second(now.as_second() + renew_in).unwrap_or(now);
        let token = Token { text: text.clone(), renew_at };
        self.0.lock().insert(key, token);
        Ok(text)
    }

    /// Forgets the tokens of a pod.
    pub(super) fn forget(&self, uid: &str) {
        self.0.lock().retain(|(owner, ..), _| owner != uid);
    }
}
