//! Files of the pki folder: private, whole or absent, written by one process at a time.
//!
//! Owns: how a file comes to be. Must not know: what is in it. A newcomer's trap: a key and its
//! certificate are two files, so a crash between them leaves a pair that does not match; readers
//! check the pair and make both anew.

use std::fmt::Write as _;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::PkiError;

/// No certificate, key or kubeconfig is larger.
const FILE_BYTES_MAX: u64 = 1 << 20;

pub(super) fn create_folder(dir: &Path) -> Result<(), PkiError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| failed(dir, e))
}

/// The lock of a folder, held until dropped.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "closing the file is the unlocking")] File);

pub(super) fn lock(dir: &Path) -> Result<Lock, PkiError> {
    let path = dir.join(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|e| failed(&path, e))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|e| failed(&path, e.into()))?;
    Ok(Lock(file))
}

/// The text of a file, `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, error)),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|e| failed(path, e))?;
    Ok(Some(text))
}

/// Writes a file that only its owner may read, whole or not at all.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = write_part(&part, bytes).and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        // The part is useless; that it could not be removed says no more than the first error.
        let _ = std::fs::remove_file(&part);
    }
    written.map_err(|e| failed(path, e))?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(|e| failed(parent, e))
}

fn write_part(part: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file =
        OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(part)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The file name, without ending, for the certificate of `who`: readable and without separators.
pub(super) fn stem_of(what: &str, who: &str) -> String {
    let mut stem = format!("{what}-");
    for byte in who.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => stem.push(char::from(byte)),
            other => write!(stem, "_{other:02x}").expect("a String takes all"),
        }
    }
    stem
}

fn failed(path: &Path, source: std::io::Error) -> PkiError {
    PkiError::File { path: path.to_owned(), source }
}
