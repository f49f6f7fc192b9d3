//! LIST: from the cache, or from the store for an exact old version.
//!
//! Owns: what `resourceVersion`, `limit` and `continue` mean together. Must not know: output forms.
//! A newcomer's trap: a page's token carries the revision of the first page; the later pages are
//! read from the store at that revision, whatever the cache has become.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kijabi_meta::kind::Kind;
use serde::{Deserialize, Serialize};

use super::options::{ListOptions, Match};
use super::{Call, Handlers, change};
use crate::cache::{Entry, Selection, WatchCache};
use crate::exchange::Response;
use crate::limits::LIST_PAGE_OBJECTS;
use crate::negotiate::{ListMeta, ListWriter};
use crate::registry::is_storage_form;
use crate::status::ApiError;
use crate::storage::{Client, Revision, StoreError};

const TOKEN_VERSION: &str = "meta.k8s.io/v1";
const INVALID_TOKEN: &str = "invalid continue token";

/// One page of a list.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) meta: ListMeta,
}

/// Where a page goes on.
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    #[serde(rename = "v", default)]
    version: String,
    #[serde(rename = "rv", default)]
    revision: i64,
    #[serde(default)]
    start: String,
}

impl Handlers {
    pub(super) async fn list(&self, call: &Call) -> Result<Response, ApiError> {
        let options = ListOptions::parse(call.kind, &call.namespace, &call.info.query, false)?;
        let page = self.page(call.kind, &options).await?;
        let items = if is_storage_form(call.kind) {
            ListWriter::Cached(page.entries)
        } else {
            let shown = page.entries.iter().map(|e| change::shown_as(call.kind, e.object()));
            ListWriter::Objects(shown.collect())
        };
        call.output.list(call.kind, &page.meta, items)
    }

    /// The asked page, in the stored form.
    pub(super) async fn page(
        &self,
        kind: &'static Kind,
        options: &ListOptions,
    ) -> Result<Page, ApiError> {
        let cache = self.registry().cache(kind)?;
        let store = StoreList { client: self.registry().client(), cache, options };
        if !options.continue_token.is_empty() {
            return store.continued().await;
        }
        let exact = match options.version_match {
            Some(Match::Exact) => true,
            Some(Match::NotOlderThan) => false,
            // Without a match, a limit makes a version exact, as it always has.
            None => options.limit > 0,
        };
        match options.resource_version {
            Some(Revision(0)) => cache.wait_fresh(Revision(0)).await?,
            Some(version) if exact => return store.exact(version).await,
            Some(version) => cache.wait_fresh(version).await?,
            None => {
                if !cache.wait_consistent().await? {
                    return store.current().await;
                }
            }
        }
        Ok(first_page(cache, options))
    }
}

/// The first page of a snapshot of the cache.
fn first_page(cache: &WatchCache, options: &ListOptions) -> Page {
    let snapshot = cache.snapshot(&options.selection);
    let mut entries = snapshot.entries;
    let mut meta = ListMeta { revision: snapshot.revision, ..ListMeta::default() };
    // A list at any version comes whole: there is nothing to gain from pages of memory.
    let limit = if options.resource_version == Some(Revision(0)) { 0 } else { options.limit };
    if limit > 0 && entries.len() > limit {
        if options.selection.is_unfiltered() {
            meta.remaining = i64::try_from(entries.len() - limit).ok();
        }
        entries.truncate(limit);
        meta.next = entries
            .last()
            .map_or_else(String::new, |last| token_after(options, last, meta.revision));
    }
    Page { entries, meta }
}

/// The token for the page after `last`; its start is relative to what is listed.
fn token_after(options: &ListOptions, last: &Entry, at: Revision) -> String {
    let place = match options.selection.namespace.as_str() {
        "" => &*last.place,
        _ => last.name(),
    };
    let token =
        Token { version: TOKEN_VERSION.into(), revision: at.0, start: format!("{place}\0") };
    let text = serde_json::to_vec(&token).expect("a token is plain text and a number");
    URL_SAFE_NO_PAD.encode(text)
}

fn read_token(text: &str) -> Result<Token, ApiError> {
    let bad = |why: String| ApiError::bad_request(format!("{INVALID_TOKEN}: {why}"));
    let bytes = URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|error| bad(format!("continue key is not valid: {error}")))?;
    // The text of the error is Go's, which the codec has.
    if let Err(why) = kijabi_meta::codec::json::parse(&bytes) {
        return Err(bad(format!("continue key is not valid: {why}")));
    }
    let token: Token = serde_json::from_slice(&bytes)
        .map_err(|error| bad(format!("continue key is not valid: {error}")))?;
    if token.version != TOKEN_VERSION {
        let why = format!("server does not recognize this encoded version {:?}", token.version);
        return Err(bad(format!("continue key is not valid: {why}")));
    }
    let clean = !token.start.starts_with('/') && !token.start.split('/').any(|part| part == "..");
    if token.start.is_empty() || !clean {
        let why = "continue key is not valid: encoded start key empty or outside of the prefix";
        return Err(bad(why.into()));
    }
    Ok(token)
}

