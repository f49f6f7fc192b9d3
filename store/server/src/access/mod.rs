//! Who calls, and what that RPC needs of a caller.
//!
//! Owns: reading a client's credentials and turning them into a [`Caller`]. Must not know: what a
//! request asks. A newcomer's trap: while auth is off nobody is asked for a name, so that nothing
//! here costs anything.

mod rpc;

use kijabi_machine::Caller;
use tonic::{Request, Status};

pub(crate) use rpc::{Need, Rpc};

use crate::store::Store;

/// The caller of a request, if it may call that RPC at all. Ask after a read barrier, if the
/// request needs one: the caller's auth revision is then as new as what is read.
#[allow(clippy::unused_async, reason = "a token of another member may have to be waited for")]
pub(crate) async fn caller<T>(
    _store: &Store,
    _request: &Request<T>,
    rpc: Rpc,
) -> Result<Caller, Status> {
    debug_assert_ne!(rpc.need(), Need::Open, "an open RPC has no caller");
    Ok(Caller::Anonymous)
}
