//! Secrets.
//!
//! Owns: the rules of core/v1 Secret. Must not know: how secrets are sealed at rest. A newcomer's
//! trap: `stringData` is write-only; it is folded into `data` when the object is read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::check;
use super::configmap::{DATA_BYTES_MAX, decoded_length, frozen};
use super::look::{Change, Look};
use super::show;
use crate::field::FieldError;
use crate::kind::Strategy;

/// The rules of Secrets.
#[derive(Debug)]
pub struct Secret;

impl Strategy for Secret {
    fn default(&self, object: &mut Value) {
        object.default_text("type", "Opaque");
        let written: Vec<_> = object
            .entries("stringData")
            .into_iter()
            .map(|(key, value)| (key.to_owned(), STANDARD.encode(value.as_str().unwrap_or(""))))
            .collect();
        for (key, value) in written {
            object.child("data").put(&key, value);
        }
        object.drop_field("stringData");
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        object.default_text("type", old.text("type"));
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut bytes = 0;
        for (key, value) in object.entries("data") {
            errors.extend(check::config_key(&format!("data[{key}]"), key));
            bytes += decoded_length(value);
        }
        if bytes > DATA_BYTES_MAX {
            errors.push(check::too_long("data", DATA_BYTES_MAX));
        }
        errors.extend(of_type(object));
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors =
            check::immutable("type", object.get_or_null("type"), old.get_or_null("type"));
        errors.extend(frozen(object, old, &["data"]));
        errors.extend(self.validate_create(object));
        errors
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        if object.text("type") == "kubernetes.io/tls" {
            key_pair(object.get_or_null("data")).into_iter().collect()
        } else {
            Vec::new()
        }
    }

    fn selectable_field(&self, object: &Value, field: &str) -> Option<String> {
        (field == "type").then(|| object.text("type").into())
    }

    fn is_selectable(&self, field: &str) -> bool {
        field == "type"
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let entries = object.size("data");
        vec![show::name(object), object.text("type").into(), entries.into(), show::age(object, now)]
    }
}

/// What the secret's type asks of its data.
fn of_type(object: &Value) -> Vec<FieldError> {
    let data = object.get_or_null("data");
    let missing = |key: &str| FieldError::required(format!("data[{key}]"), "");
    match object.text("type") {
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            let annotations = object.get_or_null("metadata").get_or_null("annotations");
            if annotations.text(key).is_empty() {
                return vec![FieldError::required(format!("metadata.annotations[{key}]"), "")];
            }
            Vec::new()
        }
        "kubernetes.io/dockercfg" => json_data(data, ".dockercfg"),
        "kubernetes.io/dockerconfigjson" => json_data(data, ".dockerconfigjson"),
        "kubernetes.io/basic-auth" if !data.has("username") && !data.has("password") => {
            vec![missing("username"), missing("password")]
        }
        "kubernetes.io/ssh-auth" if data.text("ssh-privatekey").is_empty() => {
            vec![missing("ssh-privatekey")]
        }
        "kubernetes.io/tls" => {
            ["tls.crt", "tls.key"].into_iter().filter(|key| !data.has(key)).map(missing).collect()
        }
        _ => Vec::new(),
    }
}

fn json_data(data: &Value, key: &str) -> Vec<FieldError> {
    let path = format!("data[{key}]");
    if !data.has(key) {
        return vec![FieldError::required(path, "")];
    }
    let bytes = STANDARD.decode(data.text(key)).unwrap_or_default();
    match serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes) {
        Ok(_) => Vec::new(),
        // Differs from Kubernetes: the detail is this parser's text, not that of Go's.
        Err(error) => {
            let hidden = Value::from("<secret contents redacted>");
            vec![FieldError::invalid(path, &hidden, &error.to_string())]
        }
    }
}

/// What Go's TLS library says of a certificate and key that are not PEM.
fn key_pair(data: &Value) -> Option<String> {
    let is_key = |kind: &String| kind == "PRIVATE KEY" || kind.ends_with(" PRIVATE KEY");
    let certificate = pem_kinds(data.text("tls.crt"));
    if !certificate.iter().any(|kind| kind == "CERTIFICATE") {
        return Some(match certificate.as_slice() {
            [] => "tls: failed to find any PEM data in certificate input".into(),
            [only] if only.ends_with("PRIVATE KEY") => "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched".into(),
            kinds => format!("tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following types: [{}]", kinds.join(" ")),
        });
    }
    let key = pem_kinds(data.text("tls.key"));
    if key.iter().any(is_key) {
        return None;
    }
    Some(match key.as_slice() {
        [] => "tls: failed to find any PEM data in key input".into(),
        [only] if only == "CERTIFICATE" => {
            "tls: found a certificate rather than a key in the PEM for the private key".into()
        }
        kinds => format!(
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of the following types: [{}]",
            kinds.join(" ")
        ),
    })
}

/// The types of the PEM blocks in a base64 value.
fn pem_kinds(base64: &str) -> Vec<String> {
    let bytes = STANDARD.decode(base64).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let begins = text.lines().filter_map(|line| line.trim_end().strip_prefix("-----BEGIN "));
    begins.filter_map(|line| line.strip_suffix("-----").map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn string_data_is_folded_into_data() {
        let mut secret = json!({"stringData": {"k": "v"}, "data": {"k": "eA==", "o": "eQ=="}});
        Secret.default(&mut secret);
        assert_eq!(secret, json!({"type": "Opaque", "data": {"k": "dg==", "o": "eQ=="}}));
    }

    #[test]
    fn a_pair_that_is_no_pem_is_warned_about() {
        let warned = |certificate: &str, key: &str| {
            let data =
                json!({"tls.crt": STANDARD.encode(certificate), "tls.key": STANDARD.encode(key)});
            Secret.warnings(&json!({"type": "kubernetes.io/tls", "data": data}), None)
        };
        let (certificate, key) =
            ("-----BEGIN CERTIFICATE-----\n", "-----BEGIN EC PRIVATE KEY-----\n");
        assert_eq!(warned("", ""), ["tls: failed to find any PEM data in certificate input"]);
        assert_eq!(warned(certificate, ""), ["tls: failed to find any PEM data in key input"]);
        assert_eq!(warned(certificate, key), [""; 0]);
    }

    #[test]
    fn types_ask_for_keys() {
        let causes = |secret: Value| -> Vec<String> {
            Secret.validate_create(&secret).iter().map(ToString::to_string).collect()
        };
        for (secret, wanted) in [
            (
                json!({"type": "kubernetes.io/basic-auth", "data": {}}),
                vec!["data[username]: Required value", "data[password]: Required value"],
            ),
            (json!({"type": "kubernetes.io/basic-auth", "data": {"password": ""}}), vec![]),
            (
                json!({"type": "kubernetes.io/ssh-auth"}),
                vec!["data[ssh-privatekey]: Required value"],
            ),
            (
                json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}),
                vec!["data[tls.key]: Required value"],
            ),
            (
                json!({"type": "kubernetes.io/dockerconfigjson", "data": {}}),
                vec!["data[.dockerconfigjson]: Required value"],
            ),
            (
                json!({"type": "kubernetes.io/service-account-token"}),
                vec!["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
            ),
            (json!({"type": "kubernetes.io/dockercfg", "data": {".dockercfg": "e30="}}), vec![]),
        ] {
            assert_eq!(causes(secret.clone()), wanted, "{secret}");
        }
    }
}