/// A list that is read from the store.
struct StoreList<'a> {
    client: &'a Client,
    cache: &'a WatchCache,
    options: &'a ListOptions,
}

impl StoreList<'_> {
    async fn current(&self) -> Result<Page, ApiError> {
        self.read("", None).await.map_err(ApiError::from)
    }

    async fn exact(&self, version: Revision) -> Result<Page, ApiError> {
        match self.read("", Some(version)).await {
            Err(StoreError::FutureRevision) => {
                let current = self.client.current_revision(self.cache.range()).await?;
                Err(ApiError::resource_version_too_large(version.0, current.0))
            }
            Err(StoreError::Compacted) => {
                Err(ApiError::expired("The resourceVersion for the provided list is too old."))
            }
            other => Ok(other?),
        }
    }

    async fn continued(&self) -> Result<Page, ApiError> {
        let token = read_token(&self.options.continue_token)?;
        if self.options.resource_version.is_some_and(|version| version > Revision(0)) {
            let text = "specifying resource version is not allowed when using continue";
            return Err(ApiError::bad_request(text));
        }
        // A negative revision goes on at the present, losing the consistency of the pages.
        let at = (token.revision >= 0).then_some(Revision(token.revision));
        match self.read(&token.start, at).await {
            Err(StoreError::Compacted) => Err(offer_inconsistent(&token.start)),
            other => Ok(other?),
        }
    }

    /// Reads until the limit is full or the range ends.
    async fn read(&self, start: &str, at: Option<Revision>) -> Result<Page, StoreError> {
        let Selection { namespace, .. } = &self.options.selection;
        let range =
            crate::storage::KeyRange::resource(self.cache.kind().storage_prefix, namespace)?;
        let limit = if self.options.limit == 0 { usize::MAX } else { self.options.limit };
        let mut from = range.key_at(start);
        let (mut at, mut entries) = (at, Vec::new());
        loop {
            let page = self.client.page(&range, from, LIST_PAGE_OBJECTS, at).await?;
            let revision = *at.get_or_insert(page.revision);
            let has_more = page.has_more();
            let (count, mut seen) = (page.count, 0);
            for record in &page.records {
                seen += 1;
                let Some(place) = self.cache.range().rest_of(&record.key) else { continue };
                let entry = match Entry::read(self.cache.kind(), place, record) {
                    Ok(entry) => entry,
                    Err(error) => {
                        tracing::error!(%error, "an object cannot be read");
                        continue;
                    }
                };
                if self.options.selection.matches(&entry) {
                    entries.push(Arc::new(entry));
                }
                if entries.len() == limit && seen < count {
                    return Ok(self.cut(entries, revision, count - seen));
                }
            }
            match page.records.last() {
                Some(last) if has_more => from = [&last.key[..], b"\0"].concat().into(),
                _ => {
                    let meta = ListMeta { revision, ..ListMeta::default() };
                    return Ok(Page { entries, meta });
                }
            }
        }
    }

    /// A full page with more behind it.
    fn cut(&self, entries: Vec<Arc<Entry>>, revision: Revision, behind: i64) -> Page {
        let unfiltered = self.options.selection.is_unfiltered();
        let next = entries
            .last()
            .map_or_else(String::new, |last| token_after(self.options, last, revision));
        let meta = ListMeta { revision, next, remaining: unfiltered.then_some(behind) };
        Page { entries, meta }
    }
}

/// 410 with a token that goes on at the present.
fn offer_inconsistent(start: &str) -> ApiError {
    let token = Token { version: TOKEN_VERSION.into(), revision: -1, start: start.into() };
    let text = serde_json::to_vec(&token).expect("a token is plain text and a number");
    ApiError::expired(
        "The provided continue parameter is too old to display a consistent list result. You \
         can start a new list without the continue parameter, or use the continue token in \
         this response to retrieve the remainder of the results. Continuing with the provided \
         token results in an inconsistent list - objects that were created, modified, or \
         deleted between the time the first chunk was returned and now may show up in the list.",
    )
    .with_continue(URL_SAFE_NO_PAD.encode(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_were_not_given_out_are_refused() {
        let token = |text: &str| URL_SAFE_NO_PAD.encode(text);
        for (text, want) in [
            (
                "nonsense".into(),
                "invalid continue token: continue key is not valid: invalid character '\\x9e' looking for beginning of value",
            ),
            (
                token(r#"{"v":"x","rv":1,"start":"a"}"#),
                "invalid continue token: continue key is not valid: server does not recognize this encoded version \"x\"",
            ),
            (
                token(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../secrets/a"}"#),
                "invalid continue token: continue key is not valid: encoded start key empty or outside of the prefix",
            ),
        ] {
            assert_eq!(read_token(&text).unwrap_err().to_string(), want);
        }
        let good = token(r#"{"v":"meta.k8s.io/v1","rv":7,"start":"g/a\u0000"}"#);
        let read = read_token(&good).unwrap();
        assert_eq!((read.revision, read.start.as_str()), (7, "g/a\0"));
    }
}
