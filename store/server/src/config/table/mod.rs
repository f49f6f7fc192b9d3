//! etcd's flags, one row each.
//!
//! Owns: names, defaults, help texts and how a value is stored; `--help` and a test of
//! COMPATIBILITY.md are made from it. Must not know: where a value was read. A newcomer's trap: a
//! row that is not [`Effect::Works`] must be named in COMPATIBILITY.md; a test looks.

mod clustering;
mod member;
mod monitoring;
mod old;
mod security;

use super::settings::{AutoCompaction, Notice};
use super::values::{parse_duration, parse_signed, parse_unsigned};
use super::{Config, DEFAULT_PEER_URL};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

pub(super) use old::{OLD, Old, old};

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Anything with a text form.
    Text,
    /// May stand alone.
    Bool,
    /// A Go duration; in a file, nanoseconds.
    Duration,
}

/// Whether a flag does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It does what etcd's does.
    Works,
    /// It is accepted with a warning that says why it has no effect.
    Idle(&'static str),
    /// Another value than the default is an error that says why.
    Refused(&'static str),
}

/// One flag.
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    pub(super) doc: &'static str,
    pub(super) kind: Kind,
    pub(super) effect: Effect,
    pub(super) store: Setter,
}

pub(super) type Setter = fn(&mut Draft, &str) -> Result<(), String>;

/// A flag's row.
const fn flag(
    name: &'static str,
    default: &'static str,
    doc: &'static str,
    kind: Kind,
    store: Setter,
) -> Flag {
    Flag { name, default, doc, kind, effect: Effect::Works, store }
}

impl Flag {
    const fn idle(self, why: &'static str) -> Self {
        Self { effect: Effect::Idle(why), ..self }
    }

    const fn refused(self, why: &'static str) -> Self {
        Self { effect: Effect::Refused(why), ..self }
    }
}

/// The groups of flags, as `--help` shows them.
pub(super) const GROUPS: &[(&str, &[Flag])] = &[
    ("Member", member::FLAGS),
    ("Clustering", clustering::FLAGS),
    ("Discovery", clustering::DISCOVERY),
    ("Security", security::FLAGS),
    ("Auth", security::AUTH),
    ("Profiling and Monitoring", monitoring::FLAGS),
    ("Logging", monitoring::LOGGING),
    ("Distributed tracing", monitoring::TRACING),
    ("Features", monitoring::FEATURES),
    ("Unsafe feature", monitoring::UNSAFE),
];

/// The flag of a name.
pub(super) fn find(name: &str) -> Option<&'static Flag> {
    all().find(|flag| flag.name == name)
}

/// All flags.
pub(super) fn all() -> impl Iterator<Item = &'static Flag> {
    GROUPS.iter().flat_map(|(_, flags)| flags.iter())
}

/// Settings while they are read: what only counts together is kept apart until the end.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) config: Config,
    /// The flags that were given, in whatever way, by their own names, old ones included.
    pub(super) given: BTreeSet<String>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) compaction_mode: String,
    pub(super) compaction_retention: String,
    pub(super) feature_gates: String,
    pub(super) log_rotation: bool,
    pub(super) log_rotation_json: String,
    pub(super) tls_min: String,
    pub(super) tls_max: String,
    pub(super) heartbeat_ms: u64,
    pub(super) election_ms: u64,
}

impl Default for Draft {
    fn default() -> Self {
        let config =
            Config { listen_peer_urls: vec![DEFAULT_PEER_URL.into()], ..Config::default() };
        Self {
            config,
            given: BTreeSet::new(),
            data_dir: None,
            compaction_mode: "periodic".into(),
            compaction_retention: "0".into(),
            feature_gates: String::new(),
            log_rotation: false,
            log_rotation_json: monitoring::ROTATION.into(),
            tls_min: "TLS1.2".into(),
            tls_max: String::new(),
            heartbeat_ms: 100,
            election_ms: 1000,
        }
    }
}

impl Draft {
    pub(super) fn was_given(&self, name: &str) -> bool {
        self.given.contains(name)
    }

    pub(super) fn notice(&mut self, notice: Notice) {
        self.config.notices.push(notice);
    }
}

#[allow(clippy::unnecessary_wraps, reason = "setters end with it")]
fn set<T>(field: &mut T, value: T) -> Result<(), String> {
    *field = value;
    Ok(())
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|_| "parse error".into())
}

/// A number whose type in etcd is Go's `uint`.
fn unsigned(text: &str) -> Result<u64, String> {
    parse_unsigned(text, u64::MAX)
}

fn size(text: &str) -> Result<usize, String> {
    Ok(usize::try_from(unsigned(text)?).unwrap_or(usize::MAX))
}

fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// One of a few words.
fn word(text: &str, words: &[&str]) -> Result<String, String> {
    if words.contains(&text) { Ok(text.into()) } else { Err("invalid value".into()) }
}

/// Looks at a value that goes nowhere.
fn only<T>(checked: Result<T, String>) -> Result<(), String> {
    checked.map(|_| ())
}

/// etcd's reading of `--auto-compaction-*`: a number alone is hours, or revisions.
pub(super) fn auto_compaction(mode: &str, retention: &str) -> Result<AutoCompaction, String> {
    let retention = if retention.is_empty() { "0" } else { retention };
    let wrong = |why: String| format!("error parsing CompactionRetention: {why}");
    let number = parse_signed(retention).ok().filter(|number| *number >= 0);
    let as_duration = || parse_duration(retention).map_err(|why| wrong(why.to_string()));
    match mode {
        "revision" => {
            let revisions = match number {
                Some(number) => number,
                // etcd takes a duration for its number of nanoseconds.
                None => as_duration()?.as_nanos() as i64,
            };
            Ok(if revisions == 0 {
                AutoCompaction::Off
            } else {
                AutoCompaction::Revision(revisions)
            })
        }
        "periodic" => {
            let period = match number {
                Some(hours) => hours
                    .unsigned_abs()
                    .checked_mul(3600)
                    .filter(|seconds| *seconds < i64::MAX as u64 / 1_000_000_000)
                    .map(Duration::from_secs)
                    .ok_or_else(|| wrong(format!("time: invalid duration \"{retention}\"")))?,
                None => as_duration()?,
            };
            Ok(if period.is_zero() {
                AutoCompaction::Off
            } else {
                AutoCompaction::Periodic(period)
            })
        }
        "" => Err("undefined auto-compaction-mode".into()),
        mode => Err(format!("unknown auto-compaction-mode \"{mode}\"")),
    }
}
