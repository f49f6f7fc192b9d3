//! What a caller may do.
//!
//! Owns: the verdict on each kind of request. Must not know: what the requests do. A newcomer's
//! trap: the verdict on a transaction is that on all its parts in both branches, at every depth,
//! whichever branch will run.

use kijabi_proto::command::AuthLogin;
use kijabi_proto::command::auth_change::Change;
use kijabi_proto::command::command::Request;
use kijabi_proto::etcdserverpb::request_op::Request as Op;
use kijabi_proto::etcdserverpb::{
    AlarmRequest, DeleteRangeRequest, PutRequest, TxnRequest, alarm_request::AlarmAction,
};

use super::{Account, Auth, AuthError, Caller};
use crate::id::LeaseId;
use crate::lease::Leases;
use crate::mvcc::KeyRange;

/// What is done with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Read,
    Write,
}

/// Whose keys a verdict is about.
enum Subject<'a> {
    /// Somebody who may do everything.
    Any,
    Account(&'a Account),
}

type Verdict = Result<(), AuthError>;

impl Auth {
    /// Whether the caller is some user.
    pub fn permit_login(&self, caller: &Caller) -> Verdict {
        match caller {
            Caller::Anonymous if self.enabled => Err(AuthError::UserEmpty),
            _ => Ok(()),
        }
    }

    /// Whether the caller has the role root. As in etcd, the auth revision does not matter here:
    /// the user is looked at as it is now.
    pub fn permit_admin(&self, caller: &Caller) -> Verdict {
        if !self.enabled {
            return Ok(());
        }
        match caller {
            Caller::Member => Ok(()),
            Caller::Anonymous => Err(AuthError::UserEmpty),
            Caller::User { name, .. } => match self.users.get(&**name) {
                None => Err(AuthError::UserNotFound),
                Some(account) if account.root => Ok(()),
                Some(_) => Err(AuthError::PermissionDenied),
            },
        }
    }

    /// Whether the caller may see a user: itself, or any if it has the role root.
    pub fn permit_user_get(&self, caller: &Caller, user: &str) -> Verdict {
        match (self.permit_admin(caller), caller) {
            (Err(_), Caller::User { name, .. }) if &**name == user => Ok(()),
            (Err(_), Caller::Anonymous) if user.is_empty() => Ok(()),
            (verdict, _) => verdict,
        }
    }

    /// Whether the caller may see a role: one it has, or any if it has the role root.
    pub fn permit_role_get(&self, caller: &Caller, role: &str) -> Verdict {
        match (self.permit_admin(caller), caller) {
            (Err(_), Caller::User { name, .. }) if self.has_role(name, role) => Ok(()),
            (verdict, _) => verdict,
        }
    }

    fn has_role(&self, user: &str, role: &str) -> bool {
        let account = self.users.get(user);
        account.is_some_and(|account| account.user.roles.iter().any(|one| one == role))
    }

    /// Whether the caller may read the keys of a range, as it was sent.
    pub fn permit_range(&self, caller: &Caller, key: &[u8], range_end: &[u8]) -> Verdict {
        if !self.enabled {
            return Ok(());
        }
        self.subject(caller)?.permit(KeyRange::of(key, range_end), Use::Read)
    }

