//! Which form of the answer a client asked for, and that form made.
//!
//! Owns: the `Accept` header, tables, metadata-only objects, JSON and YAML output. Must not know:
//! where objects come from. A newcomer's trap: a client lists several forms and takes the first
//! that the server has, so a form that is not had (protobuf) is passed over, not an error.

mod accept;
mod list;
mod table;

pub use accept::{Format, Negotiated, Shape};
pub use list::{ListMeta, ListWriter};
pub use table::{IncludeObject, partial_metadata};

use std::io::Write as _;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use kijabi_meta::kind::Kind;
use serde_json::{Value, json};

use crate::exchange::{self, Response};
use crate::request::Query;
use crate::status::ApiError;

/// What a response is made with.
#[derive(Clone, Debug)]
pub struct Output {
    /// The negotiated form.
    pub form: Negotiated,
    /// What stands in the rows of a table.
    pub include: IncludeObject,
    /// Whether JSON is indented.
    pub pretty: bool,
}

impl Output {
    /// The output for a request.
    pub fn negotiate(headers: &HeaderMap, query: &Query) -> Result<Self, ApiError> {
        let accept: Vec<&str> =
            headers.get_all(header::ACCEPT).iter().filter_map(|one| one.to_str().ok()).collect();
        let form =
            Negotiated::from_accept(&accept.join(",")).ok_or_else(ApiError::not_acceptable)?;
        let include = IncludeObject::parse(query.get("includeObject").unwrap_or_default())?;
        let agent = headers.get(header::USER_AGENT).and_then(|one| one.to_str().ok());
        Ok(Self { form, include, pretty: is_pretty(query, agent.unwrap_or_default()) })
    }

    /// An answer with one object.
    pub fn object(
        &self,
        status: StatusCode,
        kind: &Kind,
        object: &Value,
    ) -> Result<Response, ApiError> {
        Ok(self.respond(status, &self.shaped(kind, object, true)?))
    }

    /// An answer with an object that is neither a table's row nor of the resource's kind.
    pub fn plain(&self, status: StatusCode, object: &Value) -> Response {
        self.respond(status, object)
    }

    /// One object in the asked shape.
    pub fn shaped(&self, kind: &Kind, object: &Value, headers: bool) -> Result<Value, ApiError> {
        match self.form.shape {
            Shape::Object => Ok(object.clone()),
            Shape::Table(version) => {
                let mut table = table::table(kind, version, headers, self.include, [object]);
                table["metadata"] =
                    json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                Ok(table)
            }
            Shape::Metadata(version) => Ok(partial_metadata(object, version)),
            Shape::MetadataList(_) => Err(ApiError::not_acceptable_transform(
                "you requested PartialObjectMetadataList, but the requested object is not a list",
            )),
        }
    }

    fn respond(&self, status: StatusCode, value: &Value) -> Response {
        exchange::with_type(status, self.form.format.content_type(), self.encode(value))
    }

    /// The bytes of a whole answer.
    pub fn encode(&self, value: &Value) -> Bytes {
        const ALWAYS: &str = "a JSON value always has a JSON form";
        match self.form.format {
            Format::Yaml => kijabi_meta::codec::yaml_write::write(value).into(),
            Format::Json => {
                let mut out = if self.pretty {
                    serde_json::to_vec_pretty(value).expect(ALWAYS)
                } else {
                    serde_json::to_vec(value).expect(ALWAYS)
                };
                out.write_all(b"\n").expect("writing to memory cannot fail");
                out.into()
            }
        }
    }
}

/// Whether the answer is indented: asked for, or the client is one a person reads.
fn is_pretty(query: &Query, agent: &str) -> bool {
    match query.get("pretty") {
        Some(_) => query.flag("pretty"),
        None => ["curl", "Wget", "Mozilla/5.0"].iter().any(|known| agent.starts_with(known)),
    }
}
