//! Files of the Raft log that something has damaged: whatever it is, opening them is a clear error or
//! loses nothing that was acknowledged, and never a panic.

use std::path::PathBuf;

use bytes::Bytes;

use super::frame::{self, Record};
use super::segment;
use super::tests::{DIR, all, append, entry, id, open, vote};
use super::*;
use crate::vfs::RealVfs;
use crate::vfs::sim::{Image, SimVfs};

/// Three segments: two that are sealed, and the one that is written to.
fn three_segments() -> (Image, Vec<LogEntry>) {
    let vfs = SimVfs::default();
    let wal = open(&vfs).unwrap();
    vote(&wal, "vote").unwrap();
    let mut entries = Vec::new();
    while vfs.image().len() < 3 || entries.len() % 4 != 0 {
        let next = entry(1, entries.len() as u64, &"x".repeat(700));
        append(&wal, vec![next.clone()]).unwrap();
        entries.push(next);
    }
    wal.save_committed(id(1, 1)).unwrap();
    append(&wal, vec![entry(2, entries.len() as u64, "last")]).unwrap();
    entries.push(entry(2, entries.len() as u64, "last"));
    wal.close();
    assert_eq!(vfs.image().len(), 3);
    (vfs.image(), entries)
}

fn path(sequence: u64) -> PathBuf {
    Path::new(DIR).join(segment::file_name(sequence))
}

/// What is found; `None` is an error that names a place in the log.
fn found(image: Image) -> Option<Vec<LogEntry>> {
    match open(&SimVfs::from_image(image)) {
        Ok(wal) => Some(all(&wal)),
        Err(error @ WalError::Corrupt { .. }) => {
            assert!(error.to_string().starts_with("raft log: /wal"), "{error}");
            None
        }
        Err(error) => panic!("not a typed error: {error}"),
    }
}

#[test]
fn a_flipped_bit_in_any_segment_is_an_error_or_harmless() {
    let (image, entries) = three_segments();
    for sequence in 1..=3 {
        let content = &image[&path(sequence)];
        // Where frames begin and end every bit, in between some: the data is all alike.
        for byte in (0..content.len()).filter(|byte| byte % 728 < 80 || byte % 61 == 0) {
            let mut damaged = image.clone();
            damaged.get_mut(&path(sequence)).unwrap()[byte] ^= 1 << (byte % 8);
            if let Some(found) = found(damaged) {
                assert_eq!(found, entries, "segment {sequence}, byte {byte}");
            }
        }
    }
}

#[test]
fn a_segment_cut_short_is_an_error_unless_it_is_the_last_one() {
    let (image, entries) = three_segments();
    for sequence in 1..=3 {
        for length in (0..image[&path(sequence)].len()).step_by(37) {
            let mut cut = image.clone();
            cut.get_mut(&path(sequence)).unwrap().truncate(length);
            match found(cut) {
                Some(found) if sequence == 3 => assert!(entries.starts_with(&found)),
                Some(found) => assert_eq!(found, entries, "segment {sequence} cut to {length}"),
                None => {}
            }
        }
    }
}

#[test]
fn impossible_lengths_are_not_believed() {
    let (image, entries) = three_segments();
    for sequence in 1..=3 {
        for at in (0..image[&path(sequence)].len() - 8).step_by(8) {
            let mut damaged = image.clone();
            let content = damaged.get_mut(&path(sequence)).unwrap();
            content[at + 4..at + 8].copy_from_slice(&u32::MAX.to_le_bytes());
            if let Some(found) = found(damaged) {
                assert_eq!(found, entries, "segment {sequence}, offset {at}");
            }
        }
    }
}

