//! What a namespace's `kube-root-ca.crt` lacks. Pure.
//!
//! Owns: its contents. Must not know: the API. A newcomer's trap: annotations others added stay.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::ObjectMeta;

use crate::serviceaccount::is_active;

/// The ConfigMap's name.
pub(crate) const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION_KEY: &str = "kubernetes.io/description";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
     endpoints such as the internal service IP or kubernetes.default.svc. No other usage is \
     guaranteed across distributions of Kubernetes clusters.";

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    Create(Box<ConfigMap>),
    Replace(Box<ConfigMap>),
}

/// Brings the ConfigMap in line with the certificate.
pub(crate) fn plan(
    namespace: Option<&Namespace>,
    present: Option<&ConfigMap>,
    pem: &str,
) -> Option<Step> {
    let namespace = namespace.filter(|namespace| is_active(namespace))?;
    let data = BTreeMap::from([("ca.crt".to_owned(), pem.to_owned())]);
    let described = BTreeMap::from([(DESCRIPTION_KEY.to_owned(), DESCRIPTION.to_owned())]);
    let Some(present) = present else {
        let metadata = ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: namespace.metadata.name.clone(),
            annotations: Some(described),
            ..ObjectMeta::default()
        };
        let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
        return Some(Step::Create(Box::new(map)));
    };
    let mut map = present.clone();
    map.data = Some(data);
    map.metadata.annotations.get_or_insert_default().extend(described);
    (map != *present).then(|| Step::Replace(Box::new(map)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_is_made_and_mended() {
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
        let Some(Step::Create(made)) = plan(Some(&namespace), None, "PEM") else {
            panic!("not made")
        };
        assert_eq!(made.data.as_ref().unwrap()["ca.crt"], "PEM");
        assert_eq!(plan(Some(&namespace), Some(&made), "PEM"), None);
        assert_eq!(plan(None, None, "PEM"), None);
        let mut spoilt = *made.clone();
        spoilt.data.as_mut().unwrap().insert("other".into(), "x".into());
        spoilt.metadata.annotations.as_mut().unwrap().insert("mine".into(), "y".into());
        let Some(Step::Replace(mended)) = plan(Some(&namespace), Some(&spoilt), "PEM") else {
            panic!("not mended")
        };
        assert_eq!(mended.data, made.data);
        assert_eq!(mended.metadata.annotations.unwrap()["mine"], "y");
    }
}
