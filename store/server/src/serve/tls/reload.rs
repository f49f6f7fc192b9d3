//! What is made of files, and made again when they change.
//!
//! Owns: noticing the change. Must not know: what is made. A newcomer's trap: a certificate and its
//! key are two files, so there is a moment at which they do not fit; what was there before stays in
//! use until they do.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::TlsError;

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

type Build<T> = Box<dyn Fn() -> Result<T, TlsError> + Send + Sync>;

/// Something made of files.
pub(super) struct Reloading<T> {
    what: &'static str,
    paths: Vec<PathBuf>,
    build: Build<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// Of the last attempt, whether it worked or not.
    stamps: Vec<Option<Stamp>>,
    value: Arc<T>,
}

impl<T> fmt::Debug for Reloading<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloading").field("what", &self.what).finish_non_exhaustive()
    }
}

impl<T> Reloading<T> {
    /// Makes it for the first time.
    pub(super) fn new(
        what: &'static str,
        paths: Vec<PathBuf>,
        build: impl Fn() -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        // Before the files are read: a change in between is noticed then.
        let stamps = stamps(&paths);
        let value = Arc::new(build()?);
        Ok(Self { what, paths, build: Box::new(build), state: Mutex::new(State { stamps, value }) })
    }

    /// What the files say now, or said when they were last right.
    pub(super) fn current(&self) -> Arc<T> {
        let stamps = stamps(&self.paths);
        let mut state = self.state.lock();
        if state.stamps != stamps {
            state.stamps = stamps;
            match (self.build)() {
                Ok(value) => {
                    state.value = Arc::new(value);
                    tracing::info!(side = self.what, "TLS files changed; the new ones are used");
                }
                Err(error) => {
                    tracing::warn!(side = self.what, %error, "TLS files changed and cannot be used; the old ones stay in use");
                }
            }
        }
        Arc::clone(&state.value)
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    paths.iter().map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    let changed = (found.mtime(), found.mtime_nsec());
    Some(Stamp { inode: found.ino(), length: found.len(), changed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::tls::settings;

    #[test]
    fn a_broken_file_leaves_the_old_value() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let write = |text: &str| {
            // Renamed into place, as tools do, so that the stamp differs in any case.
            std::fs::write(dir.path().join("new"), text).unwrap();
            std::fs::rename(dir.path().join("new"), &path).unwrap();
        };
        write("1");
        let from = path.clone();
        let number = Reloading::new("test", vec![path.clone()], move || {
            let text = std::fs::read_to_string(&from).unwrap_or_default();
            text.parse::<u32>().map_err(|error| settings("number", &error))
        });
        let number = number.unwrap();
        assert_eq!(*number.current(), 1);
        write("2");
        assert_eq!(*number.current(), 2);
        write("x");
        assert_eq!(*number.current(), 2);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(*number.current(), 2);
        write("3");
        assert_eq!(*number.current(), 3);
    }
}
