//! WATCH: where a watch begins, and how long it lives.
//!
//! Owns: the meaning of `resourceVersion` and `sendInitialEvents`. Must not know: how events are
//! written. A newcomer's trap: no version means "consistent, then changes"; 0 means "whatever the
//! cache has, then changes"; any other means "only changes after it".

use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use kijabi_base::{clock, rng};
use kijabi_meta::selector::FieldTerm;

use super::options::ListOptions;
use super::watch_stream::WatchStream;
use super::{Call, Handlers};
use crate::body;
use crate::cache::{Start, WatchCache};
use crate::exchange::Response;
use crate::limits::WATCH_SECONDS_MIN;
use crate::negotiate::{Format, Shape};
use crate::status::ApiError;
use crate::storage::Revision;

impl Handlers {
    pub(super) async fn watch(&self, call: &Call) -> Result<Response, ApiError> {
        let mut options = ListOptions::parse(call.kind, &call.namespace, &call.info.query, true)?;
        // The name that was authorized, be it of the path (`/watch/pods/p`) or of the selector,
        // is all that may be seen.
        if !call.info.name.is_empty() {
            options.selection.fields.terms.push(FieldTerm {
                field: "metadata.name".into(),
                value: call.info.name.clone(),
                negated: false,
            });
        }
        let form = call.output.form;
        if form.format != Format::Json || matches!(form.shape, Shape::MetadataList(_)) {
            return Err(ApiError::not_acceptable());
        }
        let cache = self.registry().cache(call.kind)?;
        let start = start(cache, &options).await?;
        let watcher = cache.watch(start, options.selection.clone());
        let seconds = options
            .timeout_seconds
            .unwrap_or_else(|| WATCH_SECONDS_MIN + rng::below(WATCH_SECONDS_MIN));
        let deadline = clock::now() + Duration::from_secs(seconds);
        let marks_initial_end = options.send_initial_events == Some(true) && options.bookmarks;
        let stream = WatchStream::new(call.kind, call.output.clone(), watcher, deadline)
            .with_bookmarks(options.bookmarks)
            .with_initial_end(marks_initial_end)
            .ending_with(self.registry().shutdown().clone());
        let mut response = http::Response::new(body::stream(stream.into_bytes()));
        *response.status_mut() = StatusCode::OK;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        Ok(response)
    }
}

async fn start(cache: &WatchCache, options: &ListOptions) -> Result<Start, ApiError> {
    let fresh = |version: Option<Revision>| async move {
        match version {
            Some(version) => cache.wait_fresh(version).await,
            None => cache.wait_latest().await,
        }
    };
    let version = options.resource_version;
    match options.send_initial_events {
        Some(true) => {
            fresh(version).await?;
            Ok(Start::Existing)
        }
        None if version.is_none_or(|version| version == Revision(0)) => {
            fresh(version).await?;
            Ok(Start::Existing)
        }
        Some(false) if version.is_none_or(|version| version == Revision(0)) => {
            fresh(version).await?;
            Ok(Start::Now)
        }
        _ => {
            cache.wait_fresh(Revision(0)).await?;
            Ok(Start::After(version.unwrap_or_default()))
        }
    }
}
