//! Writes the files of a volume so that a reader sees all of the old or all of the new ones.
//!
//! The layout is Kubernetes': `name -> ..data/name`, `..data -> ..<time>`; one rename of `..data`
//! switches everything. A newcomer's trap: a reader that keeps a file open keeps the old one, and
//! that is wanted.

use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use super::payload::Payload;

const DATA: &str = "..data";
const DATA_NEXT: &str = "..data_tmp";

/// Makes `folder` hold exactly `files`. Does nothing if it does already.
pub(super) fn write(folder: &Path, files: &Payload, group: Option<u32>) -> io::Result<()> {
    // Only a folder of our own making is believed, whatever the link says: this runs as root.
    let current = std::fs::read_link(folder.join(DATA)).ok();
    if let Some(current) = current.filter(|to| to.to_str().is_some_and(is_stamp))
        && holds(&folder.join(current), files)
    {
        return Ok(());
    }
    let name = unused_stamp(folder);
    let outcome = switch(folder, &name, files, group);
    let shown = std::fs::read_link(folder.join(DATA)).ok();
    // What is not shown is of no use to anybody: an earlier version, a try that failed or died.
    for entry in std::fs::read_dir(folder)?.flatten() {
        let Ok(other) = entry.file_name().into_string() else { continue };
        if is_stamp(&other) && shown.as_deref() != Some(Path::new(&other)) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    outcome
}

/// Whether a name is one that [`write`] gives its folders: two dots and digits.
fn is_stamp(name: &str) -> bool {
    let digits = name.strip_prefix("..").unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn unused_stamp(folder: &Path) -> String {
    let mut stamp = kijabi_base::clock::wall_ms();
    while folder.join(format!("..{stamp}")).symlink_metadata().is_ok() {
        stamp += 1;
    }
    format!("..{stamp}")
}

/// Writes the files into the new folder `name`, then shows it in the old one's place.
fn switch(folder: &Path, name: &str, files: &Payload, group: Option<u32>) -> io::Result<()> {
    let next = folder.join(name);
    // Never through something that stood there before.
    std::fs::create_dir(&next)?;
    set_mode(&next, 0o755, group)?;
    for (path, file) in files {
        let target = next.join(path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&target, &file.bytes)?;
        // The group must be able to read what is made for it.
        let mode = if group.is_some() { file.mode | 0o440 } else { file.mode };
        set_mode(&target, mode, group)?;
    }
    let link = folder.join(DATA_NEXT);
    let _ = std::fs::remove_file(&link);
    symlink(name, &link)?;
    std::fs::rename(&link, folder.join(DATA))?;
    link_names(folder, files)
}

fn set_mode(path: &Path, mode: u32, group: Option<u32>) -> io::Result<()> {
    chown(path, None, group)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// The names users see: one link for the first part of each path; links of gone files go.
fn link_names(folder: &Path, files: &Payload) -> io::Result<()> {
    let first = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
    let names: std::collections::BTreeSet<String> = files.keys().map(|path| first(path)).collect();
    for name in &names {
        match symlink(Path::new(DATA).join(name), folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    for entry in std::fs::read_dir(folder)?.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !name.starts_with("..") && !names.contains(&name) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Whether a written folder has exactly these files.
fn holds(folder: &Path, files: &Payload) -> bool {
    let same = files.iter().all(|(path, file)| {
        std::fs::read(folder.join(path)).is_ok_and(|bytes| bytes == file.bytes)
    });
    same && count_files(folder) == files.len()
}

fn count_files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => count_files(&entry.path()),
            _ => 1,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::payload::PayloadFile;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |text: &str| PayloadFile { bytes: text.as_bytes().to_vec(), mode: 0o640 };
        files.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
    }

    fn visible(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with(".."))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_change_switches_all_files_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, &payload(&[("a", "1"), ("d/b", "2")]), None).unwrap();
        assert_eq!(visible(folder), ["a", "d"]);
        assert_eq!(std::fs::read_to_string(folder.join("d/b")).unwrap(), "2");
        let mode = std::fs::metadata(folder.join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let before = std::fs::read_link(folder.join(DATA)).unwrap();

        write(folder, &payload(&[("a", "1"), ("d/b", "2")]), None).unwrap();
        assert_eq!(std::fs::read_link(folder.join(DATA)).unwrap(), before, "nothing changed");

        write(folder, &payload(&[("c", "3")]), None).unwrap();
        assert_eq!(visible(folder), ["c"]);
        assert_eq!(std::fs::read_to_string(folder.join("c")).unwrap(), "3");
        let hidden = std::fs::read_dir(folder).unwrap().count();
        assert_eq!(hidden, 3, "the link, ..data and one folder");
    }

    #[test]
    fn a_writer_that_died_half_way_is_made_good() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        std::fs::create_dir(folder.join("..1")).unwrap();
        symlink("..1", folder.join(DATA_NEXT)).unwrap();
        write(folder, &payload(&[("a", "1")]), None).unwrap();
        assert_eq!(std::fs::read_to_string(folder.join("a")).unwrap(), "1");
    }

    #[test]
    fn a_link_out_of_the_volume_is_never_followed() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("kept"), "1").unwrap();
        let folder = tempfile::tempdir().unwrap();
        symlink(outside.path(), folder.path().join(DATA)).unwrap();
        write(folder.path(), &payload(&[("a", "1")]), None).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("a")).unwrap(), "1");
        let left: Vec<_> = std::fs::read_dir(outside.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing was removed from or added to the link's target");
    }

    #[test]
    fn a_write_that_fails_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            // A file cannot also be a folder.
            write(folder.path(), &payload(&[("a", "1"), ("a/b", "2")]), None).unwrap_err();
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
