//! Deletion of a namespace: it is marked, and stays until its contents are gone.
//!
//! Owns: the mark. Must not know: who removes the contents (the namespace controller). A newcomer's
//! trap: a namespace has two lists of finalizers, in its metadata and in its spec; it goes when
//! both are empty.

use kijabi_meta::objectmeta;
use serde_json::Value;

use super::change::{Change, Rules};
use super::deletion::{Removed, check_preconditions};
use super::managed::Tracking;
use super::options::{DeleteOptions, WriteOptions};
use super::{Call, Handlers, is_terminating, timestamp};
use crate::admission::Operation;
use crate::status::ApiError;

impl Handlers {
    pub(super) async fn delete_namespace(
        &self,
        call: &Call,
        options: &DeleteOptions,
    ) -> Result<Removed, ApiError> {
        let present = self.live(call).await?;
        check_preconditions(call.kind, &present, options)?;
        let attributes =
            call.attributes(Operation::Delete, &call.name, Some(&present), options.dry_run);
        self.admission().validate(&attributes, Some(&present)).await?;
        let held = |object: &Value| {
            object["spec"]["finalizers"].as_array().is_some_and(|all| !all.is_empty())
        };
        if is_terminating(&present) && !held(&present) {
            return self.remove(call, &call.name, options).await;
        }
        let mut wish = |old: &Value| {
            check_preconditions(call.kind, old, options)?;
            let mut new = old.clone();
            if !is_terminating(old) {
                objectmeta::set(&mut new, "deletionTimestamp", timestamp().into());
            }
            new["status"]["phase"] = "Terminating".into();
            Ok(new)
        };
        let write = WriteOptions { dry_run: options.dry_run, ..WriteOptions::default() };
        let change = Change {
            call,
            options: &write,
            rules: Rules::Own,
            tracking: Tracking::None,
            wish: &mut wish,
        };
        let changed = self.change(change).await?.ok_or_else(|| call.not_found())?;
        Ok(Removed { object: changed.object, gone: false })
    }
}
