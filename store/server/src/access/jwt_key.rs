//! The keys that sign tokens and check them.
//!
//! Owns: algorithms, and reading keys from PEM. Must not know: what is signed. A newcomer's trap:
//! with a public key alone a member checks the tokens of others but gives none itself.

use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::jwt::BadTokenOptions;

/// What ring needs of an algorithm.
#[derive(Clone, Copy)]
enum Kind {
    Hmac(hmac::Algorithm),
    Rsa(&'static dyn signature::RsaEncoding, &'static signature::RsaParameters),
    Ecdsa(
        &'static signature::EcdsaSigningAlgorithm,
        &'static signature::EcdsaVerificationAlgorithm,
    ),
    Ed,
}

/// How tokens are signed.
#[derive(Clone, Copy)]
pub(super) struct Algorithm {
    name: &'static str,
    kind: Kind,
}

/// By their names in a token's header.
// Differs from etcd: ES512 is not there; ring has no such curve.
static ALGORITHMS: [Algorithm; 12] = [
    Algorithm { name: "HS256", kind: Kind::Hmac(hmac::HMAC_SHA256) },
    Algorithm { name: "HS384", kind: Kind::Hmac(hmac::HMAC_SHA384) },
    Algorithm { name: "HS512", kind: Kind::Hmac(hmac::HMAC_SHA512) },
    Algorithm {
        name: "RS256",
        kind: Kind::Rsa(&signature::RSA_PKCS1_SHA256, &signature::RSA_PKCS1_2048_8192_SHA256),
    },
    Algorithm {
        name: "RS384",
        kind: Kind::Rsa(&signature::RSA_PKCS1_SHA384, &signature::RSA_PKCS1_2048_8192_SHA384),
    },
    Algorithm {
        name: "RS512",
        kind: Kind::Rsa(&signature::RSA_PKCS1_SHA512, &signature::RSA_PKCS1_2048_8192_SHA512),
    },
    Algorithm {
        name: "PS256",
        kind: Kind::Rsa(&signature::RSA_PSS_SHA256, &signature::RSA_PSS_2048_8192_SHA256),
    },
    Algorithm {
        name: "PS384",
        kind: Kind::Rsa(&signature::RSA_PSS_SHA384, &signature::RSA_PSS_2048_8192_SHA384),
    },
    Algorithm {
        name: "PS512",
        kind: Kind::Rsa(&signature::RSA_PSS_SHA512, &signature::RSA_PSS_2048_8192_SHA512),
    },
    Algorithm {
        name: "ES256",
        kind: Kind::Ecdsa(
            &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            &signature::ECDSA_P256_SHA256_FIXED,
        ),
    },
    Algorithm {
        name: "ES384",
        kind: Kind::Ecdsa(
            &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
            &signature::ECDSA_P384_SHA384_FIXED,
        ),
    },
    Algorithm { name: "EdDSA", kind: Kind::Ed },
];

impl Algorithm {
    pub(super) fn named(name: &str) -> Result<Self, BadTokenOptions> {
        let found = ALGORITHMS.iter().find(|algorithm| algorithm.name == name);
        found.copied().ok_or_else(|| bad(format!("sign-method {name:?} is not supported")))
    }

    pub(super) fn name(self) -> &'static str {
        self.name
    }
}

