//! A node for tests: a private containerd, the agent's pod workers, and an API that is a map.
#![allow(clippy::unwrap_used, reason = "tests may")]

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestStatus};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, Secret, Service};
use kijabi_agent::api::{ApiError, ObjectSource, PodChange};
use kijabi_agent::containerd::{self, Paths, network};
use kijabi_agent::events::Recorder;
use kijabi_agent::image::{import, pause};
use kijabi_agent::pod::{Known, NodeContext, Shared};
use kijabi_agent::runtime::Runtime;
use kijabi_agent::runtime::cri::Cri;
use kijabi_agent::volume::Volumes;
use kijabi_base::tasks::Shutdown;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// Long enough for a busy machine, short enough to see a hang.
const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until something holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "in vain waited for: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[derive(Default)]
struct Objects {
    pods: BTreeMap<String, Value>,
    config_maps: BTreeMap<String, ConfigMap>,
    events: Vec<Event>,
    counter: u64,
}

/// The API, as far as a node needs it.
pub(crate) struct FakeApi {
    objects: Mutex<Objects>,
    changes: broadcast::Sender<PodChange>,
}

impl FakeApi {
    fn new() -> Arc<Self> {
        Arc::new(Self { objects: Mutex::default(), changes: broadcast::channel(1_024).0 })
    }

    fn tell(&self, pod: &Value) {
        let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
        let _ = self.changes.send(PodChange::Applied(Box::new(pod)));
    }
}

/// Merges as a strategic merge patch does with a pod's status.
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        let merge_key = match key.as_str() {
            "conditions" => Some("type"),
            "podIPs" | "hostIPs" => Some("ip"),
            _ => None,
        };
        match (merge_key, value) {
            (_, Value::Null) => {
                target.as_object_mut().unwrap().remove(key);
            }
            (Some(by), Value::Array(items)) => {
                let mut list = target[key].as_array().cloned().unwrap_or_default();
                for item in items {
                    let known = list.iter().position(|it| it[by] == item[by]);
                    match known {
                        Some(at) if item["$patch"] == "delete" => drop(list.remove(at)),
                        Some(at) => list[at] = item.clone(),
                        None => list.push(item.clone()),
                    }
                }
                target[key] = Value::Array(list);
            }
            (None, Value::Object(_)) => merge(&mut target[key], value),
            _ => target[key] = value.clone(),
        }
    }
}

#[async_trait::async_trait]
impl ObjectSource for FakeApi {
    fn pods(&self, _: &str) -> BoxStream<'static, PodChange> {
        let changes = self.changes.subscribe();
        let all = self.objects.lock().pods.values().cloned().collect::<Vec<_>>();
        let all = all.into_iter().map(|pod| serde_json::from_value(pod).unwrap()).collect();
        let rest = tokio_stream::wrappers::BroadcastStream::new(changes);
        let rest = rest.filter_map(|change| async { change.ok() });
        futures::stream::once(async { PodChange::Listed(all) }).chain(rest).boxed()
    }

    async fn config_map(&self, _: &str, name: &str) -> Result<Option<ConfigMap>, ApiError> {
        Ok(self.objects.lock().config_maps.get(name).cloned())
    }

    async fn secret(&self, _: &str, _: &str) -> Result<Option<Secret>, ApiError> {
        Ok(None)
    }

    async fn services(&self, _: &str) -> Result<Vec<Arc<Service>>, ApiError> {
        Ok(Vec::new())
    }

    async fn token(
        &self,
        _: &str,
        account: &str,
        _: &TokenRequest,
    ) -> Result<TokenRequestStatus, ApiError> {
        Ok(serde_json::from_value(json!({
            "token": format!("token-of-{account}"),
            "expirationTimestamp": "2100-01-01T00:00:00Z",
        }))
        .unwrap())
    }

    async fn patch_pod_status(&self, _: &str, name: &str, patch: &Value) -> Result<Pod, ApiError> {
        let mut objects = self.objects.lock();
        let uid = patch["metadata"]["uid"].as_str().unwrap_or_default();
        let Some(pod) = objects.pods.get_mut(uid) else {
            return Err(ApiError::NotFound(format!("pods {name:?} not found")));
        };
        merge(&mut pod["status"], &patch["status"]);
        let pod = pod.clone();
        self.tell(&pod);
        Ok(serde_json::from_value(pod).unwrap())
    }

    async fn delete_pod(&self, _: &str, _: &str, uid: &str) -> Result<(), ApiError> {
        let pod = self.objects.lock().pods.remove(uid);
        if let Some(pod) = pod {
            let pod = Box::new(serde_json::from_value(pod).unwrap());
            let _ = self.changes.send(PodChange::Deleted(pod));
        }
        Ok(())
    }

    async fn create_event(&self, event: &Event) -> Result<(), ApiError> {
        self.objects.lock().events.push(event.clone());
        Ok(())
    }

    async fn patch_event(&self, _: &str, _: &str, _: &Value) -> Result<(), ApiError> {
        Ok(())
    }
}

