//! Raw HTTPS requests to the API server, for what kubectl would never send.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;

use crate::kubectl::Kubectl;
use crate::process;

/// An administrator's curl for one cluster.
#[derive(Debug)]
pub struct Curl {
    server: String,
    folder: PathBuf,
}

/// An answer: status code and body.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub code: u16,
    /// The body.
    pub body: String,
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// With the administrator's certificate.
    Admin,
    /// Without any.
    Nobody,
    /// With a self-signed certificate that claims to be an administrator's.
    Stranger,
}

impl Curl {
    /// Takes the administrator's certificate out of the kubeconfig; files go below `folder`.
    ///
    /// # Panics
    /// If the kubeconfig is not as it must be.
    pub fn new(kubectl: &Kubectl, folder: &Path) -> Self {
        let read = |path: &str| kubectl.ok(&format!("config view --raw -o jsonpath={{{path}}}"));
        let save = |name: &str, path: &str| {
            let bytes = base64::engine::general_purpose::STANDARD.decode(read(path));
            fs::write(folder.join(name), bytes.expect("base64")).expect("write a certificate");
        };
        save("ca.crt", ".clusters[0].cluster.certificate-authority-data");
        save("admin.crt", ".users[0].user.client-certificate-data");
        save("admin.key", ".users[0].user.client-key-data");
        process::succeed(
            Command::new("openssl")
                .args([
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                    "-nodes",
                ])
                .args(["-days", "1", "-subj", "/O=system:masters/CN=kubernetes-admin", "-keyout"])
                .arg(folder.join("stranger.key"))
                .arg("-out")
                .arg(folder.join("stranger.crt")),
        );
        Self { server: read(".clusters[0].cluster.server"), folder: folder.to_owned() }
    }

    /// Sends `method path` with a body from a file, as `who`.
    ///
    /// # Panics
    /// If no HTTP answer comes.
    pub fn send(&self, who: Who, method: &str, path: &str, body: Option<(&str, &[u8])>) -> Reply {
        let mut command = Command::new("curl");
        command.args([
            "--silent",
            "--show-error",
            "--path-as-is",
            "--max-time",
            "30",
            "--request",
            method,
        ]);
        command.arg("--cacert").arg(self.folder.join("ca.crt"));
        let name = match who {
            Who::Admin => Some("admin"),
            Who::Stranger => Some("stranger"),
            Who::Nobody => None,
        };
        if let Some(name) = name {
            command.arg("--cert").arg(self.folder.join(format!("{name}.crt")));
            command.arg("--key").arg(self.folder.join(format!("{name}.key")));
        }
        if let Some((content_type, bytes)) = body {
            let file = self.folder.join("body");
            fs::write(&file, bytes).expect("write the body");
            // Without "Expect: 100-continue" the server decides on what it is sent.
            command.args([
                "--header",
                "Expect:",
                "--header",
                &format!("Content-Type: {content_type}"),
            ]);
            command.arg("--data-binary").arg(format!("@{}", file.display()));
        }
        command.args(["--write-out", "\n%{http_code}"]).arg(format!("{}{path}", self.server));
        let output = process::run(&mut command);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, code) = text.rsplit_once('\n').unwrap_or(("", "0"));
        let code: u16 = code.parse().unwrap_or(0);
        assert!(code != 0, "{method} {path}: {}", String::from_utf8_lossy(&output.stderr));
        Reply { code, body: body.to_owned() }
    }
}
