//! The query parameters and option bodies of requests.
//!
//! Owns: their syntax, checks and error texts. Must not know: what is done with them. A newcomer's
//! trap: booleans are Go's (`watch=True`), and an unknown parameter is no error.

use kijabi_meta::field::FieldError;
use kijabi_meta::kind::Kind;
use kijabi_meta::objectmeta;
use kijabi_meta::selector::{FieldSelector, LabelSelector};
use serde_json::Value;

use crate::cache::{SELECTABLE, Selection};
use crate::registry::is_storage_form;
use crate::request::Query;
use crate::status::ApiError;
use crate::storage::Revision;

/// What is done about unknown and duplicate fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// The options of a create, update or patch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WriteOptions {
    pub(super) dry_run: bool,
    pub(super) field_manager: String,
    pub(super) field_validation: FieldValidation,
    pub(super) force: bool,
}

impl WriteOptions {
    /// Reads and checks them; `kind` is `CreateOptions`, `UpdateOptions` or `PatchOptions`, and
    /// `apply` says whether the patch is a server-side apply.
    pub(super) fn parse(query: &Query, kind: &str, apply: bool) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        let field_manager = query.get("fieldManager").unwrap_or_default().to_owned();
        if kind == "PatchOptions" {
            if apply && field_manager.is_empty() {
                errors.push(FieldError::required("fieldManager", "is required for apply patch"));
            }
            if !apply && query.get("force").is_some() {
                let detail = "may not be specified for non-apply patch";
                errors.push(FieldError::forbidden("force", detail));
            }
        }
        errors.extend(objectmeta::field_manager_errors(&field_manager, "fieldManager"));
        let dry_run: Vec<&str> = query.all("dryRun").collect();
        let dry_run = dry_run_of(&dry_run, &mut errors);
        let field_validation = match query.get("fieldValidation").unwrap_or_default() {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                let known = ["", "Ignore", "Strict", "Warn"];
                errors.push(FieldError::not_supported("fieldValidation", &other.into(), &known));
                FieldValidation::Warn
            }
        };
        if !errors.is_empty() {
            return Err(ApiError::invalid_options(kind, &errors));
        }
        Ok(Self { dry_run, field_manager, field_validation, force: query.flag("force") })
    }
}

fn dry_run_of(values: &[&str], errors: &mut Vec<FieldError>) -> bool {
    let values: Vec<&str> = values.iter().copied().filter(|one| !one.is_empty()).collect();
    if values.iter().any(|one| *one != "All") {
        let shown = Value::from(values.clone());
        errors.push(FieldError::not_supported("dryRun", &shown, &["All"]));
    }
    !values.is_empty()
}

/// How the dependents of a deleted object are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Propagation {
    Foreground,
    Background,
    Orphan,
}

/// The options of a delete or deletecollection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DeleteOptions {
    pub(super) dry_run: bool,
    pub(super) grace_period_seconds: Option<i64>,
    pub(super) propagation: Option<Propagation>,
    pub(super) orphan_dependents: Option<bool>,
    pub(super) uid: Option<String>,
    pub(super) resource_version: Option<String>,
}

impl DeleteOptions {
    /// Reads and checks them from the object of a body.
    pub(super) fn from_object(object: &Value) -> Result<Self, ApiError> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let dry_run = object["dryRun"].as_array().into_iter().flatten();
        let dry_run: Vec<&str> = dry_run.filter_map(Value::as_str).collect();
        let policy = object["propagationPolicy"].as_str();
        let parsed = Self {
            grace_period_seconds: object["gracePeriodSeconds"].as_i64(),
            orphan_dependents: object["orphanDependents"].as_bool(),
            uid: text(&object["preconditions"]["uid"]),
            resource_version: text(&object["preconditions"]["resourceVersion"]),
            ..Self::default()
        };
        parsed.checked(policy, &dry_run)
    }

    /// Reads and checks them from the query.
    pub(super) fn from_query(query: &Query) -> Result<Self, ApiError> {
        let orphan = query.get("orphanDependents").map(|_| query.flag("orphanDependents"));
        let parsed = Self {
            grace_period_seconds: integer(query, "gracePeriodSeconds")?,
            orphan_dependents: orphan,
            ..Self::default()
        };
        let dry_run: Vec<&str> = query.all("dryRun").collect();
        parsed.checked(query.get("propagationPolicy"), &dry_run)
    }

    fn checked(mut self, policy: Option<&str>, dry_run: &[&str]) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        if let (Some(policy), Some(_)) = (policy, self.orphan_dependents) {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid("propagationPolicy", &policy.into(), detail));
        }
        self.propagation = match policy {
            None => None,
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Background") => Some(Propagation::Background),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                let known = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(FieldError::not_supported("propagationPolicy", &other.into(), &known));
                None
            }
        };
        self.dry_run = dry_run_of(dry_run, &mut errors);
        if errors.is_empty() {
            Ok(self)
        } else {
            Err(ApiError::invalid_options("DeleteOptions", &errors))
        }
    }
}

/// What a list asks of its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Exact,
    NotOlderThan,
}

