//! What can go wrong in the agent, by what its caller can do about it.
//!
//! Errors that concern one pod stay with that pod's worker ([`crate::pod::Failure`]); only what
//! concerns the node as a whole is here. The texts are shown to the user as they are.

use std::path::PathBuf;

/// An error of the agent as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program the agent needs is not installed.
    #[error("{program} is not installed: {hint}")]
    Missing {
        /// The program.
        program: &'static str,
        /// How to get it.
        hint: &'static str,
    },
    /// containerd did not come up.
    #[error("containerd does not answer on {socket}: {reason}; its log is {log}")]
    Containerd {
        /// Its socket.
        socket: PathBuf,
        /// What went wrong.
        reason: String,
        /// Its log file.
        log: PathBuf,
    },
    /// A file or folder could not be used.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A command the agent ran failed.
    #[error("{command}: {reason}")]
    Command {
        /// The command.
        command: String,
        /// Its exit and what it said.
        reason: String,
    },
    /// A setting makes no sense.
    #[error("{0}")]
    Config(String),
    /// The runtime refused.
    #[error(transparent)]
    Runtime(#[from] crate::runtime::RuntimeError),
    /// The Kubernetes API refused.
    #[error("kubernetes API: {0}")]
    Api(#[from] kube::Error),
    /// The node server could not start.
    #[error("node server: {0}")]
    Server(String),
}

impl Error {
    /// Adds the path to an I/O error.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
