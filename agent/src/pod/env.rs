//! A container's environment: declared variables, references, service variables, `$(VAR)`.
//!
//! Pure: ConfigMaps, Secrets and services come in. A newcomer's trap: `$(VAR)` sees only what was
//! declared before it, unknown names stay as they are written, and `$$` is one dollar.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ConfigMap, Container as Wanted, EnvVarSource, Pod, Secret, Service,
};

use super::PodError;
use super::fields::{self, Around};

/// The reason for anything wrong with a container's configuration.
const CONFIG_ERROR: &str = "CreateContainerConfigError";

/// What variables may refer to.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// ConfigMaps by name; none: does not exist.
    pub config_maps: BTreeMap<String, Option<ConfigMap>>,
    /// Secrets by name; none: does not exist.
    pub secrets: BTreeMap<String, Option<Secret>>,
    /// Services whose variables are set.
    pub services: Vec<Arc<Service>>,
}

/// The names of the ConfigMaps and Secrets a container's environment refers to.
pub fn references(wanted: &Wanted) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut config_maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for from in wanted.env_from.iter().flatten() {
        config_maps.extend(from.config_map_ref.as_ref().map(|it| it.name.clone()));
        secrets.extend(from.secret_ref.as_ref().map(|it| it.name.clone()));
    }
    for source in wanted.env.iter().flatten().filter_map(|it| it.value_from.as_ref()) {
        config_maps.extend(source.config_map_key_ref.as_ref().map(|it| it.name.clone()));
        secrets.extend(source.secret_key_ref.as_ref().map(|it| it.name.clone()));
    }
    (config_maps, secrets)
}

/// The environment, later values of a name in the place of earlier ones.
pub(crate) fn build(
    pod: &Pod,
    wanted: &Wanted,
    around: &Around,
    objects: &Objects,
) -> Result<Vec<(String, String)>, PodError> {
    let mut env = Variables::default();
    for (name, value) in service_variables(&objects.services) {
        env.set(name, value);
    }
    for from in wanted.env_from.iter().flatten() {
        let prefix = from.prefix.clone().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref {
            let optional = reference.optional.unwrap_or_default();
            if let Some(map) = config_map(objects, &reference.name, optional)? {
                for (key, value) in map.data.iter().flatten() {
                    env.set(format!("{prefix}{key}"), value.clone());
                }
            }
        }
        if let Some(reference) = &from.secret_ref {
            let optional = reference.optional.unwrap_or_default();
            if let Some(secret) = secret(objects, &reference.name, optional)? {
                for (key, value) in secret.data.iter().flatten() {
                    let value = String::from_utf8_lossy(&value.0).into_owned();
                    env.set(format!("{prefix}{key}"), value);
                }
            }
        }
    }
    for variable in wanted.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(source) => from_source(pod, wanted, around, objects, source)?,
            None => {
                Some(expand(variable.value.as_deref().unwrap_or_default(), |name| env.get(name)))
            }
        };
        if let Some(value) = value {
            env.set(variable.name.clone(), value);
        }
    }
    Ok(env.0)
}

/// Names and values in the order they were first set.
#[derive(Default)]
struct Variables(Vec<(String, String)>);

impl Variables {
    fn set(&mut self, name: String, value: String) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }
}

fn from_source(
    pod: &Pod,
    wanted: &Wanted,
    around: &Around,
    objects: &Objects,
    source: &EnvVarSource,
) -> Result<Option<String>, PodError> {
    let bad = |message: String| PodError::new(CONFIG_ERROR, message);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(reference) = &source.field_ref {
        return fields::field(pod, around, &reference.field_path).map(Some).map_err(bad);
    }
    if let Some(selector) = &source.resource_field_ref {
        return fields::resource(pod, around, selector, Some(wanted)).map(Some).map_err(bad);
    }
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional.unwrap_or_default();
        let Some(map) = config_map(objects, &reference.name, optional)? else { return Ok(None) };
        let value = map.data.as_ref().and_then(|data| data.get(&reference.key));
        return match value {
            None if !optional => Err(bad(format!(
                "couldn't find key {} in ConfigMap {namespace}/{}",
                reference.key, reference.name
            ))),
            value => Ok(value.cloned()),
        };
    }
    if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional.unwrap_or_default();
        let Some(secret) = secret(objects, &reference.name, optional)? else { return Ok(None) };
        let value = secret.data.as_ref().and_then(|data| data.get(&reference.key));
        return match value {
            None if !optional => Err(bad(format!(
                "couldn't find key {} in Secret {namespace}/{}",
                reference.key, reference.name
            ))),
            value => Ok(value.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned())),
        };
    }
    Err(bad("this kind of env valueFrom is not supported by this node".to_owned()))
}

fn config_map<'a>(
    objects: &'a Objects,
    name: &str,
    optional: bool,
) -> Result<Option<&'a ConfigMap>, PodError> {
    match objects.config_maps.get(name).and_then(Option::as_ref) {
        None if !optional => {
            Err(PodError::new(CONFIG_ERROR, format!("configmap {name:?} not found")))
        }
        found => Ok(found),
    }
}

fn secret<'a>(
    objects: &'a Objects,
    name: &str,
    optional: bool,
) -> Result<Option<&'a Secret>, PodError> {
    match objects.secrets.get(name).and_then(Option::as_ref) {
        None if !optional => Err(PodError::new(CONFIG_ERROR, format!("secret {name:?} not found"))),
        found => Ok(found),
    }
}

/// Replaces `$(NAME)` by what `lookup` gives; `$$` is a dollar; anything else stays.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|it| it.split_once(')'))
        {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out + rest
}

/// The variables that tell where services are, as Kubernetes and Docker links name them.
fn service_variables(services: &[Arc<Service>]) -> Vec<(String, String)> {
    let mut list = Vec::new();
    for service in services {
        let Some(spec) = &service.spec else { continue };
        let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !matches!(*ip, "" | "None")) else {
            continue;
        };
        let ports = spec.ports.as_deref().unwrap_or_default();
        let Some(first) = ports.first() else { continue };
        let upper = |text: &str| text.to_uppercase().replace('-', "_");
        let name = upper(service.metadata.name.as_deref().unwrap_or_default());
        let mut set = |key: String, value: String| list.push((format!("{name}_{key}"), value));
        set("SERVICE_HOST".to_owned(), ip.to_owned());
        set("SERVICE_PORT".to_owned(), first.port.to_string());
        for port in ports {
            if let Some(port_name) = port.name.as_deref().filter(|it| !it.is_empty()) {
                set(format!("SERVICE_PORT_{}", upper(port_name)), port.port.to_string());
            }
        }
        for (index, port) in ports.iter().enumerate() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let url = format!("{}://{ip}:{}", protocol.to_lowercase(), port.port);
            if index == 0 {
                set("PORT".to_owned(), url.clone());
            }
            let base = format!("PORT_{}_{protocol}", port.port);
            set(base.clone(), url);
            set(format!("{base}_PROTO"), protocol.to_lowercase());
            set(format!("{base}_PORT"), port.port.to_string());
            set(format!("{base}_ADDR"), ip.to_owned());
        }
    }
    list
}

#[cfg(test)]
#[path = "env_tests.rs"]
mod tests;
