//! A disk that is full under the Raft log: nothing is acknowledged that is not durable, the member
//! stops with one clear line, and goes on when there is room.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use etcd_client::Client;
use kijabi_tests::poll;
use kijabi_tests::process::{Program, kijabi, succeed};

const LIMIT: Duration = Duration::from_secs(60);

/// A file system of a given size, unmounted when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: &Path, size: &str) -> Self {
        std::fs::create_dir(at).expect("make a folder");
        let options = format!("size={size},mode=700");
        succeed(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at));
        Self(at.to_owned())
    }

    fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        succeed(Command::new("mount").args(["-o", &options]).arg(&self.0));
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Nothing else to do about it here; the folder's removal will tell.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn start(folder: &Path, name: &str) -> Program {
    let mut command = Command::new(kijabi());
    command
        .args(["store", "--listen-client-urls=http://127.0.0.1:0"])
        .arg("--advertise-client-urls=http://127.0.0.1:0")
        .args(["--listen-peer-urls=http://127.0.0.1:0", "--data-dir"])
        .arg(folder.join("data"))
        .arg("--wal-dir")
        .arg(folder.join("disk/wal"));
    Program::start(&mut command, &folder.join(name))
}

fn endpoint(program: &Program) -> String {
    poll::eventually("the member serves", LIMIT, || {
        let output = program.output();
        match output.split_once("\"serving client traffic\",\"address\":\"") {
            Some((_, rest)) if output.contains("ready to serve client requests") => {
                Ok(rest.split('"').next().unwrap_or_default().to_owned())
            }
            _ => Err(output),
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_the_member_and_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().expect("make a folder");
    // Room for one file of the log, not for two.
    let disk = Tmpfs::mount(&folder.path().join("disk"), "96m");
    let mut program = start(folder.path(), "first");
    let mut client = Client::connect([endpoint(&program)], None).await.expect("connect");
    let value = "x".repeat(1_000_000);
    let mut acknowledged = Vec::new();
    for number in 0..200 {
        let key = format!("k{number:03}");
        match client.put(key.clone(), value.clone(), None).await {
            Ok(response) => {
                acknowledged.push((key, response.header().expect("a header").revision()));
            }
            Err(_) => break,
        }
    }
    assert!((40..100).contains(&acknowledged.len()), "{} fit", acknowledged.len());
    assert_eq!(program.wait(LIMIT), Some(1), "{}", program.output());
    let output = program.output();
    assert!(output.contains("No space left on device"), "{output}");

    // Without room it does not start, and says so in one line.
    let mut program = start(folder.path(), "second");
    let refused = program.wait(LIMIT);
    let output = program.output();
    if refused.is_some() {
        assert_eq!(refused, Some(1), "{output}");
        assert!(output.contains("No space left on device"), "{output}");
    }

    disk.grow("512m");
    let program = start(folder.path(), "third");
    let mut client = Client::connect([endpoint(&program)], None).await.expect("connect");
    for (key, revision) in &acknowledged {
        let found = client.get(key.clone(), None).await.expect("read");
        assert_eq!(found.kvs().len(), 1, "{key} is gone");
        assert_eq!(found.kvs()[0].mod_revision(), *revision, "{key}");
    }
    client.put("after", "x", None).await.expect("write again");
}