    /// Whose keys the verdict is about, if the caller is somebody whose auth revision is current.
    ///
    /// Invariant (AUTH-1): a caller whose name was proven before the last change of users or roles
    /// is refused; it asks again with its name proven anew.
    fn subject(&self, caller: &Caller) -> Result<Subject<'_>, AuthError> {
        match caller {
            Caller::Member => Ok(Subject::Any),
            Caller::Anonymous | Caller::User { auth_revision: 0, .. } => Err(AuthError::UserEmpty),
            Caller::User { auth_revision, .. } if *auth_revision < self.revision => {
                Err(AuthError::OldRevision)
            }
            Caller::User { name, .. } => match self.users.get(&**name) {
                None => Err(AuthError::PermissionDenied),
                Some(account) if account.root => Ok(Subject::Any),
                Some(account) => Ok(Subject::Account(account)),
            },
        }
    }

    /// The verdict on a transaction.
    pub(crate) fn permit_txn(&self, leases: &Leases, caller: &Caller, txn: &TxnRequest) -> Verdict {
        if !self.enabled {
            return Ok(());
        }
        match self.subject(caller) {
            Ok(subject) => subject.permit_txn(leases, txn),
            // One that does nothing is no reason to ask who calls, as in etcd.
            Err(_) if names_no_keys(txn) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether the caller may change every key that hangs on a lease.
    pub(crate) fn permit_lease(&self, leases: &Leases, caller: &Caller, id: LeaseId) -> Verdict {
        self.permit_login(caller)?;
        if self.permit_admin(caller).is_ok() || leases.keys(id).is_none_or(|keys| keys.is_empty()) {
            return Ok(());
        }
        self.subject(caller)?.permit_lease(leases, id)
    }

    /// Whether the caller may read all of `keys`.
    pub fn permit_keys<'a>(
        &self,
        caller: &Caller,
        keys: impl IntoIterator<Item = &'a [u8]>,
    ) -> Verdict {
        let mut keys = keys.into_iter().peekable();
        if keys.peek().is_none() || self.permit_admin(caller).is_ok() {
            return Ok(());
        }
        let subject = self.subject(caller)?;
        keys.try_for_each(|key| subject.permit(KeyRange::One(key), Use::Read))
    }

    /// Whether the caller may read every key that hangs on any lease.
    pub(crate) fn permit_all_leases(&self, leases: &Leases, caller: &Caller) -> Verdict {
        self.permit_login(caller)?;
        if self.permit_admin(caller).is_ok() {
            return Ok(());
        }
        let mut all = leases.all_keys().filter(|keys| !keys.is_empty()).peekable();
        if all.peek().is_none() {
            return Ok(());
        }
        match self.subject(caller)? {
            Subject::Any => Ok(()),
            Subject::Account(account) => all
                .all(|keys| account.read.covers_all(keys))
                .then_some(())
                .ok_or(AuthError::PermissionDenied),
        }
    }

    /// The verdict on a committed command (AUTH-1). What is not named here needs the role root.
    pub(crate) fn permit_command(
        &self,
        leases: &Leases,
        caller: &Caller,
        request: &Request,
    ) -> Verdict {
        if !self.enabled || *caller == Caller::Member {
            return Ok(());
        }
        match request {
            Request::Put(put) => self.subject(caller)?.permit_put(leases, put),
            Request::DeleteRange(delete) => self.subject(caller)?.permit_delete(delete),
            Request::Txn(txn) => self.permit_txn(leases, caller, txn),
            Request::LeaseGrant(_) => self.permit_login(caller),
            Request::LeaseRevoke(revoke) => self.permit_lease(leases, caller, LeaseId(revoke.id)),
            Request::Alarm(AlarmRequest { action, .. }) if *action == AlarmAction::Get as i32 => {
                self.permit_login(caller)
            }
            Request::Auth(change) => match &change.change {
                Some(Change::Login(_)) => Ok(()),
                _ => self.permit_admin(caller),
            },
            _ => self.permit_admin(caller),
        }
    }

    /// The verdict on a login whose password was right at some auth revision.
    pub(crate) fn permit_token(&self, login: &AuthLogin) -> Verdict {
        if !self.enabled {
            return Err(AuthError::NotEnabled);
        }
        if login.auth_revision != self.revision {
            return Err(AuthError::OldRevision);
        }
        match self.users.get(&login.name) {
            Some(account) if !account.has_no_password() => Ok(()),
            _ => Err(AuthError::Failed),
        }
    }
}

impl Subject<'_> {
    fn permit(&self, range: KeyRange<'_>, how: Use) -> Verdict {
        let covered = match self {
            Self::Any => true,
            Self::Account(account) => match how {
                Use::Read => account.read.covers(range),
                Use::Write => account.write.covers(range),
            },
        };
        covered.then_some(()).ok_or(AuthError::PermissionDenied)
    }

    fn permit_put(&self, leases: &Leases, put: &PutRequest) -> Verdict {
        let key = KeyRange::One(&put.key);
        self.permit(key, Use::Write)?;
        // Who hangs a key on a lease decides when the lease's other keys go away, too.
        self.permit_lease(leases, LeaseId(put.lease))?;
        if put.prev_kv { self.permit(key, Use::Read) } else { Ok(()) }
    }

    fn permit_lease(&self, leases: &Leases, id: LeaseId) -> Verdict {
        let (Self::Account(account), Some(keys)) = (self, leases.keys(id)) else { return Ok(()) };
        account.write.covers_all(keys).then_some(()).ok_or(AuthError::PermissionDenied)
    }

    fn permit_delete(&self, delete: &DeleteRangeRequest) -> Verdict {
        let range = KeyRange::of(&delete.key, &delete.range_end);
        self.permit(range, Use::Write)?;
        if delete.prev_kv { self.permit(range, Use::Read) } else { Ok(()) }
    }

    /// The depth is bounded by the decoder that made the request.
    fn permit_txn(&self, leases: &Leases, txn: &TxnRequest) -> Verdict {
        for compare in &txn.compare {
            self.permit(KeyRange::of(&compare.key, &compare.range_end), Use::Read)?;
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match &op.request {
                Some(Op::RequestRange(range)) => {
                    self.permit(KeyRange::of(&range.key, &range.range_end), Use::Read)?;
                }
                Some(Op::RequestPut(put)) => self.permit_put(leases, put)?,
                Some(Op::RequestDeleteRange(delete)) => self.permit_delete(delete)?,
                Some(Op::RequestTxn(nested)) => self.permit_txn(leases, nested)?,
                None => {}
            }
        }
        Ok(())
    }
}

fn names_no_keys(txn: &TxnRequest) -> bool {
    let mut ops = txn.success.iter().chain(&txn.failure);
    txn.compare.is_empty()
        && ops.all(|op| match &op.request {
            Some(Op::RequestTxn(nested)) => names_no_keys(nested),
            Some(_) => false,
            None => true,
        })
}
