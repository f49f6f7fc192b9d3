//! OCI images assembled from files, without a registry or a build tool.
//!
//! Owns: the archive format ("OCI image layout" in a tar) and the names images go by. Must not
//! know what the images are for. A newcomer's trap: two digests are in play. The layer's digest is
//! of the compressed bytes, its `diff_id` of the uncompressed ones; containerd checks both.

pub mod import;
pub mod pause;
pub mod reference;

use std::collections::BTreeMap;
use std::io::Write as _;

use serde_json::json;
use sha2::{Digest as _, Sha256};

/// What stands at one path of the image.
#[derive(Clone, Debug)]
pub enum Content {
    /// A regular file.
    Bytes(Vec<u8>),
    /// A symbolic link to this target.
    Link(String),
    /// A folder.
    Folder,
}

/// One entry of the image's only layer.
#[derive(Clone, Debug)]
pub struct File {
    /// Path without a leading slash.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub content: Content,
}

impl File {
    /// A regular file.
    pub fn new(path: impl Into<String>, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), mode, content: Content::Bytes(bytes.into()) }
    }

    /// A symbolic link.
    pub fn link(path: impl Into<String>, target: impl Into<String>) -> Self {
        Self { path: path.into(), mode: 0o777, content: Content::Link(target.into()) }
    }

    /// A folder.
    pub fn folder(path: impl Into<String>, mode: u32) -> Self {
        Self { path: path.into(), mode, content: Content::Folder }
    }
}

/// An image to be built.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// Full name with tag, as containerd will list it: `docker.io/library/echo:1`.
    pub name: String,
    /// The files, folders before what is in them.
    pub files: Vec<File>,
    /// The image's entrypoint.
    pub entrypoint: Vec<String>,
    /// The image's default arguments.
    pub cmd: Vec<String>,
    /// `NAME=value` pairs.
    pub env: Vec<String>,
    /// Labels of the image's configuration.
    pub labels: BTreeMap<String, String>,
    /// Ports the image says it serves, as `8080/tcp`.
    pub exposed_ports: Vec<String>,
    /// Working folder.
    pub working_dir: Option<String>,
}

/// Builds the image: the bytes of a tar that [`import::import`], `ctr images import` and
/// `docker load` take. The same input gives the same bytes, hence the same digests.
pub fn build(spec: &Spec) -> std::io::Result<Vec<u8>> {
    let layer = layer(&spec.files)?;
    let diff_id = digest(&layer);
    let mut gzip = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::best());
    gzip.write_all(&layer)?;
    let blob = gzip.finish()?;

    let ports: BTreeMap<&str, serde_json::Value> =
        spec.exposed_ports.iter().map(|port| (port.as_str(), json!({}))).collect();
    let config = serde_json::to_vec(&json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": spec.entrypoint,
            "Cmd": spec.cmd,
            "Env": spec.env,
            "Labels": spec.labels,
            "ExposedPorts": ports,
            "WorkingDir": spec.working_dir.as_deref().unwrap_or("/"),
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created_by": "kijabi"}],
    }))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &blob)],
    }))?;
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({
        "io.containerd.image.name": spec.name,
        "org.opencontainers.image.ref.name": reference::tag(&spec.name).unwrap_or("latest"),
    });
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [entry]}))?;

    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append(&mut archive, "index.json", &index)?;
    for bytes in [&config, &manifest, &blob] {
        append(&mut archive, &format!("blobs/sha256/{}", hex_sha256(bytes)), bytes)?;
    }
    archive.into_inner()
}

/// The digest of the manifest inside an archive made by [`build`]: what a pull by digest names.
pub fn manifest_digest(archive: &[u8]) -> Option<String> {
    let mut tar = tar::Archive::new(archive);
    for entry in tar.entries().ok()? {
        let entry = entry.ok()?;
        if entry.path().ok()?.as_os_str() == "index.json" {
            let index: serde_json::Value = serde_json::from_reader(entry).ok()?;
            return index["manifests"][0]["digest"].as_str().map(str::to_owned);
        }
    }
    None
}

fn layer(files: &[File]) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(file.mode);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        match &file.content {
            Content::Bytes(bytes) => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, &file.path, bytes.as_slice())?;
            }
            Content::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                tar.append_link(&mut header, &file.path, target)?;
            }
            Content::Folder => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                tar.append_data(&mut header, format!("{}/", file.path), std::io::empty())?;
            }
        }
    }
    tar.into_inner()
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8]) -> std::io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, path, bytes)
}

fn descriptor(media_type: &str, bytes: &[u8]) -> serde_json::Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex_sha256(bytes))
}

pub(crate) fn hex_sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The processor's name as OCI and Kubernetes spell it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn sample() -> Spec {
        Spec {
            name: "docker.io/library/sample:2".to_owned(),
            files: vec![
                File::folder("bin", 0o755),
                File::new("bin/tool", 0o755, *b"#!x"),
                File::link("bin/other", "tool"),
            ],
            entrypoint: vec!["/bin/tool".to_owned()],
            env: vec!["A=b".to_owned()],
            labels: [("version".to_owned(), "2".to_owned())].into(),
            exposed_ports: vec!["8080/tcp".to_owned()],
            ..Spec::default()
        }
    }

    fn blobs(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut tar = tar::Archive::new(archive);
        tar.entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let path = entry.path().unwrap().display().to_string();
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                (path, bytes)
            })
            .collect()
    }

    #[test]
    fn every_digest_in_the_chain_is_the_digest_of_what_it_names() {
        let archive = build(&sample()).unwrap();
        let blobs = blobs(&archive);
        let blob = |descriptor: &serde_json::Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            let bytes = &blobs[&format!("blobs/{}", digest.replace(':', "/"))];
            assert_eq!(digest, super::digest(bytes));
            assert_eq!(descriptor["size"], bytes.len());
            bytes.clone()
        };
        let index: serde_json::Value = serde_json::from_slice(&blobs["index.json"]).unwrap();
        assert_eq!(
            index["manifests"][0]["annotations"]["io.containerd.image.name"],
            "docker.io/library/sample:2"
        );
        let manifest: serde_json::Value =
            serde_json::from_slice(&blob(&index["manifests"][0])).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
        assert_eq!(config["config"]["Labels"]["version"], "2");
        let mut layer = Vec::new();
        flate2::read::GzDecoder::new(blob(&manifest["layers"][0]).as_slice())
            .read_to_end(&mut layer)
            .unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], super::digest(&layer));
        assert_eq!(manifest_digest(&archive).as_deref(), index["manifests"][0]["digest"].as_str());
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        assert_eq!(build(&sample()).unwrap(), build(&sample()).unwrap());
    }
}
