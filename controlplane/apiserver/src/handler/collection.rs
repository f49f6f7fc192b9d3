//! DELETE of a collection: each selected object as if it were deleted alone.
//!
//! Owns: the selection and how many go at once. Must not know: what a deletion does. A newcomer's
//! trap: an object that is already gone is no error, and objects made meanwhile stay.

use futures::{StreamExt as _, TryStreamExt as _};

use super::list::Page;
use super::options::ListOptions;
use super::{Call, Handlers, change, delete, meta};
use crate::body::RequestBody;
use crate::exchange::Response;
use crate::limits::DELETE_COLLECTION_WORKERS;
use crate::negotiate::ListWriter;
use crate::status::ApiError;

impl Handlers {
    pub(super) async fn delete_collection(
        &self,
        call: &Call,
        body: RequestBody,
    ) -> Result<Response, ApiError> {
        let list = ListOptions::parse(call.kind, &call.namespace, &call.info.query, false)?;
        let options = delete::delete_options(call, body).await?;
        let Page { entries, meta: list_meta } = self.page(call.kind, &list).await?;
        let objects: Vec<_> =
            entries.iter().map(|entry| change::shown_as(call.kind, entry.object())).collect();
        let names: Vec<String> = objects.iter().map(|one| meta(one, "name").to_owned()).collect();
        let options = &options;
        futures::stream::iter(names)
            .map(|name| async move {
                match self.remove(call, &name, options).await {
                    Err(error) if error.reason() == "NotFound" => Ok(()),
                    other => other.map(|_| ()),
                }
            })
            .buffer_unordered(DELETE_COLLECTION_WORKERS)
            .try_collect::<Vec<()>>()
            .await?;
        call.output.list(call.kind, &list_meta, ListWriter::Objects(objects))
    }
}