/// A node's folder. A test that fails leaves no containers behind either.
struct Folder(tempfile::TempDir);

impl Drop for Folder {
    fn drop(&mut self) {
        let folder = self.0.path().to_owned();
        let ended = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(kijabi_agent::teardown(&folder)).unwrap();
        });
        let _ = ended.join();
    }
}

/// A node with its API.
pub(crate) struct World {
    folder: Folder,
    paths: Paths,
    api: Arc<FakeApi>,
    runtime: Arc<Cri>,
    shutdown: Shutdown,
    agent: tokio::task::JoinHandle<()>,
}

impl World {
    /// Starts a private containerd and the agent's workers on it.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("kijabi-agent-").tempdir().unwrap();
        Self::with(Folder(folder), FakeApi::new()).await
    }

    async fn with(folder: Folder, api: Arc<FakeApi>) -> Self {
        let paths = Paths::new(folder.0.path());
        containerd::ensure(&paths).await.expect("a containerd of its own needs root");
        let runtime = Arc::new(Cri::connect(&paths.socket));
        if runtime.image(pause::NAME).await.unwrap().is_none() {
            import::import(&paths.socket, &pause::build().unwrap()).await.unwrap();
            let tools = image();
            import::import(&paths.socket, &tools).await.unwrap();
        }
        // A range of its own for each node of these tests: they run at the same time.
        let third = u8::from_str_radix(&paths.id[..2], 16).unwrap();
        let cidr = format!("172.29.{third}.0/24").parse().unwrap();
        network::configure(&paths, cidr, None).await.unwrap();
        eventually("the pod network", || async {
            runtime.health().await.is_ok_and(|health| health.network.is_none())
        })
        .await;
        let shutdown = Shutdown::new();
        let shared = Arc::new(Shared {
            source: api.clone(),
            runtime: runtime.clone(),
            events: Recorder::start(api.clone(), "node", shutdown.clone()),
            node: NodeContext {
                name: "node".to_owned(),
                ip: [127, 0, 0, 1].into(),
                runtime_name: "containerd".to_owned(),
                pods_max: 110,
                allocatable: (2_000, 1 << 30),
                cluster_dns: Vec::new(),
                cluster_domain: "cluster.local".to_owned(),
                cgroup: paths.cgroup(),
            },
            volumes: Some(Volumes::new(&paths)),
            pulls: tokio::sync::Semaphore::new(2),
            known: Known::default(),
        });
        let run = kijabi_agent::pod::run(shared, shutdown.clone());
        let agent = kijabi_base::tasks::spawn("agent", run);
        Self { folder, paths, api, runtime, shutdown, agent }
    }

    /// Stops the agent, not its containers, and starts another on the same folder.
    pub(crate) async fn restart_agent(self) -> Self {
        self.shutdown.trigger();
        self.agent.await.unwrap();
        Self::with(self.folder, self.api).await
    }

    /// The name of the image with busybox that every node of these tests has.
    #[allow(clippy::unused_self, reason = "reads like a property of the node")]
    pub(crate) fn image(&self) -> &'static str {
        IMAGE
    }

    /// Creates a pod bound to the node.
    pub(crate) fn create(&self, mut pod: Value) -> String {
        let mut objects = self.api.objects.lock();
        objects.counter += 1;
        let uid = format!("00000000-0000-0000-0000-{:012}", objects.counter);
        pod["metadata"]["uid"] = json!(uid);
        pod["spec"]["nodeName"] = json!("node");
        pod["status"] = json!({"phase": "Pending"});
        objects.pods.insert(uid.clone(), pod.clone());
        self.api.tell(&pod);
        uid
    }

    /// Creates a ConfigMap.
    pub(crate) fn config_map(&self, name: &str, data: &[(&str, &str)]) {
        let data: BTreeMap<_, _> = data.iter().copied().collect();
        let map = serde_json::from_value(json!({"data": data})).unwrap();
        self.api.objects.lock().config_maps.insert(name.to_owned(), map);
    }

    /// Marks a pod for deletion, as `kubectl delete` does.
    pub(crate) fn delete(&self, uid: &str, grace: i64) {
        let mut objects = self.api.objects.lock();
        let pod = objects.pods.get_mut(uid).unwrap();
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        let pod = pod.clone();
        self.api.tell(&pod);
    }

    /// The pod as the API has it.
    pub(crate) fn pod(&self, uid: &str) -> Option<Value> {
        self.api.objects.lock().pods.get(uid).cloned()
    }

    /// Waits until a pod is as it should be.
    pub(crate) async fn wait(
        &self,
        uid: &str,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let pod = self.pod(uid).unwrap();
            if holds(&pod) {
                return pod;
            }
            let late = tokio::time::Instant::now() >= deadline;
            assert!(!late, "in vain waited for {what}: {pod:#}\n{:#?}", self.event_messages());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The reasons of all events so far.
    pub(crate) fn event_reasons(&self) -> BTreeSet<String> {
        self.api.objects.lock().events.iter().filter_map(|it| it.reason.clone()).collect()
    }

    /// The messages of all events so far.
    pub(crate) fn event_messages(&self) -> Vec<String> {
        self.api.objects.lock().events.iter().filter_map(|it| it.message.clone()).collect()
    }

    /// A container's log file without its times.
    pub(crate) fn log(&self, pod: &str, uid: &str, container: &str, attempt: u32) -> String {
        let file = format!("{pod}_{uid}/{container}/{attempt}.log");
        let raw = std::fs::read_to_string(self.paths.logs.join(file)).unwrap_or_default();
        raw.lines().map(|line| line.splitn(4, ' ').last().unwrap().to_owned() + "\n").collect()
    }

    /// Kills a container behind the agent's back.
    pub(crate) async fn kill(&self, id: &str) {
        let id = id.trim_start_matches("containerd://");
        self.runtime.stop_container(id, Duration::ZERO).await.unwrap();
    }

    /// Takes everything down, and checks that nothing is left on the machine.
    pub(crate) async fn finish(self) {
        self.shutdown.trigger();
        self.agent.await.unwrap();
        let folder = self.folder.0.path().to_owned();
        kijabi_agent::teardown(&folder).await.unwrap();
        kijabi_agent::teardown(&folder).await.expect("a second time is fine");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(folder.to_str().unwrap()), "mounts are left: {mounts}");
        assert!(!Path::new("/sys/class/net").join(self.paths.bridge()).exists(), "the bridge");
        let group = format!("/sys/fs/cgroup/memory{}", self.paths.cgroup());
        assert!(!Path::new(&group).exists(), "the cgroup {group}");
        assert!(!folder.join("containerd").exists(), "files");
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            assert!(!command.contains(folder.to_str().unwrap()), "still runs: {command}");
        }
    }
}

