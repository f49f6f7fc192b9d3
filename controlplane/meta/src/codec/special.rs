//! Values that decode themselves in Go: quantities, times, bytes, numbers-or-text.
//!
//! Owns: their syntax, normal form and error texts. Must not know: where they stand. A newcomer's
//! trap: an error here ends the decoding at once; only errors of type are told with the field.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::json::Node;
use crate::quantity::Quantity;
use crate::schema::{self, Type};

/// Why a value ends the decoding.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// A text of its own.
    Text(String),
    /// One kind of value where another is wanted; the decoder adds the field.
    Mismatch {
        /// What was found.
        found: String,
        /// The wanted type, as Go prints it.
        wanted: &'static str,
    },
}

/// How fine a time is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    Seconds,
    Micros,
}

/// The type of a schema in a CRD.
pub(super) fn schema_type() -> &'static Type {
    let name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    schema::type_named(name).expect("it stands in the table")
}

/// Base64 text in its normal form.
pub(super) fn bytes(text: &str) -> Result<String, String> {
    let compact: String = text.chars().filter(|char| !matches!(char, '\r' | '\n')).collect();
    match STANDARD.decode(&compact) {
        Ok(bytes) => Ok(STANDARD.encode(bytes)),
        Err(error) => {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _)
                | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                _ => compact.len() / 4 * 4,
            };
            Err(format!("illegal base64 data at input byte {at}"))
        }
    }
}

pub(super) fn quantity(node: Node) -> Result<Value, Stop> {
    let text = match &node {
        Node::String(text) | Node::Number(text) => text.trim(),
        // Lists and objects are read as text by Kubernetes too, and so are no quantities.
        Node::Bool(_) | Node::Array(_) | Node::Object(_) | Node::Null => "x",
    };
    Quantity::canonical(text).map(Value::String).map_err(|error| Stop::Text(error.to_string()))
}

pub(super) fn int_or_string(node: Node) -> Result<Value, Stop> {
    match node {
        Node::String(text) => Ok(Value::String(text)),
        Node::Number(text) => match text.parse::<i32>() {
            Ok(number) => Ok(number.into()),
            Err(_) => Err(Stop::Mismatch { found: format!("number {text}"), wanted: "int32" }),
        },
        other => Err(Stop::Mismatch { found: other.go_kind().into(), wanted: "int32" }),
    }
}

pub(super) fn time(node: Node, precision: Precision) -> Result<Value, Stop> {
    let text = match node {
        Node::String(text) => text,
        other => {
            return Err(Stop::Mismatch { found: other.go_kind().into(), wanted: "string" });
        }
    };
    match parse_time(&text, precision) {
        Ok(time) => Ok(time_value(time, precision)),
        Err(text) => Err(Stop::Text(text)),
    }
}

/// A time as Kubernetes writes it; the zero time is null.
pub(crate) fn time_value(time: Timestamp, precision: Precision) -> Value {
    if is_zero_time(time) {
        return Value::Null;
    }
    Value::String(match precision {
        Precision::Seconds => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Precision::Micros => time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
    })
}

/// Whether a time is Go's zero time, the first of January of the year 1.
fn is_zero_time(time: Timestamp) -> bool {
    time.as_second() == -62_135_596_800 && time.subsec_nanosecond() == 0
}

