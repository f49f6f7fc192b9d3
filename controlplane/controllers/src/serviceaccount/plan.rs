//! Whether a namespace lacks its default ServiceAccount. Pure.
//!
//! Owns: that question. Must not know: the API. A newcomer's trap: an account being deleted is still
//! there; the new one is made when it is gone.

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::ObjectMeta;

/// The account's name.
pub(crate) const DEFAULT: &str = "default";

/// Whether things may still be made in the namespace.
pub(crate) fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    namespace.metadata.deletion_timestamp.is_none() && phase != Some("Terminating")
}

/// The account to make, if any.
pub(crate) fn plan(
    namespace: Option<&Namespace>,
    account: Option<&ServiceAccount>,
) -> Option<ServiceAccount> {
    let namespace = namespace.filter(|namespace| is_active(namespace))?;
    if account.is_some() {
        return None;
    }
    let metadata = ObjectMeta {
        name: Some(DEFAULT.to_owned()),
        namespace: namespace.metadata.name.clone(),
        ..ObjectMeta::default()
    };
    Some(ServiceAccount { metadata, ..ServiceAccount::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_gets_one() {
        let namespace =
            |extra: serde_json::Value| -> Namespace { serde_json::from_value(extra).unwrap() };
        let active = namespace(json!({"metadata": {"name": "a"}, "status": {"phase": "Active"}}));
        let going = namespace(
            json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        );
        let terminating =
            namespace(json!({"metadata": {"name": "a"}, "status": {"phase": "Terminating"}}));
        let there = ServiceAccount::default();
        assert_eq!(plan(Some(&active), None).unwrap().metadata.namespace.unwrap(), "a");
        for (namespace, account) in [
            (Some(&active), Some(&there)),
            (Some(&going), None),
            (Some(&terminating), None),
            (None, None),
        ] {
            assert_eq!(plan(namespace, account), None);
        }
    }
}
