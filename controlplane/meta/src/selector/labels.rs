//! Label selectors: the text form and the `LabelSelector` object.
//!
//! Owns: requirements, matching, error texts. Must not know: where selectors stand. A newcomer's trap:
//! an absent LabelSelector object selects nothing, an empty one everything.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::{SelectorError, grammar};
use crate::field::FieldError;
use crate::name;

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equals,
    /// `==`
    DoubleEquals,
    /// `!=`
    NotEquals,
    /// `in`
    In,
    /// `notin`
    NotIn,
    /// the key alone
    Exists,
    /// `!` and the key
    DoesNotExist,
    /// `>`
    GreaterThan,
    /// `<`
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// The comparison.
    pub operator: Operator,
    /// The values, sorted.
    pub values: BTreeSet<String>,
}

/// A label selector: all requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// The requirements, sorted by key.
    pub requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    /// A selector that matches no object at all.
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = grammar::parse(text).map_err(SelectorError)?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements, nothing: false })
    }

    /// From a `LabelSelector` object; `None` or null selects nothing, an empty one everything.
    pub fn from_object(object: Option<&Value>) -> Result<Self, SelectorError> {
        let Some(object) = object.filter(|one| !one.is_null()) else {
            return Ok(Self::nothing());
        };
        let mut requirements = Vec::new();
        for (key, value) in object["matchLabels"].as_object().into_iter().flatten() {
            let values = [value.as_str().unwrap_or_default().to_owned()].into();
            requirements.push(Requirement::new(key, Operator::Equals, values)?);
        }
        for one in object["matchExpressions"].as_array().into_iter().flatten() {
            let operator = match one["operator"].as_str().unwrap_or_default() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    let message = format!("{other:?} is not a valid label selector operator");
                    return Err(SelectorError(message));
                }
            };
            let values = one["values"].as_array().into_iter().flatten();
            let values = values.filter_map(|value| value.as_str().map(str::to_owned)).collect();
            let key = one["key"].as_str().unwrap_or_default();
            requirements.push(Requirement::new(key, operator, values)?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements, nothing: false })
    }

    /// From a plain map of labels, as in a Service's `spec.selector`; none or empty selects nothing.
    pub fn from_labels(labels: Option<&Value>) -> Self {
        let labels = labels.and_then(Value::as_object).filter(|one| !one.is_empty());
        let Some(labels) = labels else { return Self::nothing() };
        let requirement = |(key, value): (&String, &Value)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: [value.as_str().unwrap_or_default().to_owned()].into(),
        };
        Self { requirements: labels.iter().map(requirement).collect(), nothing: false }
    }

    /// Whether every object matches.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Whether labels match; `label` gives the value of a key.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|one| one.matches(label(&one.key)))
    }

    /// Whether an object's `metadata.labels` match.
    pub fn matches_object(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.matches(|key| labels.get(key).and_then(Value::as_str))
    }
}