/// The options of a list or watch.
#[derive(Clone, Debug, Default)]
pub(super) struct ListOptions {
    pub(super) selection: Selection,
    pub(super) resource_version: Option<Revision>,
    pub(super) version_match: Option<Match>,
    /// 0 is no limit.
    pub(super) limit: usize,
    pub(super) continue_token: String,
    pub(super) timeout_seconds: Option<u64>,
    pub(super) bookmarks: bool,
    pub(super) send_initial_events: Option<bool>,
}

impl ListOptions {
    /// Reads and checks them.
    pub(super) fn parse(
        kind: &'static Kind,
        namespace: &str,
        query: &Query,
        watch: bool,
    ) -> Result<Self, ApiError> {
        let bad = |error: kijabi_meta::selector::SelectorError| ApiError::bad_request(error.0);
        let limit = integer(query, "limit")?.unwrap_or(0).max(0);
        let timeout = integer(query, "timeoutSeconds")?.filter(|seconds| *seconds > 0);
        let labels = LabelSelector::parse(query.get("labelSelector").unwrap_or_default());
        let fields = FieldSelector::parse(query.get("fieldSelector").unwrap_or_default());
        let selection = Selection {
            namespace: namespace.to_owned(),
            labels: labels.map_err(bad)?,
            fields: supported(kind, fields.map_err(bad)?)?,
        };
        let send = query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents"));
        let version_match = check_match(query, watch, send)?;
        let version = query.get("resourceVersion").unwrap_or_default();
        let resource_version =
            if version.is_empty() { None } else { Some(resource_version(version)?) };
        Ok(Self {
            selection,
            resource_version,
            version_match,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            continue_token: query.get("continue").unwrap_or_default().to_owned(),
            timeout_seconds: timeout.map(i64::unsigned_abs),
            bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events: send,
        })
    }
}

/// 400 for a field that the kind cannot be selected by.
fn supported(kind: &'static Kind, mut fields: FieldSelector) -> Result<FieldSelector, ApiError> {
    for term in &fields.terms {
        let everywhere = term.field == "metadata.name"
            || (term.field == "metadata.namespace" && kind.namespaced);
        if everywhere || kind.strategy.is_selectable(&term.field) {
            continue;
        }
        let has_own = SELECTABLE.iter().any(|field| kind.strategy.is_selectable(field));
        let error = if has_own {
            FieldSelector::unsupported(&term.field)
        } else {
            FieldSelector::unknown(&term.field)
        };
        return Err(ApiError::bad_request(error.0));
    }
    if !is_storage_form(kind) {
        fields.terms.iter_mut().for_each(|term| term.field = stored_field(&term.field));
    }
    Ok(fields)
}

/// The name that a field of events.k8s.io has in the stored form.
fn stored_field(field: &str) -> String {
    match field.strip_prefix("regarding.") {
        Some(part) => format!("involvedObject.{part}"),
        None if field == "reportingController" => "reportingComponent".into(),
        None => field.into(),
    }
}

fn check_match(query: &Query, watch: bool, send: Option<bool>) -> Result<Option<Match>, ApiError> {
    const FIELD: &str = "resourceVersionMatch";
    let given = query.get(FIELD).unwrap_or_default();
    let version = query.get("resourceVersion").unwrap_or_default();
    let continued = query.get("continue").is_some_and(|token| !token.is_empty());
    let mut errors = Vec::new();
    let mut forbid = |field: &str, why: &str| errors.push(FieldError::forbidden(field, why));
    if watch && send.is_some() && given != "NotOlderThan" {
        forbid(FIELD, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if !given.is_empty() {
        if watch && send.is_none() {
            forbid(
                FIELD,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
        if !watch && version.is_empty() {
            forbid(FIELD, "resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if !watch && continued {
            forbid(FIELD, "resourceVersionMatch is forbidden when continue is provided");
        }
        let known: &[&str] = if watch { &["NotOlderThan"] } else { &["Exact", "NotOlderThan", ""] };
        if !known.contains(&given) {
            errors.push(FieldError::not_supported(FIELD, &given.into(), known));
        } else if watch && continued {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            errors.push(FieldError::forbidden(FIELD, why));
        }
        if !watch && given == "Exact" && version == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(FIELD, why));
        }
    }
    if !watch && send.is_some() {
        let why = "sendInitialEvents is forbidden for list";
        errors.push(FieldError::forbidden("sendInitialEvents", why));
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid_options("ListOptions", &errors));
    }
    Ok(match given {
        "Exact" => Some(Match::Exact),
        "NotOlderThan" => Some(Match::NotOlderThan),
        _ => None,
    })
}

/// Reads a resourceVersion.
pub(super) fn resource_version(text: &str) -> Result<Revision, ApiError> {
    match text.parse::<u64>() {
        Ok(version) => Ok(Revision(i64::try_from(version).unwrap_or(i64::MAX))),
        Err(_) => Err(ApiError::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: \
             strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))),
    }
}

fn integer(query: &Query, name: &str) -> Result<Option<i64>, ApiError> {
    let Some(text) = query.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    match text.parse::<i64>() {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            use std::num::IntErrorKind::{NegOverflow, PosOverflow};
            let why = match error.kind() {
                PosOverflow | NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Err(ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: {why}")))
        }
    }
}
