//! containerd's configuration file, and what the machine offers to fill it in.
//!
//! Must not know: whether containerd runs. A newcomer's trap: `restrict_oom_score_adj` is needed
//! wherever the agent lacks CAP_SYS_RESOURCE; without it no container can be started there.

use std::path::{Path, PathBuf};

use super::Paths;
use crate::Error;
use crate::image::pause;

/// The folders where CNI plugins are looked for: Debian's, then the upstream one.
const CNI_FOLDERS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// The configuration, version 2, which containerd 1.6, 1.7 and 2 read.
pub(super) fn containerd_toml(paths: &Paths) -> Result<String, Error> {
    let quoted = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
    let snapshotter = snapshotter(&paths.data);
    Ok(format!(
        r#"# Written by kijabi at each start; changes here are lost.
version = 2
root = {root}
state = {state}
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing",
]

[grpc]
  address = {socket}

[plugins."io.containerd.internal.v1.opt"]
  path = {opt}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  restrict_oom_score_adj = {restrict}
  netns_mounts_under_state_dir = true
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {cni_bin}
    conf_dir = {cni_conf}
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = {runc}
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = {certs}
"#,
        root = quoted(&paths.containerd.join("root")),
        state = quoted(&paths.containerd.join("state")),
        socket = quoted(&paths.socket),
        opt = quoted(&paths.containerd.join("opt")),
        runc = quoted(&paths.containerd.join("runc")),
        pause = pause::NAME,
        restrict = !may_lower_oom_score(),
        cni_bin = quoted(&cni_folder()?),
        cni_conf = quoted(&paths.cni_conf),
        certs = quoted(&paths.certs),
    ))
}

fn cni_folder() -> Result<PathBuf, Error> {
    CNI_FOLDERS.iter().map(PathBuf::from).find(|dir| dir.join("bridge").exists()).ok_or(
        Error::Missing {
            program: "the CNI plugin 'bridge'",
            hint: "apt-get install containernetworking-plugins",
        },
    )
}

/// overlayfs where the kernel has it and the folder does not itself lie on an overlay.
fn snapshotter(data: &Path) -> &'static str {
    const OVERLAYFS_MAGIC: u64 = 0x794c_7630;
    let known = std::fs::read_to_string("/proc/filesystems")
        .is_ok_and(|list| list.lines().any(|line| line.ends_with("\toverlay")));
    let nested = rustix::fs::statfs(data)
        .is_ok_and(|stat| stat.f_type as u64 & 0xffff_ffff == OVERLAYFS_MAGIC);
    if known && !nested { "overlayfs" } else { "native" }
}

/// Whether this process may give a process a lower OOM score than its own (CAP_SYS_RESOURCE).
fn may_lower_oom_score() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .is_some_and(|caps| caps & (1 << CAP_SYS_RESOURCE) != 0)
    })
}
