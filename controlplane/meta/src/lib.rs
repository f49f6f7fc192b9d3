//! The Kubernetes object model, pure: what an object is, how it is read, changed, checked and shown.
//!
//! Owns: the schema of every type, codecs (JSON, YAML, protobuf), patches, selectors, the table of
//! kinds with their defaulting, validation and columns. Must not know: sockets, clocks, the store.
//! A newcomer's trap: an object is a [`serde_json::Value`]; what makes it a Pod is the schema and
//! the entry in [`kind::KINDS`], not a Rust type.

pub mod codec;
pub mod field;
pub mod kind;
pub mod kinds;
pub mod managed;
pub mod name;
pub mod objectmeta;
pub mod openapi;
pub mod patch;
pub mod quantity;
pub mod schema;
pub mod selector;

/// An API object, or a part of one.
pub type Object = serde_json::Value;
