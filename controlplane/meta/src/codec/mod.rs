//! Bodies to objects and back: JSON, YAML and protobuf.
//!
//! Owns: how a request's body becomes an object of the expected kind, with the error texts that
//! Kubernetes gives. Must not know: HTTP. A newcomer's trap: the result always has `kind` and
//! `apiVersion`, and the fields that Go would write even if the client left them out, so rules may
//! rely on the normal form.

pub mod json;
pub mod protobuf;
pub(crate) mod special;
mod typed;
pub mod yaml;
pub mod yaml_write;

use serde_json::Value;

pub(crate) use typed::untyped;
pub use typed::{Decoded, normal};

use crate::schema::{self, Type};
use json::Node;

/// The media types of bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

/// The kind that a request's path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected<'a> {
    /// API group, empty for the core group.
    pub group: &'a str,
    /// API version.
    pub version: &'a str,
    /// Kind.
    pub kind: &'a str,
}

/// Why a body is refused: the message of a `BadRequest` status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(pub String);

/// The group, version and kind that a body names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Named {
    group: String,
    version: String,
    kind: String,
}

impl Named {
    fn from_parts(api_version: &str, kind: String) -> Result<Self, String> {
        let (group, version) = match api_version.split('/').collect::<Vec<_>>().as_slice() {
            [version] => (String::new(), (*version).to_owned()),
            [group, version] => ((*group).to_owned(), (*version).to_owned()),
            _ => return Err(format!("unexpected GroupVersion string: {api_version}")),
        };
        Ok(Self { group, version, kind })
    }

    fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// Reads a body as an object of the expected kind, which may also be an options kind such as
/// `meta.k8s.io/v1 DeleteOptions`. A kind that the schema table does not know is read as a custom
/// object. Unknown and duplicate fields are in the result; [`refuse_strict`] makes them an error.
pub fn decode(body: &[u8], media: Media, expected: Expected<'_>) -> Result<Decoded, DecodeError> {
    let unrecognized = |why: &str| {
        let shown = summary(body);
        let kind = expected.kind;
        DecodeError(format!(
            "the object provided is unrecognized (must be of type {kind}): {why} ({shown})"
        ))
    };
    let (node, duplicates) = match media {
        Media::Json => {
            let node = json::parse(body).map_err(|why| unrecognized(&interpreted(&why)))?;
            (node, None)
        }
        Media::Yaml => {
            let document = yaml::parse(body).map_err(|why| unrecognized(&why))?;
            (document.node, document.duplicates)
        }
        Media::Protobuf => {
            let (named, message) = protobuf::opened(body).map_err(|why| unrecognized(&why))?;
            let read = |target| protobuf::message(message, target);
            return decode_as(named, expected, read);
        }
    };
    let named = named(&node).map_err(|why| unrecognized(&interpreted(&why)))?;
    let mut decoded = decode_as(named, expected, |_| Ok(node))?;
    if let Some(duplicates) = duplicates {
        decoded.strict.insert(0, duplicates);
    }
    Ok(decoded)
}

/// The error that `fieldValidation=Strict` makes of unknown and duplicate fields.
pub fn refuse_strict(decoded: &Decoded, expected: Expected<'_>) -> Result<(), DecodeError> {
    if decoded.strict.is_empty() {
        return Ok(());
    }
    let reports = decoded.strict.join(", ");
    Err(handled_as(
        decoded.object.get("kind").and_then(Value::as_str).unwrap_or(expected.kind),
        expected.version,
        expected,
        &format!("strict decoding error: {reports}"),
    ))
}

fn handled_as(kind: &str, version: &str, expected: Expected<'_>, why: &str) -> DecodeError {
    let wanted = expected.kind;
    DecodeError(format!("{kind} in version {version:?} cannot be handled as a {wanted}: {why}"))
}

fn interpreted(why: &str) -> String {
    format!("couldn't get version/kind; json parse error: {why}")
}

/// The first bytes of a body, as Kubernetes shows them.
fn summary(body: &[u8]) -> String {
    const SHOWN: usize = 30;
    let (start, more) = match body.get(..SHOWN) {
        Some(start) if body.len() > SHOWN => (start, " ..."),
        _ => (body, ""),
    };
    match start {
        [] => "<empty>".into(),
        [b'{', ..] => format!("{}{more}", String::from_utf8_lossy(start)),
        _ => {
            let hex: Vec<_> = start.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{}{more}", hex.concat())
        }
    }
}

/// What the body says it is.
fn named(node: &Node) -> Result<Named, String> {
    const HEAD: &str = "struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }";
    match node {
        Node::Object(_) | Node::Null => {}
        other => {
            let found = other.go_kind();
            return Err(format!("json: cannot unmarshal {found} into Go value of type {HEAD}"));
        }
    }
    let text = |name: &str| match node.get(name) {
        None | Some(Node::Null) => Ok(String::new()),
        Some(Node::String(text)) => Ok(text.clone()),
        Some(other) => {
            let found = other.go_kind();
            Err(format!(
                "json: cannot unmarshal {found} into Go struct field .{name} of type string"
            ))
        }
    };
    let (api_version, kind) = (text("apiVersion")?, text("kind")?);
    Named::from_parts(&api_version, kind)
}

/// Decodes a body as what it says it is, and checks that this is what is expected.
fn decode_as(
    mut named: Named,
    expected: Expected<'_>,
    read: impl FnOnce(&'static Type) -> Result<Node, String>,
) -> Result<Decoded, DecodeError> {
    if named.kind.is_empty() {
        named.kind = expected.kind.into();
    }
    if named.version.is_empty() && named.group.is_empty() {
        named.group = expected.group.into();
    }
    if named.version.is_empty() && named.group == expected.group {
        named.version = expected.version.into();
    }
    let refuse = |why: &str| handled_as(&named.kind, &named.version, expected, why);
    let target = target(&named, expected).ok_or_else(|| {
        refuse(&format!(
            "no kind {:?} is registered for version {:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
            named.kind,
            named.api_version()
        ))
    })?;
    let node = read(target).map_err(|why| refuse(&why))?;
    let mut decoded = typed::decode(node, target).map_err(|why| refuse(&why))?;
    if named.kind != expected.kind || (named.group != expected.group && !is_options(expected)) {
        let from = target.go_name();
        let into = format!("{}.{}", internal_package(expected.group), expected.kind);
        return Err(refuse(&format!("converting ({from}) to ({into}): unknown conversion")));
    }
    if named.version != expected.version && !is_options(expected) {
        let wanted = Named {
            group: expected.group.into(),
            version: expected.version.into(),
            kind: String::new(),
        };
        return Err(DecodeError(format!(
            "the API version in the data ({}) does not match the expected API version ({})",
            named.api_version(),
            wanted.api_version()
        )));
    }
    if let Some(object) = decoded.object.as_object_mut() {
        object.insert("apiVersion".into(), named.api_version().into());
        object.insert("kind".into(), named.kind.clone().into());
    }
    Ok(decoded)
}

/// Options kinds are registered with every group.
fn is_options(expected: Expected<'_>) -> bool {
    expected.group == "meta.k8s.io"
}

fn target(named: &Named, expected: Expected<'_>) -> Option<&'static Type> {
    let known = schema::type_of_kind(expected.group, expected.version, expected.kind);
    if is_options(expected) && named.kind == expected.kind {
        return known;
    }
    let found = schema::type_of_kind(&named.group, &named.version, &named.kind);
    let custom = known.is_none()
        && (named.group.as_str(), named.version.as_str(), named.kind.as_str())
            == (expected.group, expected.version, expected.kind);
    found.or(custom.then(schema::custom_object))
}

/// The Go package of a group's internal types.
fn internal_package(group: &str) -> &str {
    match group {
        "" | "events.k8s.io" => "core",
        "rbac.authorization.k8s.io" => "rbac",
        other => other.split('.').next().unwrap_or(other),
    }
}

/// Brings an object that the server itself built or changed to the normal form of its type; what is
/// not of the right type becomes null.
pub fn normalized(object: Value, target: &'static Type) -> Value {
    typed::normal(object, target).map(|decoded| decoded.object).unwrap_or_default()
}

#[cfg(test)]
mod tests;
