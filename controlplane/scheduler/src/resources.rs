//! Amounts: quantities as Kubernetes writes them, and sums of them.
//!
//! Owns: parsing and adding. Must not know: pods and nodes beyond their resource maps. A newcomer's
//! trap: cpu counts in thousandths, all else in whole units, and fractions round up.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The request assumed for scoring when a container names none (kube-scheduler's values).
const CPU_MILLIS_ASSUMED: i64 = 100;
const MEMORY_BYTES_ASSUMED: i64 = 200 * 1024 * 1024;

type Amounts = BTreeMap<String, Quantity>;

/// Amounts of the resources a pod asks for or a node has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a processor.
    pub cpu_millis: i64,
    /// Bytes of memory.
    pub memory_bytes: i64,
    /// Bytes of local disk.
    pub ephemeral_bytes: i64,
    /// Pods (only nodes have this).
    pub pods: i64,
    /// All others by name: extended resources and huge pages. Sorted by name.
    pub scalars: Vec<(Arc<str>, i64)>,
}

/// A quantity in billionths, or none if it is not one.
pub fn parse_nanos(text: &str) -> Option<i128> {
    let end = text
        .find(|letter: char| !(letter.is_ascii_digit() || matches!(letter, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let unit: i128 = 1_000_000_000;
    let scale = match suffix {
        "" => unit,
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "k" => unit * 1_000,
        "M" => unit * 1_000_000,
        "G" => unit * 1_000_000_000,
        "T" => unit * 1_000_000_000_000,
        "P" => unit * 1_000_000_000_000_000,
        "E" => unit * 1_000_000_000_000_000_000,
        "Ki" => unit << 10,
        "Mi" => unit << 20,
        "Gi" => unit << 30,
        "Ti" => unit << 40,
        "Pi" => unit << 50,
        "Ei" => unit << 60,
        _ => exponent(suffix)?,
    };
    scaled(number, scale)
}

/// The scale of `e3` or `E-3`.
fn exponent(suffix: &str) -> Option<i128> {
    let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    10_i128.checked_pow(u32::try_from(power + 9).ok()?)
}

/// `number`, a decimal fraction, times `scale`, rounded up.
fn scaled(number: &str, scale: i128) -> Option<i128> {
    let (sign, digits) = match number.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let part = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i128>().ok() };
    // More than 18 decimals cannot change a rounded-up billionth by more than one.
    let fraction = fraction.get(..fraction.len().min(18))?;
    let tens = 10_i128.checked_pow(fraction.len() as u32)?;
    let rounded_up = (part(fraction)?.checked_mul(scale)? + tens - 1) / tens;
    Some(sign * part(whole)?.checked_mul(scale)?.checked_add(rounded_up)?)
}

fn whole(quantity: &Quantity) -> i64 {
    rounded(quantity, 1_000_000_000)
}

fn millis(quantity: &Quantity) -> i64 {
    rounded(quantity, 1_000_000)
}

/// Rounded up to `unit` billionths; what does not parse counts as nothing, what is too much as all.
fn rounded(quantity: &Quantity, unit: i128) -> i64 {
    let nanos = parse_nanos(&quantity.0).unwrap_or(0);
    let up = nanos.div_euclid(unit) + i128::from(nanos.rem_euclid(unit) != 0);
    i64::try_from(up).unwrap_or(i64::MAX)
}

// === impl Resources ===

impl Resources {
    /// The sum of a resource map.
    pub fn from_amounts(amounts: Option<&Amounts>) -> Self {
        let mut sum = Self::default();
        for (name, quantity) in amounts.into_iter().flatten() {
            match name.as_str() {
                "cpu" => sum.cpu_millis = millis(quantity),
                "memory" => sum.memory_bytes = whole(quantity),
                "ephemeral-storage" => sum.ephemeral_bytes = whole(quantity),
                "pods" => sum.pods = whole(quantity),
                name => sum.scalars.push((Arc::from(name), whole(quantity))),
            }
        }
        sum
    }

    /// How much there is of the scalar `name`.
    pub fn scalar(&self, name: &str) -> i64 {
        self.scalars
            .binary_search_by(|(known, _)| known.as_ref().cmp(name))
            .map_or(0, |at| self.scalars[at].1)
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.merge(other, i64::saturating_add);
    }

    /// Takes `other` away.
    pub fn subtract(&mut self, other: &Self) {
        self.merge(other, i64::saturating_sub);
    }

    /// Raises each amount to at least `other`'s.
    pub fn raise_to(&mut self, other: &Self) {
        self.merge(other, i64::max);
    }

    fn merge(&mut self, other: &Self, with: fn(i64, i64) -> i64) {
        self.cpu_millis = with(self.cpu_millis, other.cpu_millis);
        self.memory_bytes = with(self.memory_bytes, other.memory_bytes);
        self.ephemeral_bytes = with(self.ephemeral_bytes, other.ephemeral_bytes);
        for (name, amount) in &other.scalars {
            match self.scalars.binary_search_by(|(known, _)| known.cmp(name)) {
                Ok(at) => self.scalars[at].1 = with(self.scalars[at].1, *amount),
                Err(at) => self.scalars.insert(at, (name.clone(), with(0, *amount))),
            }
        }
    }

    /// Whether nothing is asked for.
    pub fn is_nothing(&self) -> bool {
        self.cpu_millis == 0
            && self.memory_bytes == 0
            && self.ephemeral_bytes == 0
            && self.scalars.iter().all(|(_, amount)| *amount == 0)
    }
}

/// What `pod` asks for.
pub fn requests_of(pod: &Pod) -> Resources {
    pod.spec.as_ref().map(|spec| effective(spec, requests_of_container)).unwrap_or_default()
}

/// What `pod` counts for in scores: as asked, and an assumed amount where nothing is asked.
pub fn scored_requests_of(pod: &Pod) -> Resources {
    pod.spec.as_ref().map(|spec| effective(spec, scored_of_container)).unwrap_or_default()
}

fn requests_of_container(container: &Container) -> Resources {
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    Resources::from_amounts(requests)
}

fn scored_of_container(container: &Container) -> Resources {
    let named = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let has = |name: &str| named.is_some_and(|named| named.contains_key(name));
    let mut requests = requests_of_container(container);
    if !has("cpu") {
        requests.cpu_millis = CPU_MILLIS_ASSUMED;
    }
    if !has("memory") {
        requests.memory_bytes = MEMORY_BYTES_ASSUMED;
    }
    requests
}

/// The most a pod uses at any time: its containers and sidecars together, or an init container
/// beside the sidecars started before it, whichever is more; then the overhead of its runtime.
fn effective(spec: &PodSpec, of: fn(&Container) -> Resources) -> Resources {
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&of(container));
    }
    let mut sidecars = Resources::default();
    let mut starting = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let mut now = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            running.add(&now);
            sidecars.add(&now);
            now = sidecars.clone();
        } else {
            now.add(&sidecars);
        }
        starting.raise_to(&now);
    }
    running.raise_to(&starting);
    let whole_pod = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    override_with(&mut running, whole_pod);
    running.add(&Resources::from_amounts(spec.overhead.as_ref()));
    running
}

