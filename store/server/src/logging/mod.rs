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
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

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
    let level = match config.log.level.as_str() {
        "panic" | "fatal" => "error",
        level => level,
    };
    // openraft tells every step at `info`; its steps are our `debug`.
    let quiet = if level == "debug" { "debug" } else { "warn" };
    let filter = EnvFilter::new(format!("{level},openraft={quiet},h2=warn,hyper=warn"));
    let outputs = Outputs::open(&config.log)?;
    let form = if config.log.format == "console" { Form::Console } else { Form::Json };
    let lines = tracing_subscriber::fmt::layer()
        .event_format(form)
        .with_writer(Mutex::new(outputs))
        .with_filter(filter);
    if tracing_subscriber::registry().with(Sampler::default()).with(lines).try_init().is_err() {
        tracing::debug!("logging was set up before");
    }
    for notice in &config.notices {
        tell(notice);
    }
    Ok(())
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
