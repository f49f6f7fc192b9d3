//! Values to YAML text, in the look that Kubernetes gives its answers.
//!
//! Owns: order of keys, quoting, block style. Must not know: types. A newcomer's trap: a text is
//! quoted with double quotes if it would read back as something else, with single quotes if its
//! characters would confuse a parser.
// Differs from Kubernetes: long texts are not folded at 80 columns (they read back the same).

use std::cmp::Ordering;
use std::fmt::Write as _;

use serde_json::Value;

use super::json::Node;
use super::yaml;

/// The YAML form of a value.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => write_fields(&mut out, fields, 0),
        Value::Array(items) if !items.is_empty() => write_items(&mut out, items, 0),
        other => {
            write_leaf(&mut out, other, 0);
        }
    }
    out
}

fn write_fields(out: &mut String, fields: &serde_json::Map<String, Value>, indent: usize) {
    let mut keys: Vec<_> = fields.iter().collect();
    keys.sort_by(|(a, _), (b, _)| natural(a, b));
    for (at, (key, value)) in keys.into_iter().enumerate() {
        // The first field of a list's item stands behind its dash.
        if at > 0 || !out.ends_with("- ") {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str(&quoted(key));
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                write_fields(out, inner, indent + 2);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                write_items(out, items, indent);
            }
            leaf => {
                out.push(' ');
                write_leaf(out, leaf, indent + 2);
            }
        }
    }
}

fn write_items(out: &mut String, items: &[Value], indent: usize) {
    for (at, item) in items.iter().enumerate() {
        if at > 0 || !out.ends_with("- ") {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str("- ");
        match item {
            Value::Object(fields) if !fields.is_empty() => write_fields(out, fields, indent + 2),
            Value::Array(inner) if !inner.is_empty() => write_items(out, inner, indent + 2),
            leaf => write_leaf(out, leaf, indent + 2),
        }
    }
}

fn write_leaf(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
        Value::String(text) if text.contains('\n') && is_block(text) => {
            return write_block(out, text, indent);
        }
        Value::String(text) => out.push_str(&quoted(text)),
        other => out.push_str(&other.to_string()),
    }
    out.push('\n');
}

fn is_special(char: char) -> bool {
    !matches!(char, '\t' | '\n' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..)
}

/// Whether a text of several lines can be written as a block.
fn is_block(text: &str) -> bool {
    !text.contains(is_special) && !text.contains(" \n") && !text.ends_with(' ')
}

fn write_block(out: &mut String, text: &str, indent: usize) {
    out.push('|');
    if text.starts_with([' ', '\n']) {
        out.push('2');
    }
    if !text.ends_with('\n') {
        out.push('-');
    } else if text.ends_with("\n\n") || text == "\n" {
        out.push('+');
    }
    out.push('\n');
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        if !line.is_empty() {
            out.push_str(&" ".repeat(indent));
            out.push_str(line);
        }
        out.push('\n');
    }
}

fn quoted(text: &str) -> String {
    let reads_back = matches!(yaml::plain(text), Node::String(_))
        && !is_base_60(text)
        && text != "<<"
        && !is_timestamp(text)
        && !is_special_float(text);
    if !reads_back || text.contains('\n') || text.contains(is_special) {
        return double_quoted(text);
    }
    if is_plain(text) { text.into() } else { format!("'{}'", text.replace('\'', "''")) }
}

fn is_special_float(text: &str) -> bool {
    let lower = text.trim_start_matches(['+', '-']);
    [".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"].contains(&lower)
}

/// Old parsers read `1:30` as ninety.
fn is_base_60(text: &str) -> bool {
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or_default().trim_start_matches(['+', '-']);
    let digits = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit() || b"_.".contains(&byte))
    };
    text.contains(':') && digits(first) && parts.all(digits)
}

fn is_timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    let date = bytes.len() >= 10
        && bytes[..10].iter().enumerate().all(|(at, byte)| {
            if at == 4 || at == 7 { *byte == b'-' } else { byte.is_ascii_digit() }
        });
    date && (bytes.len() == 10 || text.parse::<jiff::Timestamp>().is_ok())
}

