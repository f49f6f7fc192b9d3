//! The flags of TLS, of HTTP's origins and hosts, and of authentication.

use super::{Flag, Kind, flag, path, set, unsigned};
use crate::config::values::{parse_bool, parse_list, parse_set, parse_unsigned, parse_urls};
use std::time::Duration;

#[rustfmt::skip]
pub(super) const FLAGS: &[Flag] = &[
    flag("cert-file", "", "Certificate of the client listeners.", Kind::Text,
        |d, v| set(&mut d.config.client_tls.cert_file, path(v))),
    flag("key-file", "", "Its private key.", Kind::Text,
        |d, v| set(&mut d.config.client_tls.key_file, path(v))),
    flag("client-cert-auth", "false", "Clients must have a certificate.", Kind::Bool,
        |d, v| set(&mut d.config.client_tls.client_cert_auth, parse_bool(v)?)),
    flag("client-cert-file", "", "Certificate the member shows as a client of itself.", Kind::Text,
        |d, v| set(&mut d.config.client_tls.client_cert_file, path(v)))
        .idle("the member never connects to its own client port"),
    flag("client-key-file", "", "Its private key.", Kind::Text,
        |d, v| set(&mut d.config.client_tls.client_key_file, path(v)))
        .idle("the member never connects to its own client port"),
    flag("client-crl-file", "", "List of clients' certificates that count no more.", Kind::Text,
        |d, v| set(&mut d.config.client_tls.crl_file, path(v))),
    flag("client-cert-allowed-hostname", "", "Hosts, for one of which a client's certificate must be.", Kind::Text,
        |d, v| set(&mut d.config.client_tls.allowed_hostnames, parse_list(v))),
    flag("trusted-ca-file", "", "Those who sign clients' certificates; clients must then have one.", Kind::Text,
        |d, v| set(&mut d.config.client_tls.trusted_ca_file, path(v))),
    flag("auto-tls", "false", "Make a certificate for the client listeners if none is given.", Kind::Bool,
        |d, v| set(&mut d.config.client_tls.auto, parse_bool(v)?)),
    flag("peer-cert-file", "", "Certificate of the peer listeners.", Kind::Text,
        |d, v| set(&mut d.config.peer_tls.cert_file, path(v))),
    flag("peer-key-file", "", "Its private key.", Kind::Text,
        |d, v| set(&mut d.config.peer_tls.key_file, path(v))),
    flag("peer-client-cert-auth", "false", "Other members must have a certificate.", Kind::Bool,
        |d, v| set(&mut d.config.peer_tls.client_cert_auth, parse_bool(v)?)),
    flag("peer-client-cert-file", "", "Certificate to show to other members, if not the listeners'.", Kind::Text,
        |d, v| set(&mut d.config.peer_tls.client_cert_file, path(v))),
    flag("peer-client-key-file", "", "Its private key.", Kind::Text,
        |d, v| set(&mut d.config.peer_tls.client_key_file, path(v))),
    flag("peer-trusted-ca-file", "", "Those who sign members' certificates; members must then have one.", Kind::Text,
        |d, v| set(&mut d.config.peer_tls.trusted_ca_file, path(v))),
    flag("peer-cert-allowed-cn", "", "Common names, one of which a member's certificate must have.", Kind::Text,
        |d, v| set(&mut d.config.peer_tls.allowed_cns, parse_list(v))),
    flag("peer-cert-allowed-hostname", "", "Hosts, for one of which a member's certificate must be.", Kind::Text,
        |d, v| set(&mut d.config.peer_tls.allowed_hostnames, parse_list(v))),
    flag("peer-auto-tls", "false", "Make a certificate for the peer listeners if none is given.", Kind::Bool,
        |d, v| set(&mut d.config.peer_tls.auto, parse_bool(v)?)),
    flag("self-signed-cert-validity", "1", "Years that a certificate made here counts.", Kind::Text,
        |d, v| set(&mut d.config.tls.self_signed_years, parse_unsigned(v, 1000)? as u32)),
    flag("peer-crl-file", "", "List of members' certificates that count no more.", Kind::Text,
        |d, v| set(&mut d.config.peer_tls.crl_file, path(v))),
    flag("peer-skip-client-san-verification", "false",
        "A member's certificate need not be for the address it comes from.", Kind::Bool,
        |d, v| set(&mut d.config.peer_tls.skip_client_san_verification, parse_bool(v)?)),
    flag("cipher-suites", "", "Cipher suites of TLS 1.2 by Go's names (none = all that are thought safe).", Kind::Text,
        |d, v| set(&mut d.config.tls.cipher_suites, parse_list(v))),
    flag("tls-min-version", "TLS1.2", "Oldest version of TLS: TLS1.2 or TLS1.3.", Kind::Text,
        |d, v| set(&mut d.tls_min, v.to_owned())),
    flag("tls-max-version", "", "Newest version of TLS (none = the newest there is).", Kind::Text,
        |d, v| set(&mut d.tls_max, v.to_owned())),
    flag("cors", "*", "Origins whose pages may call the HTTP endpoints (none or * = all).", Kind::Text,
        |d, v| set(&mut d.config.cors, if v.is_empty() || v == "*" { vec!["*".into()] } else { parse_urls(v)? })),
    flag("host-whitelist", "*", "Host names that HTTP without TLS may be sent to (none or * = all).", Kind::Text,
        |d, v| set(&mut d.config.host_whitelist, parse_set(v))),
];

#[rustfmt::skip]
pub(super) const AUTH: &[Flag] = &[
    flag("auth-token", "simple", "Kind of token and its options: 'simple' or 'jwt,...'.", Kind::Text,
        |d, v| set(&mut d.config.auth_token, v.to_owned())),
    flag("bcrypt-cost", "10", "Cost of hashing passwords, 4 to 31.", Kind::Text,
        |d, v| set(&mut d.config.bcrypt_cost, u32::try_from(unsigned(v)?).unwrap_or(u32::MAX))),
    flag("auth-token-ttl", "300", "Seconds that a simple token lives after its last use.", Kind::Text,
        |d, v| set(&mut d.config.auth_token_ttl, Duration::from_secs(unsigned(v)?))),
];
