//! Brings an archive into containerd's image store, without a registry.
//!
//! Owns the call of `ctr`, which comes with containerd: importing is not part of CRI. A newcomer's
//! trap: the namespace must be `k8s.io`, or CRI will not see the image.

use std::path::Path;

use crate::Error;

/// Imports the archive `tar` (see [`super::build`]) into the containerd behind `socket`.
pub async fn import(socket: &Path, tar: &[u8]) -> Result<(), Error> {
    use tokio::io::AsyncWriteExt as _;

    let mut child = crate::command::command("ctr")
        .arg("--address")
        .arg(socket)
        .args(["--namespace", "k8s.io", "images", "import", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|_| Error::Missing { program: "ctr", hint: "apt-get install containerd" })?;
    let mut stdin = child.stdin.take().expect("stdin was asked for above");
    // ctr may refuse the archive before it has read all of it: its own message is the better one.
    let written = stdin.write_all(tar).await;
    drop(stdin);
    let output = child.wait_with_output().await.map_err(Error::file(socket))?;
    if !output.status.success() {
        return Err(Error::Command {
            command: "ctr images import".to_owned(),
            reason: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    written.map_err(Error::file(socket))
}

/// Imports into the containerd that an agent runs under `data_dir`.
pub async fn import_into(data_dir: &Path, tar: &[u8]) -> Result<(), Error> {
    import(&crate::containerd::Paths::new(data_dir).socket, tar).await
}
