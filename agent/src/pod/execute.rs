//! Does the steps of a plan: the calls to the runtime, with their events and failures.
//!
//! Must not know: which steps are due. A newcomer's trap: a container that fails to start does not
//! keep its neighbours from starting; a sandbox that fails ends the round.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Wanted, Pod, VolumeMount};

use super::env::{self, Objects};
use super::fields::Around;
use super::plan::{Step, app_containers, init_containers};
use super::worker::Worker;
use super::{Failure, PodError, Waiting, admit, files, image, spec};
use crate::events::Kind;
use crate::runtime::{Mount, Observed, SandboxSpec};
use crate::volume::{Places, blocking, sub_path};

/// Wait after a sandbox or a container could not be made (the kubelet's pod back-off period).
const RETRY_MILLIS: i64 = 10_000;

/// What came of a plan's steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Something was done, so that the pod must be looked at again.
    pub(super) changed: bool,
    /// Something failed; its retry time is noted.
    pub(super) failed: bool,
}

impl Worker {
    /// Does the steps in order.
    pub(super) async fn execute(
        &mut self,
        pod: &Pod,
        observed: &Observed,
        steps: &[Step],
    ) -> Outcome {
        let mut outcome = Outcome::default();
        for step in steps {
            let done = match step {
                Step::RunSandbox { attempt } => self.run_sandbox(pod, *attempt).await,
                Step::StopSandbox { id } => {
                    let stopped = self.shared.runtime.stop_sandbox(id).await;
                    stopped.map_err(|error| PodError::new("KillPodSandboxError", error.to_string()))
                }
                Step::RemoveSandbox { id } => {
                    let removed = self.shared.runtime.remove_sandbox(id).await;
                    removed.map_err(|error| PodError::new("RemoveSandboxError", error.to_string()))
                }
                Step::RemoveContainer { id } => {
                    let removed = self.shared.runtime.remove_container(id).await;
                    removed
                        .map_err(|error| PodError::new("RemoveContainerError", error.to_string()))
                }
                Step::Kill { id, name, message } => self.kill(pod, id, name, message).await,
                Step::Start { name, attempt, after } => {
                    match self.start(pod, observed, name, *attempt, *after).await {
                        // Its own failure is noted; the others go on.
                        Err(_) => {
                            outcome.failed = true;
                            continue;
                        }
                        done => done,
                    }
                }
            };
            if let Err(error) = done {
                tracing::warn!(pod = %self.uid, %error, ?step, "a step failed");
                outcome.failed = true;
                return outcome;
            }
            outcome.changed = true;
        }
        outcome
    }

    fn sandbox_spec(&self, pod: &Pod, attempt: u32) -> SandboxSpec {
        let meta = &pod.metadata;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let (log_dir, dns) = match &self.shared.volumes {
            None => (String::new(), None),
            Some(volumes) => {
                let folder =
                    volumes.log_folder(&text(&meta.namespace), &text(&meta.name), &self.uid);
                let node = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
                let dns = files::dns(pod, &self.shared.node, &node);
                (folder.display().to_string(), Some(dns))
            }
        };
        spec::sandbox(pod, &self.shared.node, attempt, log_dir, dns)
    }

    async fn run_sandbox(&mut self, pod: &Pod, attempt: u32) -> Result<(), PodError> {
        if attempt > 0 {
            let text = "Pod sandbox changed, it will be killed and re-created.";
            self.shared.events.pod(pod, Kind::Normal, "SandboxChanged", text);
        }
        let spec = self.sandbox_spec(pod, attempt);
        if !spec.log_dir.is_empty() {
            std::fs::create_dir_all(&spec.log_dir)
                .map_err(|error| PodError::new("CreatePodSandboxError", error.to_string()))?;
        }
        let made = match admit::unsupported(pod) {
            Some(what) => Err(what),
            None => self.shared.runtime.run_sandbox(&spec).await.map_err(|it| it.to_string()),
        };
        match made {
            Ok(_) => {
                self.local.sandbox_retry_at = 0;
                Ok(())
            }
            Err(error) => {
                self.local.sandbox_retry_at = self.now() + RETRY_MILLIS;
                let text = format!("Failed to create pod sandbox: {error}");
                self.shared.events.pod(pod, Kind::Warning, "FailedCreatePodSandBox", text);
                Err(PodError::new("CreatePodSandboxError", error))
            }
        }
    }

