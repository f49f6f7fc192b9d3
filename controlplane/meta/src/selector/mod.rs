//! Label and field selectors: what `?labelSelector=` and `?fieldSelector=` ask for.
//!
//! Owns: their syntax, matching and error texts. Must not know: which fields a kind supports (the
//! caller rewrites field terms). A newcomer's trap: `!=` and `notin` match objects without the label.

mod fields;
mod grammar;
mod labels;

pub use fields::{FieldSelector, FieldTerm};
pub use labels::{LabelSelector, Operator, Requirement};

/// Why a selector does not parse, in the words of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);
