//! Field selectors: `metadata.name=x,status.phase!=Running`.
//!
//! Owns: syntax and matching of terms. Must not know: which fields exist. A newcomer's trap: `=` and
//! `==` mean the same, terms are sorted, and backslash escapes `,`, `=` and itself in values.

use super::SelectorError;

/// One term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    /// The field, such as `metadata.name`.
    pub field: String,
    /// The value asked for.
    pub value: String,
    /// Whether the field must differ from the value.
    pub negated: bool,
}

/// A field selector: all terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// The terms.
    pub terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// Reads a field selector.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parts = split_terms(text);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let Some((field, negated, value)) = split_term(part) else {
                let message = format!("invalid selector: '{text}'; can't understand '{part}'");
                return Err(SelectorError(message));
            };
            terms.push(FieldTerm { field: field.into(), value: unescaped(value)?, negated });
        }
        Ok(Self { terms })
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether all terms hold; `value_of` gives a field's value, empty if it has none.
    pub fn matches(&self, value_of: impl Fn(&str) -> String) -> bool {
        self.terms.iter().all(|term| (value_of(&term.field) == term.value) != term.negated)
    }

    /// The value that the selector demands of `field`, if it demands one.
    pub fn required_value(&self, field: &str) -> Option<&str> {
        let found = self.terms.iter().find(|term| term.field == field && !term.negated)?;
        Some(&found.value)
    }

    /// The text for a field that a kind does not support.
    pub fn unsupported(field: &str) -> SelectorError {
        SelectorError(format!("field label not supported: {field}"))
    }

    /// The text for a field of a kind that supports none but the two of metadata.
    pub fn unknown(field: &str) -> SelectorError {
        SelectorError(format!(
            "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        ))
    }
}

impl std::fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, term) in self.terms.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let operator = if term.negated { "!=" } else { "=" };
            let value = term.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{comma}{}{operator}{value}", term.field)?;
        }
        Ok(())
    }
}

/// Splits at commas that no backslash escapes.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Splits at the first operator: the field, whether it is negated, the value.
fn split_term(text: &str) -> Option<(&str, bool, &str)> {
    let at = text.find(['=', '!'].as_slice()).and_then(|mut at| {
        // A lone exclamation mark belongs to the field.
        while text[at..].starts_with('!') && !text[at..].starts_with("!=") {
            at += 1 + text[at + 1..].find(['=', '!'].as_slice())?;
        }
        Some(at)
    })?;
    let (field, rest) = text.split_at(at);
    if let Some(value) = rest.strip_prefix("!=") {
        return Some((field, true, value));
    }
    let value = rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?;
    Some((field, false, value))
}

fn unescaped(text: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some(next @ ('\\' | ',' | '=')) => out.push(next),
                Some(next) => {
                    let message =
                        format!("invalid field selector: invalid escape sequence: \\{next}");
                    return Err(SelectorError(message));
                }
                None => {
                    return Err(SelectorError(
                        "invalid field selector: invalid escape sequence: \\".into(),
                    ));
                }
            },
            ',' | '=' => {
                return Err(SelectorError(format!(
                    "invalid field selector: unescaped character in value: {}",
                    u32::from(char)
                )));
            }
            _ => out.push(char),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_read_and_matched() {
        let selector = FieldSelector::parse("status.phase!=Running,metadata.name==a").unwrap();
        assert_eq!(selector.to_string(), "metadata.name=a,status.phase!=Running");
        assert_eq!(selector.required_value("metadata.name"), Some("a"));
        let object = |name: &'static str| {
            move |field: &str| if field == "metadata.name" { name.into() } else { String::new() }
        };
        assert!(selector.matches(object("a")));
        assert!(!selector.matches(object("b")));
        assert!(FieldSelector::parse("").unwrap().is_empty());
        let escaped = FieldSelector::parse("a=x\\,y\\=z").unwrap();
        assert_eq!(escaped.terms[0].value, "x,y=z");
    }

    #[test]
    fn texts_of_what_does_not_parse() {
        for (given, message) in [
            ("nonsense", "invalid selector: 'nonsense'; can't understand 'nonsense'"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        ] {
            assert_eq!(FieldSelector::parse(given).unwrap_err().to_string(), message);
        }
        assert_eq!(
            FieldSelector::unknown("data.k").to_string(),
            "\"data.k\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        );
    }
}
