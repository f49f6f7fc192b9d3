//! Checks that several kinds share, as field errors.
//!
//! Owns: the step from a text check to a field error, and checks of common parts (selectors,
//! ports, addresses). Must not know: any one kind. A newcomer's trap: a check answers with all
//! that is wrong, in Kubernetes' order, since clients compare whole lists of causes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::look::{Look, same};
use crate::field::{FieldError, Reason};
use crate::name as text;

pub(crate) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
pub(crate) const IMMUTABLE: &str = "field is immutable";
pub(crate) const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// Each text as an `Invalid value` of the field.
pub(crate) fn texts(path: &str, value: &str, texts: Vec<String>) -> Vec<FieldError> {
    texts.iter().map(|text| FieldError::invalid(path, &value.into(), text)).collect()
}

/// An `Invalid value` of a string field.
pub(crate) fn invalid(path: impl Into<String>, value: &str, detail: &str) -> FieldError {
    FieldError::invalid(path, &value.into(), detail)
}

// === names of objects ===

/// A name that must be a DNS subdomain.
pub(crate) fn subdomain_name(name: &str, prefix: bool) -> Vec<String> {
    text::name_is_subdomain(name, prefix)
}

/// A name that must be a DNS label.
pub(crate) fn label_name(name: &str, prefix: bool) -> Vec<String> {
    text::name_is_label(name, prefix)
}

/// A name that must be a DNS label starting with a letter.
pub(crate) fn dns1035_name(name: &str, prefix: bool) -> Vec<String> {
    text::name_is_dns1035_label(name, prefix)
}

/// A name that only has to fit into a path.
pub(crate) fn path_segment_name(name: &str, prefix: bool) -> Vec<String> {
    text::path_segment(name, prefix)
}

// === texts ===

pub(crate) fn dns_label(path: &str, value: &str) -> Vec<FieldError> {
    texts(path, value, text::dns1123_label(value))
}

pub(crate) fn dns_subdomain(path: &str, value: &str) -> Vec<FieldError> {
    texts(path, value, text::dns1123_subdomain(value))
}

pub(crate) fn qualified_name(path: &str, value: &str) -> Vec<FieldError> {
    texts(path, value, text::label_key(value))
}

/// A key of a ConfigMap or Secret.
pub(crate) fn config_key(path: &str, key: &str) -> Vec<FieldError> {
    texts(path, key, text::config_map_key(key))
}

/// A finalizer of a namespace: a qualified name, with a domain unless it is a known one.
pub(crate) fn finalizer_name(path: &str, value: &str) -> Vec<FieldError> {
    let mut errors = qualified_name(path, value);
    let known = ["kubernetes", "orphan", "foregroundDeletion"];
    if !value.contains('/') && !known.contains(&value) {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(invalid(path, value, detail));
    }
    errors
}

/// The name of a leader election strategy.
pub(crate) fn strategy_name(path: &str, value: &str) -> Vec<FieldError> {
    match value.split_once('/') {
        None if value == "OldestEmulationVersion" => Vec::new(),
        None => vec![FieldError::not_supported(path, &value.into(), &["OldestEmulationVersion"])],
        Some(_) => qualified_name(path, value),
    }
}

/// A count or a percentage that is not negative.
pub(crate) fn count_or_percent(path: &str, value: &Value) -> Vec<FieldError> {
    match value {
        Value::String(value) => texts(path, value, text::percent(value)),
        other => not_negative(path, other),
    }
}

// === numbers, sizes, choices ===

pub(crate) fn not_negative(path: &str, value: &Value) -> Vec<FieldError> {
    match value.as_i64() {
        Some(number) if number < 0 => vec![FieldError::invalid(path, value, NOT_NEGATIVE)],
        _ => Vec::new(),
    }
}

/// Whether a number lies within bounds, as an error text if not.
pub(crate) fn within(path: &str, value: i64, low: i64, high: i64) -> Vec<FieldError> {
    text::in_range(value, low, high)
        .iter()
        .map(|text| FieldError::invalid(path, &value.into(), text))
        .collect()
}

/// A port number.
pub(crate) fn port(path: &str, value: i64) -> Vec<FieldError> {
    within(path, value, 1, 65535)
}

/// A port by number or by name.
pub(crate) fn port_or_name(path: &str, value: &Value) -> Vec<FieldError> {
    match value {
        Value::String(name) => texts(path, name, text::port_name(name)),
        other => port(path, other.as_i64().unwrap_or(0)),
    }
}

