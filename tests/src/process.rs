//! Programs that a test starts: found, started with their output in a file, ended by pid.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::poll;

/// A program that runs until the test ends. Dropping it kills it and waits for it.
#[derive(Debug)]
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `command`, its output going to `log`.
    ///
    /// # Panics
    /// If the program or the log file cannot be had.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log).expect("open the log");
        let err = out.try_clone().expect("clone the log's handle");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { child, log: log.to_owned() }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it has printed so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal by name, such as `TERM`.
    ///
    /// # Panics
    /// If `kill` cannot be run.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        status.expect("run kill");
    }

    /// Waits for the end and returns the exit code, `None` if a signal ended it.
    ///
    /// # Panics
    /// If it does not end within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<i32> {
        let log = self.log.clone();
        poll::eventually("the program's end", limit, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status.code()),
            Ok(None) => Err(format!("still running; its log is {}", log.display())),
            Err(error) => Err(error.to_string()),
        })
    }

    /// Ends it with SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        // A program that is gone already is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The folder of the built programs: where this test's own executable was built into.
///
/// # Panics
/// If the test's own path cannot be read.
pub fn build_folder() -> PathBuf {
    let own = std::env::current_exe().expect("the test's own path");
    let folder = own.parent().and_then(Path::parent).expect("a test lies in target/<profile>/deps");
    folder.to_owned()
}

/// The `kijabi` binary under test: the one built beside this test, or the one that `KIJABI_BINARY`
/// names, such as one with optimisation.
///
/// # Panics
/// If it was not built.
pub fn kijabi() -> PathBuf {
    let named = std::env::var_os("KIJABI_BINARY").map(PathBuf::from);
    let path = named.unwrap_or_else(|| build_folder().join("kijabi"));
    assert!(path.exists(), "{} is missing: run `cargo build -p kijabi` first", path.display());
    path
}

/// Runs `command` to its end and returns its output.
///
/// # Panics
/// If it cannot be started.
pub fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
}

/// Runs `command`, which must succeed, and returns what it printed.
///
/// # Panics
/// If it fails.
pub fn succeed(command: &mut Command) -> String {
    let output = run(command);
    assert!(
        output.status.success(),
        "{command:?} failed: {}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
