//! Which texts are names: DNS labels and subdomains, label keys and values, ports and the like.
//!
//! Owns: the syntax checks that many kinds share and their exact wording. Must not know: which field
//! is checked. A newcomer's trap: every function answers with the list of what is wrong, empty when
//! all is well, and label keys count "bytes" where DNS names count "characters".

const LABEL_FORMAT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_FORMAT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const KEY_FORMAT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const KEY_TEXT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// Longest DNS label.
pub const LABEL_LENGTH_MAX: usize = 63;
/// Longest DNS subdomain.
pub const SUBDOMAIN_LENGTH_MAX: usize = 253;

/// `must be no more than <length> characters`.
pub fn too_long(length: usize) -> String {
    format!("must be no more than {length} characters")
}

/// A message with examples and the format in the words of Kubernetes.
pub fn not_matching(message: &str, format: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{format}')");
    }
    let examples: Vec<_> = examples.iter().map(|one| format!("'{one}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{format}')", examples.join(" or "))
}

fn lower_or_digit(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Whether `text` is not empty, starts and ends with `edge` bytes, and has only `inner` between.
fn framed(text: &str, edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    match text.as_bytes() {
        [] => false,
        [only] => edge(*only),
        [first, middle @ .., last] => {
            edge(*first) && edge(*last) && middle.iter().all(|byte| inner(*byte))
        }
    }
}

fn label_like(text: &str) -> bool {
    framed(text, lower_or_digit, |byte| lower_or_digit(byte) || byte == b'-')
}

fn subdomain_like(text: &str) -> bool {
    text.split('.').all(label_like)
}

/// A DNS label of RFC 1123.
pub fn dns1123_label(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > LABEL_LENGTH_MAX {
        wrong.push(too_long(LABEL_LENGTH_MAX));
    }
    if !label_like(text) {
        wrong.push(if subdomain_like(text) {
            "must not contain dots".into()
        } else {
            let message = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
            not_matching(message, LABEL_FORMAT, &["my-name", "123-abc"])
        });
    }
    wrong
}

/// A DNS subdomain of RFC 1123.
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    subdomain(text, too_long(SUBDOMAIN_LENGTH_MAX))
}

fn subdomain(text: &str, long: String) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > SUBDOMAIN_LENGTH_MAX {
        wrong.push(long);
    }
    if !subdomain_like(text) {
        let message = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
        wrong.push(not_matching(message, SUBDOMAIN_FORMAT, &["example.com"]));
    }
    wrong
}

/// A DNS label of RFC 1035.
pub fn dns1035_label(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > LABEL_LENGTH_MAX {
        wrong.push(too_long(LABEL_LENGTH_MAX));
    }
    if !(label_like(text) && text.starts_with(|first: char| first.is_ascii_lowercase())) {
        let message = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
        wrong.push(not_matching(message, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"]));
    }
    wrong
}

/// A DNS subdomain behind `*.`.
pub fn wildcard_dns1123_subdomain(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > SUBDOMAIN_LENGTH_MAX {
        wrong.push(too_long(SUBDOMAIN_LENGTH_MAX));
    }
    if !text.strip_prefix("*.").is_some_and(subdomain_like) {
        let message = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        let format = format!("\\*\\.{SUBDOMAIN_FORMAT}");
        wrong.push(not_matching(message, &format, &["*.example.com"]));
    }
    wrong
}

fn key_like(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_alphanumeric();
    framed(text, alphanumeric, |byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// A label key, also called a qualified name: `name` or `prefix/name`.
pub fn label_key(text: &str) -> Vec<String> {
    let examples = ["MyName", "my.name", "123-abc"];
    let mut wrong = Vec::new();
    let parts: Vec<_> = text.split('/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                wrong.push("prefix part must be non-empty".into());
            } else {
                let long = format!("must be no more than {SUBDOMAIN_LENGTH_MAX} bytes");
                wrong
                    .extend(subdomain(prefix, long).iter().map(|one| format!("prefix part {one}")));
            }
            *name
        }
        _ => {
            let message = not_matching(KEY_TEXT, KEY_FORMAT, &examples);
            return vec![format!(
                "a valid label key {message} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".into());
    } else if name.len() > LABEL_LENGTH_MAX {
        wrong.push(format!("name part must be no more than {LABEL_LENGTH_MAX} bytes"));
    }
    if !key_like(name) {
        wrong.push(format!("name part {}", not_matching(KEY_TEXT, KEY_FORMAT, &examples)));
    }
    wrong
}

/// A label value.
pub fn label_value(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > LABEL_LENGTH_MAX {
        wrong.push(format!("must be no more than {LABEL_LENGTH_MAX} bytes"));
    }
    if !(text.is_empty() || key_like(text)) {
        let message = format!("a valid label must be an empty string or {}", &KEY_TEXT[5..]);
        let format = format!("({KEY_FORMAT})?");
        wrong.push(not_matching(&message, &format, &["MyValue", "my_value", "12345"]));
    }
    wrong
}

/// A key of a config map's or secret's data.
pub fn config_map_key(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > SUBDOMAIN_LENGTH_MAX {
        wrong.push(too_long(SUBDOMAIN_LENGTH_MAX));
    }
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if text.is_empty() || !text.bytes().all(good) {
        let message = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        let examples = ["key.name", "KEY_NAME", "key-name"];
        wrong.push(not_matching(message, "[-._a-zA-Z0-9]+", &examples));
    }
    wrong.extend(parent_directory(text));
    wrong
}

fn parent_directory(text: &str) -> Option<String> {
    match text {
        "." => Some("must not be '.'".into()),
        ".." => Some("must not be '..'".into()),
        _ if text.starts_with("..") => Some("must not start with '..'".into()),
        _ => None,
    }
}

/// An identifier of C.
pub fn c_identifier(text: &str) -> Vec<String> {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let later = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match text.as_bytes() {
        [one, rest @ ..] if first(*one) && rest.iter().all(|byte| later(*byte)) => Vec::new(),
        _ => {
            let message = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'";
            let examples = ["my_name", "MY_NAME", "MyName"];
            vec![not_matching(message, "[A-Za-z_][A-Za-z0-9_]*", &examples)]
        }
    }
}

/// The name of an environment variable: any printable ASCII but `=`.
pub fn env_var_name(text: &str) -> Vec<String> {
    if text.is_empty() {
        return vec!["environment variable name must be non-empty".into()];
    }
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=') {
        return Vec::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".into()]
}

/// The name of an HTTP header.
pub fn http_header_name(text: &str) -> Vec<String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Vec::new();
    }
    let message = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![not_matching(message, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// A number between two bounds.
pub fn in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    if (low..=high).contains(&value) {
        return Vec::new();
    }
    vec![format!("must be between {low} and {high}, inclusive")]
}

/// A port number.
pub fn port_number(value: i64) -> Vec<String> {
    in_range(value, 1, 65535)
}

/// The name of a port.
pub fn port_name(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 15 {
        wrong.push(too_long(15));
    }
    if text.is_empty() || !text.bytes().all(|byte| lower_or_digit(byte) || byte == b'-') {
        let text = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)";
        wrong.push(text.into());
    }
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        wrong.push("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".into());
    }
    wrong
}

/// A percentage such as `25%`.
pub fn percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or("");
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Vec::new();
    }
    let message = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![not_matching(message, "[0-9]+%", &["1%", "93%"])]
}

