//! etcd's flags, environment variables and configuration file.
//!
//! Owns: how settings are spelled and checked. Must not know: what they do. A newcomer's trap:
//! with `--config-file` etcd ignores all other flags and the environment, and so does this; without
//! it flags win over `ETCD_*` variables.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::values::{parse_bool, parse_duration, parse_number, parse_urls};
use super::{Config, DEFAULT_PEER_URL};

/// What the command line asks for.
#[derive(Debug)]
pub enum Parsed {
    /// Run a member.
    Run(Box<Config>),
    /// Print [`super::VERSION_TEXT`] and leave.
    Version,
    /// Print [`super::HELP_TEXT`] and leave.
    Help,
}

/// The command line is wrong: one line for standard error, exit code 2.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub(super) String);

type Setter = fn(&mut Config, &str) -> Result<(), String>;

/// The flags whose function exists.
const FLAGS: &[(&str, Setter)] = &[
    ("name", |c, v| set(&mut c.name, v.to_owned())),
    ("data-dir", |c, v| set(&mut c.data_dir, PathBuf::from(v))),
    ("wal-dir", |c, v| set(&mut c.wal_dir, (!v.is_empty()).then(|| PathBuf::from(v)))),
    ("snapshot-count", |c, v| set(&mut c.snapshot_entries, parse_number(v)?)),
    ("snapshot-catchup-entries", |c, v| set(&mut c.snapshot_catch_up_entries, parse_number(v)?)),
    ("heartbeat-interval", |c, v| set(&mut c.heartbeat_interval, milliseconds(v)?)),
    ("election-timeout", |c, v| set(&mut c.election_timeout, milliseconds(v)?)),
    ("listen-client-urls", |c, v| set(&mut c.listen_client_urls, parse_urls(v)?)),
    ("advertise-client-urls", |c, v| set(&mut c.advertise_client_urls, parse_urls(v)?)),
    ("listen-peer-urls", |c, v| set(&mut c.listen_peer_urls, parse_urls(v)?)),
    ("initial-advertise-peer-urls", |c, v| set(&mut c.initial_advertise_peer_urls, parse_urls(v)?)),
    ("listen-metrics-urls", |c, v| set(&mut c.listen_metrics_urls, parse_urls(v)?)),
    ("initial-cluster", |c, v| set(&mut c.initial_cluster, v.to_owned())),
    ("initial-cluster-token", |c, v| set(&mut c.initial_cluster_token, v.to_owned())),
    ("initial-cluster-state", |c, v| match v {
        "new" | "existing" => set(&mut c.initial_cluster_existing, v == "existing"),
        _ => Err("expected new or existing".into()),
    }),
    ("force-new-cluster", |c, v| set(&mut c.force_new_cluster, parse_bool(v)?)),
    ("strict-reconfig-check", |c, v| set(&mut c.strict_reconfig_check, parse_bool(v)?)),
    ("max-learners", |c, v| set(&mut c.max_learners, parse_number(v)?)),
    ("quota-backend-bytes", |c, v| {
        let bytes: i64 = v.parse().map_err(|_| "parse error".to_owned())?;
        set(
            &mut c.quota_bytes,
            match bytes {
                0 => super::DEFAULT_QUOTA_BYTES,
                bytes => u64::try_from(bytes).unwrap_or(0),
            },
        )
    }),
    ("max-request-bytes", |c, v| set(&mut c.max_request_bytes, parse_number(v)?)),
    ("max-txn-ops", |c, v| set(&mut c.max_txn_ops, parse_number(v)?)),
    ("max-concurrent-streams", |c, v| set(&mut c.max_concurrent_streams, parse_number(v)?)),
    ("watch-progress-notify-interval", |c, v| {
        set(&mut c.watch_progress_interval, parse_duration(v)?)
    }),
    ("compaction-sleep-interval", |c, v| set(&mut c.compaction_pause, parse_duration(v)?)),
    ("log-level", |c, v| match v {
        "debug" | "info" | "warn" | "error" | "panic" | "fatal" => {
            set(&mut c.log_level, v.to_owned())
        }
        _ => Err(format!("unrecognized level: \"{v}\"")),
    }),
    ("log-format", |c, v| match v {
        "json" | "console" => set(&mut c.log_format, v.to_owned()),
        _ => Err(format!("unknown log format: \"{v}\"")),
    }),
];

