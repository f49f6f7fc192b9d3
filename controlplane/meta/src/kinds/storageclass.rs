//! StorageClasses.
//!
//! Owns: the rules of storage.k8s.io/v1 StorageClass. Must not know: provisioners. A newcomer's
//! trap: what volumes were made with may not change, so almost nothing may.

use jiff::Timestamp;
use serde_json::Value;

use super::check;
use super::look::{Change, Look};
use super::show;
use crate::field::FieldError;
use crate::kind::Strategy;

const PARAMETERS_MAX: usize = 512;
const PARAMETER_BYTES_MAX: usize = 256 * 1024;

/// The rules of StorageClasses.
#[derive(Debug)]
pub struct StorageClass;

impl Strategy for StorageClass {
    fn default(&self, object: &mut Value) {
        object.default_to("reclaimPolicy", "Delete");
        object.default_to("volumeBindingMode", "Immediate");
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        match object.text("provisioner") {
            "" => errors.push(FieldError::required("provisioner", "")),
            name => {
                let texts = crate::name::label_key(&name.to_lowercase());
                errors.extend(check::texts("provisioner", name, texts));
            }
        }
        errors.extend(parameters(object));
        let policy = object.text("reclaimPolicy");
        errors.extend(check::one_of("reclaimPolicy", policy, &["Delete", "Retain"]));
        let modes = ["Immediate", "WaitForFirstConsumer"];
        errors.extend(check::one_of("volumeBindingMode", object.text("volumeBindingMode"), &modes));
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"]
            .iter()
            .flat_map(|field| {
                check::immutable(field, object.get_or_null(field), old.get_or_null(field))
            })
            .collect()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let metadata = object.get_or_null("metadata");
        let notes = metadata.get_or_null("annotations");
        let default = notes.text("storageclass.kubernetes.io/is-default-class") == "true";
        let mark = if default { " (default)" } else { "" };
        vec![
            format!("{}{mark}", metadata.text("name")).into(),
            object.text("provisioner").into(),
            object.text("reclaimPolicy").into(),
            object.text("volumeBindingMode").into(),
            object.flag("allowVolumeExpansion").into(),
            show::age(object, now),
        ]
    }
}

fn parameters(object: &Value) -> Vec<FieldError> {
    let all = object.entries("parameters");
    if all.len() > PARAMETERS_MAX {
        return vec![check::too_long("parameters", PARAMETERS_MAX)];
    }
    let mut errors = Vec::new();
    let mut bytes = 0;
    for (key, value) in all {
        if key.is_empty() {
            errors.push(check::invalid("parameters", key, "field can not be empty."));
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > PARAMETER_BYTES_MAX {
        errors.push(check::too_long("parameters", PARAMETER_BYTES_MAX));
    }
    errors
}
