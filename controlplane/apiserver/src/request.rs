//! What a request asks for: verb, group, version, namespace, resource, name, from method and URL.
//!
//! Owns: the split of a path into its parts and the refusal of paths that could mean two things.
//! Must not know: which resources exist. A newcomer's trap: Kubernetes decodes the whole path
//! first, so `%2f` would become a separator; here each segment is decoded alone and one that then
//! holds a separator, a dot segment or a control character is refused before authentication.

use std::fmt::Write as _;

use http::Method;
use percent_encoding::percent_decode_str;

/// Longest namespace or object name in a path.
const NAME_BYTES_MAX: usize = 253;
/// Most segments in a path; the longest path of the API has nine.
const SEGMENTS_MAX: usize = 64;

/// The parsed target of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether the path names a resource, rather than `/healthz`, discovery and the like.
    pub is_resource: bool,
    /// The decoded path, without a trailing slash.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for
    /// non-resource paths the method in lower case. Empty for a method the API does not have.
    pub verb: &'static str,
    /// `api` or `apis`; empty for non-resource paths. So are all the fields below.
    pub api_prefix: String,
    /// The API group, empty for the core group.
    pub api_group: String,
    /// The version within the group.
    pub api_version: String,
    /// The namespace; for the resource `namespaces` itself, its name.
    pub namespace: String,
    /// The resource, such as `pods`.
    pub resource: String,
    /// The subresource, such as `status`.
    pub subresource: String,
    /// The object's name. For list and watch, the name that the field selector asks for, if any.
    pub name: String,
    /// Resource, name, subresource and what follows (the path handed to a proxy subresource).
    pub parts: Vec<String>,
    /// The query.
    pub query: Query,
}

/// The decoded query of a request, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

/// Why a request's target is refused: the text after `invalid request path: `.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid request path: {0}")]
pub struct BadTarget(String);

impl RequestInfo {
    /// Parses the target of a request. `path` and `query` are as on the wire.
    pub fn parse(method: &Method, path: &str, query: Option<&str>) -> Result<Self, BadTarget> {
        let segments = decode_segments(path)?;
        let mut info = Self {
            path: format!("/{}", segments.join("/")),
            verb: method_verb(method),
            query: Query::parse(query.unwrap_or_default()),
            ..Self::default()
        };
        info.parse_resource(method, &segments)?;
        Ok(info)
    }

    /// Whether the request changes nothing and ends soon or streams: `get`, `list`, `watch`.
    pub fn is_read_only(&self) -> bool {
        matches!(self.verb, "get" | "list" | "watch" | "head" | "options")
    }

    /// Whether the request may run without a time limit, as upstream's long-running check says.
    pub fn is_long_running(&self) -> bool {
        let streams = ["attach", "exec", "portforward", "log", "proxy"];
        self.is_resource && (self.verb == "watch" || streams.contains(&self.subresource.as_str()))
    }

    fn parse_resource(&mut self, method: &Method, segments: &[String]) -> Result<(), BadTarget> {
        let Some((prefix, rest)) = segments.split_first() else { return Ok(()) };
        if segments.len() < 3 || !matches!(prefix.as_str(), "api" | "apis") {
            return Ok(());
        }
        let mut rest = rest;
        if prefix == "apis" {
            if rest.len() < 3 {
                return Ok(());
            }
            self.api_group.clone_from(&rest[0]);
            rest = &rest[1..];
        }
        self.is_resource = true;
        self.api_prefix.clone_from(prefix);
        self.api_version.clone_from(&rest[0]);
        rest = &rest[1..];
        self.verb = resource_verb(method);
        // The old form `/api/v1/watch/pods` of a watch.
        let deprecated_watch = rest[0] == "watch";
        if deprecated_watch {
            if rest.len() < 2 {
                return Err(BadTarget(format!(
                    "unable to determine kind and namespace from url, {}",
                    self.path
                )));
            }
            self.verb = "watch";
            rest = &rest[1..];
        }
        if rest[0] == "namespaces" && rest.len() > 1 {
            self.namespace.clone_from(&rest[1]);
            if rest.len() > 2 && !matches!(rest[2].as_str(), "status" | "finalize") {
                rest = &rest[2..];
            }
        }
        self.parts = rest.to_vec();
        self.resource.clone_from(&rest[0]);
        if let Some(name) = rest.get(1) {
            self.name.clone_from(name);
        }
        if let Some(subresource) = rest.get(2).filter(|_| !deprecated_watch) {
            self.subresource.clone_from(subresource);
        }
        for (what, name) in [("namespace", &self.namespace), ("name", &self.name)] {
            if name.len() > NAME_BYTES_MAX || name.contains('%') {
                return Err(BadTarget(format!("invalid {what}")));
            }
        }
        self.refine_collection_verb();
        Ok(())
    }

