//! Objects in the shape of Kubernetes' own Go structures, for the texts of some field errors.
//!
//! Owns: printing a value with the fields and zero values of a Go structure. Must not know: which
//! error needs it. A newcomer's trap: Kubernetes checks its *internal* types, whose fields have no
//! JSON names, so its texts show `"Hostname":""` and every field that is not set.

mod diff;
mod types;

use std::fmt::Write as _;

use serde_json::Value;

pub(crate) use diff::unified;

use super::look::{Change, Look};
use types::{Field, Zero};

/// A value as a Go structure in one line.
pub(crate) fn compact(structure: &str, value: &Value) -> String {
    let mut out = Printer { text: String::new(), pretty: false };
    out.structure(structure, value, 0);
    out.text
}

/// A value as a Go structure, one field a line, indented by one space.
pub(crate) fn pretty(structure: &str, value: &Value) -> String {
    let mut out = Printer { text: String::new(), pretty: true };
    out.structure(structure, value, 0);
    out.text
}

/// A label selector, its parts in the order of the Go structure; `null` when there is none.
pub(crate) fn selector(value: &Value) -> String {
    if value.is_object() { compact("LabelSelector", value) } else { "null".into() }
}

/// A pod spec with the fields where Kubernetes has them inside: what is shared with the host
/// belongs to the security context.
pub(crate) fn internal_pod_spec(spec: &Value) -> Value {
    let mut inside = spec.clone();
    let shared = ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers"];
    for field in shared {
        if spec.has(field) {
            inside.child("securityContext").copy_field(field, spec);
        }
    }
    inside
}

struct Printer {
    text: String,
    pretty: bool,
}

impl Printer {
    fn line(&mut self, depth: usize) {
        if self.pretty {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n(' ', depth));
        }
    }

    fn key(&mut self, key: &str, first: &mut bool, depth: usize) {
        if !*first {
            self.text.push(',');
        }
        *first = false;
        self.line(depth);
        let gap = if self.pretty { " " } else { "" };
        let _ = write!(self.text, "{}:{gap}", json_text(&key.into()));
    }

    fn structure(&mut self, name: &str, value: &Value, depth: usize) {
        self.text.push('{');
        let mut first = true;
        self.fields(name, value, depth + 1, &mut first);
        if !first {
            self.line(depth);
        }
        self.text.push('}');
    }

    fn fields(&mut self, name: &str, value: &Value, depth: usize, first: &mut bool) {
        for field in types::fields_of(name) {
            if let Zero::Inline(embedded) = field.zero {
                self.fields(embedded, value, depth, first);
                continue;
            }
            let inner = value.get_or_null(&field.json);
            if field.external && is_empty(inner) {
                continue;
            }
            let key = if field.external { field.json.as_str() } else { field.name };
            self.key(key, first, depth);
            self.field(field, inner, depth);
        }
    }

    fn field(&mut self, field: &Field, value: &Value, depth: usize) {
        match field.zero {
            Zero::Text if value.is_null() => self.text.push_str("\"\""),
            Zero::Number if value.is_null() => self.text.push('0'),
            Zero::Flag if value.is_null() => self.text.push_str("false"),
            Zero::Amount if value.is_null() => self.text.push_str("\"0\""),
            Zero::Structure(name) => self.structure(name, value, depth),
            Zero::Pointer(name) if value.is_object() => self.structure(name, value, depth),
            Zero::List(name) => match value.as_array() {
                Some(list) => {
                    self.list(list, depth, |out, one| out.structure(name, one, depth + 1));
                }
                None => self.text.push_str("null"),
            },
            _ => self.plain(value, depth),
        }
    }

    fn list(&mut self, list: &[Value], depth: usize, each: impl Fn(&mut Self, &Value)) {
        if list.is_empty() {
            self.text.push_str("[]");
            return;
        }
        self.text.push('[');
        for (index, one) in list.iter().enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            self.line(depth + 1);
            each(self, one);
        }
        self.line(depth);
        self.text.push(']');
    }

    /// A value without a Go structure: a scalar, or a list or map of scalars.
    fn plain(&mut self, value: &Value, depth: usize) {
        match value {
            Value::Array(list) => self.list(list, depth, |out, one| out.plain(one, depth + 1)),
            Value::Object(map) if map.is_empty() => self.text.push_str("{}"),
            Value::Object(map) => {
                self.text.push('{');
                let mut first = true;
                let mut all: Vec<_> = map.iter().collect();
                all.sort_by_key(|(key, _)| *key);
                for (key, value) in all {
                    self.key(key, &mut first, depth + 1);
                    self.plain(value, depth + 1);
                }
                self.line(depth);
                self.text.push('}');
            }
            other => self.text.push_str(&json_text(other)),
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
    }
}

/// A scalar as Go writes JSON: with three more characters escaped.
fn json_text(value: &Value) -> String {
    let text = value.to_string();
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn zero_values_are_shown() {
        assert_eq!(
            compact("DeploymentStrategy", &json!({"type": "Magic"})),
            "{\"Type\":\"Magic\",\"RollingUpdate\":null}"
        );
        let selector = json!({"matchExpressions": [{"key": "a", "operator": "Exists"}],
            "matchLabels": {"b": "c"}});
        assert_eq!(
            super::selector(&selector),
            "{\"matchLabels\":{\"b\":\"c\"},\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"Exists\"}]}"
        );
    }

    #[test]
    fn a_pod_spec_is_the_recorded_one() {
        // From the real server's refusal to change the template of a Job.
        let spec = json!({"containers": [{"name": "c", "image": "z", "resources": {},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            "imagePullPolicy": "Always"}], "restartPolicy": "Never", "dnsPolicy": "ClusterFirst",
            "terminationGracePeriodSeconds": 30, "securityContext": {},
            "schedulerName": "default-scheduler"});
        let recorded = include_str!("../../../tests/data/job_template_spec.txt");
        assert_eq!(compact("PodSpec", &internal_pod_spec(&spec)), recorded.trim_end());
    }
}
