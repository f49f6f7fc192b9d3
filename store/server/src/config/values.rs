//! The values of flags: numbers, booleans, Go durations, URLs.
//!
//! Owns: parsing them, with the texts Go and etcd give for wrong ones. Must not know: the flags.

use std::str::FromStr;
use std::time::Duration;

pub(super) fn parse_number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "parse error".into())
}

pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("parse error".into()),
    }
}

/// A Go duration (`1h30m`, `500ms`), or plain nanoseconds as etcd's configuration file has them.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    if let Ok(nanoseconds) = text.parse() {
        return Ok(Duration::from_nanos(nanoseconds));
    }
    let wrong = || "parse error".to_owned();
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        rest = &rest[unit..];
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

/// A list of URLs to listen on or to advertise.
pub(super) fn parse_urls(text: &str) -> Result<Vec<String>, String> {
    text.split(',').map(str::trim).filter(|url| !url.is_empty()).map(check_url).collect()
}

fn check_url(url: &str) -> Result<String, String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(format!("URL scheme must be http, https, unix, or unixs: {url}"));
    };
    match scheme {
        "http" => {}
        "unix" if !rest.is_empty() => return Ok(url.to_owned()),
        "https" | "unixs" => return Err(format!("TLS is not supported yet: {url}")),
        _ => return Err(format!("URL scheme must be http, https, unix, or unixs: {url}")),
    }
    let address = rest.strip_suffix('/').unwrap_or(rest);
    if address.contains('/') {
        return Err(format!("URL must not contain a path: {url}"));
    }
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(format!("http://{address}"))
        }
        _ => Err(format!("URL address does not have the form \"host:port\": {url}")),
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
            ("2000000", Some(2)),
            ("0", Some(0)),
            ("", None),
            ("5", Some(0)),
            ("5x", None),
            ("s", None),
            ("-5s", None),
            ("1e400h", None),
        ] {
            let parsed = parse_duration(text).ok().map(|duration| duration.as_millis());
            assert_eq!(parsed, milliseconds, "{text}");
        }
    }

    #[test]
    fn urls_are_checked_as_etcd_does() {
        for (text, expected) in [
            ("http://127.0.0.1:0", Ok(vec!["http://127.0.0.1:0"])),
            ("http://a:1,http://[::1]:2/", Ok(vec!["http://a:1", "http://[::1]:2"])),
            ("unix:///tmp/s", Ok(vec!["unix:///tmp/s"])),
            ("ftp://a:1", Err("URL scheme must be http, https, unix, or unixs: ftp://a:1")),
            ("a:1", Err("URL scheme must be http, https, unix, or unixs: a:1")),
            ("http://a", Err("URL address does not have the form \"host:port\": http://a")),
            (
                "http://a:99999",
                Err("URL address does not have the form \"host:port\": http://a:99999"),
            ),
            ("http://a:1/b", Err("URL must not contain a path: http://a:1/b")),
            ("https://a:1", Err("TLS is not supported yet: https://a:1")),
        ] {
            let expected = expected
                .map(|urls| urls.into_iter().map(str::to_owned).collect())
                .map_err(str::to_owned);
            assert_eq!(parse_urls(text), expected, "{text}");
        }
    }
}