impl std::fmt::Debug for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// A private key.
pub(super) enum Private {
    Rsa(RsaKeyPair, &'static dyn signature::RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// What tokens are signed and checked with.
pub(super) enum Keys {
    /// One secret for both.
    Shared(hmac::Key),
    Pair {
        private: Option<Private>,
        algorithm: &'static dyn signature::VerificationAlgorithm,
        public: Vec<u8>,
    },
}

impl Keys {
    /// Reads keys: a file with a secret, or PEM.
    pub(super) fn new(
        algorithm: Algorithm,
        public: Option<&[u8]>,
        private: Option<&[u8]>,
    ) -> Result<Self, BadTokenOptions> {
        let verification: &'static dyn signature::VerificationAlgorithm = match algorithm.kind {
            Kind::Hmac(kind) => {
                let secret = private.filter(|secret| !secret.is_empty());
                let secret = secret.ok_or(BadTokenOptions::MissingKey)?;
                return Ok(Self::Shared(hmac::Key::new(kind, secret)));
            }
            Kind::Rsa(_, verification) => verification,
            Kind::Ecdsa(_, verification) => verification,
            Kind::Ed => &signature::ED25519,
        };
        let private = private.map(|pem| read_private(algorithm.kind, pem)).transpose()?;
        let public = public.map(read_public).transpose()?;
        let public = match (&private, public) {
            (None, None) => return Err(BadTokenOptions::MissingKey),
            (None, Some(public)) => public,
            (Some(private), None) => private.public(),
            (Some(private), Some(public)) if private.public() == public => public,
            (Some(_), Some(_)) => return Err(BadTokenOptions::KeyMismatch),
        };
        Ok(Self::Pair { private, algorithm: verification, public })
    }

    /// `None` if there is no key to sign with.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Shared(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
            Self::Pair { private, .. } => private.as_ref()?.sign(message),
        }
    }

    /// Whether a signature is of that message.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Shared(key) => hmac::verify(key, message, signature).is_ok(),
            Self::Pair { algorithm, public, .. } => {
                let key = signature::UnparsedPublicKey::new(*algorithm, public);
                key.verify(message, signature).is_ok()
            }
        }
    }
}

impl Private {
    fn public(&self) -> Vec<u8> {
        match self {
            Self::Rsa(pair, _) => pair.public().as_ref().to_vec(),
            Self::Ecdsa(pair) => pair.public_key().as_ref().to_vec(),
            Self::Ed(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            Self::Ecdsa(pair) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
            Self::Ed(pair) => Some(pair.sign(message).as_ref().to_vec()),
        }
    }
}

fn bad(why: String) -> BadTokenOptions {
    BadTokenOptions::Because(why)
}

/// The one object in a PEM file, and what it is.
fn read_pem(pem: &[u8]) -> Result<(String, Vec<u8>), BadTokenOptions> {
    let (_, pem) = parse_x509_pem(pem).map_err(|error| bad(format!("a key's PEM: {error}")))?;
    Ok((pem.label, pem.contents))
}

fn read_private(kind: Kind, pem: &[u8]) -> Result<Private, BadTokenOptions> {
    let (label, der) = read_pem(pem)?;
    let rejected = |error: ring::error::KeyRejected| bad(format!("private key: {error}"));
    match (kind, label.as_str()) {
        (Kind::Rsa(encoding, _), "RSA PRIVATE KEY") => {
            Ok(Private::Rsa(RsaKeyPair::from_der(&der).map_err(rejected)?, encoding))
        }
        (Kind::Rsa(encoding, _), "PRIVATE KEY") => {
            Ok(Private::Rsa(RsaKeyPair::from_pkcs8(&der).map_err(rejected)?, encoding))
        }
        (Kind::Ecdsa(algorithm, _), "PRIVATE KEY" | "EC PRIVATE KEY") => {
            let der = if label == "PRIVATE KEY" { der } else { sec1_to_pkcs8(algorithm, &der) };
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, &der, &SystemRandom::new());
            Ok(Private::Ecdsa(pair.map_err(rejected)?))
        }
        (Kind::Ed, "PRIVATE KEY") => {
            // openssl leaves the public part out, which the checked form insists on.
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der);
            Ok(Private::Ed(pair.map_err(rejected)?))
        }
        _ => Err(bad(format!("private key: {label:?} does not go with the sign-method"))),
    }
}

/// The form of a public key that ring takes.
fn read_public(pem: &[u8]) -> Result<Vec<u8>, BadTokenOptions> {
    let (label, der) = read_pem(pem)?;
    match label.as_str() {
        "PUBLIC KEY" => {
            let (_, info) = SubjectPublicKeyInfo::from_der(&der)
                .map_err(|error| bad(format!("public key: {error}")))?;
            Ok(info.subject_public_key.data.to_vec())
        }
        "CERTIFICATE" => {
            let (_, certificate) = x509_parser::parse_x509_certificate(&der)
                .map_err(|error| bad(format!("public key: {error}")))?;
            Ok(certificate.public_key().subject_public_key.data.to_vec())
        }
        "RSA PUBLIC KEY" => Ok(der),
        _ => Err(bad(format!("public key: {label:?} is none"))),
    }
}

