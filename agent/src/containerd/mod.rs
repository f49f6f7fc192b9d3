//! The agent's own containerd: where its files are, how it is started, adopted and stopped.
//!
//! Owns: the process and its folder. Must not know: pods. A newcomer's trap: containerd is started
//! in a session of its own and is *not* stopped with the agent. Stopping it would not stop the
//! containers either (each has a shim), so a restart of containerd is harmless, too.

pub mod config;
pub mod network;
pub mod teardown;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};

use crate::Error;
use crate::image::hex_sha256;
use crate::limits::CONTAINERD_START_MAX;

/// What a node needs beside this program, and the Debian package that has it.
const PROGRAMS: [(&str, &str); 7] = [
    ("containerd", "apt-get install containerd"),
    ("containerd-shim-runc-v2", "apt-get install containerd"),
    ("ctr", "apt-get install containerd"),
    ("runc", "apt-get install runc"),
    ("nft", "apt-get install nftables"),
    ("ip", "apt-get install iproute2"),
    ("setsid", "apt-get install util-linux"),
];

/// Where everything of one agent is.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The agent's folder.
    pub data: PathBuf,
    /// containerd's configuration, log, images and state.
    pub containerd: PathBuf,
    /// The CRI socket.
    pub socket: PathBuf,
    /// CNI configuration, one file.
    pub cni_conf: PathBuf,
    /// host-local's record of given addresses.
    pub cni_ipam: PathBuf,
    /// Registries' `hosts.toml`, for the user to fill.
    pub certs: PathBuf,
    /// Volumes, hosts files and termination messages, by pod uid.
    pub pods: PathBuf,
    /// Logs, `<namespace>_<name>_<uid>/<container>/<attempt>.log`.
    pub logs: PathBuf,
    /// Eight hex digits that name this folder's bridge, nft table and cgroup.
    pub id: String,
}

impl Paths {
    /// The layout below `data`, which need not exist yet.
    pub fn new(data: &Path) -> Self {
        let data = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
        let data = data.canonicalize().unwrap_or(data);
        let containerd = data.join("containerd");
        let id = hex_sha256(data.as_os_str().as_encoded_bytes())[..8].to_owned();
        Self {
            socket: containerd.join("c.sock"),
            cni_conf: data.join("cni/net.d"),
            cni_ipam: data.join("cni/ipam"),
            certs: data.join("certs.d"),
            pods: data.join("pods"),
            logs: data.join("log/pods"),
            containerd,
            data,
            id,
        }
    }

    /// The Linux bridge that joins this node's pods.
    pub fn bridge(&self) -> String {
        format!("kj{}", self.id)
    }

    /// The nft table with this node's masquerading rule.
    pub fn nft_table(&self) -> String {
        format!("kijabi-{}", self.id)
    }

    /// The cgroup that holds all pods of this node, as an absolute cgroup path.
    pub fn cgroup(&self) -> String {
        format!("/kijabi-{}", self.id)
    }

    fn config_file(&self) -> PathBuf {
        self.containerd.join("config.toml")
    }

    fn pid_file(&self) -> PathBuf {
        self.containerd.join("pid")
    }

    /// containerd's log.
    pub fn log_file(&self) -> PathBuf {
        self.containerd.join("containerd.log")
    }
}

/// How containerd came to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It ran already, with the same configuration.
    Adopted,
    /// It was started now.
    Started,
}

