//! Log lines as etcd's tools expect them: zap's JSON on standard error.
//!
//! Owns: the form. Must not know: what is logged. A newcomer's trap: only the binary calls
//! [`init`]; a library or a test that did would take the process's logging for itself.

use std::fmt;
use std::io::IsTerminal as _;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{Config, Notice};

/// Sends log lines to standard error, in the form and from the level that `config` says.
pub fn init(config: &Config) {
    let level = match config.log.level.as_str() {
        "panic" | "fatal" => "error",
        level => level,
    };
    // openraft tells every step at `info`; its steps are our `debug`.
    let quiet = if level == "debug" { "debug" } else { "warn" };
    let filter = EnvFilter::new(format!("{level},openraft={quiet},h2=warn,hyper=warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = if config.log.format == "console" {
        builder.with_ansi(std::io::stderr().is_terminal()).try_init()
    } else {
        builder.event_format(Zap).try_init()
    };
    if installed.is_err() {
        tracing::debug!("logging was set up before");
    }
    for notice in &config.notices {
        tell(notice);
    }
}

/// Logs what was noticed while the settings were read.
fn tell(notice: &Notice) {
    let fields: Vec<String> =
        notice.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let (message, about) = (&notice.message, fields.join(" "));
    match (notice.is_warning, about.is_empty()) {
        (true, true) => tracing::warn!("{message}"),
        (true, false) => tracing::warn!(%about, "{message}"),
        (false, true) => tracing::info!("{message}"),
        (false, false) => tracing::info!(%about, "{message}"),
    }
}

/// zap's JSON encoding.
struct Zap;

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let name = if field.name() == "message" { "msg" } else { field.name() };
        self.0.insert(name.to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl<S, N> FormatEvent<S, N> for Zap
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let message = fields.0.remove("msg").unwrap_or_default();
        let caller = format!(
            "{}:{}",
            metadata.file().unwrap_or_else(|| metadata.target()),
            metadata.line().unwrap_or_default()
        );
        // By hand, because the order of the first fields is part of the form.
        write!(
            writer,
            "{{\"level\":\"{level}\",\"ts\":\"{}\",\"caller\":{},\"msg\":{}",
            timestamp(kijabi_base::clock::wall_ms()),
            Value::String(caller),
            if message.is_null() { Value::String(String::new()) } else { message },
        )?;
        for (name, value) in fields.0 {
            write!(writer, ",{}:{value}", Value::String(name))?;
        }
        writeln!(writer, "}}")
    }
}

/// `2006-01-02T15:04:05.999Z`.
fn timestamp(wall_ms: u64) -> String {
    jiff::Timestamp::from_millisecond(wall_ms as i64)
        .map_or_else(|_| String::new(), |at| at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_have_zaps_form() {
        assert_eq!(timestamp(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
    }
}
