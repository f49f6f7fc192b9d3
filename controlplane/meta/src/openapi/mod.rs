//! OpenAPI documents, v3 and v2, made from the schema table and the table of kinds.
//!
//! Owns: what the documents hold and their encodings. Must not know: HTTP, caching. A newcomer's trap:
//! clients use them to find merge keys and to see whether a server checks fields, so the markers and
//! the parameters matter more than the prose, of which there is little.

mod definitions;
mod descriptions;
mod gnostic;
mod paths;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha512};

pub use gnostic::encode as v2_protobuf;

use crate::kind::Kind;
use crate::schema::{self, Type};
use definitions::Definitions;

/// What clients write in `Accept` to get the protobuf form of the v2 document.
pub const V2_PROTOBUF_ACCEPT: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// The `Content-Type` of that answer: not the text above, whose `@` clients fail to parse.
pub const V2_PROTOBUF_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Which OpenAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    V2,
    V3,
}

impl Style {
    /// A reference to a definition.
    fn reference(self, name: &str) -> Value {
        let place = match self {
            Self::V2 => "#/definitions",
            Self::V3 => "#/components/schemas",
        };
        json!({ "$ref": format!("{place}/{name}") })
    }
}

/// A resource as the documents show it.
#[derive(Clone, Debug)]
pub struct Served {
    /// API group, empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Resource in paths.
    pub plural: String,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Verbs of the resource.
    pub verbs: Vec<String>,
    /// Subresources.
    pub subresources: Vec<ServedSubresource>,
    /// The type of its objects.
    pub definition: Definition,
}

/// A subresource as the documents show it.
#[derive(Clone, Debug)]
pub struct ServedSubresource {
    /// Last path segment.
    pub name: String,
    /// Group, version and kind of the body.
    pub gvk: (String, String, String),
    /// Verbs.
    pub verbs: Vec<String>,
}

/// Where a resource's schema comes from.
#[derive(Clone, Debug)]
pub enum Definition {
    /// The schema table.
    Known(&'static Type),
    /// A custom resource: definition name, such as `com.example.v1.Widget`, and its schema.
    Custom(String, Value),
}

impl From<&'static Kind> for Served {
    fn from(kind: &'static Kind) -> Self {
        let texts = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let own = (kind.group, kind.version);
        let subresource = |one: &crate::kind::Subresource| {
            let (mut group, mut version, name) = one.gvk;
            if group.is_empty() && version.is_empty() {
                (group, version) = own;
            }
            ServedSubresource {
                name: one.name.into(),
                gvk: (group.into(), version.into(), name.into()),
                verbs: texts(one.verbs),
            }
        };
        let known = schema::type_named(kind.schema).unwrap_or_else(schema::custom_object);
        Self {
            group: kind.group.into(),
            version: kind.version.into(),
            kind: kind.kind.into(),
            plural: kind.plural.into(),
            namespaced: kind.namespaced,
            verbs: texts(kind.verbs),
            subresources: kind.subresources.iter().map(subresource).collect(),
            definition: Definition::Known(known),
        }
    }
}

impl Served {
    fn gvk(&self) -> Value {
        json!({ "group": self.group, "version": self.version, "kind": self.kind })
    }
}

/// The definition name of a custom resource: its group reversed, version and kind.
pub fn custom_name(group: &str, version: &str, kind: &str) -> String {
    let reversed: Vec<_> = group.split('.').rev().collect();
    format!("{}.{version}.{kind}", reversed.join("."))
}

/// The OpenAPI v3 document of one group and version; `kinds` are those of that group and version.
pub fn v3_document(kinds: &[Served]) -> Value {
    let (paths, definitions) = parts(kinds, Style::V3);
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": "unversioned" },
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": { "BearerToken": bearer_token() },
        },
    })
}

/// The OpenAPI v3 index: `(path, hash)` of every document, such as `("apis/apps/v1", …)`.
pub fn v3_index<'a>(documents: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    let entry = |(path, hash): (&str, &str)| {
        let url = format!("/openapi/v3/{path}?hash={hash}");
        (path.to_owned(), json!({ "serverRelativeURL": url }))
    };
    json!({ "paths": documents.map(entry).collect::<Map<_, _>>() })
}

/// The OpenAPI v2 document of all kinds; [`v2_protobuf`] gives its other form.
pub fn v2_document(kinds: &[Served]) -> Value {
    let (paths, definitions) = parts(kinds, Style::V2);
    json!({
        "swagger": "2.0",
        "info": { "title": "Kubernetes", "version": "unversioned" },
        "paths": paths,
        "definitions": definitions,
        "securityDefinitions": { "BearerToken": bearer_token() },
        "security": [{ "BearerToken": [] }],
    })
}

/// The hash of a document's bytes, as in its address and `ETag`.
pub fn hash(document: &[u8]) -> String {
    let digest = Sha512::digest(document);
    digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().concat()
}

fn bearer_token() -> Value {
    json!({ "type": "apiKey", "in": "header", "name": "authorization", "description": "Bearer Token authentication" })
}

fn parts(kinds: &[Served], style: Style) -> (Value, Value) {
    let mut definitions = Definitions::new(style);
    let mut all = Map::new();
    for one in kinds {
        paths::add(&mut all, one, &mut definitions);
    }
    (Value::Object(all), definitions.finish())
}

#[cfg(test)]
mod tests;
