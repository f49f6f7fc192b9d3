//! Logs as etcd writes them, torn and damaged.

use kijabi_proto::etcdstorage;

use super::*;

#[derive(Default)]
struct Log {
    bytes: Vec<u8>,
    crc: u32,
}

impl Log {
    fn record(&mut self, kind: i64, data: &[u8]) {
        let crc = if kind == 4 { self.crc } else { crc32c::crc32c_append(self.crc, data) };
        self.crc = crc;
        let data = Bytes::copy_from_slice(data);
        let record = etcdstorage::Record { r#type: kind, crc, data }.encode_to_vec();
        let padding = (8 - record.len() % 8) % 8;
        let mut field = record.len() as u64;
        if padding > 0 {
            field |= (0x80 | padding as u64) << 56;
        }
        self.bytes.extend_from_slice(&field.to_le_bytes());
        self.bytes.extend_from_slice(&record);
        self.bytes.extend_from_slice(&vec![0; padding]);
    }

    fn entry(&mut self, index: u64, data: &[u8]) {
        let data = Bytes::copy_from_slice(data);
        let entry = Entry { r#type: 0, term: 2, index, data };
        self.record(2, &entry.encode_to_vec());
    }

    fn save(&mut self, dir: &Path, sequence: u64) -> PathBuf {
        let path = dir.join(format!("{sequence:016x}-{:016x}.wal", 0));
        std::fs::write(&path, std::mem::take(&mut self.bytes)).unwrap();
        path
    }
}

fn read(dir: &Path, after: u64) -> Result<Vec<(u64, Vec<u8>)>, EtcdWalError> {
    let wal = EtcdWal::open(dir, after)?;
    wal.entries().map(|entry| entry.map(|entry| (entry.index, entry.data.to_vec()))).collect()
}

fn two_files(dir: &Path) -> (PathBuf, PathBuf) {
    let mut log = Log::default();
    log.record(4, b"");
    log.record(1, b"meta");
    log.entry(1, b"one");
    log.entry(2, b"two");
    log.entry(3, b"lost");
    let first = log.save(dir, 0);
    log.record(4, b"");
    log.entry(3, b"three");
    let state = etcdstorage::HardState { term: 2, vote: 1, commit: 3 };
    log.record(3, &state.encode_to_vec());
    log.entry(4, &[7; 3000]);
    log.bytes.resize(16 << 10, 0);
    (first, log.save(dir, 1))
}

#[test]
fn entries_that_came_again_count_once() {
    let dir = tempfile::tempdir().unwrap();
    two_files(dir.path());
    std::fs::write(dir.path().join("0.tmp"), "preallocated").unwrap();
    let all = read(dir.path(), 0).unwrap();
    assert_eq!(all.iter().map(|entry| entry.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(all[2].1, b"three");
    assert_eq!(read(dir.path(), 3).unwrap(), [(4, vec![7; 3000])]);
    assert_eq!(read(dir.path(), 4).unwrap(), []);
    assert_eq!(EtcdWal::open(dir.path(), 9).unwrap().last_index(), 9);
}

#[test]
fn what_was_purged_may_be_missing_but_not_what_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = two_files(dir.path());
    std::fs::remove_file(&first).unwrap();
    assert_eq!(read(dir.path(), 2).unwrap().len(), 2);
    let error = read(dir.path(), 1).unwrap_err().to_string();
    let expected = "the log's entries from 2 on are needed, but the first one left is 3";
    assert_eq!(error, expected);
    std::fs::rename(&second, dir.path().join("0000000000000005-0000000000000000.wal")).unwrap();
    two_files(dir.path());
    let error = read(dir.path(), 2).unwrap_err().to_string();
    assert!(error.contains("the file before it is missing"), "{error}");
}

#[test]
fn a_torn_end_is_left_out_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let (_, last) = two_files(dir.path());
    let whole = std::fs::read(&last).unwrap();
    let mut torn = whole.clone();
    torn[1024..].fill(0);
    std::fs::write(&last, &torn).unwrap();
    let wal = EtcdWal::open(dir.path(), 0).unwrap();
    assert_eq!(wal.last_index(), 3);
    assert!(wal.torn().is_some());
    for cut in 0..1024 {
        std::fs::write(&last, &whole[..cut]).unwrap();
        assert_eq!(EtcdWal::open(dir.path(), 0).unwrap().last_index(), 3, "cut at {cut}");
    }
    // A record that something follows was whole once.
    torn[8000] = 1;
    std::fs::write(&last, &torn).unwrap();
    let error = EtcdWal::open(dir.path(), 0).unwrap_err().to_string();
    assert!(error.contains("wrong checksum"), "{error}");
}

#[test]
fn a_log_that_ends_before_what_was_committed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::default();
    log.record(4, b"");
    log.entry(1, b"one");
    let state = etcdstorage::HardState { term: 2, vote: 1, commit: 5 };
    log.record(3, &state.encode_to_vec());
    log.save(dir.path(), 0);
    let error = EtcdWal::open(dir.path(), 0).unwrap_err().to_string();
    assert_eq!(error, "the log ends at entry 1, but entries up to 5 were committed");
    assert_eq!(EtcdWal::open(dir.path(), 7).unwrap().last_index(), 7);
}

#[test]
fn damage_is_noticed_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (first, last) = two_files(dir.path());
    for path in [first, last] {
        let whole = std::fs::read(&path).unwrap();
        let expected = read(dir.path(), 0).unwrap();
        // What comes before a torn record is kept, also if that record would have replaced it. The
        // kind of a record is not covered by etcd's checksum.
        let lost = (3, b"lost".to_vec());
        for bit in (0..400 * 8).filter(|bit| bit / 8 < whole.len()) {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &flipped).unwrap();
            // Flips in the padding or in a kind that is not looked at change nothing.
            match read(dir.path(), 0) {
                Ok(entries) if entries.get(2) == Some(&lost) => {}
                Ok(entries) => assert!(expected.starts_with(&entries), "bit {bit}: {entries:?}"),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
        std::fs::write(&path, &whole).unwrap();
    }
}