#[test]
fn segments_that_are_missing_doubled_swapped_or_foreign_are_noticed() {
    let (image, entries) = three_segments();
    for sequence in [1, 2] {
        let mut missing = image.clone();
        missing.remove(&path(sequence));
        assert_eq!(found(missing), None, "segment {sequence} is missing");
    }
    for (from, to) in [(1, 2), (2, 1), (1, 4), (3, 4), (3, 2)] {
        let mut copied = image.clone();
        let content = copied[&path(from)].clone();
        copied.insert(path(to), content);
        assert_eq!(found(copied), None, "segment {from} stands as {to}");
    }
    let mut foreign = image.clone();
    foreign.insert(path(2), three_segments().0[&path(2)].clone());
    assert!(found(foreign.clone()).is_none_or(|found| found == entries));
    let mut huge = image.clone();
    huge.insert(path(4), vec![1; 1 << 20]);
    assert_eq!(found(huge), None);
    let mut others = image;
    others.insert(Path::new(DIR).join("notes.txt"), b"hello".to_vec());
    others.insert(Path::new(DIR).join("0.wal"), b"hello".to_vec());
    assert_eq!(found(others), Some(entries), "other files are left alone");
}

/// Frames whose checksums are right, but which no writer would have written.
#[test]
fn well_formed_nonsense_is_an_error_that_names_its_place() {
    let vfs = SimVfs::default();
    let wal = open(&vfs).unwrap();
    append(&wal, vec![entry(1, 0, "a"), entry(1, 1, "b")]).unwrap();
    wal.close();
    let content = vfs.image()[&path(1)].clone();
    let header = frame::decode(&content.clone().into(), 0, None, 1 << 20).unwrap();
    let Record::Header { sequence, nonce } = header.record else { panic!("{header:?}") };
    let salt = frame::salt(sequence, nonce);
    let end = content.iter().rposition(|byte| *byte != 0).unwrap().next_multiple_of(8);
    for (record, what) in [
        (Record::Entry(entry(1, 7, "gap")), "entry 7 does not follow 1"),
        (Record::Entry(entry(1, 1, "again")), "entry 1 does not follow 1"),
        (Record::Entry(entry(1, u64::MAX, "huge")), "an index that no log can have"),
        (Record::Purge(id(1, u64::MAX)), "an index that no log can have"),
        (Record::Commit(id(9, u64::MAX)), "an index that no log can have"),
        (Record::Truncate { from: u64::MAX }, "an index that no log can have"),
        (Record::Header { sequence: 1, nonce: 1 }, ""),
        (Record::Commit(id(1, 50)), "entry 50 was committed, but is missing"),
    ] {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, salt, end as u32, &record);
        let mut damaged = content.clone();
        damaged[end..end + bytes.len()].copy_from_slice(&bytes);
        let opened = open(&SimVfs::from_image(Image::from([(path(1), damaged)])));
        match opened {
            Err(error) => assert!(error.to_string().contains(what), "{record:?}: {error}"),
            Ok(wal) => assert!(what.is_empty() && all(&wal).len() == 2, "{record:?}"),
        }
    }
}

#[test]
fn a_file_of_absurd_size_and_a_symbolic_link_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("wal");
    let wal = Wal::open(Arc::new(RealVfs), &dir, tests::options()).unwrap();
    append(&wal, vec![entry(1, 0, "a")]).unwrap();
    wal.close();
    let file = dir.join(segment::file_name(1));
    let refusal = || {
        let opened = Wal::open(Arc::new(RealVfs), &dir, tests::options());
        opened.err().unwrap().to_string()
    };
    let size = std::fs::metadata(&file).unwrap().len();
    let opened = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    opened.set_len(1 << 40).unwrap();
    let text = refusal();
    assert!(text.contains("more than a segment ever has") && text.contains(".wal"), "{text}");
    opened.set_len(size).unwrap();
    let elsewhere = parent.path().join("elsewhere");
    std::fs::rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    let before = std::fs::read(&elsewhere).unwrap();
    let text = refusal();
    assert!(text.contains(&file.display().to_string()), "{text}");
    assert_eq!(std::fs::read(&elsewhere).unwrap(), before);
    assert_eq!(Bytes::from(before).len() as u64, size);
}
