//! Removes everything an agent made: pods, containerd, bridge, nft table, mounts, cgroups, files.
//!
//! Idempotent: a second run finds nothing. A newcomer's trap: files are deleted only once no mount
//! is left below the folder. Deleting through a bind mount would delete somebody else's files.

use std::path::{Path, PathBuf};

use futures::StreamExt as _;
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::{Paths, network, running, stop};
use crate::Error;
use crate::runtime::{Runtime as _, cri::Cri};

/// Sandboxes stopped at the same time.
const STOPS_MAX: usize = 16;

/// Removes what the agent of `data_dir` made, running pods included. It must not run any more.
pub async fn teardown(data_dir: &Path) -> Result<(), Error> {
    let paths = Paths::new(data_dir);
    let containerd_was_here = paths.containerd.exists();
    if containerd_was_here {
        // The runtime itself gives addresses and port mappings back, so it is started if need be.
        match super::ensure(&paths).await {
            Ok(_) => remove_pods(&paths).await,
            Err(error) => tracing::warn!(%error, "pods are removed without containerd's help"),
        }
        if let Some(process) = running(&paths) {
            stop(process).await;
        }
    }
    kill_leftovers(&paths);
    unmount_below(&paths.data)?;
    remove_bridge(&paths.bridge()).await;
    if let Err(error) = network::remove_masquerade(&paths).await
        && containerd_was_here
    {
        tracing::warn!(%error, "the nft table could not be removed");
    }
    if containerd_was_here {
        remove_host_port_chains("iptables").await;
        remove_host_port_chains("ip6tables").await;
    }
    remove_cgroups(&paths.cgroup());
    for folder in ["containerd", "cni", "pods", "log"] {
        let folder = paths.data.join(folder);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::file(folder)(error));
            }
            _ => {}
        }
    }
    // What a user put into certs.d is the user's: both go only if they are empty.
    let _ = std::fs::remove_dir(&paths.certs);
    let _ = std::fs::remove_dir(&paths.data);
    Ok(())
}

async fn remove_pods(paths: &Paths) {
    let runtime = Cri::connect(&paths.socket);
    let pods = match runtime.list().await {
        Ok(pods) => pods,
        Err(error) => {
            tracing::warn!(%error, "the runtime's pods could not be listed");
            return;
        }
    };
    let sandboxes: Vec<_> = pods
        .into_values()
        .flat_map(|pod| pod.observed.sandboxes)
        .map(|sandbox| sandbox.id)
        .collect();
    futures::stream::iter(sandboxes)
        .for_each_concurrent(STOPS_MAX, |id| {
            let runtime = runtime.clone();
            async move {
                if let Err(error) = runtime.stop_sandbox(&id).await {
                    tracing::warn!(%error, %id, "a sandbox could not be stopped");
                }
                if let Err(error) = runtime.remove_sandbox(&id).await {
                    tracing::warn!(%error, %id, "a sandbox could not be removed");
                }
            }
        })
        .await;
}

/// Kills shims of our containerd and whatever still is in our cgroups.
fn kill_leftovers(paths: &Paths) {
    let socket = paths.socket.as_os_str().as_encoded_bytes();
    let Ok(processes) = std::fs::read_dir("/proc") else { return };
    for entry in processes.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Some(raw) = Pid::from_raw(pid) else { continue };
        // The pidfd comes first: what is read afterwards is about this very process.
        let Ok(process) = rustix::process::pidfd_open(raw, PidfdFlags::empty()) else { continue };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut args = command.split(|byte| *byte == 0);
        let shim = args.next().is_some_and(|name| {
            name.rsplit(|byte| *byte == b'/')
                .next()
                .is_some_and(|n| n.starts_with(b"containerd-shim"))
        }) && args.any(|arg| arg == socket);
        let group = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let ours = format!(":{}/", paths.cgroup());
        if shim || group.lines().any(|line| line.contains(&ours)) {
            let _ = rustix::process::pidfd_send_signal(&process, Signal::KILL);
        }
    }
}

