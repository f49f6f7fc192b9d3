//! The kubeconfig file of one user of the cluster.
//!
//! Owns: its form, with certificates embedded so that it is one file to copy. Must not know: how
//! the certificates were made. A newcomer's trap: it holds a private key; write it with
//! [`super::write_private`] only.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::KeyCert;

pub(super) fn render(server: &str, ca_pem: &str, user: &str, client: &KeyCert) -> String {
    let context = format!("{user}@kubernetes");
    // JSON is YAML, but people read and edit these files: the known shape is written out, with
    // the few free texts quoted as JSON strings.
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - cluster:\n    certificate-authority-data: {ca}\n    server: {server}\n  name: kubernetes\n\
         contexts:\n\
         - context:\n    cluster: kubernetes\n    user: {user}\n  name: {context}\n\
         current-context: {context}\n\
         preferences: {{}}\n\
         users:\n\
         - name: {user}\n  user:\n    client-certificate-data: {cert}\n    client-key-data: {key}\n",
        ca = STANDARD.encode(ca_pem),
        cert = STANDARD.encode(&client.cert_pem),
        key = STANDARD.encode(&client.key_pem),
        user = json!(user),
        context = json!(context),
    )
}