/// etcd's other flags, each with the only value that asks for nothing that does not exist yet;
/// `None` if there is no such value.
const KNOWN: &[(&str, Option<&str>)] = &[
    ("auth-token", Some("simple")),
    ("auth-token-ttl", Some("300")),
    ("auto-compaction-mode", Some("periodic")),
    ("auto-compaction-retention", Some("0")),
    ("auto-tls", Some("false")),
    ("backend-batch-interval", None),
    ("backend-batch-limit", None),
    ("backend-bbolt-freelist-type", None),
    ("bcrypt-cost", Some("10")),
    ("bootstrap-defrag-threshold-megabytes", Some("0")),
    ("cert-file", Some("")),
    ("cipher-suites", Some("")),
    ("client-cert-allowed-hostname", Some("")),
    ("client-cert-auth", Some("false")),
    ("client-cert-file", Some("")),
    ("client-crl-file", Some("")),
    ("client-key-file", Some("")),
    ("compact-hash-check-time", None),
    ("compaction-batch-limit", Some("1000")),
    ("corrupt-check-time", Some("0s")),
    ("cors", Some("*")),
    ("discovery", Some("")),
    ("discovery-cacert", Some("")),
    ("discovery-cert", Some("")),
    ("discovery-dial-timeout", None),
    ("discovery-endpoints", None),
    ("discovery-fallback", None),
    ("discovery-insecure-skip-tls-verify", None),
    ("discovery-insecure-transport", None),
    ("discovery-keepalive-time", None),
    ("discovery-keepalive-timeout", None),
    ("discovery-key", Some("")),
    ("discovery-password", Some("")),
    ("discovery-proxy", Some("")),
    ("discovery-request-timeout", None),
    ("discovery-srv", Some("")),
    ("discovery-srv-name", Some("")),
    ("discovery-token", Some("")),
    ("discovery-user", Some("")),
    ("distributed-tracing-address", None),
    ("distributed-tracing-instance-id", None),
    ("distributed-tracing-sampling-rate", None),
    ("distributed-tracing-service-name", None),
    ("downgrade-check-time", None),
    ("enable-distributed-tracing", Some("false")),
    ("enable-grpc-gateway", Some("false")),
    ("enable-log-rotation", Some("false")),
    ("enable-pprof", Some("false")),
    ("feature-gates", Some("")),
    ("grpc-keepalive-interval", None),
    ("grpc-keepalive-min-time", None),
    ("grpc-keepalive-timeout", None),
    ("host-whitelist", Some("*")),
    ("initial-election-tick-advance", Some("true")),
    ("key-file", Some("")),
    ("listen-client-http-urls", Some("")),
    ("log-outputs", Some("stderr")),
    ("log-rotation-config-json", None),
    ("logger", Some("zap")),
    ("max-snapshots", Some("5")),
    ("max-wals", Some("5")),
    ("memory-mlock", Some("false")),
    ("metrics", Some("basic")),
    ("peer-auto-tls", Some("false")),
    ("peer-cert-allowed-cn", Some("")),
    ("peer-cert-allowed-hostname", Some("")),
    ("peer-cert-file", Some("")),
    ("peer-client-cert-auth", Some("false")),
    ("peer-client-cert-file", Some("")),
    ("peer-client-key-file", Some("")),
    ("peer-crl-file", Some("")),
    ("peer-key-file", Some("")),
    ("peer-skip-client-san-verification", Some("false")),
    ("peer-trusted-ca-file", Some("")),
    ("pre-vote", Some("true")),
    ("raft-read-timeout", None),
    ("raft-write-timeout", None),
    ("self-signed-cert-validity", None),
    ("socket-reuse-address", Some("false")),
    ("socket-reuse-port", Some("false")),
    ("tls-max-version", Some("")),
    ("tls-min-version", Some("TLS1.2")),
    ("trusted-ca-file", Some("")),
    ("unsafe-no-fsync", Some("false")),
    ("v2-deprecation", None),
    ("warning-apply-duration", None),
    ("warning-unary-request-duration", None),
];

/// Flags that may stand alone.
const BOOLEANS: &[&str] = &[
    "auto-tls",
    "client-cert-auth",
    "discovery-insecure-skip-tls-verify",
    "discovery-insecure-transport",
    "enable-distributed-tracing",
    "enable-grpc-gateway",
    "enable-log-rotation",
    "enable-pprof",
    "force-new-cluster",
    "initial-election-tick-advance",
    "memory-mlock",
    "peer-auto-tls",
    "peer-client-cert-auth",
    "peer-skip-client-san-verification",
    "pre-vote",
    "socket-reuse-address",
    "socket-reuse-port",
    "strict-reconfig-check",
    "unsafe-no-fsync",
    "version",
    "help",
    "h",
];

const NOT_YET: &str = "not supported yet";

/// Parses a command line (without the program's name) and an environment.
pub fn parse<A, E>(args: A, env: E) -> Result<Parsed, UsageError>
where
    A: IntoIterator<Item = String>,
    E: IntoIterator<Item = (String, String)>,
{
    let given = split(args)?;
    if is_on(&given, "version")? {
        return Ok(Parsed::Version);
    }
    if is_on(&given, "help")? || is_on(&given, "h")? {
        return Ok(Parsed::Help);
    }
    let environment = from_environment(env);
    let file = given
        .iter()
        .rev()
        .find(|(name, _)| name == "config-file")
        .map(|(_, path)| path.clone())
        .or_else(|| environment.get("config-file").cloned());
    let mut config =
        Config { listen_peer_urls: vec![DEFAULT_PEER_URL.into()], ..Config::default() };
    let mut data_dir_given = false;
    let mut apply = |name: &str, value: &str| {
        data_dir_given |= name == "data-dir";
        apply(&mut config, name, value)
    };
    if let Some(path) = file {
        for (name, value) in read_file(&path)? {
            apply(&name, &value)?;
        }
    } else {
        let flags: Vec<&str> = given.iter().map(|(name, _)| name.as_str()).collect();
        for (name, value) in &environment {
            if !flags.contains(&name.as_str()) {
                apply(name, value)?;
            }
        }
        for (name, value) in &given {
            apply(name, value)?;
        }
    }
    if !data_dir_given {
        config.data_dir = PathBuf::from(format!("{}.etcd", config.name));
    }
    config.check().map_err(UsageError)?;
    Ok(Parsed::Run(Box::new(config)))
}