/// Makes sure that the agent's own containerd runs with the wanted configuration and answers.
pub async fn ensure(paths: &Paths) -> Result<Start, Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Config("a node agent that runs containers must run as root".to_owned()));
    }
    for (program, hint) in PROGRAMS {
        crate::command::require(program, hint)?;
    }
    for folder in [&paths.containerd, &paths.cni_conf, &paths.certs, &paths.pods, &paths.logs] {
        std::fs::create_dir_all(folder).map_err(Error::file(folder))?;
    }
    let wanted = config::containerd_toml(paths)?;
    let file = paths.config_file();
    let unchanged = std::fs::read_to_string(&file).is_ok_and(|old| old == wanted);
    if let Some(process) = running(paths) {
        if unchanged && answers(paths, CONTAINERD_START_MAX).await.is_ok() {
            return Ok(Start::Adopted);
        }
        stop(process).await;
    }
    std::fs::write(&file, wanted).map_err(Error::file(&file))?;
    start(paths).await?;
    Ok(Start::Started)
}

async fn start(paths: &Paths) -> Result<(), Error> {
    // A Unix socket's path has 107 bytes at most, and containerd makes "<socket>.ttrpc" too.
    if paths.socket.as_os_str().len() + ".ttrpc".len() > 107 {
        return Err(Error::Config(format!(
            "the data folder's path is too long for a socket: {}",
            paths.data.display()
        )));
    }
    let log_file = paths.log_file();
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_file)
        .map_err(Error::file(&log_file))?;
    let errors = log.try_clone().map_err(Error::file(&log_file))?;
    // setsid(1) makes the new session and then becomes containerd: the pid stays the child's.
    let mut child = crate::command::command("setsid")
        .arg("containerd")
        .arg("--config")
        .arg(paths.config_file())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(|_| Error::Missing { program: "setsid", hint: "apt-get install util-linux" })?;
    let pid = child.id().unwrap_or_default();
    let pid_file = paths.pid_file();
    std::fs::write(&pid_file, format!("{pid}\n")).map_err(Error::file(&pid_file))?;
    let outcome = tokio::select! {
        status = child.wait() => Err(match status {
            Ok(status) => format!("it ended with {status}"),
            Err(error) => error.to_string(),
        }),
        answer = answers(paths, CONTAINERD_START_MAX) => answer,
    };
    // From here on a task waits for it, so that it does not stay a zombie if it ends before us.
    kijabi_base::tasks::spawn("containerd-reaper", async move {
        if let Ok(status) = child.wait().await {
            tracing::warn!(%status, "containerd ended");
        }
    });
    outcome.map_err(|reason| Error::Containerd {
        socket: paths.socket.clone(),
        reason,
        log: log_file,
    })
}

/// Waits until containerd answers a CRI call.
async fn answers(paths: &Paths, patience: Duration) -> Result<(), String> {
    use crate::runtime::Runtime as _;

    let deadline = kijabi_base::clock::now() + patience;
    loop {
        let runtime = crate::runtime::cri::Cri::connect(&paths.socket);
        let reason = match runtime.version().await {
            Ok(_) => return Ok(()),
            Err(error) => error.to_string(),
        };
        if kijabi_base::clock::now() >= deadline {
            return Err(reason);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Our containerd, if it runs: by its pid file, and only if that process really is ours.
pub(crate) fn running(paths: &Paths) -> Option<OwnedFd> {
    let pid: i32 = std::fs::read_to_string(paths.pid_file()).ok()?.trim().parse().ok()?;
    // The pidfd is opened before the command line is read: a reused pid cannot slip in between.
    let process = rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let config = paths.config_file();
    let ours =
        command.split(|byte| *byte == 0).any(|arg| arg == config.as_os_str().as_encoded_bytes());
    ours.then_some(process)
}

/// Ends a process: asks, waits up to ten seconds, then kills.
pub(crate) async fn stop(process: OwnedFd) {
    for (signal, patience) in [(Signal::TERM, 10), (Signal::KILL, 5)] {
        let _ = rustix::process::pidfd_send_signal(&process, signal);
        let deadline = kijabi_base::clock::now() + Duration::from_secs(patience);
        while kijabi_base::clock::now() < deadline {
            // Signal 0 is not offered by the safe call; a dead process's pidfd is readable instead.
            if is_dead(&process) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn is_dead(process: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let mut fds = [PollFd::new(process, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
}
