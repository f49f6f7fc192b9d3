//! The values of flags: numbers, booleans, Go durations, lists, URLs.
//!
//! Owns: parsing them, with the texts Go and etcd give for wrong ones. Must not know: the flags. A
//! newcomer's trap: Go reads `0x10`, `0b1` and `1_000` as numbers, and so does this.

use std::fmt;
use std::time::Duration;

const SYNTAX: &str = "parse error";
const RANGE: &str = "value out of range";

/// An unsigned number up to `max`, as Go's `strconv.ParseUint` with base 0 reads it.
pub(super) fn parse_unsigned(text: &str, max: u64) -> Result<u64, String> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', b'b' | b'B', ..] => (&text[2..], 2),
        [b'0', b'o' | b'O', ..] => (&text[2..], 8),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    let plain: String = digits.chars().filter(|c| *c != '_').collect();
    if plain.is_empty() || !plain.chars().all(|c| c.is_digit(radix)) {
        return Err(SYNTAX.into());
    }
    match u64::from_str_radix(&plain, radix) {
        Ok(number) if number <= max => Ok(number),
        _ => Err(RANGE.into()),
    }
}

/// A signed 64-bit number.
pub(super) fn parse_signed(text: &str) -> Result<i64, String> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let number = i128::from(parse_unsigned(digits, u64::MAX)?);
    i64::try_from(if negative { -number } else { number }).map_err(|_| RANGE.into())
}

pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(SYNTAX.into()),
    }
}

/// Why a text is no Go duration; the texts are Go's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DurationError {
    Invalid(String),
    NoUnit(String),
    UnknownUnit { unit: String, text: String },
    Negative(String),
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) => write!(f, "time: invalid duration \"{text}\""),
            Self::NoUnit(text) => write!(f, "time: missing unit in duration \"{text}\""),
            Self::UnknownUnit { unit, text } => {
                write!(f, "time: unknown unit \"{unit}\" in duration \"{text}\"")
            }
            Self::Negative(text) => write!(f, "time: negative duration \"{text}\""),
        }
    }
}

/// A Go duration (`1h30m`, `500ms`).
// Differs from etcd: negative durations, which Go takes and etcd then misbehaves on, are refused.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest.is_empty() {
        return Err(invalid());
    }
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "" => return Err(DurationError::NoUnit(text.to_owned())),
            unit => {
                let (unit, text) = (unit.to_owned(), text.to_owned());
                return Err(DurationError::UnknownUnit { unit, text });
            }
        };
        rest = &rest[unit..];
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| invalid())?;
        total = total.checked_add(part).ok_or_else(invalid)?;
    }
    // Go counts nanoseconds in 63 bits.
    if total.as_nanos() > i64::MAX as u128 {
        return Err(invalid());
    }
    if text.starts_with('-') && !total.is_zero() {
        return Err(DurationError::Negative(text.to_owned()));
    }
    Ok(total)
}

/// A list separated by commas; empty = none.
pub(super) fn parse_list(text: &str) -> Vec<String> {
    if text.is_empty() { Vec::new() } else { text.split(',').map(str::to_owned).collect() }
}

/// The same, sorted and each once.
pub(super) fn parse_set(text: &str) -> Vec<String> {
    let mut list = parse_list(text);
    list.sort();
    list.dedup();
    list
}

/// A list of URLs to listen on or to advertise, sorted and each once.
pub(super) fn parse_urls(text: &str) -> Result<Vec<String>, String> {
    let mut urls: Vec<String> =
        text.split(',').map(str::trim).map(check_url).collect::<Result<_, _>>()?;
    urls.sort();
    urls.dedup();
    Ok(urls)
}

fn check_url(url: &str) -> Result<String, String> {
    let scheme = || format!("URL scheme must be http, https, unix, or unixs: {url}");
    let (name, rest) = url.split_once("://").ok_or_else(scheme)?;
    match name {
        "unix" | "unixs" if !rest.is_empty() => return Ok(url.to_owned()),
        "http" | "https" => {}
        _ => return Err(scheme()),
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((_, port)) = host_port(authority) else {
        return Err(format!("URL address does not have the form \"host:port\": {url}"));
    };
    if authority.len() < rest.len() {
        return Err(format!("URL must not contain a path: {url}"));
    }
    if port.parse::<u16>().is_err() {
        return Err(format!("parse \"{url}\": invalid port \":{port}\" after host"));
    }
    Ok(url.to_owned())
}

/// Splits `host:port` or `[host]:port`, the host without its brackets.
pub(super) fn host_port(authority: &str) -> Option<(&str, &str)> {
    let (host, port) = authority.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bare {
        Some(bare) => Some((bare, port)),
        None if host.contains(':') => None,
        None => Some((host, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, milliseconds) in [
            ("1h30m", Some(5_400_000)),
            ("500ms", Some(500)),
            ("1.5s", Some(1_500)),
            ("0", Some(0)),
            ("-0s", Some(0)),
            ("+2s", Some(2_000)),
            ("", None),
            ("5", None),
            ("5x", None),
            ("s", None),
            ("-5s", None),
            ("1e400h", None),
            ("9999999h", None),
        ] {
            let parsed = parse_duration(text).ok().map(|duration| duration.as_millis());
            assert_eq!(parsed, milliseconds, "{text}");
        }
        let texts = [
            ("5", "time: missing unit in duration \"5\""),
            ("5x", "time: unknown unit \"x\" in duration \"5x\""),
            ("x", "time: invalid duration \"x\""),
        ];
        for (text, expected) in texts {
            assert_eq!(parse_duration(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn numbers_are_gos() {
        for (text, expected) in [
            ("10", Ok(10)),
            ("0x10", Ok(16)),
            ("0b11", Ok(3)),
            ("010", Ok(8)),
            ("1_000", Ok(1000)),
            ("-1", Err("parse error")),
            ("", Err("parse error")),
            ("1001", Err("value out of range")),
            ("99999999999999999999", Err("value out of range")),
        ] {
            assert_eq!(parse_unsigned(text, 1000), expected.map_err(str::to_owned), "{text}");
        }
        assert_eq!(parse_signed("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(parse_signed("9223372036854775808"), Err(RANGE.into()));
    }

    #[test]
    fn urls_are_checked_as_etcd_does() {
        for (text, expected) in [
            ("http://127.0.0.1:0", Ok(vec!["http://127.0.0.1:0"])),
            ("http://a:1,https://[::1]:2", Ok(vec!["http://a:1", "https://[::1]:2"])),
            ("http://b:1, http://a:1,http://b:1", Ok(vec!["http://a:1", "http://b:1"])),
            ("unix:///tmp/s", Ok(vec!["unix:///tmp/s"])),
            ("unixs://localhost:0", Ok(vec!["unixs://localhost:0"])),
            ("ftp://a:1", Err("URL scheme must be http, https, unix, or unixs: ftp://a:1")),
            ("a:1", Err("URL scheme must be http, https, unix, or unixs: a:1")),
            ("http://a", Err("URL address does not have the form \"host:port\": http://a")),
            ("http://::1:2", Err("URL address does not have the form \"host:port\": http://::1:2")),
            ("http://a:99999", Err("parse \"http://a:99999\": invalid port \":99999\" after host")),
            ("http://a:1/b", Err("URL must not contain a path: http://a:1/b")),
            ("http://a:1/", Err("URL must not contain a path: http://a:1/")),
        ] {
            let expected = expected
                .map(|urls| urls.into_iter().map(str::to_owned).collect())
                .map_err(str::to_owned);
            assert_eq!(parse_urls(text), expected, "{text}");
        }
    }
}