    async fn kill(
        &mut self,
        pod: &Pod,
        id: &str,
        name: &str,
        message: &str,
    ) -> Result<(), PodError> {
        self.shared.events.container(pod, name, Kind::Normal, "Killing", message);
        let grace = pod.spec.as_ref().and_then(|it| it.termination_grace_period_seconds);
        let wanted =
            app_containers(pod).iter().chain(init_containers(pod)).find(|it| it.name == name);
        let probe = wanted.and_then(|it| match &self.local.probes.get(id) {
            Some(state) if state.startup_failed => it.startup_probe.as_ref(),
            Some(state) if state.liveness_failed => it.liveness_probe.as_ref(),
            _ => None,
        });
        let grace =
            probe.and_then(|it| it.termination_grace_period_seconds).or(grace).unwrap_or(30);
        self.stop_container(pod, id, name, Duration::from_secs(grace.max(0) as u64))
            .await
            .map_err(|error| PodError::new("KillContainerError", error.to_string()))
    }

    async fn start(
        &mut self,
        pod: &Pod,
        observed: &Observed,
        name: &str,
        attempt: u32,
        after: Option<i64>,
    ) -> Result<(), PodError> {
        let containers = app_containers(pod).iter().chain(init_containers(pod));
        let Some(wanted) = containers.clone().find(|it| it.name == name) else { return Ok(()) };
        let now = self.now();
        if let Some(ended) = after {
            self.local.restarts.entry(name.to_owned()).or_default().tried(ended, now);
        }
        let mut updates = self.updates.clone();
        let image = image::ensure(&self.shared, pod, wanted, &mut self.local.pulls, now);
        let image = tokio::select! {
            image = image => image,
            // A pull can take minutes; a pod that is deleted meanwhile does not wait for it.
            () = super::worker::stop_wanted(&mut updates) => {
                return Err(PodError::new("Canceled", "the pod is being deleted"));
            }
        };
        let image = match image {
            Ok(image) => image,
            Err(absent) => {
                let now_shown = Waiting {
                    reason: absent.error.reason.to_owned(),
                    message: absent.error.message.clone(),
                };
                self.errors.insert(name.to_owned(), now_shown);
                self.local.failures.insert(name.to_owned(), absent.failure);
                return Err(absent.error);
            }
        };
        match self.create_and_start(pod, wanted, observed, attempt, &image).await {
            Ok(()) => {
                self.local.failures.remove(name);
                self.errors.remove(name);
                Ok(())
            }
            Err(error) => {
                self.shared.events.container(
                    pod,
                    name,
                    Kind::Warning,
                    "Failed",
                    format!("Error: {}", error.message),
                );
                let held =
                    Waiting { reason: error.reason.to_owned(), message: error.message.clone() };
                let retry_at = self.now() + RETRY_MILLIS;
                self.errors.insert(name.to_owned(), held.clone());
                self.local.failures.insert(name.to_owned(), Failure { retry_at, held });
                Err(error)
            }
        }
    }

    async fn create_and_start(
        &mut self,
        pod: &Pod,
        wanted: &Wanted,
        observed: &Observed,
        attempt: u32,
        image: &crate::runtime::Image,
    ) -> Result<(), PodError> {
        let Some(sandbox) = observed.sandboxes.first() else { return Ok(()) };
        let around = self.around(pod, observed);
        let objects = self.objects(pod, wanted).await?;
        let env = env::build(pod, wanted, &around, &objects)?;
        let mounts = self.mounts(pod, wanted, attempt, &around, &env).await?;
        let memory_total = self.shared.node.allocatable.1;
        let prepared = spec::Prepared { image, env, mounts, attempt, memory_total };
        let spec = spec::container(pod, wanted, prepared)?;
        let sandbox_spec = self.sandbox_spec(pod, sandbox.attempt);
        if !sandbox_spec.log_dir.is_empty() {
            let folder = std::path::Path::new(&sandbox_spec.log_dir).join(&wanted.name);
            std::fs::create_dir_all(&folder)
                .map_err(|error| PodError::new("CreateContainerError", error.to_string()))?;
        }
        let runtime = self.shared.runtime.clone();
        let id = runtime
            .create_container(&sandbox.id, &spec, &sandbox_spec)
            .await
            .map_err(|error| PodError::new("CreateContainerError", error.to_string()))?;
        let event = |reason: &str, text: &str| {
            self.shared.events.container(pod, &wanted.name, Kind::Normal, reason, text);
        };
        event("Created", "Container created");
        runtime
            .start_container(&id)
            .await
            .map_err(|error| PodError::new("RunContainerError", error.to_string()))?;
        event("Started", "Container started");
        self.post_start(pod, wanted, &id, &around).await
    }

    /// What fields of the pod may be asked for.
    pub(super) fn around(&self, pod: &Pod, observed: &Observed) -> Around {
        let host_network = pod.spec.as_ref().and_then(|it| it.host_network).unwrap_or_default();
        let pod_ips = match observed.sandboxes.first() {
            _ if host_network => vec![self.shared.node.ip.to_string()],
            Some(sandbox) => sandbox.ips.clone(),
            None => Vec::new(),
        };
        Around { pod_ips, host_ip: self.shared.node.ip, allocatable: self.shared.node.allocatable }
    }

