//! What is wrong with probes and lifecycle hooks.
//!
//! Owns: the checks on handlers and thresholds. Must not know: how a probe is run. A newcomer's
//! trap: only readiness probes may ask for more than one success.

use serde_json::Value;

use crate::field::FieldError;
use crate::kinds::check;
use crate::kinds::look::Look;

/// The three probes of a container.
pub(super) fn probes(container: &Value, grace: Option<i64>, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if !container.has(name) {
            continue;
        }
        let (probe, path) = (container.get_or_null(name), format!("{path}.{name}"));
        errors.extend(one_probe(probe, grace, &path));
        if name == "readinessProbe" {
            if let Some(seconds) = probe.int_opt("terminationGracePeriodSeconds") {
                let path = format!("{path}.terminationGracePeriodSeconds");
                let detail = "must not be set for readinessProbes";
                errors.push(FieldError::invalid(path, &seconds.into(), detail));
            }
        } else if probe.int("successThreshold") != 1 {
            let value = probe.int("successThreshold").into();
            errors.push(FieldError::invalid(
                format!("{path}.successThreshold"),
                &value,
                "must be 1",
            ));
        }
    }
    errors
}

fn one_probe(probe: &Value, grace: Option<i64>, path: &str) -> Vec<FieldError> {
    let mut errors = handler(probe, grace, path);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        errors.extend(check::not_negative(&format!("{path}.{field}"), probe.get_or_null(field)));
    }
    if let Some(seconds) = probe.int_opt("terminationGracePeriodSeconds").filter(|one| *one <= 0) {
        let path = format!("{path}.terminationGracePeriodSeconds");
        errors.push(FieldError::invalid(path, &seconds.into(), "must be greater than 0"));
    }
    errors
}

/// The lifecycle hooks of a container.
pub(super) fn lifecycle(container: &Value, grace: Option<i64>, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let lifecycle = container.get_or_null("lifecycle");
    for name in ["postStart", "preStop"] {
        if lifecycle.has(name) {
            let path = format!("{path}.lifecycle.{name}");
            errors.extend(handler(lifecycle.get_or_null(name), grace, &path));
        }
    }
    errors
}

fn handler(handler: &Value, grace: Option<i64>, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut found = false;
    for kind in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        if !handler.has(kind) {
            continue;
        }
        let (action, path) = (handler.get_or_null(kind), format!("{path}.{kind}"));
        if found {
            let detail = "may not specify more than 1 handler type";
            errors.push(FieldError::forbidden(path, detail));
            continue;
        }
        found = true;
        match kind {
            "exec" if action.list("command").is_empty() => {
                errors.push(FieldError::required(format!("{path}.command"), ""));
            }
            "exec" => {}
            "httpGet" => errors.extend(http_get(action, &path)),
            "sleep" => {
                let seconds = action.int("seconds");
                if let Some(grace) = grace.filter(|grace| seconds < 0 || seconds > *grace) {
                    let detail = format!(
                        "must be non-negative and less than terminationGracePeriodSeconds ({grace})"
                    );
                    errors.push(FieldError::invalid(path, &seconds.into(), &detail));
                }
            }
            _ => {
                let port = action.get_or_null("port");
                errors.extend(check::port_or_name(&format!("{path}.port"), port));
            }
        }
    }
    if !found {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
    errors
}

fn http_get(action: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if action.text("path").is_empty() {
        errors.push(FieldError::required(format!("{path}.path"), ""));
    }
    errors.extend(check::port_or_name(&format!("{path}.port"), action.get_or_null("port")));
    let schemes = ["HTTP", "HTTPS"];
    errors.extend(check::one_of(&format!("{path}.scheme"), action.text("scheme"), &schemes));
    for header in action.list("httpHeaders") {
        let name = header.text("name");
        let texts = crate::name::http_header_name(name);
        errors.extend(check::texts(&format!("{path}.httpHeaders"), name, texts));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bad_probes() {
        let http = json!({"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}});
        let with = |field: &str, value: Value| {
            let mut probe = http.clone();
            probe["successThreshold"] = 1.into();
            probe[field] = value;
            probe
        };
        for (probe, wanted) in [
            (with("periodSeconds", 1.into()), vec![]),
            (
                with("successThreshold", 2.into()),
                vec!["c.livenessProbe.successThreshold: Invalid value: 2: must be 1"],
            ),
            (
                with("periodSeconds", (-1).into()),
                vec![
                    "c.livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
                ],
            ),
            (
                with("exec", json!({})),
                vec![
                    "c.livenessProbe.exec.command: Required value",
                    "c.livenessProbe.httpGet: Forbidden: may not specify more than 1 handler type",
                ],
            ),
            (
                with("httpGet", json!({"path": "/", "port": "no_name", "scheme": "GOPHER"})),
                vec![
                    "c.livenessProbe.httpGet.port: Invalid value: \"no_name\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
                    "c.livenessProbe.httpGet.scheme: Unsupported value: \"GOPHER\": supported values: \"HTTP\", \"HTTPS\"",
                ],
            ),
            (
                with("terminationGracePeriodSeconds", 0.into()),
                vec![
                    "c.livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0",
                ],
            ),
        ] {
            let container = json!({"livenessProbe": probe});
            let got: Vec<_> =
                probes(&container, Some(30), "c").iter().map(ToString::to_string).collect();
            assert_eq!(got, wanted, "{container}");
        }
    }

    #[test]
    fn a_sleep_ends_before_the_grace_period_does() {
        let container = json!({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}});
        let got: Vec<_> =
            lifecycle(&container, Some(30), "c").iter().map(ToString::to_string).collect();
        assert_eq!(
            got,
            [
                "c.lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)"
            ]
        );
    }
}