impl Requirement {
    /// A requirement whose key and values are checked.
    pub fn new(
        key: &str,
        operator: Operator,
        values: BTreeSet<String>,
    ) -> Result<Self, SelectorError> {
        let mut wrong = Vec::new();
        wrong.extend(key_error("key", key));
        let shown = || Value::from(values.iter().cloned().collect::<Vec<_>>());
        let bad_values = |detail| FieldError::invalid("values", &shown(), detail).to_string();
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                wrong.push(bad_values("for 'in', 'notin' operators, values set can't be empty"));
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals
                if values.len() != 1 =>
            {
                wrong.push(bad_values("exact-match compatibility requires one single value"));
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                wrong.push(bad_values("values set must be empty for exists and does not exist"));
            }
            Operator::GreaterThan | Operator::LessThan => {
                if values.len() != 1 {
                    let detail = "for 'Gt', 'Lt' operators, exactly one value is required";
                    wrong.push(bad_values(detail));
                }
                for (at, value) in values.iter().enumerate() {
                    if value.parse::<i64>().is_err() {
                        let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                        let field = format!("values[{at}]");
                        let error = FieldError::invalid(field, &value.as_str().into(), detail);
                        wrong.push(error.to_string());
                    }
                }
            }
            _ => {}
        }
        for (at, value) in values.iter().enumerate() {
            let details = name::label_value(value);
            if !details.is_empty() {
                let field = format!("values[{at}][{key}]");
                let value = value.as_str().into();
                wrong.push(FieldError::invalid(field, &value, &details.join("; ")).to_string());
            }
        }
        match wrong.as_slice() {
            [] => Ok(Self { key: key.into(), operator, values }),
            [one] => Err(SelectorError(one.clone())),
            _ => Err(SelectorError(format!("[{}]", wrong.join(", ")))),
        }
    }

    /// Whether a label with this value, or its absence, meets the requirement.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = || self.values.first().and_then(|one| number(one));
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => {
                value.is_some_and(|value| self.values.contains(value))
            }
            Operator::NotEquals | Operator::NotIn => {
                value.is_none_or(|value| !self.values.contains(value))
            }
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => {
                value.and_then(number).zip(bound()).is_some_and(|(a, b)| a > b)
            }
            Operator::LessThan => value.and_then(number).zip(bound()).is_some_and(|(a, b)| a < b),
        }
    }
}

pub(super) fn key_error(field: &str, key: &str) -> Option<String> {
    let details = name::label_key(key);
    let error = || FieldError::invalid(field, &key.into(), &details.join("; ")).to_string();
    (!details.is_empty()).then(error)
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, one) in self.requirements.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{one}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let key = &self.key;
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn selected(selector: &str, labels: &Value) -> bool {
        let selector = LabelSelector::parse(selector).unwrap();
        selector.matches(|key| labels.get(key).and_then(Value::as_str))
    }

    #[test]
    fn what_matches() {
        let labels = json!({"app": "x", "tier": "9"});
        for (selector, expected) in [
            ("", true),
            ("app=x", true),
            ("app==x,tier=9", true),
            ("app!=x", false),
            ("other!=x", true),
            ("tier in (2,9)", true),
            ("tier notin (2)", true),
            ("tier notin (2),tier", true),
            ("!tier", false),
            ("!gen", true),
            ("gen", false),
            ("tier>8", true),
            ("tier<9", false),
            ("app>1", false),
            ("app in ()", false),
            ("in in (in)", false),
            ("app=", false),
        ] {
            assert_eq!(selected(selector, &labels), expected, "{selector}");
        }
    }

    #[test]
    fn texts_of_what_does_not_parse() {
        for (given, message) in [
            ("==", "found '==', expected: !, identifier, or 'end of string'"),
            ("a,", "found '', expected: identifier after ','"),
            (
                "a b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            (
                "a=%",
                "unable to parse requirement: values[0][a]: Invalid value: \"%\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ),
        ] {
            assert_eq!(LabelSelector::parse(given).unwrap_err().to_string(), message, "{given}");
        }
        let bad_key = LabelSelector::parse("-a").unwrap_err().to_string();
        assert!(
            bad_key.starts_with(
                "unable to parse requirement: <nil>: Invalid value: \"-a\": name part"
            )
        );
    }

    #[test]
    fn selector_objects() {
        let labels = json!({"metadata": {"labels": {"app": "x"}}});
        let object = json!({"matchLabels": {"app": "x"}, "matchExpressions": [{"key": "gone", "operator": "DoesNotExist"}]});
        let selector = LabelSelector::from_object(Some(&object)).unwrap();
        assert!(selector.matches_object(&labels));
        assert_eq!(selector.to_string(), "app=x,!gone");
        assert!(LabelSelector::from_object(Some(&json!({}))).unwrap().matches_object(&labels));
        assert!(!LabelSelector::from_object(None).unwrap().matches_object(&labels));
        let wrong = json!({"matchExpressions": [{"key": "a", "operator": "Is"}]});
        assert_eq!(
            LabelSelector::from_object(Some(&wrong)).unwrap_err().to_string(),
            "\"Is\" is not a valid label selector operator"
        );
    }
}
