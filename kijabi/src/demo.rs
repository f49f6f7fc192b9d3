//! The demo image: a web server that answers with its host name and a version header.
//!
//! Owns: the image's contents. Must not know: how images are archived (that is the agent's). A
//! newcomer's trap: the shell is PID 1 so that SIGTERM ends the container at once; busybox's httpd
//! as PID 1 would ignore it and every deletion would take the whole grace period.

use std::path::Path;

use anyhow::{Context as _, bail};
use kijabi_agent::image::{self, File, Spec};

/// Where Debian's busybox-static installs its program.
const BUSYBOX: &str = "/bin/busybox";

/// PID 1: serves until it is told to end.
const START: &str = "#!/bin/busybox sh\n\
    trap 'exit 0' TERM INT\n\
    /bin/busybox httpd -f -p 80 -h /www &\n\
    wait\n";

/// Assembles the image `name`; `server` is what its `Server:` header says.
pub(crate) fn image(name: &str, server: &str) -> anyhow::Result<Vec<u8>> {
    if server.contains(['\n', '\r', '"', '$', '`', '\\']) {
        bail!("the server header may hold no quotes, line breaks or shell characters");
    }
    let busybox = std::fs::read(BUSYBOX)
        .with_context(|| format!("{BUSYBOX} cannot be read (Debian package busybox-static)"))?;
    let answer = format!(
        "#!/bin/busybox sh\n\
         echo \"Server: {server}\"\n\
         echo \"Content-Type: text/plain\"\n\
         echo\n\
         [ \"$REQUEST_METHOD\" = HEAD ] || /bin/busybox hostname\n"
    );
    let spec = Spec {
        name: name.to_owned(),
        files: vec![
            File::folder("bin", 0o755),
            File::new("bin/busybox", 0o755, busybox),
            File::link("bin/sh", "busybox"),
            File::new("bin/start", 0o755, START),
            File::folder("www", 0o755),
            File::folder("www/cgi-bin", 0o755),
            File::new("www/cgi-bin/index.cgi", 0o755, answer),
            File::folder("tmp", 0o1777),
        ],
        entrypoint: vec!["/bin/start".into()],
        env: vec!["PATH=/bin".into()],
        exposed_ports: vec!["80/tcp".into()],
        ..Spec::default()
    };
    Ok(image::build(&spec)?)
}

/// Writes the image to `output`, as a tar that `ctr images import` and registries' tools take.
pub(crate) fn write(output: &Path, name: &str, server: &str) -> anyhow::Result<()> {
    let tar = image(name, server)?;
    std::fs::write(output, tar).with_context(|| format!("cannot write {}", output.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_name_cannot_break_out_of_the_script() {
        for server in ["a\"b", "a\nb", "$(id)", "`id`"] {
            assert!(image("localhost/x:1", server).is_err(), "{server:?}");
        }
    }
}
