//! A pod's volumes and files on this node, below `<data>/pods/<uid>`.
//!
//! Owns: everything in that folder, and its mounts. Must not know: containers' states. A newcomer's
//! trap: setting up is done again and again (it also refreshes configMaps, secrets and tokens), so
//! every kind must be idempotent and must never empty what a container may be using.

pub mod atomic;
pub mod payload;
pub mod sub_path;
mod tokens;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, Pod, Volume};
use rustix::mount::MountFlags;

use self::tokens::Tokens;
use crate::api::ObjectSource;
use crate::containerd::Paths;
use crate::containerd::teardown::{mounts_below, unmount_below};
use crate::pod::fields::Around;
use crate::quantity::units;

/// Where volumes are, and what is remembered for their refresh. Clones share it.
#[derive(Clone)]
pub struct Volumes {
    pods: PathBuf,
    logs: PathBuf,
    tokens: Arc<Tokens>,
}

/// Why a volume could not be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {message}")]
pub struct VolumeError {
    /// The volume's name in the pod.
    pub volume: String,
    /// What went wrong.
    pub message: String,
}

/// Where each volume of a pod is on the host, by its name.
pub type Places = BTreeMap<String, PathBuf>;

impl Volumes {
    /// The volumes of the agent with these paths.
    pub fn new(paths: &Paths) -> Self {
        let tokens = Arc::new(Tokens::default());
        Self { pods: paths.pods.clone(), logs: paths.logs.clone(), tokens }
    }

    /// The folder of a pod.
    pub fn pod_folder(&self, uid: &str) -> PathBuf {
        self.pods.join(uid)
    }

    /// The folder of a pod's logs.
    pub fn log_folder(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.logs.join(format!("{namespace}_{name}_{uid}"))
    }

    /// The pods that have a folder.
    pub fn uids(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.pods).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// Makes all volumes of a pod, or brings them up to date.
    pub(crate) async fn set_up(
        &self,
        pod: &Pod,
        around: &Around,
        source: &dyn ObjectSource,
    ) -> Result<Places, VolumeError> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let mut places = Places::new();
        let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref());
        for volume in volumes.unwrap_or_default() {
            let place = self.set_up_one(pod, uid, volume, around, source).await;
            let place =
                place.map_err(|message| VolumeError { volume: volume.name.clone(), message })?;
            places.insert(volume.name.clone(), place);
        }
        Ok(places)
    }

    async fn set_up_one(
        &self,
        pod: &Pod,
        uid: &str,
        volume: &Volume,
        around: &Around,
        source: &dyn ObjectSource,
    ) -> Result<PathBuf, String> {
        if let Some(host) = &volume.host_path {
            let host = host.clone();
            return blocking(move || host_path(&host)).await;
        }
        let group = fs_group(pod);
        let place = |kind: &str| {
            self.pod_folder(uid)
                .join("volumes")
                .join(format!("kubernetes.io~{kind}"))
                .join(&volume.name)
        };
        if let Some(empty) = &volume.empty_dir {
            let (empty, place) = (empty.clone(), place("empty-dir"));
            return blocking(move || empty_dir(&empty, place, group)).await;
        }
        let (kind, in_memory) = match volume {
            Volume { config_map: Some(_), .. } => ("configmap", false),
            Volume { downward_api: Some(_), .. } => ("downward-api", false),
            Volume { secret: Some(_), .. } => ("secret", true),
            Volume { projected: Some(_), .. } => ("projected", true),
            _ => return Err(format!("{} volumes are not supported by this node", kind_of(volume))),
        };
        let files = payload::of_volume(pod, volume, around, source, &self.tokens).await?;
        let place = place(kind);
        blocking(move || {
            std::fs::create_dir_all(&place).map_err(|error| error.to_string())?;
            // Secrets and tokens are kept in memory: they must not reach the disk.
            if in_memory && !is_mounted(&place) {
                mount_tmpfs(&place, "mode=0755")?;
            }
            atomic::write(&place, &files, group).map_err(|error| error.to_string())?;
            Ok(place)
        })
        .await
    }

    /// Writes one of the pod's own files (hosts, termination message), and gives its path.
    pub fn write_file(
        &self,
        uid: &str,
        name: &str,
        content: &str,
        mode: u32,
    ) -> std::io::Result<PathBuf> {
        let path = self.pod_folder(uid).join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        // Written in place: it is bind-mounted into containers, so it must stay the same file.
        std::fs::write(&path, content)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        Ok(path)
    }

    /// Unmounts and deletes everything of a pod but its logs.
    pub async fn tear_down(&self, uid: &str) -> Result<(), String> {
        self.tokens.forget(uid);
        let folder = self.pod_folder(uid);
        blocking(move || {
            if !folder.exists() {
                return Ok(());
            }
            unmount_below(&folder).map_err(|error| error.to_string())?;
            std::fs::remove_dir_all(&folder).map_err(|error| error.to_string())
        })
        .await
    }

    /// Deletes a pod's logs.
    pub fn remove_logs(&self, namespace: &str, name: &str, uid: &str) {
        let _ = std::fs::remove_dir_all(self.log_folder(namespace, name, uid));
    }
}

