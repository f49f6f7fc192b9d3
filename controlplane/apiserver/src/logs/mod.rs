//! `pods/log`: a container's output, fetched from the agent of the pod's node.
//!
//! Owns: which container, which node, and the words when there is nothing to fetch. Must not know:
//! log files. A newcomer's trap: a pod without a node is no error but an answer without content.

mod node;

use std::net::IpAddr;
use std::sync::Arc;

use http::StatusCode;
use kijabi_meta::field::FieldError;
use serde_json::Value;

use crate::admission::{ObjectAt, Objects};
use crate::body;
use crate::exchange::{self, ApiRequest, Response};
use crate::pki::Pki;
use crate::request::{Query, RequestInfo};
use crate::status::{ApiError, GroupResource};
use crate::tls::TlsError;
use node::{Agent, NodeClient};

/// The agent's port if the node does not say.
const AGENT_PORT: u64 = 10_250;
// Differs from Kubernetes: the agent's certificate is always verified, also when
// `insecureSkipTLSVerifyBackend` is asked for.
/// The options that the agent is told.
const OPTIONS: [&str; 8] = [
    "follow",
    "previous",
    "timestamps",
    "sinceSeconds",
    "sinceTime",
    "tailLines",
    "limitBytes",
    "stream",
];

/// Fetches logs.
pub struct Logs {
    objects: Arc<dyn Objects>,
    nodes: NodeClient,
    allow_loopback: bool,
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs").finish_non_exhaustive()
    }
}

impl Logs {
    /// Logs of the pods in `objects`, fetched with the certificate of `pki`.
    pub fn new(
        objects: Arc<dyn Objects>,
        pki: &Pki,
        allow_loopback: bool,
    ) -> Result<Self, TlsError> {
        Ok(Self { objects, nodes: NodeClient::new(pki)?, allow_loopback })
    }

    /// Answers a request for a log.
    pub async fn answer(&self, request: ApiRequest) -> Response {
        let ApiRequest { info, .. } = request;
        self.fetch(&info).await.unwrap_or_else(|error| exchange::error(&error))
    }

    async fn fetch(&self, info: &RequestInfo) -> Result<Response, ApiError> {
        if info.verb != "get" {
            return Err(ApiError::method_not_allowed());
        }
        check_options(&info.query, &info.name)?;
        let pod = self.object("pods", &info.namespace, &info.name).await?;
        let container = choose_container(&pod, info.query.get("container").unwrap_or_default())?;
        let node_name = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        if node_name.is_empty() {
            let mut response = exchange::with_type(StatusCode::NO_CONTENT, "text/plain", "");
            response.headers_mut().remove(http::header::CONTENT_TYPE);
            return Ok(response);
        }
        let node = self.object("nodes", "", node_name).await?;
        let agent = self.agent_of(&node, node_name)?;
        let path = format!("/containerLogs/{}/{}/{container}", info.namespace, info.name);
        let answer = self.nodes.get(&agent, &path, &options(&info.query)).await;
        let answer = answer.map_err(|error| ApiError::generic(error.to_string()))?;
        let status = answer.status();
        if !status.is_success() {
            let text = node::read_error(answer).await;
            return Err(ApiError::from_backend(
                status.as_u16(),
                GroupResource::new("", "pods/log"),
                &info.name,
                text.trim_end(),
            ));
        }
        Ok(streamed(answer))
    }

