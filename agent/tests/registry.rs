//! Pulls from a registry on loopback: Debian's docker-registry, mirrored for docker.io.

#![allow(clippy::unwrap_used, reason = "tests may")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use support::{World, eventually};

/// A registry process on a port of its own.
struct Registry {
    process: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Registry {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.yml");
        let root = folder.path().join("data").display().to_string();
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {root}}}}}\n\
             http: {{addr: '127.0.0.1:0'}}\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry must be installed");
        // It says where it listens: port 0 let the kernel choose.
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let rest = line.split_once("listening on ")?.1;
                Some(rest.split(['"', ' ', ',']).next()?.to_owned())
            })
            .expect("the registry says where it listens");
        // Its log must be read on, or it would block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address, _folder: folder }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_come_from_a_registry_and_a_missing_tag_keeps_the_pod_pending() {
    let registry = Registry::start();
    let world = World::start().await;
    world.push(&format!("{}/library/tools:1", registry.address)).await;
    world.mirror("docker.io", &format!("http://{}", registry.address));
    let pod = |name: &str, image: &str| {
        json!({"metadata": {"name": name, "namespace": "default"},
               "spec": {"terminationGracePeriodSeconds": 0, "containers": [
                   {"name": "c", "image": image, "imagePullPolicy": "Always",
                    "command": ["busybox", "sleep", "1000"]}]}})
    };
    // A short name: docker.io/library, and from there to the mirror.
    let good = world.create(pod("good", "tools:1"));
    let direct = world.create(pod("direct", &format!("{}/library/tools:1", registry.address)));
    let missing = world.create(pod("missing", "tools:2"));
    for uid in [&good, &direct] {
        let pod = world.wait(uid, "running", support::is_ready).await;
        let id = support::status(&pod, "c")["imageID"].as_str().unwrap().to_owned();
        assert!(id.contains("library/tools@sha256:"), "{id}");
    }
    let pod = world
        .wait(&missing, "ImagePullBackOff", |pod| {
            let state = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
            state["reason"] == "ImagePullBackOff"
        })
        .await;
    assert_eq!(pod["status"]["phase"], "Pending");
    let messages = world.event_messages();
    let has = |start: &str| messages.iter().any(|text| text.starts_with(start));
    assert!(has("Successfully pulled image \"tools:1\" in "), "{messages:#?}");
    assert!(has("Failed to pull image \"tools:2\": rpc error: code = NotFound"), "{messages:#?}");
    assert!(has("Back-off pulling image \"tools:2\""), "{messages:#?}");
    for uid in [good, direct, missing] {
        world.delete(&uid, 0);
        eventually("gone", || async { world.pod(&uid).is_none() }).await;
    }
    world.finish().await;
}
