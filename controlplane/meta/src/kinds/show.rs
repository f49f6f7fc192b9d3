//! How table cells are written: durations, selectors, lists that are cut.
//!
//! Owns: the texts that `kubectl get` shows. Must not know: any one kind. A newcomer's trap: ages
//! are rounded as Kubernetes' `HumanDuration` does it, in seven steps.

use jiff::Timestamp;
use serde_json::Value;

use super::look::Look;

/// What a table shows for nothing.
pub(crate) const NONE: &str = "<none>";
/// What a table shows for what it does not know.
pub(crate) const UNKNOWN: &str = "<unknown>";

/// A span of seconds in at most three figures, as Kubernetes writes it.
pub fn human_duration(seconds: i64) -> String {
    let two = |big: i64, big_unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{big}{big_unit}")
        } else {
            format!("{big}{big_unit}{small}{small_unit}")
        }
    };
    if seconds < -1 {
        return "<invalid>".into();
    }
    if seconds < 0 {
        return "0s".into();
    }
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 24 * 8 => two(hours / 24, "d", hours % 24, "h"),
        () if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        () if hours < 24 * 365 * 8 => two(hours / 24 / 365, "y", (hours / 24) % 365, "d"),
        () => format!("{}y", hours / 24 / 365),
    }
}

/// The time since an RFC 3339 time, or `<unknown>` when there is none.
pub(crate) fn since(time: &Value, now: Timestamp) -> String {
    parse_time(time).map_or_else(|| UNKNOWN.into(), |then| human_duration(span_seconds(then, now)))
}

/// An RFC 3339 time, if it is one.
pub(crate) fn parse_time(time: &Value) -> Option<Timestamp> {
    time.as_str().and_then(|text| text.parse().ok())
}

/// Whole seconds from `then` to `now`, towards zero.
fn span_seconds(then: Timestamp, now: Timestamp) -> i64 {
    now.duration_since(then).as_secs()
}

/// The age cell.
pub(crate) fn age(object: &Value, now: Timestamp) -> Value {
    since(object.get_or_null("metadata").get_or_null("creationTimestamp"), now).into()
}

/// The name cell.
pub(crate) fn name(object: &Value) -> Value {
    object.get_or_null("metadata").text("name").into()
}

/// `text`, or a stand-in when it is empty.
pub(crate) fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.is_empty() { other } else { text }
}

/// A set of labels: `a=b,c=d`, or `<none>`.
pub(crate) fn labels(owner: &Value, key: &str) -> String {
    let all: Vec<_> = owner
        .entries(key)
        .into_iter()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    if all.is_empty() { NONE.into() } else { all.join(",") }
}

/// A label selector: `a=b,c in (d,e),!f`, sorted by key. Empty for a selector that takes all.
pub(crate) fn selector(selector: &Value) -> String {
    let mut parts: Vec<(String, String)> = selector
        .entries("matchLabels")
        .into_iter()
        .map(|(key, value)| (key.into(), format!("{key}={}", value.as_str().unwrap_or(""))))
        .collect();
    for requirement in selector.list("matchExpressions") {
        let key = requirement.text("key");
        let mut values: Vec<_> =
            requirement.list("values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let text = match requirement.text("operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.into(),
            _ => format!("!{key}"),
        };
        parts.push((key.into(), text));
    }
    parts.sort_by(|a, b| a.0.cmp(&b.0));
    parts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

/// A label selector for a cell: `<none>` when it is empty or absent.
pub(crate) fn selector_cell(of: &Value) -> String {
    or(&selector(of), NONE).into()
}

/// Names and images of the containers of a pod spec, each joined by commas.
pub(crate) fn containers(spec: &Value) -> (String, String) {
    let join = |key: &str| {
        let all: Vec<_> = spec.list("containers").iter().map(|one| one.text(key)).collect();
        all.join(",")
    };
    (join("name"), join("image"))
}

/// The first three of a list and how many more there are.
pub(crate) fn first_three(all: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(",");
    if all.len() > SHOWN { format!("{shown} + {} more...", all.len() - SHOWN) } else { shown }
}

/// `address:port`, with brackets about an IPv6 address.
pub(crate) fn host_port(address: &str, port: i64) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_rounded_as_kubernetes_does() {
        let hour = 3600;
        let day = 24 * hour;
        for (seconds, text) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (59, "59s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (599, "9m59s"),
            (600, "10m"),
            (3 * hour - 1, "179m"),
            (3 * hour, "3h"),
            (3 * hour + 60, "3h1m"),
            (8 * hour, "8h"),
            (47 * hour, "47h"),
            (48 * hour, "2d"),
            (5 * day + 3 * hour, "5d3h"),
            (8 * day, "8d"),
            (2 * 365 * day - 1, "729d"),
            (2 * 365 * day, "2y"),
            (2 * 365 * day + day, "2y1d"),
            (8 * 365 * day, "8y"),
        ] {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn selectors_are_sorted_by_key() {
        let both = json!({"matchLabels": {"b": "1"}, "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["y", "x"]},
            {"key": "a", "operator": "Exists"},
            {"key": "d", "operator": "DoesNotExist"}]});
        assert_eq!(selector(&both), "a,b=1,c in (x,y),!d");
        assert_eq!(selector_cell(&json!({})), NONE);
    }
}
