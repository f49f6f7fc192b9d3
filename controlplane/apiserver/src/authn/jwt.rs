//! Signed tokens: the JWT form of service-account tokens, ES256 only.
//!
//! Owns: encoding, signing and checking. Must not know: what the claims mean. A newcomer's trap:
//! the algorithm is ours to choose, never the token's: a token that says `none` or `HS256` is
//! refused before anything else of it is looked at.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// No token we sign is longer.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// The key that signs tokens and checks them.
pub struct TokenKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    id: String,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("service-account key: {0}")]
pub struct BadKey(String);

impl TokenKey {
    /// Reads a P-256 key in PKCS#8.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, BadKey> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random)
            .map_err(|error| BadKey(error.to_string()))?;
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(pair.public_key().as_ref()));
        Ok(Self { pair, random, id })
    }

    /// Signs `claims`.
    pub fn sign(&self, claims: &Value) -> Result<String, BadKey> {
        let header = json!({"alg": "ES256", "kid": self.id});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(claims));
        let signature = self
            .pair
            .sign(&self.random, message.as_bytes())
            .map_err(|_| BadKey("signing failed".into()))?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }

    /// The claims of a token that this key signed; `None` for anything else.
    pub fn verify(&self, token: &str) -> Option<Value> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let header: Value = decode(header)?;
        if header["alg"] != "ES256" {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref())
            .verify(message.as_bytes(), &signature)
            .ok()?;
        decode(claims)
    }

    /// The public key as a JSON Web Key.
    pub fn jwk(&self) -> Value {
        // An uncompressed point: the byte 4, then x and y, 32 bytes each.
        let point = self.pair.public_key().as_ref();
        let (x, y) = (&point[1..33], &point[33..65]);
        json!({
            "use": "sig",
            "kty": "EC",
            "kid": self.id,
            "crv": "P-256",
            "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x),
            "y": URL_SAFE_NO_PAD.encode(y),
        })
    }
}

fn decode(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> TokenKey {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        TokenKey::from_pkcs8(&pair.serialize_der()).unwrap()
    }

    fn forge(header: &Value, claims: &Value, signature: &str) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.{signature}", part(header), part(claims))
    }

    #[test]
    fn a_token_is_read_back_by_its_key_only() {
        let (ours, other) = (key(), key());
        let token = ours.sign(&json!({"sub": "x"})).unwrap();
        assert_eq!(ours.verify(&token), Some(json!({"sub": "x"})));
        assert_eq!(other.verify(&token), None);
    }

    #[test]
    fn forged_tokens_are_refused() {
        let ours = key();
        let claims = json!({"sub": "system:serviceaccount:kube-system:admin"});
        let signed = ours.sign(&json!({"sub": "x"})).unwrap();
        let signature = signed.rsplit_once('.').unwrap().1.to_owned();
        for (why, token) in [
            ("no algorithm", forge(&json!({"alg": "none"}), &claims, "")),
            ("a shared secret", forge(&json!({"alg": "HS256"}), &claims, &signature)),
            ("another's signature", forge(&json!({"alg": "ES256"}), &claims, &signature)),
            ("no signature", forge(&json!({"alg": "ES256"}), &claims, "")),
            ("no token", "nonsense".into()),
            ("dots", "..".into()),
            ("too long", "a.".repeat(20_000)),
        ] {
            assert_eq!(ours.verify(&token), None, "{why}");
        }
    }
}