    /// A `get` without a name is a list or a watch, a `delete` without one a deletecollection.
    fn refine_collection_verb(&mut self) {
        if !self.name.is_empty() {
            return;
        }
        match self.verb {
            "get" => {
                self.verb = if self.query.flag("watch") { "watch" } else { "list" };
                self.name = self.name_in_field_selector();
            }
            "watch" => self.name = self.name_in_field_selector(),
            "delete" => self.verb = "deletecollection",
            _ => {}
        }
    }

    /// The name that `fieldSelector=metadata.name=x` asks for, so that a right on one name suffices.
    fn name_in_field_selector(&self) -> String {
        let selector = self.query.get("fieldSelector").unwrap_or_default();
        selector
            .split(',')
            .filter_map(|term| term.strip_prefix("metadata.name="))
            .map(|value| value.strip_prefix('=').unwrap_or(value))
            .find(|name| is_path_segment(name))
            .unwrap_or_default()
            .to_owned()
    }

    /// `resource` or `resource/subresource`, as authorization rules name it.
    pub fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

// === impl Query ===

impl Query {
    /// Parses a query string; what cannot be decoded is replaced, as browsers do.
    pub fn parse(query: &str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A boolean option: everything but absent, `0` and `false` in any case is true.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    /// All pairs, in order.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

/// Whether `name` can be one segment of a path or a key.
pub fn is_path_segment(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%', '\0'])
}

fn method_verb(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "HEAD" => "head",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "OPTIONS" => "options",
        _ => "",
    }
}

fn resource_verb(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" | "HEAD" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

fn decode_segments(path: &str) -> Result<Vec<String>, BadTarget> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    if inner.is_empty() {
        return Ok(Vec::new());
    }
    inner.split('/').enumerate().map(|(at, raw)| decode_segment(at, raw)).collect()
}

fn decode_segment(at: usize, raw: &str) -> Result<String, BadTarget> {
    // Differs from Kubernetes: empty and dot segments, encoded separators, control characters and
    // names over 253 bytes in a path are refused with 400 before authentication.
    let refuse = |why: &str| {
        let mut shown = String::new();
        for byte in raw.bytes().take(64) {
            // The wire form is ASCII; what is not printable never reaches a terminal or log.
            match byte {
                b' '..=b'~' => shown.push(char::from(byte)),
                other => write!(shown, "%{other:02x}").expect("writing to a String cannot fail"),
            }
        }
        Err(BadTarget(format!("segment \"{shown}\" {why}")))
    };
    if at >= SEGMENTS_MAX {
        return refuse("is one too many");
    }
    if raw.is_empty() {
        return refuse("is empty");
    }
    let Ok(segment) = percent_decode_str(raw).decode_utf8() else {
        return refuse("is not UTF-8");
    };
    if segment == "." || segment == ".." {
        return refuse("may not be '.' or '..'");
    }
    if segment.contains(['/', '\\']) {
        return refuse("may not contain '/'");
    }
    if segment.chars().any(char::is_control) {
        return refuse("may not contain control characters");
    }
    Ok(segment.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: Method, target: &str) -> Result<RequestInfo, BadTarget> {
        let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
        RequestInfo::parse(&method, path, query)
    }

    fn shown(method: Method, target: &str) -> String {
        let info = parse(method, target).unwrap();
        if !info.is_resource {
            return format!("{} {}", info.verb, info.path);
        }
        format!(
            "{} {}/{}/{} ns={} {} name={}",
            info.verb,
            info.api_prefix,
            info.api_group,
            info.api_version,
            info.namespace,
            info.full_resource(),
            info.name
        )
    }

    #[test]
    fn targets_are_split_as_kubernetes_splits_them() {
        for (method, target, want) in [
            (Method::GET, "/", "get /"),
            (Method::GET, "/api/", "get /api"),
            (Method::GET, "/api/v1", "get /api/v1"),
            (Method::GET, "/apis/apps/v1", "get /apis/apps/v1"),
            (Method::POST, "/healthz/etcd", "post /healthz/etcd"),
            (Method::GET, "/api/v1/nodes", "list api//v1 ns= nodes name="),
            (Method::GET, "/api/v1/nodes?watch=True", "watch api//v1 ns= nodes name="),
            (Method::GET, "/api/v1/nodes?watch=1", "watch api//v1 ns= nodes name="),
            (Method::GET, "/api/v1/nodes?watch", "watch api//v1 ns= nodes name="),
            (Method::GET, "/api/v1/nodes?watch=false", "list api//v1 ns= nodes name="),
            (Method::GET, "/api/v1/nodes?watch=0", "list api//v1 ns= nodes name="),
            (Method::GET, "/api/v1/watch/nodes", "watch api//v1 ns= nodes name="),
            (Method::GET, "/api/v1/watch/namespaces/g/pods/p", "watch api//v1 ns=g pods name=p"),
            (
                Method::GET,
                "/api/v1/nodes?fieldSelector=metadata.name%3Dn1",
                "list api//v1 ns= nodes name=n1",
            ),
            (Method::GET, "/api/v1/namespaces/g", "get api//v1 ns=g namespaces name=g"),
            (
                Method::PUT,
                "/api/v1/namespaces/g/finalize",
                "update api//v1 ns=g namespaces/finalize name=g",
            ),
            (Method::GET, "/api/v1/namespaces/g/pods", "list api//v1 ns=g pods name="),
            (
                Method::POST,
                "/api/v1/namespaces/g/pods/p/binding",
                "create api//v1 ns=g pods/binding name=p",
            ),
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/g/deployments",
                "deletecollection apis/apps/v1 ns=g deployments name=",
            ),
            (
                Method::PATCH,
                "/apis/apps/v1/namespaces/g/deployments/d/scale",
                "patch apis/apps/v1 ns=g deployments/scale name=d",
            ),
            (
                Method::GET,
                "/apis/x/v1/clusterroles/system%3Anode",
                "get apis/x/v1 ns= clusterroles name=system:node",
            ),
        ] {
            assert_eq!(shown(method, target), want, "{target}");
        }
    }

    #[test]
    fn paths_that_could_mean_two_things_are_refused() {
        for target in [
            "/api/v1/namespaces/../pods",
            "/api/v1/namespaces/./pods",
            "/api/v1/namespaces/%2e%2e/pods",
            "/api/v1/namespaces/%2E/pods",
            "/api/v1/namespaces/a%2fb/pods",
            "/api/v1/namespaces/a%5cb/pods",
            "/api/v1/namespaces/a%00/pods",
            "/api/v1/namespaces/a%0a/pods",
            "/api/v1/namespaces/%ff/pods",
            "/api/v1/namespaces//pods",
            "//api/v1/pods",
            "/api/v1/namespaces/a%252fb/pods",
        ] {
            assert!(parse(Method::GET, target).is_err(), "{target} was taken");
        }
        let long = format!("/api/v1/nodes/{}", "n".repeat(254));
        assert!(parse(Method::GET, &long).is_err());
        assert!(parse(Method::GET, &"/a".repeat(1_000)).is_err());
    }

    #[test]
    fn a_refused_segment_is_shown_harmless() {
        let error = parse(Method::GET, "/api/v1/namespaces/%2e%2e/x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid request path: segment \"%2e%2e\" may not be '.' or '..'"
        );
    }
}