/// Puts a SEC 1 key, openssl's older form, into the PKCS#8 envelope.
fn sec1_to_pkcs8(algorithm: &'static signature::EcdsaSigningAlgorithm, sec1: &[u8]) -> Vec<u8> {
    const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
    const VERSION_0: &[u8] = &[0x02, 0x01, 0x00];
    const SEQUENCE: u8 = 0x30;
    const OCTETS: u8 = 0x04;
    let is_p256 = std::ptr::eq(algorithm, &raw const signature::ECDSA_P256_SHA256_FIXED_SIGNING);
    let curve = if is_p256 { P256 } else { P384 };
    let kind = tagged(SEQUENCE, &[EC_PUBLIC_KEY, curve]);
    let key = tagged(OCTETS, &[sec1]);
    tagged(SEQUENCE, &[VERSION_0, &kind, &key])
}

/// A DER value.
fn tagged(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len().to_be_bytes();
    let significant: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut der = vec![tag];
    match significant[..] {
        [] => der.push(0),
        [short] if short < 0x80 => der.push(short),
        _ => {
            der.push(0x80 | significant.len() as u8);
            der.extend(&significant);
        }
    }
    der.extend(content);
    der
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Keys as operators make them.
    fn openssl(dir: &std::path::Path, arguments: &str) -> Vec<u8> {
        let out = dir.join("out.pem");
        let mut words = arguments.split_whitespace();
        let done = Command::new("openssl")
            .args(words.next())
            .arg("-out")
            .arg(&out)
            .args(words)
            .current_dir(dir)
            .output()
            .unwrap();
        assert!(done.status.success(), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
        std::fs::read(out).unwrap()
    }

    fn pair(make: &str, public: &str) -> (Vec<u8>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let private = openssl(dir.path(), make);
        std::fs::write(dir.path().join("key.pem"), &private).unwrap();
        (private, openssl(dir.path(), public))
    }

    #[test]
    fn keys_that_openssl_makes_sign_and_check() {
        let pkey = "pkey -in key.pem -pubout";
        let cases = [
            ("RS256", "genrsa -traditional 2048", pkey),
            ("RS512", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048", pkey),
            (
                "PS256",
                "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048",
                "rsa -in key.pem -RSAPublicKey_out",
            ),
            ("ES256", "ecparam -name prime256v1 -genkey -noout", pkey),
            ("ES256", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256", pkey),
            ("ES384", "ecparam -name secp384r1 -genkey -noout", pkey),
            ("EdDSA", "genpkey -algorithm ed25519", pkey),
            (
                "ES256",
                "ecparam -name prime256v1 -genkey -noout",
                "req -x509 -new -key key.pem -subj /CN=x",
            ),
        ];
        for (name, make, public) in cases {
            let algorithm = Algorithm::named(name).unwrap();
            let (private, public) = pair(make, public);
            let both = Keys::new(algorithm, Some(&public), Some(&private))
                .unwrap_or_else(|error| panic!("{name} {make}: {error}"));
            let signature = both.sign(b"message").unwrap();
            for keys in [
                Keys::new(algorithm, None, Some(&private)).unwrap(),
                Keys::new(algorithm, Some(&public), None).unwrap(),
            ] {
                assert!(keys.verify(b"message", &signature), "{name} {make}");
                assert!(!keys.verify(b"massage", &signature), "{name} {make}");
            }
            let verify_only = Keys::new(algorithm, Some(&public), None).unwrap();
            assert!(verify_only.sign(b"message").is_none());
        }
    }

    #[test]
    fn keys_that_do_not_go_together_are_refused() {
        let make = "genpkey -algorithm ed25519";
        let (first, _) = pair(make, "pkey -in key.pem -pubout");
        let (_, other) = pair(make, "pkey -in key.pem -pubout");
        let ed = Algorithm::named("EdDSA").unwrap();
        let text = |keys: Result<Keys, BadTokenOptions>| keys.err().unwrap().to_string();
        let mismatch = text(Keys::new(ed, Some(&other), Some(&first)));
        assert_eq!(mismatch, "auth: public and private keys don't match");
        assert_eq!(text(Keys::new(ed, None, None)), "auth: missing key data");
        let es = Algorithm::named("ES256").unwrap();
        assert!(text(Keys::new(es, None, Some(&first))).contains("private key"));
        assert!(text(Keys::new(ed, None, Some(b"junk"))).contains("PEM"));
        assert!(Algorithm::named("none").is_err() && Algorithm::named("ES512").is_err());
    }
}