    async fn object(
        &self,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<Value>, ApiError> {
        let at = ObjectAt { group: "", plural, namespace, name };
        let found = self.objects.get_live(at).await?;
        found.ok_or_else(|| ApiError::not_found(GroupResource::new("", plural), name))
    }

    fn agent_of(&self, node: &Value, name: &str) -> Result<Agent, ApiError> {
        let addresses = node["status"]["addresses"].as_array();
        let internal = addresses
            .into_iter()
            .flatten()
            .filter(|one| one["type"] == "InternalIP")
            .find_map(|one| one["address"].as_str()?.parse::<IpAddr>().ok());
        let Some(address) = internal else {
            let text =
                format!("no preferred addresses found; known addresses: [] of node {name:?}");
            return Err(ApiError::generic(text));
        };
        let said = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
        let port = said.filter(|port| *port != 0).unwrap_or(AGENT_PORT);
        let port = u16::try_from(port).map_err(|_| ApiError::generic("invalid node port"))?;
        Ok(Agent { address, port, allow_loopback: self.allow_loopback })
    }
}

/// The agent's output, passed on as it comes.
fn streamed(answer: http::Response<hyper::body::Incoming>) -> Response {
    let pieces = http_body_util::BodyDataStream::new(answer.into_body());
    let pieces = futures::StreamExt::map(pieces, |piece| piece.map_err(std::io::Error::other));
    let mut response = http::Response::new(body::stream(pieces));
    let plain = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    response
}

fn options(query: &Query) -> String {
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    for name in OPTIONS {
        if let Some(value) = query.get(name) {
            pairs.append_pair(name, value);
        }
    }
    pairs.finish()
}

fn check_options(query: &Query, name: &str) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    let mut at_least = |field: &str, least: i64| {
        let Some(text) = query.get(field).filter(|text| !text.is_empty()) else { return Ok(()) };
        let number: i64 = text.parse().map_err(|_| {
            ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
        })?;
        if number < least {
            let detail = if least == 1 {
                "must be greater than 0".to_owned()
            } else {
                "must be greater than or equal to 0".to_owned()
            };
            errors.push(FieldError::invalid(field, &number.into(), &detail));
        }
        Ok::<_, ApiError>(())
    };
    at_least("tailLines", 0)?;
    at_least("limitBytes", 1)?;
    at_least("sinceSeconds", 1)?;
    let given = |field: &str| query.get(field).is_some_and(|value| !value.is_empty());
    if given("sinceSeconds") && given("sinceTime") {
        let detail = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden("", detail));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid("", "PodLogOptions", name, &errors))
}

/// The container that is meant: the named one, or the only one.
fn choose_container(pod: &Value, asked: &str) -> Result<String, ApiError> {
    let names = |list: &str| -> Vec<String> {
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers.filter_map(|one| one["name"].as_str().map(str::to_owned)).collect()
    };
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let (own, init) = (names("containers"), names("initContainers"));
    let ephemeral = names("ephemeralContainers");
    if asked.is_empty() {
        if let [one] = own.as_slice() {
            return Ok(one.clone());
        }
        let mut text = format!("a container name must be specified for pod {name}");
        if !own.is_empty() {
            text = format!("{text}, choose one of: [{}]", own.join(" "));
            for (what, list) in [("init", &init), ("ephemeral", &ephemeral)] {
                if !list.is_empty() {
                    text = format!("{text} or one of the {what} containers: [{}]", list.join(" "));
                }
            }
        }
        return Err(ApiError::bad_request(text));
    }
    if [own, init, ephemeral].concat().iter().any(|one| one == asked) {
        return Ok(asked.to_owned());
    }
    Err(ApiError::bad_request(format!("container {asked} is not valid for pod {name}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn choose(pod: Value, asked: &str) -> String {
        choose_container(&pod, asked).unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn the_container_is_named_or_the_only_one() {
        let one = json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "a"}]}});
        let two = json!({"metadata": {"name": "x"}, "spec": {
            "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(choose(one, ""), "a");
        assert_eq!(choose(two.clone(), "i"), "i");
        assert_eq!(
            choose(two.clone(), ""),
            "a container name must be specified for pod x, choose one of: [a b] or one of the init containers: [i]"
        );
        assert_eq!(choose(two, "z"), "container z is not valid for pod x");
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        for (query, text) in [
            (
                "tailLines=-1",
                r#"PodLogOptions "p" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0"#,
            ),
            (
                "limitBytes=0",
                r#"PodLogOptions "p" is invalid: limitBytes: Invalid value: 0: must be greater than 0"#,
            ),
            ("tailLines=x", r#"strconv.ParseInt: parsing "x": invalid syntax"#),
        ] {
            let error = check_options(&Query::parse(query), "p").unwrap_err();
            assert_eq!(error.to_string(), text);
        }
        assert!(check_options(&Query::parse("tailLines=0&sinceSeconds=5"), "p").is_ok());
    }

    #[test]
    fn only_known_options_reach_the_agent() {
        let query = Query::parse(
            "follow=true&container=c&tailLines=5&x=/../&sinceTime=2026-01-01T00:00:00Z",
        );
        assert_eq!(options(&query), "follow=true&sinceTime=2026-01-01T00%3A00%3A00Z&tailLines=5");
    }
}