/// Reads an RFC 3339 time, rounded down to the precision.
pub(crate) fn parse_time(text: &str, precision: Precision) -> Result<Timestamp, String> {
    let layout = match precision {
        Precision::Seconds => "2006-01-02T15:04:05Z07:00",
        Precision::Micros => "2006-01-02T15:04:05.000000Z07:00",
    };
    let wrong = |layout_part: &str, rest: &str| {
        format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {layout_part:?}")
    };
    // The parts of the layout, in order, each with the length that it takes.
    let parts = [
        ("2006", 4),
        ("-", 1),
        ("01", 2),
        ("-", 1),
        ("02", 2),
        ("T", 1),
        ("15", 2),
        (":", 1),
        ("04", 2),
        (":", 1),
        ("05", 2),
    ];
    let mut rest = text;
    for (part, length) in parts {
        let good = rest.is_char_boundary(length)
            && rest.len() >= length
            && rest[..length].bytes().zip(part.bytes()).all(|(found, layout)| {
                if layout.is_ascii_digit() { found.is_ascii_digit() } else { found == layout }
            });
        if !good {
            return Err(wrong(part, rest));
        }
        rest = &rest[length..];
    }
    let fraction = rest
        .strip_prefix('.')
        .map_or(0, |rest| 1 + rest.bytes().take_while(u8::is_ascii_digit).count());
    if precision == Precision::Micros && fraction != 7 {
        return Err(wrong(".000000", rest));
    }
    let zone = &rest[if fraction > 1 { fraction } else { 0 }..];
    let offset = |zone: &str| {
        let bytes = zone.as_bytes();
        zone.len() == 6
            && matches!(bytes[0], b'+' | b'-')
            && bytes[3] == b':'
            && [1, 2, 4, 5].iter().all(|at| bytes[*at].is_ascii_digit())
    };
    if zone != "Z" && !offset(zone) {
        let extra = zone.strip_prefix('Z').or_else(|| zone.get(6..).filter(|_| offset(&zone[..6])));
        return Err(match extra {
            Some(extra) if !extra.is_empty() => {
                format!("parsing time {text:?}: extra text: {extra:?}")
            }
            _ => wrong("Z07:00", zone),
        });
    }
    let time: Timestamp = text.parse().map_err(|_| out_of_range(text))?;
    let unit = if precision == Precision::Seconds { 1_000_000_000 } else { 1_000 };
    let nanos = time.as_nanosecond();
    Timestamp::from_nanosecond(nanos - nanos.rem_euclid(unit)).map_err(|_| out_of_range(text))
}

/// Which part of a well-formed time does not exist, as Go says it.
fn out_of_range(text: &str) -> String {
    let number = |range: std::ops::Range<usize>| text[range].parse::<u32>().unwrap_or_default();
    let part = if !(1..=12).contains(&number(5..7)) {
        "month"
    } else if number(11..13) > 23 {
        "hour"
    } else if number(14..16) > 59 {
        "minute"
    } else if number(17..19) > 59 {
        "second"
    } else {
        "day"
    };
    format!("parsing time {text:?}: {part} out of range")
}

/// A time of seconds and nanoseconds, as protobuf has it; out of range ones become the zero time.
pub(crate) fn time_of_parts(seconds: i64, nanos: i32) -> Timestamp {
    let zero = || jiff::civil::date(1, 1, 1).to_zoned(TimeZone::UTC).map(|one| one.timestamp());
    Timestamp::new(seconds, nanos).or_else(|_| zero()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_and_whole() {
        for (given, seconds) in [
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("2026-01-01T00:00:00.5+02:00", "2025-12-31T22:00:00Z"),
        ] {
            let found = time(Node::String(given.into()), Precision::Seconds).unwrap();
            assert_eq!(found, seconds);
        }
        let micro = time(Node::String("2026-01-01T00:00:00.123456Z".into()), Precision::Micros);
        assert_eq!(micro.unwrap(), "2026-01-01T00:00:00.123456Z");
        let zero = time(Node::String("0001-01-01T00:00:00Z".into()), Precision::Seconds);
        assert_eq!(zero.unwrap(), Value::Null);
    }

    #[test]
    fn what_is_no_time() {
        for (given, error) in [
            (
                "x",
                "parsing time \"x\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"x\" as \"2006\"",
            ),
            (
                "",
                "parsing time \"\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"2006\"",
            ),
            ("2026-13-01T00:00:00Z", "parsing time \"2026-13-01T00:00:00Z\": month out of range"),
            ("2026-02-30T00:00:00Z", "parsing time \"2026-02-30T00:00:00Z\": day out of range"),
        ] {
            let found = time(Node::String(given.into()), Precision::Seconds).unwrap_err();
            assert_eq!(found, Stop::Text(error.into()));
        }
    }

    #[test]
    fn bytes_are_base64() {
        assert_eq!(bytes("eA==").unwrap(), "eA==");
        assert_eq!(bytes("eA\n==").unwrap(), "eA==");
        assert_eq!(bytes("e!==").unwrap_err(), "illegal base64 data at input byte 1");
    }
}
