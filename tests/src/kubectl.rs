//! Stock kubectl of several versions, as `scripts/clients.sh` fetched them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{poll, process};

/// The kubectl versions that the walk-through is held with.
pub const VERSIONS: [&str; 3] = ["1.20", "1.31", "1.36"];

/// One kubectl pointed at one cluster.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
}

/// What a command printed, and whether it succeeded.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Exit status 0.
    pub success: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Kubectl {
    /// kubectl `version` with `kubeconfig`; discovery caches go below `home`.
    ///
    /// # Panics
    /// If that version was not fetched.
    pub fn new(version: &str, kubeconfig: &Path, home: &Path) -> Self {
        let program = clients_folder().join(format!("kubectl-{version}"));
        assert!(program.exists(), "{} is missing: run scripts/clients.sh", program.display());
        Self { program, kubeconfig: kubeconfig.to_owned(), home: home.to_owned() }
    }

    /// Runs it with `arguments`, split at blanks (no quoting).
    pub fn run(&self, arguments: &str) -> Answer {
        let arguments: Vec<_> = arguments.split_whitespace().collect();
        self.run_arguments(&arguments)
    }

    /// Runs it with `arguments` as they are.
    pub fn run_arguments(&self, arguments: &[&str]) -> Answer {
        let mut command = self.command();
        let output = process::run(command.args(arguments));
        Answer {
            success: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The command itself, for tests that stream.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .env("HOME", &self.home)
            .env_remove("KUBECONFIG");
        command
    }

    /// Runs it, which must succeed; returns standard output.
    ///
    /// # Panics
    /// If it fails.
    pub fn ok(&self, arguments: &str) -> String {
        let answer = self.run(arguments);
        assert!(answer.success, "kubectl {arguments}: {}{}", answer.out, answer.err);
        answer.out
    }

    /// Runs it, which must fail; returns standard error.
    ///
    /// # Panics
    /// If it succeeds.
    pub fn fails(&self, arguments: &str) -> String {
        let answer = self.run(arguments);
        assert!(!answer.success, "kubectl {arguments} succeeded: {}", answer.out);
        answer.err
    }

    /// Runs it until its output satisfies `want`, at most `seconds`.
    pub fn until(&self, seconds: u64, arguments: &str, want: impl Fn(&str) -> bool) -> String {
        poll::eventually(&format!("kubectl {arguments}"), Duration::from_secs(seconds), || {
            let answer = self.run(arguments);
            if answer.success && want(&answer.out) {
                Ok(answer.out)
            } else {
                Err(format!("{}{}", answer.out, answer.err))
            }
        })
    }
}

/// Where `scripts/clients.sh` keeps the clients.
pub fn clients_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("KIJABI_CLIENTS") {
        return folder.into();
    }
    let home = std::env::var_os("HOME").expect("HOME is set");
    Path::new(&home).join(".cache/kijabi/clients")
}

/// helm 4, as `scripts/clients.sh` fetched it.
///
/// # Panics
/// If it was not fetched.
pub fn helm() -> PathBuf {
    let program = clients_folder().join("helm-with-1.36");
    assert!(program.exists(), "{} is missing: run scripts/clients.sh", program.display());
    program
}
