//! YAML to the same tree as JSON, by the rules of YAML 1.1 that Kubernetes' parser follows.
//!
//! Owns: which plain scalars are booleans, numbers or null; anchors, merge keys, duplicates. Must not
//! know: types. A newcomer's trap: `y`, `on` and `off` are booleans here, `010` is eight, and aliases
//! are counted, for a small text can ask for terabytes.

use std::collections::BTreeMap;

use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::json::{NESTING_MAX, Node};

/// Nodes that aliases and merges may copy in one document.
const COPIED_NODES_MAX: usize = 100_000;

/// A YAML document and the duplicates that strict clients want to hear about.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The document, without duplicates: the last one won.
    pub node: Node,
    /// The one report of all duplicate keys, if there are any.
    pub duplicates: Option<String>,
}

/// Reads the first document of a YAML text.
pub fn parse(text: &[u8]) -> Result<Document, String> {
    let text = String::from_utf8_lossy(text);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        anchors: BTreeMap::new(),
        copied: 0,
        depth: 0,
        duplicates: Vec::new(),
    };
    let node = loop {
        match reader.next()? {
            (Event::StreamStart | Event::DocumentStart(..), _) => {}
            (Event::StreamEnd | Event::DocumentEnd, _) => break Node::Null,
            (event, span) => break reader.node(event, span)?,
        }
    };
    let duplicates = (!reader.duplicates.is_empty())
        .then(|| format!("yaml: unmarshal errors:\n{}", reader.duplicates.join("\n")));
    Ok(Document { node, duplicates })
}

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: BTreeMap<usize, Node>,
    copied: usize,
    depth: usize,
    duplicates: Vec<String>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), String> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Comment(..) | Event::Anchor(..), _))) => {}
                Some(Ok(found)) => return Ok(found),
                Some(Err(error)) => {
                    let line = error.marker().line();
                    return Err(format!("yaml: line {line}: {}", error.info()));
                }
                None => return Ok((Event::StreamEnd, Span::default())),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Node, String> {
        let (node, anchor) = match event {
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    let line = span.start.line();
                    return Err(format!("yaml: line {line}: anchor value contains itself"));
                };
                self.count_copy(&node)?;
                // Aliases of aliases could nest deeper than the text does.
                if self.depth + node.depth() > NESTING_MAX {
                    return Err(too_deep());
                }
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                (scalar(&text, style, tag.as_deref())?, anchor)
            }
            Event::SequenceStart(_, anchor, _) => (self.nested(Self::sequence)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.nested(Self::mapping)?, anchor),
            _ => return Err("yaml: did not find expected node content".into()),
        };
        if anchor != 0 {
            self.count_copy(&node)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn nested(&mut self, inner: fn(&mut Self) -> Result<Node, String>) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(too_deep());
        }
        let node = inner(self)?;
        self.depth -= 1;
        Ok(node)
    }

    fn sequence(&mut self) -> Result<Node, String> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Node::Array(items)),
                (event, span) => items.push(self.node(event, span)?),
            }
        }
    }

    fn mapping(&mut self) -> Result<Node, String> {
        let mut fields: Vec<(String, Node)> = Vec::new();
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let line = span.start.line();
            let is_merge =
                matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = self.node(event, span)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span)?;
            if is_merge {
                merged.push(value);
                continue;
            }
            let key = key_text(key)?;
            match seen.get(&key) {
                Some(at) => {
                    self.duplicates.push(format!("  line {line}: key {key:?} already set in map"));
                    fields[*at].1 = value;
                }
                None => {
                    seen.insert(key.clone(), fields.len());
                    fields.push((key, value));
                }
            }
        }
        for source in merged {
            self.merge(&mut fields, &mut seen, source)?;
        }
        Ok(Node::Object(fields))
    }

    /// `<<`: fields of a mapping, or of several, that are not set already.
    fn merge(
        &mut self,
        fields: &mut Vec<(String, Node)>,
        seen: &mut BTreeMap<String, usize>,
        source: Node,
    ) -> Result<(), String> {
        self.count_copy(&source)?;
        match source {
            Node::Object(source) => {
                for (key, value) in source {
                    if !seen.contains_key(&key) {
                        seen.insert(key.clone(), fields.len());
                        fields.push((key, value));
                    }
                }
                Ok(())
            }
            Node::Array(sources) if sources.iter().all(|one| matches!(one, Node::Object(_))) => {
                sources.into_iter().try_for_each(|one| self.merge(fields, seen, one))
            }
            _ => Err("yaml: map merge requires map or sequence of maps as the value".into()),
        }
    }

    fn count_copy(&mut self, node: &Node) -> Result<(), String> {
        self.copied += size(node);
        if self.copied > COPIED_NODES_MAX {
            return Err("yaml: document contains excessive aliasing".into());
        }
        Ok(())
    }
}

fn too_deep() -> String {
    format!("yaml: exceeded max depth of {NESTING_MAX}")
}

fn size(node: &Node) -> usize {
    1 + match node {
        Node::Array(items) => items.iter().map(size).sum(),
        Node::Object(fields) => fields.iter().map(|(_, value)| size(value)).sum(),
        _ => 0,
    }
}

