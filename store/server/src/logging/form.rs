//! The form of a line: zap's JSON encoding, or its encoding for people.
//!
//! Owns: the order of the first fields, the timestamp, the caller. Must not know: where lines go.

use std::fmt;

use jiff::tz::TimeZone;
use kijabi_base::clock;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The target of lines whose field `fields` holds their fields, because nobody knew them when the
/// program was written.
pub(super) const SETTINGS: &str = "kijabi_server::settings";

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// For programs.
    Json,
    /// For people: columns separated by tabs.
    Console,
}

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

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl<S, N> FormatEvent<S, N> for Form
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
        let message = match fields.0.remove("msg") {
            Some(Value::String(message)) => message,
            _ => String::new(),
        };
        if metadata.target() == SETTINGS
            && let Some(Value::String(text)) = fields.0.remove("fields")
            && let Ok(Value::Object(known)) = serde_json::from_str(&text)
        {
            fields.0.extend(known);
        }
        let line = metadata.line().unwrap_or_default();
        let caller = format!("{}:{line}", short(metadata.file().unwrap_or(metadata.target())));
        let at = timestamp(clock::wall_us(), &TimeZone::system());
        match self {
            // By hand, because the order of the first fields is part of the form.
            Self::Json => {
                write!(
                    writer,
                    "{{\"level\":\"{level}\",\"ts\":\"{at}\",\"caller\":{},\"msg\":{}",
                    Value::String(caller),
                    Value::String(message),
                )?;
                for (name, value) in fields.0 {
                    write!(writer, ",{}:{value}", Value::String(name))?;
                }
                writeln!(writer, "}}")
            }
            Self::Console => {
                // A line stays a line, whatever was logged.
                let message = message.replace(['\n', '\r'], " ");
                write!(writer, "{at}\t{level}\t{caller}\t{message}")?;
                if !fields.0.is_empty() {
                    write!(writer, "\t{}", Value::Object(fields.0))?;
                }
                writeln!(writer)
            }
        }
    }
}

/// The last folder and the file, as zap has it.
fn short(file: &str) -> &str {
    match file.rmatch_indices('/').nth(1) {
        Some((at, _)) => &file[at + 1..],
        None => file,
    }
}

/// `2006-01-02T15:04:05.000000Z`, or with `-0700` where that is the time zone.
fn timestamp(wall_us: u64, zone: &TimeZone) -> String {
    let Ok(at) = jiff::Timestamp::from_microsecond(wall_us as i64) else { return String::new() };
    let at = at.to_zoned(zone.clone());
    let form =
        if at.offset().is_zero() { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%S.%6f%z" };
    at.strftime(form).to_string()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Kept {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    /// What is written for a line with odd contents.
    fn written(form: Form) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt().event_format(form).with_writer(writer).finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(count = 3, name = "a\"b\nc", ok = true, "one\ntwo\"");
        });
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_lines_are_zaps_whatever_is_in_them() {
        let line = written(Form::Json);
        assert_eq!(line.lines().count(), 1);
        assert!(line.starts_with("{\"level\":\"warn\",\"ts\":\"2"), "{line}");
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["msg"], "one\ntwo\"");
        assert_eq!(
            (&value["count"], &value["name"], &value["ok"]),
            (&3.into(), &"a\"b\nc".into(), &true.into())
        );
        assert!(value["caller"].as_str().unwrap().starts_with("logging/form.rs:"), "{line}");
    }

    #[test]
    fn lines_for_people_have_columns() {
        let line = written(Form::Console);
        let columns: Vec<&str> = line.trim_end().split('\t').collect();
        assert_eq!(columns[1], "warn");
        assert_eq!(columns[3], "one two\"");
        assert_eq!(columns[4], "{\"count\":3,\"name\":\"a\\\"b\\nc\",\"ok\":true}");
    }

    #[test]
    fn timestamps_and_callers_have_zaps_form() {
        let at = 1_700_000_000_123_456;
        assert_eq!(timestamp(at, &TimeZone::UTC), "2023-11-14T22:13:20.123456Z");
        let east = TimeZone::fixed(jiff::tz::offset(1));
        assert_eq!(timestamp(at, &east), "2023-11-14T23:13:20.123456+0100");
        assert_eq!(short("store/server/src/member.rs"), "src/member.rs");
        assert_eq!(short("member.rs"), "member.rs");
    }
}
