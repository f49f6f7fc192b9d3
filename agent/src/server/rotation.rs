//! Keeps container logs from filling the disk: a file that grew too large is moved aside.
//!
//! Must not know: who reads them. A newcomer's trap: after the move the runtime still writes to the
//! old file until it is told to open the log again, so nothing is lost between the two.
// Differs from Kubernetes: files moved aside are not compressed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kijabi_base::tasks::Shutdown;

use crate::limits::{LOG_BYTES_MAX, LOG_FILES_MAX};
use crate::pod::Shared;
use crate::runtime::RunState;

/// How often sizes are looked at (the kubelet's `containerLogMonitorInterval`).
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Rotates logs until `shutdown`.
pub(crate) async fn rotate_logs(shared: Arc<Shared>, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let (Some(volumes), Ok(pods)) = (&shared.volumes, shared.runtime.list().await) else {
            continue;
        };
        for (uid, pod) in pods {
            let folder = volumes.log_folder(&pod.namespace, &pod.name, &uid);
            for it in pod.observed.containers.iter().filter(|it| it.state == RunState::Running) {
                let path = folder.join(&it.name).join(format!("{}.log", it.attempt));
                let size = std::fs::metadata(&path).map_or(0, |it| it.len());
                if size < LOG_BYTES_MAX {
                    continue;
                }
                let moved = move_aside(&path, kijabi_base::clock::wall_ms());
                let reopened = shared.runtime.reopen_log(&it.id).await;
                if let (Err(error), _) = (moved, &reopened) {
                    tracing::warn!(path = %path.display(), %error, "a log was not rotated");
                }
                if let Err(error) = reopened {
                    tracing::warn!(path = %path.display(), %error, "a log was not reopened");
                }
            }
        }
    }
}

/// Moves a log aside and forgets the oldest ones.
fn move_aside(path: &Path, now_ms: u64) -> std::io::Result<()> {
    let name = path.display().to_string();
    std::fs::rename(path, format!("{name}.{now_ms}"))?;
    let mut old = rotated(path);
    while old.len() > LOG_FILES_MAX - 1 {
        std::fs::remove_file(old.remove(0))?;
    }
    Ok(())
}

/// The files moved aside, the oldest first.
fn rotated(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|it| it.to_str()))
    else {
        return Vec::new();
    };
    let prefix = format!("{name}.");
    let mut files: Vec<(u64, PathBuf)> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let stamp = entry.file_name().to_str()?.strip_prefix(&prefix)?.parse().ok()?;
            Some((stamp, entry.path()))
        })
        .collect();
    files.sort();
    files.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_files_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("0.log");
        for stamp in 1..=9 {
            std::fs::write(&log, format!("{stamp}")).unwrap();
            move_aside(&log, stamp).unwrap();
        }
        let kept: Vec<_> =
            rotated(&log).iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        assert_eq!(kept, ["6", "7", "8", "9"]);
    }
}
