//! Users, roles and what they may do.
//!
//! Owns: etcd's auth state and the verdict on each request. Must not know: passwords in clear,
//! tokens, certificates. A newcomer's trap: a verdict is made when a command is applied, with the
//! auth revision its caller saw (AUTH-1); what a service checks before is only a courtesy.

mod caller;

pub use caller::Caller;