pub(crate) fn too_long(path: &str, bytes_max: usize) -> FieldError {
    let unit = if bytes_max == 1 { "byte" } else { "bytes" };
    let detail = format!("may not be more than {bytes_max} {unit}");
    FieldError::with(Reason::TooLong, path, "Too long", &detail)
}

pub(crate) fn too_many(path: &str, have: usize, most: usize) -> FieldError {
    let unit = if most == 1 { "item" } else { "items" };
    let detail = format!("must have at most {most} {unit}");
    FieldError::with(Reason::TooMany, path, &format!("Too many: {have}"), &detail)
}

/// One of several words.
pub(crate) fn one_of(path: &str, value: &str, words: &[&str]) -> Vec<FieldError> {
    if words.contains(&value) {
        return Vec::new();
    }
    vec![FieldError::not_supported(path, &value.into(), words)]
}

/// A field that may not change.
pub(crate) fn immutable(path: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    if same(new, old) {
        return Vec::new();
    }
    vec![FieldError::invalid(path, new, IMMUTABLE)]
}

// === labels and selectors ===

/// A map of labels.
pub(crate) fn labels(path: &str, owner: &Value, key: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in owner.entries(key) {
        errors.extend(qualified_name(path, key));
        let value = value.as_str().unwrap_or("");
        errors.extend(texts(path, value, text::label_value(value)));
    }
    errors
}

/// A label selector; an absent one is fine.
pub(crate) fn label_selector(path: &str, selector: &Value) -> Vec<FieldError> {
    let mut errors = labels(&format!("{path}.matchLabels"), selector, "matchLabels");
    for (index, requirement) in selector.list("matchExpressions").iter().enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        let values = requirement.list("values");
        match requirement.text("operator") {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                format!("{path}.values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                format!("{path}.values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(invalid(
                format!("{path}.operator"),
                other,
                "not a valid selector operator",
            )),
        }
        errors.extend(qualified_name(&format!("{path}.key"), requirement.text("key")));
        for (index, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or("");
            errors.extend(texts(
                &format!("{path}.values[{index}]"),
                value,
                text::label_value(value),
            ));
        }
    }
    errors
}

/// Whether a label selector takes everything because it asks for nothing.
pub(crate) fn selects_all(selector: &Value) -> bool {
    selector.size("matchLabels") + selector.list("matchExpressions").len() == 0
}

/// Whether a label selector can be read at all.
pub(crate) fn is_selector(selector: &Value) -> bool {
    label_selector("", selector).is_empty()
}

/// Whether a readable label selector takes a map of labels. An absent selector takes nothing.
pub(crate) fn selects(selector: &Value, labels: &Value) -> bool {
    if !selector.is_object() {
        return false;
    }
    let has = |key: &str| labels.has(key);
    selector.entries("matchLabels").iter().all(|(key, value)| labels.get(key) == Some(*value))
        && selector.list("matchExpressions").iter().all(|requirement| {
            let key = requirement.text("key");
            let listed = || requirement.list("values").contains(labels.get_or_null(key));
            match requirement.text("operator") {
                "In" => has(key) && listed(),
                "NotIn" => !has(key) || !listed(),
                "Exists" => has(key),
                _ => !has(key),
            }
        })
}

// === addresses ===

/// An IP address as fields older than 1.36 take it: any form but leading zeros and mapped IPv4.
pub(crate) fn ip(path: &str, value: &str) -> Vec<FieldError> {
    match value.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            vec![invalid(path, value, "must not be an IPv4-mapped IPv6 address")]
        }
        Ok(_) => Vec::new(),
        Err(_) if with_leading_zeros(value) => {
            vec![invalid(path, value, "must not have leading 0s")]
        }
        Err(_) => {
            let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            vec![invalid(path, value, detail)]
        }
    }
}

/// Whether a text is an IPv4 address but for leading zeros.
fn with_leading_zeros(value: &str) -> bool {
    let octets: Vec<_> = value.split('.').collect();
    let octet = |text: &&str| {
        !text.is_empty()
            && text.len() <= 16
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && text.parse::<u64>().is_ok_and(|number| number <= 255)
    };
    octets.len() == 4 && octets.iter().all(octet)
}

