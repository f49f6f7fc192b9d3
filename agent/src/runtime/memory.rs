//! A runtime that only pretends: containers are entries in a map, and run until they are stopped.
//!
//! It stands behind `--hollow`: the same agent code runs on it for scheduling and scale tests.
//! Must not know: Kubernetes objects. A newcomer's trap: all nodes of a process draw addresses from
//! one counter, in 198.18.0.0/15, the range set aside for benchmarks; nothing answers there.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::{
    Auth, Container, ContainerSpec, ExecOutput, Health, Image, Observed, PodRecord, Result,
    RunState, Runtime, RuntimeError, Sandbox, SandboxSpec, Version, label,
};

/// First address of the range simulated pods get theirs from.
const FIRST_ADDRESS: u32 = u32::from_be_bytes([198, 18, 0, 0]);
/// Addresses in 198.18.0.0/15.
const ADDRESSES: u32 = 1 << 17;

/// Hands out pod addresses to all simulated nodes of a process.
#[derive(Clone, Debug, Default)]
pub struct Addresses(Arc<AtomicU32>);

impl Addresses {
    /// The next address. After 131,070 of them the range starts over: nothing routes to them.
    fn next(&self) -> Ipv4Addr {
        let index = self.0.fetch_add(1, Ordering::Relaxed) % (ADDRESSES - 2);
        Ipv4Addr::from(FIRST_ADDRESS + 1 + index)
    }
}

/// The simulated runtime of one node.
#[derive(Debug, Default)]
pub struct Memory {
    pods: Mutex<BTreeMap<String, PodRecord>>,
    addresses: Addresses,
    ids: AtomicU64,
}

impl Memory {
    /// An empty runtime that draws from these addresses.
    pub fn new(addresses: Addresses) -> Self {
        Self { addresses, ..Self::default() }
    }

    fn id(&self, uid: &str) -> String {
        let number = self.ids.fetch_add(1, Ordering::Relaxed);
        crate::image::hex_sha256(format!("{uid}/{number}").as_bytes())
    }

    fn with_container<T>(&self, id: &str, act: impl FnOnce(&mut Container) -> T) -> Result<T> {
        let mut pods = self.pods.lock();
        pods.values_mut()
            .flat_map(|pod| pod.observed.containers.iter_mut())
            .find(|container| container.id == id)
            .map(act)
            .ok_or_else(|| not_found("container", id))
    }
}

fn not_found(what: &str, id: &str) -> RuntimeError {
    RuntimeError::Refused { code: "NotFound", message: format!("{what} {id:?}: not found") }
}

fn nanos() -> i64 {
    kijabi_base::clock::wall_ms() as i64 * 1_000_000
}

fn end(container: &mut Container) {
    if container.state != RunState::Exited {
        container.state = RunState::Exited;
        container.finished_at = nanos();
        container.exit_code = 0;
        "Completed".clone_into(&mut container.reason);
    }
}

#[async_trait::async_trait]
impl Runtime for Memory {
    async fn version(&self) -> Result<Version> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Version { name: "hollow".to_owned(), version })
    }

    async fn health(&self) -> Result<Health> {
        Ok(Health::default())
    }

    async fn list(&self) -> Result<BTreeMap<String, PodRecord>> {
        Ok(self.pods.lock().clone())
    }

    async fn observe(&self, uid: &str) -> Result<Observed> {
        Ok(self.pods.lock().get(uid).map(|pod| pod.observed.clone()).unwrap_or_default())
    }

    async fn run_sandbox(&self, spec: &SandboxSpec) -> Result<String> {
        let id = self.id(&spec.uid);
        let ips = if spec.sharing.host_network {
            Vec::new()
        } else {
            vec![self.addresses.next().to_string()]
        };
        let mut pods = self.pods.lock();
        let pod = pods.entry(spec.uid.clone()).or_default();
        pod.name.clone_from(&spec.name);
        pod.namespace.clone_from(&spec.namespace);
        pod.observed.sandboxes.push(Sandbox {
            id: id.clone(),
            attempt: spec.attempt,
            ready: true,
            created_at: nanos(),
            ips,
        });
        pod.observed.sort();
        Ok(id)
    }

    async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let mut pods = self.pods.lock();
        for pod in pods.values_mut() {
            let Some(sandbox) = pod.observed.sandboxes.iter_mut().find(|it| it.id == id) else {
                continue;
            };
            sandbox.ready = false;
            pod.observed.containers.iter_mut().filter(|it| it.sandbox == id).for_each(end);
        }
        Ok(())
    }

    async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let mut pods = self.pods.lock();
        for pod in pods.values_mut() {
            pod.observed.sandboxes.retain(|it| it.id != id);
            pod.observed.containers.retain(|it| it.sandbox != id);
        }
        pods.retain(|_, pod| pod.observed != Observed::default());
        Ok(())
    }

    async fn create_container(
        &self,
        sandbox: &str,
        spec: &ContainerSpec,
        sandbox_spec: &SandboxSpec,
    ) -> Result<String> {
        let id = self.id(&sandbox_spec.uid);
        let mut pods = self.pods.lock();
        let pod = pods
            .get_mut(&sandbox_spec.uid)
            .filter(|pod| pod.observed.sandboxes.iter().any(|it| it.id == sandbox))
            .ok_or_else(|| not_found("sandbox", sandbox))?;
        debug_assert!(spec.labels.contains_key(label::POD_UID));
        pod.observed.containers.push(Container {
            id: id.clone(),
            sandbox: sandbox.to_owned(),
            name: spec.name.clone(),
            attempt: spec.attempt,
            state: RunState::Created,
            created_at: nanos(),
            image: spec.user_image.clone(),
            image_id: spec.image.clone(),
            annotations: spec.annotations.clone(),
            ..Container::default()
        });
        pod.observed.sort();
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        self.with_container(id, |container| {
            container.state = RunState::Running;
            container.started_at = nanos();
        })
    }

    async fn stop_container(&self, id: &str, _grace: Duration) -> Result<()> {
        match self.with_container(id, end) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        for pod in self.pods.lock().values_mut() {
            pod.observed.containers.retain(|it| it.id != id);
        }
        Ok(())
    }

    async fn exec(&self, id: &str, _: &[String], _: Duration) -> Result<ExecOutput> {
        self.with_container(id, |_| ExecOutput::default())
    }

    async fn reopen_log(&self, id: &str) -> Result<()> {
        self.with_container(id, |_| ())
    }

    async fn image(&self, name: &str) -> Result<Option<Image>> {
        Ok(Some(Image { id: name.to_owned(), tags: vec![name.to_owned()], ..Image::default() }))
    }

    async fn images(&self) -> Result<Vec<Image>> {
        Ok(Vec::new())
    }

    async fn pull(&self, name: &str, _: Option<&Auth>) -> Result<String> {
        Ok(name.to_owned())
    }
}
