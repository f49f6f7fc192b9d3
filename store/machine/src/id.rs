//! Ids that must not be mixed up with revisions or with each other.
//!
//! Owns: the newtypes. Must not know: what they identify. A newcomer's trap: a lease id of 0 is
//! "no lease", both in a put and in a stored key.

/// A lease's id; [`LeaseId::NONE`] means no lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// No lease.
    pub const NONE: Self = Self(0);
}