const IMAGE: &str = "docker.io/kijabi-test/tools:1";

/// busybox as `sh`, `cat` and all else.
fn image() -> Vec<u8> {
    use kijabi_agent::image::{File, Spec, build};

    let busybox = std::fs::read(pause::busybox().unwrap()).unwrap();
    let mut files = vec![
        File::folder("bin", 0o755),
        File::new("bin/busybox", 0o755, busybox),
        File::folder("tmp", 0o1777),
    ];
    files.extend(
        ["sh", "cat", "mkdir", "hostname", "echo"]
            .map(|name| File::link(format!("bin/{name}"), "busybox")),
    );
    build(&Spec {
        name: IMAGE.to_owned(),
        files,
        entrypoint: vec!["/bin/sh".to_owned()],
        env: vec!["PATH=/bin".to_owned()],
        ..Spec::default()
    })
    .unwrap()
}

/// Whether all containers are ready.
pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|it| it["type"] == "Ready" && it["status"] == "True")
}

/// A container's status.
pub(crate) fn status<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let statuses = pod["status"]["containerStatuses"].as_array().unwrap();
    statuses.iter().find(|it| it["name"] == name).unwrap()
}

/// A container's id.
pub(crate) fn container_id(pod: &Value, name: &str) -> String {
    status(pod, name)["containerID"].as_str().unwrap().to_owned()
}

/// A container's restart count.
pub(crate) fn restarts(pod: &Value, name: &str) -> i64 {
    let statuses = pod["status"]["containerStatuses"].as_array();
    let mut statuses = statuses.into_iter().flatten();
    statuses.find(|it| it["name"] == name).map_or(0, |it| it["restartCount"].as_i64().unwrap())
}

/// The body of `GET http://<ip>:<port>/`.
pub(crate) async fn get(ip: &str, port: u16) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let mut stream = tokio::net::TcpStream::connect((ip, port)).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}
