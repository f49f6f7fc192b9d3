//! The sandbox ("pause") image: what keeps a pod's namespaces alive, and reaps if they are shared.
//!
//! It is Debian's static busybox and one shell line, so that no registry is needed. A newcomer's
//! trap: a plain `sleep` would do until a pod sets `shareProcessNamespace`; then this process is
//! PID 1 of the whole pod and every orphan must be waited for, which the shell's `wait` does.

use std::path::{Path, PathBuf};

use super::{File, Spec};
use crate::Error;

/// The name containerd's configuration refers to.
pub const NAME: &str = "docker.io/kijabi/pause:1";

/// `wait` without operands reaps every child, adopted orphans too, while the long sleep keeps it
/// waiting; the trap ends it at once when the runtime asks.
const SCRIPT: &str = "trap 'exit 0' TERM INT; while :; do sleep 2147483647 & wait; done";

/// Builds the archive from the machine's static busybox.
pub fn build() -> Result<Vec<u8>, Error> {
    let path = busybox()?;
    let busybox = std::fs::read(&path).map_err(Error::file(&path))?;
    let spec = Spec {
        name: NAME.to_owned(),
        files: vec![File::folder("bin", 0o755), File::new("bin/busybox", 0o755, busybox)],
        entrypoint: ["/bin/busybox", "sh", "-c", SCRIPT].map(str::to_owned).to_vec(),
        env: vec!["PATH=/bin".to_owned()],
        ..Spec::default()
    };
    super::build(&spec).map_err(Error::file(path))
}

/// Where the machine's busybox is. Images are built from it, so it must be linked statically.
pub fn busybox() -> Result<PathBuf, Error> {
    ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .map(Path::new)
        .find(|path| path.exists())
        .map(Path::to_owned)
        .ok_or(Error::Missing { program: "busybox", hint: "apt-get install busybox-static" })
}