fn apply(config: &mut Config, name: &str, value: &str) -> Result<(), UsageError> {
    if let Some((_, set)) = FLAGS.iter().find(|(flag, _)| *flag == name) {
        return set(config, value).map_err(|why| {
            UsageError(if why == NOT_YET {
                format!("flag -{name}={value} is {NOT_YET}")
            } else {
                format!("invalid value \"{value}\" for flag -{name}: {why}")
            })
        });
    }
    match known(name) {
        Some(Some(harmless)) if harmless == value => Ok(()),
        Some(_) => Err(UsageError(format!("flag -{name} is {NOT_YET}"))),
        None => Err(UsageError(format!("flag provided but not defined: -{name}"))),
    }
}

#[allow(clippy::option_option, reason = "outer: etcd knows the flag; inner: a harmless value")]
fn known(name: &str) -> Option<Option<&'static str>> {
    let stable = name.strip_prefix("experimental-").unwrap_or(name);
    KNOWN.iter().find(|(flag, _)| *flag == stable).map(|(_, harmless)| *harmless)
}

/// Splits the command line in names and values as Go's `flag` package does.
fn split<A: IntoIterator<Item = String>>(args: A) -> Result<Vec<(String, String)>, UsageError> {
    let mut given = Vec::new();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let name = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).unwrap_or("");
        if name.is_empty() {
            return Err(UsageError(format!("\"{arg}\" is not a valid flag")));
        }
        if name.starts_with('-') || name.starts_with('=') {
            return Err(UsageError(format!("bad flag syntax: {arg}")));
        }
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (name.to_owned(), None),
        };
        let is_known = FLAGS.iter().any(|(flag, _)| *flag == name)
            || known(&name).is_some()
            || BOOLEANS.contains(&name.as_str())
            || name == "config-file";
        if !is_known {
            return Err(UsageError(format!("flag provided but not defined: -{name}")));
        }
        let value = match value {
            Some(value) => value,
            None if BOOLEANS.contains(&name.as_str()) => "true".into(),
            None => {
                args.next().ok_or_else(|| UsageError(format!("flag needs an argument: -{name}")))?
            }
        };
        given.push((name, value));
    }
    Ok(given)
}

fn is_on(given: &[(String, String)], flag: &str) -> Result<bool, UsageError> {
    match given.iter().rev().find(|(name, _)| name == flag) {
        Some((_, value)) => parse_bool(value).map_err(|why| {
            UsageError(format!("invalid boolean value \"{value}\" for -{flag}: {why}"))
        }),
        None => Ok(false),
    }
}

/// The settings in `ETCD_*` variables. Other variables with that prefix are left alone, as etcd
/// does: they may be meant for something else.
fn from_environment<E: IntoIterator<Item = (String, String)>>(env: E) -> BTreeMap<String, String> {
    env.into_iter()
        .filter_map(|(name, value)| {
            let flag = name.strip_prefix("ETCD_")?.to_lowercase().replace('_', "-");
            let is_flag = FLAGS.iter().any(|(known, _)| *known == flag)
                || known(&flag).is_some()
                || flag == "config-file";
            (is_flag && !value.is_empty()).then_some((flag, value))
        })
        .collect()
}

const CONFIG_FILE_BYTES_MAX: u64 = 1 << 20;

fn read_file(path: &str) -> Result<BTreeMap<String, String>, UsageError> {
    let failed = |why: String| UsageError(format!("error verifying flags, {path}: {why}"));
    let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > CONFIG_FILE_BYTES_MAX {
        return Err(failed(format!("larger than {CONFIG_FILE_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let settings: BTreeMap<String, Value> = serde_saphyr::from_str(&text)
        .map_err(|error| failed(error.to_string().lines().next().unwrap_or_default().to_owned()))?;
    let mut plain = BTreeMap::new();
    for (name, value) in settings {
        let value = match value {
            Value::String(text) => text,
            Value::Bool(on) => on.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Null => continue,
            Value::Array(list) if list.iter().all(Value::is_string) => {
                let parts: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
                parts.join(",")
            }
            Value::Object(object) if object.is_empty() => continue,
            _ => return Err(failed(format!("{name} is {NOT_YET}"))),
        };
        plain.insert(name, value);
    }
    Ok(plain)
}

#[allow(clippy::unnecessary_wraps, reason = "setters end with it")]
fn set<T>(field: &mut T, value: T) -> Result<(), String> {
    *field = value;
    Ok(())
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    Ok(Duration::from_millis(parse_number(text)?))
}
