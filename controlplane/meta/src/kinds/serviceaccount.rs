//! ServiceAccounts.
//!
//! Owns: the rules of core/v1 ServiceAccount. Must not know: how tokens are signed. A newcomer's
//! trap: of the references in `secrets` only the names are kept.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::look::{Change, Look};
use super::show;
use crate::kind::Strategy;

/// The rules of ServiceAccounts.
#[derive(Debug)]
pub struct ServiceAccount;

impl Strategy for ServiceAccount {
    fn prepare_create(&self, object: &mut Value) {
        keep_names(object);
    }

    fn prepare_update(&self, object: &mut Value, _old: &Value) {
        keep_names(object);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![show::name(object), show::age(object, now)]
    }
}

fn keep_names(object: &mut Value) {
    for secret in object.items_mut("secrets") {
        let name = secret.text("name").to_owned();
        *secret = json!({});
        if !name.is_empty() {
            secret.put("name", name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_secrets_are_kept() {
        let mut account = json!({"secrets": [{"name": "s", "namespace": "other"}]});
        ServiceAccount.prepare_create(&mut account);
        assert_eq!(account["secrets"], json!([{"name": "s"}]));
    }
}
