//! Log lines as etcd's tools expect them: zap's, in JSON or for people.
//!
//! Owns: the form of a line, where it goes, and how many there may be. Must not know: what is
//! logged. A newcomer's trap: only the binary calls [`init`]; a library or a test that did would
//! take the process's logging for itself.

mod form;
mod journal;
mod output;
mod rotate;
mod sample;

use std::sync::Mutex;

use serde_json::{Map, Value};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Config, Notice};
use form::{Form, SETTINGS};
use output::Outputs;
use sample::Sampler;

/// Why log lines cannot go where they should.
#[derive(Debug, thiserror::Error)]
#[error("{output}: {source}")]
pub struct LogError {
    output: String,
    source: std::io::Error,
}

/// Sends log lines where, in the form, and from the level that `config` says.
pub fn init(config: &Config) -> Result<(), LogError> {
    let outputs = Outputs::open(&config.log)?;
    let form = if config.log.format == "console" { Form::Console } else { Form::Json };
    let lines =
        tracing_subscriber::fmt::layer().event_format(form).with_writer(Mutex::new(outputs));
    // The filter stands before everything else, so that what is filtered out costs a comparison.
    let registry = tracing_subscriber::registry().with(filter(&config.log.level));
    if registry.with(Sampler::default()).with(lines).try_init().is_err() {
        tracing::debug!("logging was set up before");
    }
    for notice in &config.notices {
        tell(notice);
    }
    Ok(())
}

/// What is logged at one of zap's levels.
fn filter(level: &str) -> Targets {
    let level = match level {
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warn" => LevelFilter::WARN,
        // Beyond zap's `error` there are only lines before the end of the process.
        _ => LevelFilter::ERROR,
    };
    // openraft tells every step at `info`; its steps are our `debug`.
    let steps = if level == LevelFilter::DEBUG { level } else { level.min(LevelFilter::WARN) };
    let narrators = level.min(LevelFilter::WARN);
    Targets::new()
        .with_default(level)
        .with_target("openraft", steps)
        // It warns when nobody waits for an answer any more. Here nobody does once the entry is
        // applied, which is known a moment earlier.
        .with_target("openraft::raft::responder", level.min(LevelFilter::ERROR))
        .with_targets([("h2", narrators), ("hyper", narrators)])
}

/// Logs what was noticed while the settings were read.
fn tell(notice: &Notice) {
    let fields: Map<String, Value> = notice
        .fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
        .collect();
    let fields = Value::Object(fields).to_string();
    let message = &notice.message;
    if notice.is_warning {
        tracing::warn!(target: SETTINGS, fields, "{message}");
    } else {
        tracing::info!(target: SETTINGS, fields, "{message}");
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn what_is_not_logged_is_known_before_it_is_looked_at() {
        for (level, expected) in [
            ("debug", LevelFilter::DEBUG),
            ("info", LevelFilter::INFO),
            ("warn", LevelFilter::WARN),
            ("error", LevelFilter::ERROR),
            ("panic", LevelFilter::ERROR),
        ] {
            let registry = tracing_subscriber::registry().with(filter(level));
            let logged = registry.with(Sampler::default()).with(tracing_subscriber::fmt::layer());
            assert_eq!(tracing::Subscriber::max_level_hint(&logged), Some(expected), "{level}");
        }
        assert!(!filter("info").would_enable("openraft::core", &Level::INFO));
        assert!(filter("debug").would_enable("openraft::core", &Level::DEBUG));
        assert!(!filter("info").would_enable("openraft::raft::responder", &Level::WARN));
        assert!(!filter("debug").would_enable("h2::proto", &Level::DEBUG));
    }
}
