//! A whole cluster in one process, started as a user starts it: `kijabi up`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::kubectl::Kubectl;
use crate::process::{self, Program};

/// A running cluster. Dropping it stops it and removes all that it made.
#[derive(Debug)]
pub struct Cluster {
    folder: TempDir,
    program: Option<Program>,
    arguments: Vec<String>,
}

/// How a cluster is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Simulated nodes instead of a real one.
    pub hollow_nodes: usize,
    /// More arguments for `kijabi up`.
    pub arguments: Vec<String>,
}

impl Cluster {
    /// Starts a cluster and waits until its API server is ready.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn start(options: &Options) -> Self {
        let folder = tempfile::Builder::new().prefix("kj-").tempdir().expect("a temporary folder");
        let mut arguments = vec!["--secure-port=0".to_owned(), "--kubelet-port=0".to_owned()];
        if options.hollow_nodes > 0 {
            arguments.push(format!("--hollow={}", options.hollow_nodes));
        }
        arguments.extend(options.arguments.iter().cloned());
        let mut cluster = Self { folder, program: None, arguments };
        cluster.resume();
        cluster
    }

    /// Starts `kijabi up` on the cluster's folder (again) and waits until it is ready.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn resume(&mut self) {
        // The last run's file names the last run's port.
        let _ = std::fs::remove_file(self.kubeconfig());
        let mut command = Command::new(process::kijabi());
        command.arg("up").arg("--data-dir").arg(self.data()).args(&self.arguments);
        self.program = Some(Program::start(&mut command, &self.log()));
        let kubectl = || Kubectl::new("1.36", &self.kubeconfig(), self.folder.path());
        crate::poll::eventually("the cluster's /readyz", Duration::from_secs(60), || {
            if !self.kubeconfig().exists() {
                return Err(format!("no admin.conf yet; log:\n{}", self.log_tail()));
            }
            let answer = kubectl().run("get --raw /readyz");
            if answer.success {
                Ok(())
            } else {
                Err(format!("{}\n{}", answer.err, self.log_tail()))
            }
        });
    }

    /// The cluster's data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A folder for the test's own files.
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data().join("admin.conf")
    }

    /// kubectl `version` for this cluster, as its administrator.
    pub fn kubectl(&self, version: &str) -> Kubectl {
        Kubectl::new(version, &self.kubeconfig(), self.folder.path())
    }

    /// The running `kijabi up`.
    ///
    /// # Panics
    /// If it was stopped.
    pub fn program(&mut self) -> &mut Program {
        self.program.as_mut().expect("the cluster runs")
    }

    /// The log file of `kijabi up`.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("kijabi.log")
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(30).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the end of the cluster's log:\n{}", self.log_tail());
        }
        if let Some(mut program) = self.program.take() {
            program.signal("TERM");
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                program.wait(Duration::from_secs(20))
            }));
            if ended.is_err() {
                program.kill();
            }
        }
        let down =
            Command::new(process::kijabi()).arg("down").arg("--data-dir").arg(self.data()).output();
        if let Ok(down) = down
            && !down.status.success()
        {
            eprintln!("kijabi down: {}", String::from_utf8_lossy(&down.stderr));
        }
    }
}