/// A segment of a path: what RBAC objects may be called.
pub fn path_segment(text: &str, prefix: bool) -> Vec<String> {
    if !prefix && (text == "." || text == "..") {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"]
        .iter()
        .filter(|part| text.contains(**part))
        .map(|part| format!("may not contain '{part}'"))
        .collect()
}

/// A prefix may end in a dash that the generated suffix will follow.
fn without_trailing_dash(name: &str) -> String {
    match name.strip_suffix('-') {
        Some(head) if !head.is_empty() => {
            let mut chars = head.chars();
            chars.next_back();
            format!("{}a", chars.as_str())
        }
        _ => name.into(),
    }
}

/// An object's name, or with `prefix` its `generateName`, that must be a DNS subdomain.
pub fn name_is_subdomain(name: &str, prefix: bool) -> Vec<String> {
    if prefix { dns1123_subdomain(&without_trailing_dash(name)) } else { dns1123_subdomain(name) }
}

/// An object's name, or with `prefix` its `generateName`, that must be a DNS label.
pub fn name_is_label(name: &str, prefix: bool) -> Vec<String> {
    if prefix { dns1123_label(&without_trailing_dash(name)) } else { dns1123_label(name) }
}

/// The same for a DNS label of RFC 1035.
pub fn name_is_dns1035_label(name: &str, prefix: bool) -> Vec<String> {
    if prefix { dns1035_label(&without_trailing_dash(name)) } else { dns1035_label(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_kubernetes() {
        assert_eq!(
            dns1123_label("Bad_Name"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert_eq!(
            label_value("bad value!"),
            [
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            ]
        );
        assert_eq!(
            label_key("/"),
            [
                "prefix part must be non-empty",
                "name part must be non-empty",
                "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            ]
        );
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
    }

    #[test]
    fn good_and_bad_names() {
        for good in ["a", "a-b", "1a", "a.b-c.d"] {
            assert!(dns1123_subdomain(good).is_empty(), "{good}");
        }
        for bad in ["", "A", "-a", "a-", "a..b", ".a", "a_b", "a b", "é"] {
            assert!(!dns1123_subdomain(bad).is_empty(), "{bad}");
        }
        for good in ["a", "A_b.c-d", "example.com/x", "app.kubernetes.io/name"] {
            assert!(label_key(good).is_empty(), "{good}");
        }
        for bad in ["", "a/b/c", "Example.com/x", "-a", "a-"] {
            assert!(!label_key(bad).is_empty(), "{bad}");
        }
        assert!(name_is_subdomain("gen-", true).is_empty());
        assert!(!name_is_subdomain("gen-", false).is_empty());
        assert_eq!(config_map_key(".."), ["must not be '..'"]);
        assert_eq!(port_name("80").len(), 1);
    }
}
