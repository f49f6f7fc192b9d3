//! Who asks: the identity that authentication found and that impersonation may have replaced.
//!
//! Owns: the names of the built-in users and groups. Must not know: how an identity is proved
//! (`authn/`) or what it may do (`authz/`). A newcomer's trap: an anonymous request has a user too,
//! `system:anonymous`; "no user" does not exist behind the authentication filter.

use std::collections::BTreeMap;

/// The user of a request without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of requests without credentials.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group of everyone who proved an identity.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group that may do everything.
pub const MASTERS: &str = "system:masters";
/// The group of node agents.
pub const NODES: &str = "system:nodes";
/// What a node agent's user name starts with.
pub const NODE_PREFIX: &str = "system:node:";
/// What a service account's user name starts with: `system:serviceaccount:<namespace>:<name>`.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
/// The group of all service accounts.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

/// An authenticated (or anonymous, or impersonated) identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The name, such as `kubernetes-admin` or `system:node:worker-1`.
    pub name: String,
    /// The uid, empty for certificates.
    pub uid: String,
    /// The groups, in the order authentication found them.
    pub groups: Vec<String>,
    /// What else the authenticator knows, such as the bound pod of a token.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// The user of a request without credentials.
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.into(), groups: vec![UNAUTHENTICATED.into()], ..Self::default() }
    }

    /// Whether the user is in `group`.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|one| one == group)
    }

    /// Whether no identity was proved.
    pub fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }

    /// The node this user is the agent of, if it is one.
    pub fn node(&self) -> Option<&str> {
        if !self.is_in(NODES) {
            return None;
        }
        self.name.strip_prefix(NODE_PREFIX).filter(|node| !node.is_empty())
    }

    /// Namespace and name of the service account this user is, if it is one.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        let (namespace, name) = self.name.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')?;
        let plain = !namespace.is_empty() && !name.is_empty() && !name.contains(':');
        plain.then_some((namespace, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_a_member_of_the_nodes_group_with_a_node_name() {
        let mut user = User { name: "system:node:w1".into(), ..User::default() };
        assert_eq!(user.node(), None);
        user.groups.push(NODES.into());
        assert_eq!(user.node(), Some("w1"));
    }

    #[test]
    fn a_service_account_name_has_exactly_two_parts() {
        let named = |name: &str| User { name: name.into(), ..User::default() };
        assert_eq!(named("system:serviceaccount:a:b").service_account(), Some(("a", "b")));
        for bad in ["system:serviceaccount:a", "system:serviceaccount:a:", "x:a:b"] {
            assert_eq!(named(bad).service_account(), None, "{bad}");
        }
    }
}
