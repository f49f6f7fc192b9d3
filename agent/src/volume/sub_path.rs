//! `subPath` and `subPathExpr`: a part of a volume mounted into a container, safely.
//!
//! A container may write to the volume while this runs and put symlinks where folders were
//! (CVE-2017-1002101, CVE-2021-25741). A newcomer's trap: checking a path and then mounting it is
//! the bug. Here the kernel resolves the path beneath the volume (`RESOLVE_BENEATH`), and what is
//! mounted is the opened file descriptor, never a name.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::limits::SUB_PATH_PARTS_MAX;

/// Binds `sub_path` of `volume` to `target`, making missing folders. Blocking.
pub(crate) fn bind(volume: &Path, sub_path: &str, target: &Path) -> Result<(), String> {
    let found = open(volume, sub_path)?;
    let io = |error: std::io::Error| format!("{}: {error}", target.display());
    let kind = rustix::fs::fstat(&found)
        .map(|stat| FileType::from_raw_mode(stat.st_mode))
        .map_err(|error| error.to_string())?;
    // A mount of an earlier container run is replaced: the volume's file may be another by now.
    while rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
    if kind == FileType::Directory {
        std::fs::create_dir_all(target).map_err(io)?;
    } else {
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(io)?;
        }
        std::fs::OpenOptions::new().create(true).append(true).open(target).map_err(io)?;
    }
    let source = format!("/proc/self/fd/{}", found.as_raw_fd());
    rustix::mount::mount(source.as_str(), target, "", MountFlags::BIND, None)
        .map_err(|error| format!("binding subPath {sub_path:?}: {error}"))
}

/// Opens a path beneath a volume, making missing folders on the way.
pub(crate) fn open(volume: &Path, sub_path: &str) -> Result<OwnedFd, String> {
    let parts = parts(sub_path)?;
    let refuse = |error: rustix::io::Errno| match error {
        rustix::io::Errno::XDEV | rustix::io::Errno::LOOP => {
            format!(
                "subpath {sub_path:?} not within volume path {:?}",
                volume.display().to_string()
            )
        }
        other => format!("failed to open subpath {sub_path:?}: {other}"),
    };
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(volume, folder, Mode::empty()).map_err(refuse)?;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let anything = OFlags::PATH | OFlags::CLOEXEC;
    let mut path = PathBuf::from(".");
    let mut found =
        rustix::fs::openat2(&root, &path, anything, Mode::empty(), beneath).map_err(refuse)?;
    for part in parts {
        path.push(&part);
        found = match rustix::fs::openat2(&root, &path, anything, Mode::empty(), beneath) {
            Err(rustix::io::Errno::NOENT) => {
                // `found` is the parent, opened beneath the volume: the new folder is there, too.
                rustix::fs::mkdirat(&found, &part, Mode::from_raw_mode(0o755)).map_err(refuse)?;
                rustix::fs::openat2(&root, &path, anything, Mode::empty(), beneath)
                    .map_err(refuse)?
            }
            other => other.map_err(refuse)?,
        };
    }
    Ok(found)
}

fn parts(sub_path: &str) -> Result<Vec<std::ffi::OsString>, String> {
    let mut parts = Vec::new();
    for part in Path::new(sub_path).components() {
        match part {
            Component::Normal(name) => parts.push(name.to_owned()),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => {
                return Err(format!("error SubPath `{sub_path}` must not be an absolute path"));
            }
            Component::ParentDir => {
                return Err(format!(
                    "unable to provision SubPath `{sub_path}`: must not contain '..'"
                ));
            }
        }
    }
    if parts.len() > SUB_PATH_PARTS_MAX {
        return Err(format!("a subPath of {} parts is too deep", parts.len()));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_outside_the_volume_can_be_opened() {
        let outside = tempfile::tempdir().unwrap();
        let volume = tempfile::tempdir().unwrap();
        let volume = volume.path();
        symlink(outside.path(), volume.join("absolute")).unwrap();
        symlink("../..", volume.join("relative")).unwrap();
        symlink("/proc/self/root", volume.join("magic")).unwrap();
        std::fs::create_dir(volume.join("real")).unwrap();
        symlink("real", volume.join("inside")).unwrap();
        let deep = "a/".repeat(SUB_PATH_PARTS_MAX + 1);
        let hostile =
            ["absolute", "absolute/x", "relative", "relative/etc", "magic", "../x", "/etc", &deep];
        for path in hostile {
            assert!(open(volume, path).is_err(), "{path}");
        }
        for path in ["real", "inside", "real/new/deeper", "./real", ""] {
            assert!(open(volume, path).is_ok(), "{path:?}");
        }
        assert!(volume.join("real/new/deeper").is_dir(), "missing folders are made");
    }

    #[test]
    fn a_swapping_thread_never_gets_out() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        let volume = tempfile::tempdir().unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::fs::create_dir(volume.path().join("d")).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (dir, link, name) =
                    (volume.path().join("d"), volume.path().join("l"), volume.path().join("x"));
                symlink(outside.path(), &link).unwrap();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = std::fs::rename(&dir, &name);
                    let _ = std::fs::rename(&link, &dir);
                    let _ = std::fs::rename(&dir, &link);
                    let _ = std::fs::rename(&name, &dir);
                }
            });
            for _ in 0..2_000 {
                if let Ok(found) = open(volume.path(), "d") {
                    let seen = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()));
                    assert!(!seen.unwrap().starts_with(outside.path()));
                }
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
