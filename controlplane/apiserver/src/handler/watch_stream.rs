//! The body of a watch: one JSON document a line.
//!
//! Owns: the frames, bookmarks and the end of a watch. Must not know: where it began. A newcomer's
//! trap: an error after the first byte cannot change the status code, so it is an `ERROR` event.

use std::io::Error;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::Stream;
use kijabi_base::clock::{self, Instant};
use kijabi_base::tasks::Shutdown;
use kijabi_meta::kind::Kind;
use serde_json::{Map, Value, json};

use super::change;
use crate::cache::{Step, WatchedEvent, Watcher};
use crate::limits::{BOOKMARK_BEFORE_END, BOOKMARK_PERIOD};
use crate::negotiate::{Output, Shape};
use crate::registry::is_storage_form;
use crate::status::ApiError;
use crate::storage::Revision;

const INITIAL_END: &str = "k8s.io/initial-events-end";

/// A watch that is being sent.
#[derive(Debug)]
pub(super) struct WatchStream {
    kind: &'static Kind,
    output: Output,
    watcher: Watcher,
    deadline: Instant,
    next_bookmark: Option<Instant>,
    /// What the last bookmark said; it is not said twice.
    bookmarked: Option<Revision>,
    marks_initial_end: bool,
    /// Whether the next table still needs its column headers.
    headers: bool,
    ended: bool,
    shutdown: Shutdown,
}

impl WatchStream {
    pub(super) fn new(
        kind: &'static Kind,
        output: Output,
        watcher: Watcher,
        deadline: Instant,
    ) -> Self {
        Self {
            kind,
            output,
            watcher,
            deadline,
            next_bookmark: None,
            bookmarked: None,
            marks_initial_end: false,
            headers: true,
            ended: false,
            shutdown: Shutdown::new(),
        }
    }

    pub(super) fn with_bookmarks(mut self, wanted: bool) -> Self {
        self.next_bookmark = wanted.then(|| self.bookmark_after(clock::now()));
        self
    }

    pub(super) fn with_initial_end(mut self, wanted: bool) -> Self {
        self.marks_initial_end = wanted;
        self
    }

    pub(super) fn ending_with(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// A period on, but once more shortly before the end.
    fn bookmark_after(&self, now: Instant) -> Instant {
        let last = self.deadline.checked_sub(BOOKMARK_BEFORE_END).filter(|last| *last > now);
        (now + BOOKMARK_PERIOD).min(last.unwrap_or(now + BOOKMARK_PERIOD))
    }

    /// The bytes, piece by piece.
    pub(super) fn into_bytes(self) -> impl Stream<Item = Result<Bytes, Error>> + Send {
        futures::stream::unfold(self, |mut watch| async move {
            let piece = watch.next().await?;
            Some((Ok(piece), watch))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        while !self.ended {
            let bookmark_at = self.next_bookmark.unwrap_or(self.deadline);
            tokio::select! {
                step = self.watcher.next() => {
                    if let Some(bytes) = self.step(step) {
                        return Some(bytes);
                    }
                }
                () = tokio::time::sleep_until(bookmark_at), if self.next_bookmark.is_some() => {
                    self.next_bookmark = Some(self.bookmark_after(clock::now()));
                    // The next one will be fresher for it.
                    self.watcher.request_progress();
                    if self.bookmarked != Some(self.watcher.revision()) {
                        return Some(self.bookmark(false));
                    }
                }
                () = tokio::time::sleep_until(self.deadline) => self.ended = true,
                () = self.shutdown.wait() => self.ended = true,
            }
        }
        None
    }

    fn step(&mut self, step: Step) -> Option<Bytes> {
        match step {
            Step::Events(events) => {
                let mut out = BytesMut::new();
                for event in events {
                    self.write(&mut out, &event);
                }
                Some(out.freeze())
            }
            Step::InitialEnd if self.marks_initial_end => Some(self.bookmark(true)),
            Step::InitialEnd => None,
            Step::Failed(error) => {
                self.ended = true;
                Some(error_line(&error))
            }
            Step::Ended => {
                self.ended = true;
                None
            }
        }
    }

    fn write(&mut self, out: &mut BytesMut, event: &WatchedEvent) {
        let as_cached = self.output.form.shape == Shape::Object && is_storage_form(self.kind);
        out.put_slice(b"{\"type\":\"");
        out.put_slice(event.kind.as_str().as_bytes());
        out.put_slice(b"\",\"object\":");
        if as_cached {
            out.put_slice(&event.entry.encoded);
        } else {
            let object = change::shown_as(self.kind, event.entry.object());
            out.put_slice(self.shaped(&object).to_string().as_bytes());
        }
        out.put_slice(b"}\n");
    }

    fn shaped(&mut self, object: &Value) -> Value {
        let headers = std::mem::take(&mut self.headers);
        let shown = self.output.shaped(self.kind, object, headers);
        shown.unwrap_or_else(|error| error_value(&error))
    }

    /// Says how far the watch is; the one at the end of the initial events is marked.
    fn bookmark(&mut self, initial_end: bool) -> Bytes {
        self.bookmarked = Some(self.watcher.revision());
        let mut metadata = Map::new();
        metadata.insert("resourceVersion".into(), self.watcher.revision().to_string().into());
        if initial_end {
            metadata.insert("annotations".into(), json!({INITIAL_END: "true"}));
        }
        let object = json!({
            "kind": self.kind.kind,
            "apiVersion": self.kind.api_version(),
            "metadata": metadata,
        });
        let object = match self.output.form.shape {
            Shape::Object => object,
            _ => self.shaped(&object),
        };
        Bytes::from(format!("{{\"type\":\"BOOKMARK\",\"object\":{object}}}\n"))
    }
}

fn error_value(error: &ApiError) -> Value {
    serde_json::to_value(error.status()).unwrap_or(Value::Null)
}

fn error_line(error: &ApiError) -> Bytes {
    Bytes::from(format!("{{\"type\":\"ERROR\",\"object\":{}}}\n", error_value(error)))
}
