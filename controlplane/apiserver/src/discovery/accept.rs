//! Which form of discovery a client wants.
//!
//! Owns: reading the Accept header for it. Must not know: the documents. A newcomer's trap: a
//! client names several forms in its order of preference; the first that is known here counts.

/// A form of the documents at `/api` and `/apis`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// Versions or groups only.
    Plain,
    /// All resources at once.
    AggregatedV2,
    /// The same, as clients before 1.30 ask for it.
    AggregatedV2Beta1,
}

impl Form {
    /// The content type of an answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "application/json",
            Self::AggregatedV2 => {
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            }
            Self::AggregatedV2Beta1 => {
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
            }
        }
    }

    /// The `apiVersion` of the aggregated document.
    pub(super) fn api_version(self) -> &'static str {
        match self {
            Self::AggregatedV2Beta1 => "apidiscovery.k8s.io/v2beta1",
            Self::Plain | Self::AggregatedV2 => "apidiscovery.k8s.io/v2",
        }
    }
}

pub(super) fn form(accept: &str) -> Form {
    accept.split(',').find_map(known).unwrap_or(Form::Plain)
}

fn known(clause: &str) -> Option<Form> {
    let mut parts = clause.split(';').map(str::trim);
    let media_type = parts.next()?;
    if !matches!(media_type, "application/json" | "*/*" | "application/*") {
        return None;
    }
    let parameter = |name: &str| {
        clause.split(';').filter_map(|p| p.trim().split_once('=')).find(|(k, _)| *k == name)
    };
    let Some((_, kind)) = parameter("as") else { return Some(Form::Plain) };
    let group = parameter("g").map(|(_, group)| group);
    if kind != "APIGroupDiscoveryList" || group != Some("apidiscovery.k8s.io") {
        return None;
    }
    match parameter("v").map(|(_, version)| version) {
        Some("v2") => Some(Form::AggregatedV2),
        Some("v2beta1") => Some(Form::AggregatedV2Beta1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_known_form_counts() {
        let v2 = Form::AggregatedV2.content_type();
        let beta = Form::AggregatedV2Beta1.content_type();
        for (accept, want) in [
            (String::new(), Form::Plain),
            ("application/json".into(), Form::Plain),
            (format!("{v2},{beta},application/json"), Form::AggregatedV2),
            (format!("{beta},application/json"), Form::AggregatedV2Beta1),
            (format!("application/json, {v2}"), Form::Plain),
            (format!("application/vnd.kubernetes.protobuf;as=X,{v2}"), Form::AggregatedV2),
            ("text/html, */*".into(), Form::Plain),
            (v2.replace("v2", "v9"), Form::Plain),
        ] {
            assert_eq!(form(&accept), want, "{accept}");
        }
    }
}
