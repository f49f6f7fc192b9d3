//! Lists in every form.
//!
//! Owns: the layout of a list answer. Must not know: which objects belong in it. A newcomer's trap:
//! the items of a JSON list have no kind and apiVersion; the cached bytes are laid out so that they
//! can be left out without decoding anything.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::StatusCode;
use kijabi_meta::kind::Kind;
use serde_json::{Map, Value, json};

use super::{Format, Output, Shape, partial_metadata, table};
use crate::cache::Entry;
use crate::exchange::{self, Response};
use crate::status::ApiError;
use crate::storage::Revision;

/// The metadata of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListMeta {
    /// The revision of the list.
    pub revision: Revision,
    /// Where the next page begins, empty if there is none.
    pub next: String,
    /// How many objects follow, if that is known.
    pub remaining: Option<i64>,
}

impl ListMeta {
    fn value(&self) -> Value {
        let mut meta = Map::new();
        meta.insert("resourceVersion".into(), self.revision.to_string().into());
        if !self.next.is_empty() {
            meta.insert("continue".into(), self.next.as_str().into());
        }
        if let Some(remaining) = self.remaining {
            meta.insert("remainingItemCount".into(), remaining.into());
        }
        Value::Object(meta)
    }
}

/// The objects of a list: cached ones in the form they are asked in, or converted ones.
#[derive(Debug)]
pub enum ListWriter {
    /// As they are cached.
    Cached(Vec<Arc<Entry>>),
    /// Made for this answer.
    Objects(Vec<Value>),
}

impl ListWriter {
    fn objects(self) -> Vec<Value> {
        match self {
            Self::Cached(entries) => entries.iter().map(|entry| entry.object()).collect(),
            Self::Objects(objects) => objects,
        }
    }
}

impl Output {
    /// An answer with a list.
    pub fn list(
        &self,
        kind: &Kind,
        meta: &ListMeta,
        items: ListWriter,
    ) -> Result<Response, ApiError> {
        let value = match (self.form.shape, items) {
            (Shape::Object, ListWriter::Cached(entries))
                if self.form.format == Format::Json && !self.pretty =>
            {
                let body = join(kind, meta, &entries);
                let content_type = self.form.format.content_type();
                return Ok(exchange::with_type(StatusCode::OK, content_type, body));
            }
            (Shape::Object, items) => plain_list(kind, meta, items.objects()),
            (Shape::Table(version), items) => {
                let objects = items.objects();
                let mut table = table::table(kind, version, true, self.include, &objects);
                table["metadata"] = meta.value();
                table
            }
            (Shape::MetadataList(version), items) => {
                let objects = items.objects();
                let parts = objects.iter().map(|object| partial_metadata(object, version));
                json!({
                    "kind": "PartialObjectMetadataList",
                    "apiVersion": format!("meta.k8s.io/{version}"),
                    "metadata": meta.value(),
                    "items": parts.collect::<Vec<_>>(),
                })
            }
            (Shape::Metadata(_), _) => {
                return Err(ApiError::not_acceptable_transform(
                    "you requested PartialObjectMetadata, but the requested object is a list",
                ));
            }
        };
        Ok(self.plain(StatusCode::OK, &value))
    }
}

fn plain_list(kind: &Kind, meta: &ListMeta, mut items: Vec<Value>) -> Value {
    for item in &mut items {
        if let Some(fields) = item.as_object_mut() {
            fields.remove("kind");
            fields.remove("apiVersion");
        }
    }
    json!({
        "kind": format!("{}List", kind.kind),
        "apiVersion": kind.api_version(),
        "metadata": meta.value(),
        "items": items,
    })
}

/// The same as [`plain_list`] from cached bytes, without decoding them.
fn join(kind: &Kind, meta: &ListMeta, entries: &[Arc<Entry>]) -> Bytes {
    let size: usize = entries.iter().map(|entry| entry.rest().len() + 2).sum();
    let mut out = BytesMut::with_capacity(size + 256);
    let head = format!(
        "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{},\"items\":[",
        kind.kind,
        kind.api_version(),
        meta.value()
    );
    out.put_slice(head.as_bytes());
    for (at, entry) in entries.iter().enumerate() {
        out.put_slice(if at == 0 { b"{" } else { b",{" });
        out.put_slice(entry.rest());
    }
    out.put_slice(b"]}\n");
    out.freeze()
}
