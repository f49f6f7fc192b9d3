//! Who opened a watch stream.
//!
//! Owns: asking for the name anew for each watch. Must not know: tokens. A newcomer's trap: a name
//! is proven when a watch is created; as in etcd, a watch that is there goes on when its creator's
//! token runs out.

use kijabi_machine::Caller;

use crate::access::{Credentials, Rpc};
use crate::error::Error;
use crate::store::Store;

/// Who opened a watch stream.
pub(crate) struct Asker(Option<(Store, Credentials)>);

impl Asker {
    /// Whoever has these credentials.
    pub(crate) fn new(store: Store, credentials: Credentials) -> Self {
        Self(Some((store, credentials)))
    }

    /// The member itself.
    #[cfg(test)]
    pub(super) fn member() -> Self {
        Self(None)
    }

    /// The caller as of now.
    pub(super) async fn caller(&self) -> Result<Caller, Error> {
        match &self.0 {
            Some((store, credentials)) => credentials.caller(store, Rpc::Watch).await,
            None => Ok(Caller::Member),
        }
    }
}
