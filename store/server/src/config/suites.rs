//! Go's names of cipher suites (`--cipher-suites`).
//!
//! Owns: which names there are, and which of them can be used here. Must not know: rustls. A
//! newcomer's trap: as in Go, the list is about TLS 1.2; the suites of TLS 1.3 are always on.

/// Suites of TLS 1.2 that can be negotiated here.
pub(crate) const USABLE: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// Suites of TLS 1.3.
const ALWAYS: &[&str] =
    &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

/// What Go knows besides, all with CBC, RC4, 3DES or without forward secrecy.
// Differs from etcd: these are not negotiated.
const WEAK: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
];

/// What is wrong with a list of suites: a name nobody knows (etcd's text), or none that is usable.
/// The weak ones among them, otherwise.
pub(super) fn check(names: &[String]) -> Result<Vec<&str>, String> {
    let mut weak = Vec::new();
    for name in names.iter().map(|name| full(name)) {
        if WEAK.contains(&name) {
            weak.push(name);
        } else if !USABLE.contains(&name) && !ALWAYS.contains(&name) {
            return Err(format!("unexpected TLS cipher suite \"{name}\""));
        }
    }
    if !names.is_empty() && weak.len() == names.len() {
        return Err(format!("none of the TLS cipher suites {weak:?} is safe enough to be used"));
    }
    Ok(weak)
}

/// etcd takes two short names, too.
pub(crate) fn full(name: &str) -> &str {
    match name {
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305" => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        name => name,
    }
}