/// A network such as `10.0.0.0/24`.
pub(crate) fn cidr(path: &str, value: &str) -> Vec<FieldError> {
    let bad = || {
        vec![invalid(
            path,
            value,
            "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        )]
    };
    let Some((address, length)) = value.split_once('/') else { return bad() };
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let Some(bits) = length.parse::<u32>().ok().filter(|_| digits) else { return bad() };
    let Ok(address) = address.parse::<IpAddr>() else { return bad() };
    let (width, number) = match address {
        IpAddr::V4(address) => (32, u128::from(u32::from(address)) << 96),
        IpAddr::V6(address) => (128, u128::from(address)),
    };
    if bits > width {
        return bad();
    }
    if length.len() > 1 && length.starts_with('0') {
        return vec![invalid(path, value, "must not have leading 0s in IP or prefix length")];
    }
    if number.checked_shl(bits).unwrap_or(0) != 0 {
        return vec![invalid(path, value, "must not have bits set beyond the prefix length")];
    }
    Vec::new()
}

/// An address that endpoints may have: none that only this machine or link understands.
pub(crate) fn endpoint_ip(path: &str, value: &str) -> Vec<FieldError> {
    let Ok(address) = value.parse::<IpAddr>() else {
        let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        return vec![invalid(path, value, detail)];
    };
    let mut errors = Vec::new();
    if address.is_unspecified() {
        let detail = format!("may not be unspecified ({value})");
        errors.push(invalid(path, value, &detail));
    }
    if address.is_loopback() {
        let detail = "may not be in the loopback range (127.0.0.0/8, ::1/128)";
        errors.push(invalid(path, value, detail));
    }
    if is_link_local(address) {
        let detail = "may not be in the link-local range (169.254.0.0/16, fe80::/10)";
        errors.push(invalid(path, value, detail));
    }
    if is_link_local_multicast(address) {
        let detail = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)";
        errors.push(invalid(path, value, detail));
    }
    errors
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn is_link_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets().starts_with(&[224, 0, 0]),
        IpAddr::V6(address) => address.segments().first().is_some_and(|one| one & 0xff0f == 0xff02),
    }
}

/// Whether a text is an IPv4 address.
pub(crate) fn is_ipv4(value: &str) -> bool {
    value.parse::<Ipv4Addr>().is_ok()
}

/// Whether a text is an IPv6 address.
pub(crate) fn is_ipv6(value: &str) -> bool {
    value.parse::<Ipv6Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(|one| one.message.clone()).collect()
    }

    #[test]
    fn addresses() {
        let good: [&str; 0] = [];
        for (value, wanted) in [
            ("10.0.0.1", good.as_slice()),
            ("fe80::1", &[]),
            (
                "x",
                &[
                    "Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                ],
            ),
            ("10.0.0.01", &["Invalid value: \"10.0.0.01\": must not have leading 0s"]),
            (
                "::ffff:1.2.3.4",
                &["Invalid value: \"::ffff:1.2.3.4\": must not be an IPv4-mapped IPv6 address"],
            ),
        ] {
            assert_eq!(shown(&ip("p", value)), wanted, "{value}");
        }
    }

    #[test]
    fn networks() {
        for (value, fine) in [
            ("10.0.0.0/24", true),
            ("0.0.0.0/0", true),
            ("2001:db8::/64", true),
            ("10.0.0.1/24", false),
            ("10.0.0.0/33", false),
            ("10.0.0.0/08", false),
            ("10.0.0.0/", false),
            ("x/8", false),
            ("10.0.0.0", false),
            ("255.255.255.255/32", true),
        ] {
            assert_eq!(cidr("p", value).is_empty(), fine, "{value}");
        }
    }

    #[test]
    fn selectors() {
        let selector = json!({"matchExpressions": [
            {"key": "a", "operator": "In"},
            {"key": "b", "operator": "Exists", "values": ["x"]},
            {"key": "c", "operator": "Like"}]});
        let got: Vec<_> = label_selector("s", &selector).iter().map(ToString::to_string).collect();
        assert_eq!(
            got,
            [
                "s.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "s.matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                "s.matchExpressions[2].operator: Invalid value: \"Like\": not a valid selector operator",
            ]
        );
        let labels = json!({"a": "1", "b": "2"});
        for (selector, wanted) in [
            (json!({}), true),
            (json!(null), false),
            (json!({"matchLabels": {"a": "1"}}), true),
            (json!({"matchLabels": {"a": "2"}}), false),
            (json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]}), true),
            (
                json!({"matchExpressions": [{"key": "z", "operator": "NotIn", "values": ["1"]}]}),
                true,
            ),
            (json!({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}), false),
        ] {
            assert_eq!(selects(&selector, &labels), wanted, "{selector}");
        }
    }
}
