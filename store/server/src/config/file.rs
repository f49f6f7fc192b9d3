//! Settings in a YAML file (`--config-file`).
//!
//! Owns: etcd's keys, which are the flags' names but for TLS, discovery and sockets, and the bounds
//! of what is read. A newcomer's trap: durations stand there as nanoseconds.

use std::collections::BTreeMap;

use serde_json::Value;

use super::flags::{kind, store};
use super::settings::Notice;
use super::table::{Draft, Kind};

const BYTES_MAX: u64 = 1 << 20;
/// Aliases may copy what they stand for, so there are few of them.
const ALIASES_MAX: usize = 64;
const NODES_MAX: usize = 20_000;

/// Keys of `client-transport-security` and `peer-transport-security` with the flags of both.
const SECURITY: &[(&str, &str, &str)] = &[
    ("cert-file", "cert-file", "peer-cert-file"),
    ("key-file", "key-file", "peer-key-file"),
    ("client-cert-file", "client-cert-file", "peer-client-cert-file"),
    ("client-key-file", "client-key-file", "peer-client-key-file"),
    ("client-cert-auth", "client-cert-auth", "peer-client-cert-auth"),
    ("trusted-ca-file", "trusted-ca-file", "peer-trusted-ca-file"),
    ("crl-file", "client-crl-file", "peer-crl-file"),
    ("auto-tls", "auto-tls", "peer-auto-tls"),
    ("allowed-hostname", "client-cert-allowed-hostname", "peer-cert-allowed-hostname"),
    ("allowed-cn", "", "peer-cert-allowed-cn"),
    ("skip-client-san-verification", "", "peer-skip-client-san-verification"),
];

/// Reads the file into the draft.
pub(super) fn read(path: &str, draft: &mut Draft) -> Result<(), String> {
    let size = std::fs::metadata(path).map_err(|error| opened(path, &error))?.len();
    if size > BYTES_MAX {
        return Err(format!("larger than {BYTES_MAX} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| opened(path, &error))?;
    let settings = parse(&text)?;
    draft.notice(
        Notice::info("loaded server configuration, other configuration command line flags and environment variables will be ignored if provided")
            .with("path", path),
    );
    for (name, value) in settings {
        apply(&name, &value, draft)?;
    }
    Ok(())
}

fn opened(path: &str, error: &std::io::Error) -> String {
    let why = match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    };
    format!("open {path}: {why}")
}

fn parse(text: &str) -> Result<BTreeMap<String, Value>, String> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(BTreeMap::new());
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_aliases: ALIASES_MAX,
            max_anchors: ALIASES_MAX,
            max_nodes: NODES_MAX,
        },
    };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
}

fn apply(name: &str, value: &Value, draft: &mut Draft) -> Result<(), String> {
    match (name, value) {
        (_, Value::Null) => Ok(()),
        ("client-transport-security", Value::Object(keys)) => {
            for (key, value) in keys {
                if key == "allowed-cn" {
                    draft.config.client_tls.allowed_cns =
                        super::values::parse_list(&plain(key, value)?);
                } else {
                    security(key, value, |row| row.1, name, draft)?;
                }
            }
            Ok(())
        }
        ("peer-transport-security", Value::Object(keys)) => {
            for (key, value) in keys {
                security(key, value, |row| row.2, name, draft)?;
            }
            Ok(())
        }
        ("client-transport-security" | "peer-transport-security", _) => {
            Err(format!("invalid {name}"))
        }
        ("socket-options", Value::Object(keys)) => {
            for (key, value) in keys {
                apply(&format!("socket-{key}"), value, draft)?;
            }
            Ok(())
        }
        ("discovery-config", Value::Object(keys)) => {
            for (key, value) in keys {
                match value {
                    Value::Object(client) if key == "client" => {
                        for (key, value) in client {
                            apply(&format!("discovery-{key}"), value, draft)?;
                        }
                    }
                    value => apply(&format!("discovery-{key}"), value, draft)?,
                }
            }
            Ok(())
        }
        (name, value) => {
            let Some(kind) = kind(name).filter(|_| name != "config-file") else {
                draft.notice(
                    Notice::warning("unrecognized key in the configuration file").with("key", name),
                );
                return Ok(());
            };
            let mut text = plain(name, value)?;
            if kind == Kind::Duration && matches!(value, Value::Number(_)) {
                text.push_str("ns");
            }
            store(draft, name, &text)
                .map_err(|why| format!("invalid value \"{text}\" for {name}: {why}"))
        }
    }
}

type Row = (&'static str, &'static str, &'static str);

fn security(
    key: &str,
    value: &Value,
    flag: fn(&Row) -> &'static str,
    group: &str,
    draft: &mut Draft,
) -> Result<(), String> {
    match SECURITY.iter().find(|row| row.0 == key).map(flag).filter(|flag| !flag.is_empty()) {
        Some(flag) => apply(flag, value, draft),
        None => {
            let key = format!("{group}.{key}");
            draft.notice(
                Notice::warning("unrecognized key in the configuration file").with("key", key),
            );
            Ok(())
        }
    }
}

/// A value as it would stand on a command line.
fn plain(name: &str, value: &Value) -> Result<String, String> {
    Ok(match value {
        Value::String(text) => text.clone(),
        Value::Bool(on) => on.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Array(list) if list.iter().all(Value::is_string) => {
            let parts: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
            parts.join(",")
        }
        Value::Object(object) if object.is_empty() => String::new(),
        _ => return Err(format!("invalid value for {name}")),
    })
}