/// What is asked for the pod as a whole stands in place of what its containers ask for.
fn override_with(running: &mut Resources, whole_pod: Option<&Amounts>) {
    let Some(amounts) = whole_pod else { return };
    let asked = Resources::from_amounts(Some(amounts));
    if amounts.contains_key("cpu") {
        running.cpu_millis = asked.cpu_millis;
    }
    if amounts.contains_key("memory") {
        running.memory_bytes = asked.memory_bytes;
    }
    for (name, amount) in asked.scalars {
        match running.scalars.binary_search_by(|(known, _)| known.cmp(&name)) {
            Ok(at) => running.scalars[at].1 = amount,
            Err(at) => running.scalars.insert(at, (name, amount)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities() {
        let unit = 1_000_000_000;
        for (text, nanos) in [
            ("1", Some(unit)),
            ("100m", Some(unit / 10)),
            ("0.5", Some(unit / 2)),
            (".5", Some(unit / 2)),
            ("2Ki", Some(2048 * unit)),
            ("1.5Gi", Some(3 * (unit << 29))),
            ("1e3", Some(1_000 * unit)),
            ("12E", Some(12 * unit * 1_000_000_000_000_000_000)),
            ("5n", Some(5)),
            ("-1", Some(-unit)),
            ("0.0000000001", Some(1)),
            ("", None),
            ("x", None),
            ("1Q", None),
            ("99999999999999999999999999999999999999", None),
        ] {
            assert_eq!(parse_nanos(text), nanos, "{text}");
        }
    }

    #[test]
    fn amounts_round_up_and_cap() {
        assert_eq!(millis(&Quantity("100u".into())), 1);
        assert_eq!(whole(&Quantity("100m".into())), 1);
        assert_eq!(whole(&Quantity("9000E".into())), i64::MAX);
    }

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({ "spec": spec })).unwrap()
    }

    fn asks(cpu: &str) -> serde_json::Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn init_containers_sidecars_and_overhead() {
        let mut sidecar = asks("300m");
        sidecar["restartPolicy"] = json!("Always");
        let table = [
            (json!({"containers": [asks("1"), asks("2")]}), 3_000),
            (json!({"containers": [asks("1")], "initContainers": [asks("4"), asks("2")]}), 4_000),
            (json!({"containers": [asks("1")], "initContainers": [sidecar, asks("2")]}), 2_300),
            (json!({"containers": [asks("2")], "initContainers": [asks("2"), sidecar]}), 2_300),
            (json!({"containers": [asks("1")], "overhead": {"cpu": "250m"}}), 1_250),
            (json!({"containers": [asks("1")], "resources": {"requests": {"cpu": "5"}}}), 5_000),
        ];
        for (spec, cpu_millis) in table {
            assert_eq!(requests_of(&pod(spec.clone())).cpu_millis, cpu_millis, "{spec}");
        }
    }

    #[test]
    fn a_container_that_asks_for_nothing_still_counts_in_scores() {
        let pod = pod(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
        assert!(requests_of(&pod).is_nothing());
        assert_eq!(scored_requests_of(&pod).cpu_millis, 200);
        assert_eq!(scored_requests_of(&pod).memory_bytes, 2 * MEMORY_BYTES_ASSUMED);
    }

    #[test]
    fn scalars_add_and_subtract_by_name() {
        let gpus = |count: i64| Resources {
            scalars: vec![(Arc::from("example.com/gpu"), count)],
            ..Resources::default()
        };
        let mut sum = gpus(2);
        sum.add(&gpus(3));
        sum.subtract(&gpus(1));
        assert_eq!((sum.scalar("example.com/gpu"), sum.scalar("other")), (4, 0));
    }
}
