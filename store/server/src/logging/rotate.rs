//! A log file that is put aside when it is full.
//!
//! Owns: etcd's names of old files and how long they stay. Must not know: what is written. A
//! newcomer's trap: a file that is put aside keeps its place in the order of time by its name, so
//! the names are never parsed by anything but their sort order and their age.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::tz::TimeZone;
use kijabi_base::clock;

use crate::config::Rotation;

const DAY_MS: u64 = 24 * 3600 * 1000;

/// The file that is written to now.
pub(super) struct Rotated {
    path: PathBuf,
    settings: Rotation,
    file: File,
    length: u64,
}

impl Rotated {
    pub(super) fn open(path: &Path, settings: Rotation) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = File::options().create(true).append(true).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), settings, file, length })
    }

    fn limit(&self) -> u64 {
        // lumberjack takes zero for 100.
        let megabytes =
            if self.settings.max_megabytes == 0 { 100 } else { self.settings.max_megabytes };
        megabytes.saturating_mul(1 << 20)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let aside = self.aside(clock::wall_ms());
        fs::rename(&self.path, &aside)?;
        *self = Self::open(&self.path, self.settings)?;
        let (path, settings) = (self.path.clone(), self.settings);
        // Compressing takes time that nobody who logs has.
        std::thread::Builder::new().name("log-rotation".into()).spawn(move || {
            if settings.compress {
                let _ = compress(&aside);
            }
            let _ = clean(&path, settings);
        })?;
        Ok(())
    }

    /// `name-2006-01-02T15-04-05.000.log` beside `name.log`.
    fn aside(&self, wall_ms: u64) -> PathBuf {
        let zone = if self.settings.local_time { TimeZone::system() } else { TimeZone::UTC };
        let at = jiff::Timestamp::from_millisecond(wall_ms as i64).unwrap_or_default();
        let at = at.to_zoned(zone).strftime("%Y-%m-%dT%H-%M-%S.%3f").to_string();
        let (stem, extension) = parts(&self.path);
        self.path.with_file_name(format!("{stem}-{at}{extension}"))
    }
}

/// The name without its extension, and the extension with its dot.
fn parts(path: &Path) -> (String, String) {
    let text =
        |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let extension = text(path.extension());
    let extension = if extension.is_empty() { extension } else { format!(".{extension}") };
    (text(path.file_stem()), extension)
}

fn compress(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    let mut encoder = GzEncoder::new(File::create(&name)?, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::remove_file(path)
}

/// Removes old files that are too many or too old.
fn clean(path: &Path, settings: Rotation) -> io::Result<()> {
    let (stem, extension) = parts(path);
    let (stem, now) = (format!("{stem}-"), clock::wall_ms());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut old = Vec::new();
    for entry in fs::read_dir(folder.unwrap_or(Path::new(".")))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let plain = name.strip_suffix(".gz").unwrap_or(&name);
        let is_ours =
            plain.strip_prefix(&stem).and_then(|rest| rest.strip_suffix(&extension)).is_some_and(
                |at| at.len() == "2006-01-02T15-04-05.000".len() && at.as_bytes()[10] == b'T',
            );
        if is_ours {
            let changed = entry.metadata()?.modified()?;
            let age = changed.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            old.push((name, entry.path(), now.saturating_sub(age.as_millis() as u64)));
        }
    }
    old.sort_by(|a, b| b.0.cmp(&a.0));
    for (at, (_, path, age_ms)) in old.iter().enumerate() {
        let too_many = settings.max_backups > 0 && at >= settings.max_backups;
        let too_old = settings.max_days > 0 && *age_ms > settings.max_days.saturating_mul(DAY_MS);
        if too_many || too_old {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

impl Write for Rotated {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.length > 0 && self.length + line.len() as u64 > self.limit() {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.length += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_put_aside_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd.log");
        let settings = Rotation { max_megabytes: 1, ..Rotation::default() };
        let mut log = Rotated::open(&path, settings).unwrap();
        let line = vec![b'x'; 700 << 10];
        log.write_all(&line).unwrap();
        log.write_all(&line).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), line.len() as u64);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        let aside = log.aside(1_700_000_000_123);
        assert_eq!(aside.file_name().unwrap(), "etcd-2023-11-14T22-13-20.123.log");

        for (at, name) in ["2001-01-01T00-00-00.000", "2002-01-01T00-00-00.000"].iter().enumerate()
        {
            fs::write(dir.path().join(format!("etcd-{name}.log{}", [".gz", ""][at])), "x").unwrap();
        }
        fs::write(dir.path().join("etcd-other.log"), "x").unwrap();
        clean(&path, Rotation { max_backups: 2, ..settings }).unwrap();
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(names.contains(&"etcd-2002-01-01T00-00-00.000.log".to_owned()), "{names:?}");
        assert!(names.contains(&"etcd-other.log".to_owned()), "{names:?}");
        compress(&dir.path().join("etcd-other.log")).unwrap();
        assert!(dir.path().join("etcd-other.log.gz").exists());
    }
}