/// Whether no character would confuse a parser.
fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let space_after = |at: usize| bytes.get(at + 1).is_none_or(|byte| b" \t".contains(byte));
    if text.is_empty()
        || text.starts_with(' ')
        || text.ends_with(' ')
        || text.starts_with("---")
        || text.starts_with("...")
    {
        return false;
    }
    for (at, byte) in bytes.iter().enumerate() {
        let wrong = match byte {
            b'#' => at == 0 || b" \t".contains(&bytes[at - 1]),
            b',' | b'[' | b']' | b'{' | b'}' | b'&' | b'*' | b'!' | b'|' | b'>' | b'\'' | b'"'
            | b'%' | b'@' | b'`' => at == 0,
            b'-' | b'?' => at == 0 && space_after(at),
            b':' => space_after(at),
            b'\t' => true,
            _ => false,
        };
        if wrong {
            return false;
        }
    }
    true
}

fn double_quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0' => out.push_str("\\0"),
            '\u{1b}' => out.push_str("\\e"),
            _ if is_special(char) => {
                let code = u32::from(char);
                let written = match code {
                    0..=0xff => write!(out, "\\x{code:02X}"),
                    0x100..=0xffff => write!(out, "\\u{code:04X}"),
                    _ => write!(out, "\\U{code:08X}"),
                };
                written.expect("writing to a String cannot fail");
            }
            _ => out.push(char),
        }
    }
    out.push('"');
    out
}

/// Order of keys: letters after other characters, numbers by value.
fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    for at in 0..a.len().min(b.len()) {
        if a[at] == b[at] {
            continue;
        }
        match (a[at].is_alphabetic(), b[at].is_alphabetic()) {
            (true, true) => return a[at].cmp(&b[at]),
            (true, false) => return Ordering::Greater,
            (false, true) => return Ordering::Less,
            (false, false) => {}
        }
        let run = |text: &[char]| {
            let digits: String = text[at..].iter().take_while(|one| one.is_ascii_digit()).collect();
            (digits.parse::<u64>().unwrap_or_default(), digits.len())
        };
        return run(&a).cmp(&run(&b)).then(a[at].cmp(&b[at]));
    }
    a.len().cmp(&b.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_looks_like_that_of_kubernetes() {
        let object = json!({"apiVersion": "v1", "data": {"k": "v", "lines": "a\nb\n", "cut": "a\nb"}, "kind": "ConfigMap", "metadata": {
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "x", "tier": "1"},
            "managedFields": [{"apiVersion": "v1", "fieldsV1": {"f:data": {".": {}, "f:k": {}}}, "time": "2026-01-01T00:00:00Z"}], "finalizers": ["a/b", "c"], "empty": []}});
        assert_eq!(
            write(&object),
            "apiVersion: v1\ndata:\n  cut: |-\n    a\n    b\n  k: v\n  lines: |\n    a\n    b\nkind: ConfigMap\nmetadata:\n  creationTimestamp: \"2026-01-01T00:00:00Z\"\n  empty: []\n  finalizers:\n  - a/b\n  - c\n  labels:\n    app: x\n    tier: \"1\"\n  managedFields:\n  - apiVersion: v1\n    fieldsV1:\n      f:data:\n        .: {}\n        f:k: {}\n    time: \"2026-01-01T00:00:00Z\"\n"
        );
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in [
            "",
            " ",
            "a: b",
            "- a",
            "#x",
            "a #b",
            "y",
            "null",
            "1.5",
            "1:30",
            "'q'",
            "\"q\"",
            "a\tb",
            "é",
            "\u{1}",
            "a\n\nb\n\n",
            "\n",
            " lead\nx",
            "x \ny",
            "{a}",
            "[",
            "*a",
            "&a",
            "!t",
            "%",
            "@",
            "`",
            "a:",
            ":a",
            "?",
            "? a",
            "---",
            "true",
            "2026-01-01",
            "0x1F",
            "~",
            "<<",
            ".inf",
            "😀",
            "\u{7f}",
            "a\r\nb",
        ] {
            let value = json!({ "k": text, text: [text, {"k": text}] });
            let written = write(&value);
            let read: Value = yaml::parse(written.as_bytes()).unwrap().node.into();
            assert_eq!(read, value, "{written}");
        }
    }
}