/// Detaches every mount below `folder`, the innermost first, and checks that none is left.
pub(crate) fn unmount_below(folder: &Path) -> Result<(), Error> {
    for _ in 0..3 {
        let mounts = mounts_below(folder);
        if mounts.is_empty() {
            return Ok(());
        }
        for mount in mounts.iter().rev() {
            let _ = rustix::mount::unmount(mount, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        }
    }
    match mounts_below(folder).pop() {
        None => Ok(()),
        Some(mount) => Err(Error::Config(format!(
            "{} is still mounted, so nothing below {} was deleted",
            mount.display(),
            folder.display()
        ))),
    }
}

/// The mount points below a folder (or at it), in the order they were mounted.
pub(crate) fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(unescape(point)))
        .filter(|point| point.starts_with(folder))
        .collect()
}

/// mountinfo writes blanks and backslashes as octal escapes.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'\\')
            .then(|| text.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

async fn remove_bridge(bridge: &str) {
    if !Path::new("/sys/class/net").join(bridge).exists() {
        return;
    }
    let done = crate::command::command("ip").args(["link", "delete", bridge]).status().await;
    if !done.is_ok_and(|status| status.success()) {
        tracing::warn!(bridge, "the bridge could not be removed");
    }
}

/// Removes the chains the portmap plugin makes once for all, if no port of anybody uses them.
async fn remove_host_port_chains(iptables: &str) {
    let run = async |args: &[&str]| {
        let mut command = crate::command::command(iptables);
        let output = command.args(["-w", "5", "-t", "nat"]).args(args).output().await.ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let rules = run(&["-S"]).await.unwrap_or_default();
    let used = rules.lines().any(|line| line.starts_with("-A CNI-HOSTPORT-DNAT"));
    if used || !rules.contains("CNI-HOSTPORT") || others_use_cni() {
        return;
    }
    // The plugin's own rules, in the words `iptables -S` shows them.
    for rule in rules.lines().filter(|it| it.contains("-j CNI-HOSTPORT-")) {
        let words = split_quoted(rule);
        let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
        run(&[&["-D"], words.as_slice()].concat()).await;
    }
    for chain in ["CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-MASQ", "CNI-HOSTPORT-SETMARK"] {
        run(&["-F", chain]).await;
        run(&["-X", chain]).await;
    }
}

/// Whether somebody else on this machine has CNI networks: another agent's bridge (it is there
/// before any port mapping is made), or a recorded attachment.
fn others_use_cni() -> bool {
    let names = |folder: &str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
    };
    let is_bridge = |name: &String| {
        name.len() == 10
            && name.strip_prefix("kj").is_some_and(|id| id.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    names("/sys/class/net").iter().any(is_bridge)
        || names("/var/lib/cni/results").iter().any(|name| name.ends_with("-eth0"))
}

/// Splits at blanks, but not inside double quotes.
fn split_quoted(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut().expect("there is always a word").push(other),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Removes the cgroup `group` with all below it, in every hierarchy that is mounted.
pub(crate) fn remove_cgroups(group: &str) {
    let root = Path::new("/sys/fs/cgroup");
    let group = group.trim_start_matches('/');
    remove_cgroup(&root.join(group));
    for hierarchy in std::fs::read_dir(root).into_iter().flatten().flatten() {
        remove_cgroup(&hierarchy.path().join(group));
    }
}

fn remove_cgroup(folder: &Path) {
    // A killed process leaves its cgroup a moment later; a few tries are enough.
    for _ in 0..50 {
        for child in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if child.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_cgroup(&child.path());
            }
        }
        match std::fs::remove_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_words_stay_together() {
        assert_eq!(
            split_quoted("-A X -m comment --comment \"a b\" -j Y").join("|"),
            "-A|X|-m|comment|--comment|a b|-j|Y"
        );
    }

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescape(r"/plain\9"), r"/plain\9");
    }
}