/// A mapping's key as a JSON key.
fn key_text(key: Node) -> Result<String, String> {
    match key {
        Node::String(text) | Node::Number(text) => Ok(text),
        Node::Bool(value) => Ok(value.to_string()),
        Node::Null => Err("unsupported map key of type: %!s(<nil>), key: <nil>".into()),
        Node::Array(_) | Node::Object(_) => Err("yaml: invalid map key".into()),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Node, String> {
    let tag = tag.map_or("", |one| {
        if one.handle().starts_with("tag:yaml.org,2002:") { one.suffix() } else { "" }
    });
    if style != ScalarStyle::Plain && tag.is_empty() || tag == "str" || tag == "binary" {
        return Ok(Node::String(text.into()));
    }
    let node = plain(text);
    let fits = match (tag, &node) {
        ("" | "timestamp", _)
        | ("bool", Node::Bool(_))
        | ("null", Node::Null)
        | ("float" | "int", Node::Number(_)) => true,
        (other, _) => !["bool", "null", "float", "int"].contains(&other),
    };
    if fits { Ok(node) } else { Err(format!("yaml: cannot decode !!str `{text}` as a !!{tag}")) }
}

/// What a plain scalar means.
pub(super) fn plain(text: &str) -> Node {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Node::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Node::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Node::Bool(false);
        }
        _ => {}
    }
    let numeric = text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first));
    let number = if numeric { number(text) } else { None };
    number.map_or_else(|| Node::String(text.into()), Node::Number)
}

/// A number's JSON text, by the rules of Go's `ParseInt` with base 0 and `ParseFloat`.
fn number(text: &str) -> Option<String> {
    let plain = text.replace('_', "");
    if !text.starts_with('.') {
        let (negative, digits) = match plain.as_bytes().first()? {
            b'-' => (true, &plain[1..]),
            b'+' => (false, &plain[1..]),
            _ => (false, plain.as_str()),
        };
        let lower = digits.to_ascii_lowercase();
        let (radix, digits) = if let Some(rest) = lower.strip_prefix("0x") {
            (16, rest)
        } else if let Some(rest) = lower.strip_prefix("0b") {
            (2, rest)
        } else if let Some(rest) = lower.strip_prefix("0o") {
            (8, rest)
        } else if lower.len() > 1 && lower.starts_with('0') {
            (8, &lower[1..])
        } else {
            (10, lower.as_str())
        };
        if !digits.starts_with(['+', '-'])
            && let Ok(value) = u64::from_str_radix(digits, radix)
        {
            return Some(if negative { format!("-{value}") } else { value.to_string() });
        }
    }
    let good = plain
        .trim_start_matches(['+', '-'])
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    let value: f64 = plain.parse().ok().filter(|value: &f64| good && value.is_finite())?;
    Some(super::json::float_value(value).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::fmt::Write as _;

    fn read(text: &str) -> Value {
        parse(text.as_bytes()).unwrap().node.into()
    }

    #[test]
    fn manifests_read_as_kubernetes_reads_them() {
        assert_eq!(
            read(
                "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: y\n  labels: {app: x, tier: '2'}\ndata:\n  k: |\n    a\n    b\n"
            ),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": true, "labels": {"app": "x", "tier": "2"}}, "data": {"k": "a\nb\n"}})
        );
        assert_eq!(
            read("[010, 0x10, 1_000, 1.5, 1e3, off, ~, 2026-01-01, 1.2.3, '1', -5, +3, 1:30]"),
            json!([8, 16, 1000, 1.5, 1000, false, null, "2026-01-01", "1.2.3", "1", -5, 3, "1:30"])
        );
        assert_eq!(read(""), Value::Null);
        assert_eq!(
            read("a: &x {b: 1}\nc: *x\nd:\n  <<: *x\n  e: 2\n"),
            json!({"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1, "e": 2}})
        );
        assert_eq!(read("1: a\ntrue: b\n"), json!({"1": "a", "true": "b"}));
        assert_eq!(read("a: 1\n---\nb: 2\n"), json!({"a": 1}), "only the first document counts");
    }

    #[test]
    fn duplicates_are_told() {
        let document = parse(b"a: 1\nb: 2\na: 3\n").unwrap();
        assert_eq!(Value::from(document.node), json!({"a": 3, "b": 2}));
        assert_eq!(
            document.duplicates.unwrap(),
            "yaml: unmarshal errors:\n  line 3: key \"a\" already set in map"
        );
    }

    #[test]
    fn a_bomb_of_aliases_is_an_error() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let below = vec![format!("*a{}", level - 1); 10].join(", ");
            writeln!(bomb, "a{level}: &a{level} [{below}]").unwrap();
        }
        assert_eq!(
            parse(bomb.as_bytes()).unwrap_err(),
            "yaml: document contains excessive aliasing"
        );
    }

    #[test]
    fn aliases_do_not_nest_without_end() {
        let mut text = format!("a0: &a0 {}{}\n", "[".repeat(90), "]".repeat(90));
        for level in 1..40 {
            let (open, close) = ("[".repeat(90), "]".repeat(90));
            writeln!(text, "a{level}: &a{level} {open}*a{}{close}", level - 1).unwrap();
        }
        assert_eq!(parse(text.as_bytes()).unwrap_err(), "yaml: exceeded max depth of 100");
    }

    #[test]
    fn hostile_texts_are_errors() {
        for text in ["a: [", "a: b: c", "*none", "{", "&a [*a]"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
        assert!(parse("- ".repeat(10_000).as_bytes()).is_err());
    }
}
