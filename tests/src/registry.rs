//! A real image registry on loopback (Debian's docker-registry), filled with images made here.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::poll;
use crate::process::{self, Program};

/// A running registry. Dropping it stops it.
#[derive(Debug)]
pub struct Registry {
    address: String,
    _program: Program,
}

impl Registry {
    /// Starts an empty registry that keeps its data below `folder`.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn start(folder: &Path) -> Self {
        let folder = folder.join("registry");
        fs::create_dir_all(&folder).expect("make the registry's folder");
        // docker-registry cannot be given port 0: take a free port and hand it over.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = format!("127.0.0.1:{}", port.expect("a free port").port());
        let config = folder.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp: {{addr: \"{address}\"}}\n",
            folder.join("data").display()
        );
        fs::write(&config, text).expect("write the registry's configuration");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config);
        let program = Program::start(&mut command, &folder.join("log"));
        let url = format!("http://{address}/v2/");
        poll::eventually("the registry", Duration::from_secs(20), || {
            let output = process::run(Command::new("curl").args(["--silent", "--fail", &url]));
            if output.status.success() { Ok(()) } else { Err(program.output()) }
        });
        Self { address, _program: program }
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Makes containerd's `certs.d` folder send every pull for docker.io here.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn mirror_docker_hub(&self, certs_d: &Path) {
        let folder = certs_d.join("docker.io");
        fs::create_dir_all(&folder).expect("make the mirror's folder");
        let url = format!("http://{}", self.address);
        let text = format!(
            "server = \"{url}\"\n\n[host.\"{url}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
        );
        fs::write(folder.join("hosts.toml"), text).expect("write hosts.toml");
    }

    /// Pushes an OCI image (an `oci-layout` tar) as `repository:tag`.
    ///
    /// # Panics
    /// If the image or an answer of the registry is not as it must be.
    pub fn push(&self, image_tar: &Path, repository: &str, tag: &str) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        process::succeed(
            Command::new("tar").arg("-xf").arg(image_tar).arg("-C").arg(folder.path()),
        );
        let read = |path: &str| fs::read(folder.path().join(path)).expect("a file of the image");
        let json = |bytes: &[u8]| -> serde_json::Value {
            serde_json::from_slice(bytes).expect("the image's JSON")
        };
        let blob_path = |digest: &str| format!("blobs/{}", digest.replace(':', "/"));
        let index = json(&read("index.json"));
        let digest =
            index["manifests"][0]["digest"].as_str().expect("a manifest's digest").to_owned();
        let manifest = read(&blob_path(&digest));
        let parsed = json(&manifest);
        let layers = parsed["layers"].as_array().expect("layers").iter();
        for part in std::iter::once(&parsed["config"]).chain(layers) {
            let digest = part["digest"].as_str().expect("a digest");
            self.push_blob(repository, digest, &folder.path().join(blob_path(digest)));
        }
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(&manifest).expect("write the manifest");
        let media =
            parsed["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json");
        self.put(&format!("/v2/{repository}/manifests/{tag}"), media, file.path());
    }

    fn push_blob(&self, repository: &str, digest: &str, path: &Path) {
        let url = format!("http://{}/v2/{repository}/blobs/uploads/", self.address);
        let head = process::succeed(Command::new("curl").args([
            "--silent",
            "--fail",
            "--request",
            "POST",
            "--dump-header",
            "-",
            "--output",
            "/dev/null",
            &url,
        ]));
        let location = head
            .lines()
            .find_map(|line| line.strip_prefix("Location: ").or(line.strip_prefix("location: ")))
            .expect("where to upload to")
            .trim()
            .to_owned();
        let target =
            location.strip_prefix(&format!("http://{}", self.address)).unwrap_or(&location);
        let joint = if target.contains('?') { '&' } else { '?' };
        self.put(&format!("{target}{joint}digest={digest}"), "application/octet-stream", path);
    }

    fn put(&self, path: &str, media: &str, file: &Path) {
        process::succeed(
            Command::new("curl")
                .args(["--silent", "--show-error", "--fail", "--request", "PUT", "--header"])
                .arg(format!("Content-Type: {media}"))
                .arg("--data-binary")
                .arg(format!("@{}", file.display()))
                .arg(format!("http://{}{path}", self.address)),
        );
    }
}