/// Runs file work where it may block.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T, String>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, String> + Send + 'static,
{
    kijabi_base::tasks::blocking(work).await.map_err(|error| error.to_string())?
}

/// The group that must be able to use the pod's volumes.
fn fs_group(pod: &Pod) -> Option<u32> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    context.fs_group.and_then(|group| u32::try_from(group).ok())
}

/// The field of a volume that says what it is.
fn kind_of(volume: &Volume) -> String {
    let value = serde_json::to_value(volume).unwrap_or_default();
    let fields = value.as_object().into_iter().flat_map(|map| map.keys());
    fields.filter(|key| *key != "name").map(String::as_str).next().unwrap_or("such").to_owned()
}

fn empty_dir(
    empty: &EmptyDirVolumeSource,
    place: PathBuf,
    group: Option<u32>,
) -> Result<PathBuf, String> {
    let fresh = !place.exists();
    std::fs::create_dir_all(&place).map_err(|error| error.to_string())?;
    match empty.medium.as_deref().unwrap_or_default() {
        "" => {}
        "Memory" => {
            if !is_mounted(&place) {
                let size = empty.size_limit.as_ref().and_then(units);
                let options =
                    size.map_or("mode=0777".to_owned(), |it| format!("mode=0777,size={it}"));
                mount_tmpfs(&place, &options)?;
            }
        }
        other => return Err(format!("emptyDir medium {other:?} is not supported by this node")),
    }
    if fresh {
        // After the mount: the mode of what is mounted counts. Set explicitly because of the umask.
        let mode = if group.is_some() { 0o2777 } else { 0o777 };
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(mode))
            .and_then(|()| std::os::unix::fs::chown(&place, None, group))
            .map_err(|error| error.to_string())?;
    }
    Ok(place)
}

fn host_path(host: &HostPathVolumeSource) -> Result<PathBuf, String> {
    use std::os::unix::fs::FileTypeExt as _;

    let path = PathBuf::from(&host.path);
    if path.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(format!("hostPath {:?} must not contain '..'", host.path));
    }
    let kind = host.type_.as_deref().unwrap_or_default();
    let io = |error: std::io::Error| format!("{}: {error}", host.path);
    match kind {
        "DirectoryOrCreate" if !path.exists() => std::fs::create_dir_all(&path).map_err(io)?,
        "FileOrCreate" if !path.exists() => {
            std::fs::File::create(&path).map(drop).map_err(io)?;
        }
        _ => {}
    }
    let found = std::fs::metadata(&path).map(|it| it.file_type());
    let is = |check: fn(&std::fs::FileType) -> bool| found.as_ref().is_ok_and(check);
    let (fits, what) = match kind {
        "" => (true, ""),
        "Directory" | "DirectoryOrCreate" => (is(std::fs::FileType::is_dir), "a directory"),
        "File" | "FileOrCreate" => (is(std::fs::FileType::is_file), "a file"),
        "Socket" => (is(|it| it.is_socket()), "a socket file"),
        "CharDevice" => (is(|it| it.is_char_device()), "a character device"),
        "BlockDevice" => (is(|it| it.is_block_device()), "a block device"),
        other => return Err(format!("{other} is an invalid volume type")),
    };
    if !fits {
        return Err(format!("hostPath type check failed: {} is not {what}", host.path));
    }
    Ok(path)
}

fn is_mounted(place: &Path) -> bool {
    mounts_below(place).iter().any(|point| point == place)
}

fn mount_tmpfs(place: &Path, options: &str) -> Result<(), String> {
    let options = std::ffi::CString::new(options).map_err(|error| error.to_string())?;
    rustix::mount::mount(
        "tmpfs",
        place,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        options.as_c_str(),
    )
    .map_err(|error| format!("mounting a tmpfs at {}: {error}", place.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_host_path_must_be_what_the_pod_says_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let check = |path: String, kind: &str| {
            host_path(&HostPathVolumeSource { path, type_: Some(kind.to_owned()) })
        };
        assert!(check(path("new"), "Directory").unwrap_err().ends_with("is not a directory"));
        assert!(check(path("new"), "DirectoryOrCreate").is_ok());
        assert!(check(path("new"), "File").unwrap_err().ends_with("is not a file"));
        assert!(check(path("f"), "FileOrCreate").is_ok());
        assert!(check(path("f"), "Socket").unwrap_err().ends_with("is not a socket file"));
        assert!(check(path("../x"), "").unwrap_err().contains(".."));
        assert!(check("/dev/null".to_owned(), "CharDevice").is_ok());
    }

    #[test]
    fn an_unsupported_source_is_named() {
        let volume: Volume =
            serde_json::from_value(json!({"name": "v", "gitRepo": {"repository": "x"}})).unwrap();
        assert_eq!(kind_of(&volume), "gitRepo");
    }
}