    /// The ConfigMaps, Secrets and services a container's environment refers to.
    async fn objects(&self, pod: &Pod, wanted: &Wanted) -> Result<Objects, PodError> {
        let mut objects = Objects::default();
        // A simulated container runs nothing that would read its environment. References are
        // resolved all the same: a missing ConfigMap holds the pod back as it does on a node.
        if self.shared.volumes.is_some() {
            objects.services = self.services(pod).await?;
        }
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let (config_maps, secrets) = env::references(wanted);
        let failed = |error: crate::api::ApiError| {
            PodError::new("CreateContainerConfigError", error.to_string())
        };
        for name in config_maps {
            let found = self.shared.source.config_map(namespace, &name).await.map_err(failed)?;
            objects.config_maps.insert(name, found);
        }
        for name in secrets {
            let found = self.shared.source.secret(namespace, &name).await.map_err(failed)?;
            objects.secrets.insert(name, found);
        }
        Ok(objects)
    }

    async fn services(
        &self,
        pod: &Pod,
    ) -> Result<Vec<std::sync::Arc<k8s_openapi::api::core::v1::Service>>, PodError> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let failed = |error: crate::api::ApiError| {
            PodError::new("CreateContainerConfigError", error.to_string())
        };
        let links = pod.spec.as_ref().and_then(|it| it.enable_service_links).unwrap_or(true);
        // The API's own service is always announced; the others only if the pod wants links.
        let mut services = self.shared.source.services("default").await.map_err(failed)?;
        services.retain(|it| it.metadata.name.as_deref() == Some("kubernetes"));
        if links {
            let own = self.shared.source.services(namespace).await.map_err(failed)?;
            if namespace == "default" {
                services.clear();
            }
            services.extend(own);
        }
        services.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        Ok(services)
    }

    async fn mounts(
        &self,
        pod: &Pod,
        wanted: &Wanted,
        attempt: u32,
        around: &Around,
        env: &[(String, String)],
    ) -> Result<Vec<Mount>, PodError> {
        let Some(volumes) = &self.shared.volumes else { return Ok(Vec::new()) };
        let failed = |message: String| PodError::new("CreateContainerConfigError", message);
        let mut mounts = Vec::new();
        for (index, mount) in wanted.volume_mounts.iter().flatten().enumerate() {
            let host = self.mount_source(&wanted.name, index, mount, &self.places, env).await;
            let host = host.map_err(failed)?;
            mounts.push(Mount {
                container: mount.mount_path.clone(),
                host: host.display().to_string(),
                readonly: mount.read_only.unwrap_or_default()
                    || spec::is_written_by_agent(pod, &mount.name),
                propagation: spec::propagation(mount.mount_propagation.as_deref()),
            });
        }
        let file = |name: String, content: &str, mode: u32| {
            let written = volumes.write_file(&self.uid, &name, content, mode);
            written.map(|path| path.display().to_string()).map_err(|it| failed(it.to_string()))
        };
        let mut own = |path: &str, host: String| {
            if !mounts.iter().any(|mount| mount.container == path) {
                let container = path.to_owned();
                mounts.push(Mount { container, host, ..Mount::default() });
            }
        };
        let host_network = pod.spec.as_ref().and_then(|it| it.host_network).unwrap_or_default();
        let hosts = if host_network {
            files::host_network_hosts(
                pod,
                &std::fs::read_to_string("/etc/hosts").unwrap_or_default(),
            )
        } else {
            files::hosts(pod, around.pod_ips.first().map(String::as_str), &self.shared.node)
        };
        own("/etc/hosts", file("etc-hosts".to_owned(), &hosts, 0o644)?);
        let log = wanted.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
        let message = format!("containers/{}/{attempt}", wanted.name);
        own(log, file(message, "", 0o666)?);
        Ok(mounts)
    }

    /// The path on the host behind one volume mount.
    async fn mount_source(
        &self,
        container: &str,
        index: usize,
        mount: &VolumeMount,
        places: &Places,
        env: &[(String, String)],
    ) -> Result<std::path::PathBuf, String> {
        let place = places
            .get(&mount.name)
            .ok_or_else(|| format!("volume {:?} is not mounted", mount.name))?
            .clone();
        let expression = mount.sub_path_expr.as_deref().filter(|it| !it.is_empty());
        let sub = match expression {
            Some(expression) => Some(env::expand(expression, |name| {
                env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
            })),
            None => mount.sub_path.clone().filter(|it| !it.is_empty()),
        };
        let (Some(sub), Some(volumes)) = (sub, &self.shared.volumes) else { return Ok(place) };
        let target = volumes
            .pod_folder(&self.uid)
            .join("volume-subpaths")
            .join(&mount.name)
            .join(container)
            .join(index.to_string());
        blocking(move || {
            sub_path::bind(&place, &sub, &target)?;
            Ok(target)
        })
        .await
    }
}
