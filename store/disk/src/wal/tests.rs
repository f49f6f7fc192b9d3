//! The Raft log under restarts, power cuts, flipped bits and failing disks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;

use proptest::prelude::*;

use super::*;
use crate::vfs::RealVfs;
use crate::vfs::sim::{Image, Op, SimVfs, crash_images};

pub(super) const DIR: &str = "/wal";

pub(super) fn options() -> WalOptions {
    WalOptions { segment_bytes: 4096, cache_bytes_max: 300, ..WalOptions::default() }
}

pub(super) fn open(vfs: &SimVfs) -> Result<Wal, WalError> {
    Wal::open(Arc::new(vfs.clone()), Path::new(DIR), options())
}

pub(super) fn id(term: u64, index: u64) -> LogId {
    LogId { term, index }
}

pub(super) fn entry(term: u64, index: u64, data: &str) -> LogEntry {
    LogEntry { id: id(term, index), kind: 1, data: Bytes::copy_from_slice(data.as_bytes()) }
}

/// Calls `write` and waits until it is durable.
fn durably(write: impl FnOnce(Callback) -> Result<(), WalError>) -> Result<(), WalError> {
    let (send, receive) = mpsc::channel();
    write(Box::new(move |result| send.send(result).unwrap()))?;
    receive.recv().unwrap()
}

pub(super) fn append(wal: &Wal, entries: Vec<LogEntry>) -> Result<(), WalError> {
    durably(|done| wal.append(entries, done).map(drop))
}

pub(super) fn vote(wal: &Wal, vote: &str) -> Result<(), WalError> {
    durably(|done| wal.save_vote(Bytes::copy_from_slice(vote.as_bytes()), Some(done)))
}

pub(super) fn all(wal: &Wal) -> Vec<LogEntry> {
    wal.read(0..u64::MAX, usize::MAX).unwrap()
}

#[test]
fn an_empty_log_has_nothing() {
    let wal = open(&SimVfs::default()).unwrap();
    assert_eq!((wal.last(), wal.vote(), wal.purged(), wal.committed()), (None, None, None, None));
    assert_eq!(all(&wal), []);
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    let vfs = SimVfs::default();
    let wal = open(&vfs).unwrap();
    vote(&wal, "one").unwrap();
    append(&wal, vec![entry(1, 0, "a"), entry(1, 1, "b")]).unwrap();
    vote(&wal, "two").unwrap();
    append(&wal, vec![entry(2, 2, "c")]).unwrap();
    wal.save_committed(id(2, 2)).unwrap();
    wal.close();
    for _ in 0..2 {
        let wal = open(&vfs).unwrap();
        assert_eq!(all(&wal), [entry(1, 0, "a"), entry(1, 1, "b"), entry(2, 2, "c")]);
        assert_eq!(wal.vote().as_deref(), Some(&b"two"[..]));
        assert_eq!((wal.last(), wal.committed()), (Some(id(2, 2)), Some(id(2, 2))));
    }
}

#[test]
fn entries_are_readable_before_they_are_durable() {
    let wal = open(&SimVfs::default()).unwrap();
    let _writes = wal.append(vec![entry(1, 0, "a")], Box::new(|_| {})).unwrap();
    assert_eq!(all(&wal), [entry(1, 0, "a")]);
}

#[test]
fn truncated_entries_stay_away_and_their_indexes_are_used_again() {
    let vfs = SimVfs::default();
    let wal = open(&vfs).unwrap();
    append(&wal, vec![entry(1, 0, "a"), entry(1, 1, "b"), entry(1, 2, "c")]).unwrap();
    wal.truncate_from(1).unwrap();
    append(&wal, vec![entry(2, 1, "B")]).unwrap();
    let expected = [entry(1, 0, "a"), entry(2, 1, "B")];
    assert_eq!(all(&wal), expected);
    wal.close();
    assert_eq!(all(&open(&vfs).unwrap()), expected);
}

/// See [`writer`]: in tests, small batches fill room up to multiples of 1,024 bytes.
#[test]
fn small_writes_go_to_room_that_was_written_before_and_large_ones_do_not_double() {
    let vfs = SimVfs::default();
    let wal = open(&vfs).unwrap();
    let mut ends = Vec::new();
    for (index, bytes) in [(0, 10), (1, 10), (2, 600), (3, 10), (4, 10)] {
        let before = vfs.op_count();
        append(&wal, vec![entry(1, index, &"x".repeat(bytes))]).unwrap();
        let ops = vfs.ops();
        let end = ops[before..].iter().filter_map(|op| match op {
            Op::Write(_, offset, bytes) => Some(offset + bytes.len() as u64),
            _ => None,
        });
        ends.extend(end.max());
    }
    let [first, second, large, third, fourth] = ends[..] else { panic!("{ends:?}") };
    assert_eq!(first, 1024);
    assert!(second < 1024);
    assert!((1024 + 1..2048).contains(&large), "as many bytes as it has");
    assert_eq!(third, 2048);
    assert!(fourth < 2048);
    wal.close();
    assert_eq!(all(&open(&vfs).unwrap()).len(), 5);
}

#[test]
fn a_hole_is_refused() {
    let wal = open(&SimVfs::default()).unwrap();
    append(&wal, vec![entry(1, 0, "a")]).unwrap();
    let refused = wal.append(vec![entry(1, 2, "c")], Box::new(|_| {})).unwrap_err();
    assert_eq!(refused.to_string(), "raft log: entry 2 does not follow 0");
}

#[test]
fn an_entry_no_frame_can_hold_is_refused_before_anything_is_written() {
    let vfs = SimVfs::default();
    let bytes_max = 1000;
    let options = WalOptions { frame_bytes_max: bytes_max, ..options() };
    let wal = Wal::open(Arc::new(vfs.clone()), Path::new(DIR), options.clone()).unwrap();
    append(&wal, vec![entry(1, 0, "a")]).unwrap();
    let fits = "x".repeat(bytes_max - 17);
    let refused = append(&wal, vec![entry(1, 1, "b"), entry(1, 2, &format!("{fits}x"))]);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "raft log: entry 2 is too large: 1001 bytes, at most 1000 fit a frame"
    );
    assert!(matches!(vote(&wal, &"v".repeat(bytes_max)), Err(WalError::TooLarge { .. })));
    // Nothing of the refused call was taken, and the largest entry that fits is read back.
    assert_eq!((all(&wal), wal.vote()), (vec![entry(1, 0, "a")], None));
    append(&wal, vec![entry(1, 1, &fits)]).unwrap();
    wal.close();
    let wal = Wal::open(Arc::new(vfs), Path::new(DIR), options).unwrap();
    assert_eq!(all(&wal), [entry(1, 0, "a"), entry(1, 1, &fits)]);
}

#[test]
fn a_hole_among_appended_entries_leaves_none_of_them() {
    let wal = open(&SimVfs::default()).unwrap();
    let refused = wal.append(vec![entry(1, 0, "a"), entry(1, 2, "c")], Box::new(|_| {}));
    assert_eq!(refused.unwrap_err().to_string(), "raft log: entry 2 does not follow 0");
    assert_eq!(all(&wal), []);
    append(&wal, vec![entry(1, 0, "A")]).unwrap();
}

#[test]
fn one_large_append_is_written_in_bounded_pieces_and_acknowledged_once() {
    let vfs = SimVfs::default();
    let options = WalOptions { segment_bytes: 64 << 20, ..options() };
    let wal = Wal::open(Arc::new(vfs.clone()), Path::new(DIR), options.clone()).unwrap();
    let data = "x".repeat(kijabi_base::limits::LOG_WRITE_BATCH_BYTES_MAX / 3);
    let entries: Vec<_> = (0..7).map(|index| entry(1, index, &data)).collect();
    append(&wal, entries.clone()).unwrap();
    let largest = vfs.ops().into_iter().map(|op| match op {
        crate::vfs::sim::Op::Write(_, _, bytes) => bytes.len(),
        _ => 0,
    });
    let largest = largest.max().unwrap();
    assert!(largest <= kijabi_base::limits::LOG_WRITE_BATCH_BYTES_MAX, "{largest}");
    assert_eq!(all(&wal), entries);
    wal.close();
    assert_eq!(all(&Wal::open(Arc::new(vfs), Path::new(DIR), options).unwrap()), entries);
}

/// WAL-1: what a killed process wrote may be in the page cache only. Once recovery has told
/// anybody of it, a power cut must not take it away.
#[test]
fn recovery_makes_what_it_found_durable_before_it_trusts_it() {
    let vfs = SimVfs::default();
    let wal = open(&vfs).unwrap();
    append(&wal, vec![entry(1, 0, "a")]).unwrap();
    wal.close();
    // The killed process: its last write and the file's name were never synced.
    let unsynced: Vec<_> = vfs
        .ops()
        .into_iter()
        .filter(|op| !matches!(op, crate::vfs::sim::Op::Sync(_) | crate::vfs::sim::Op::SyncDir(_)))
        .collect();
    let restarted = SimVfs::from_image(vfs.image());
    let wal = open(&restarted).unwrap();
    assert_eq!(all(&wal), [entry(1, 0, "a")]);
    let ops: Vec<_> = unsynced.into_iter().chain(restarted.ops()).collect();
    crash_images(&ops, 1, &mut |image| {
        assert_eq!(all(&open(&SimVfs::from_image(image)).unwrap()), [entry(1, 0, "a")]);
    });
}

#[test]
fn purging_removes_files_and_survives_a_restart() {
    let vfs = SimVfs::default();
    let wal = open(&vfs).unwrap();
    let data = "x".repeat(500);
    for index in 0..50 {
        append(&wal, vec![entry(1, index, &data)]).unwrap();
    }
    let before = vfs.image().len();
    wal.purge(id(1, 40)).unwrap();
    append(&wal, vec![entry(1, 50, &data)]).unwrap();
    wal.close();
    assert!(vfs.image().len() < before, "no file was removed of {before}");
    let wal = open(&vfs).unwrap();
    assert_eq!(wal.purged(), Some(id(1, 40)));
    let indexes: Vec<_> = all(&wal).iter().map(|entry| entry.id.index).collect();
    assert_eq!(indexes, (41..=50).collect::<Vec<_>>());
}

#[test]
fn a_purge_beyond_the_end_lets_the_log_go_on_behind_it() {
    let vfs = SimVfs::default();
    let wal = open(&vfs).unwrap();
    append(&wal, vec![entry(1, 0, "a")]).unwrap();
    wal.purge(id(3, 100)).unwrap();
    assert_eq!(wal.last(), Some(id(3, 100)));
    append(&wal, vec![entry(3, 101, "b")]).unwrap();
    wal.close();
    let wal = open(&vfs).unwrap();
    assert_eq!((all(&wal), wal.purged()), (vec![entry(3, 101, "b")], Some(id(3, 100))));
}

#[test]
fn old_entries_are_read_from_disk_and_recent_ones_are_not() {
    let vfs = SimVfs::default();
    let wal = open(&vfs).unwrap();
    let entries: Vec<_> = (0..60).map(|index| entry(1, index, &format!("entry {index}"))).collect();
    for entry in &entries {
        append(&wal, vec![entry.clone()]).unwrap();
    }
    assert_eq!(all(&wal), entries);
    assert_eq!(wal.read(5..9, usize::MAX).unwrap(), entries[5..9]);
    assert_eq!(wal.read(5..9, 1).unwrap(), entries[5..6]);
}

#[test]
fn real_files_survive_a_restart_and_only_their_owner_reads_them() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("wal");
    let wal = Wal::open(Arc::new(RealVfs), &dir, options()).unwrap();
    vote(&wal, "v").unwrap();
    append(&wal, vec![entry(1, 0, "a")]).unwrap();
    wal.close();
    let wal = Wal::open(Arc::new(RealVfs), &dir, options()).unwrap();
    assert_eq!((all(&wal), wal.vote()), (vec![entry(1, 0, "a")], Some(Bytes::from_static(b"v"))));
    assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    for file in std::fs::read_dir(&dir).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

/// A log of one segment, and where its last batch begins.
fn small_log() -> (Image, usize) {
    let vfs = SimVfs::default();
    let wal = open(&vfs).unwrap();
    vote(&wal, "vote").unwrap();
    append(&wal, vec![entry(1, 0, "first")]).unwrap();
    append(&wal, vec![entry(1, 1, "second")]).unwrap();
    wal.close();
    let last = vfs.ops().iter().rev().find_map(|op| match op {
        crate::vfs::sim::Op::Write(_, offset, bytes) if bytes[12] == 4 => Some(*offset as usize),
        _ => None,
    });
    (vfs.image(), last.unwrap())
}

#[test]
fn a_torn_tail_is_cut_off_at_every_byte() {
    let (image, last) = small_log();
    let (path, content) = image.into_iter().next().unwrap();
    for cut in last..last + 48 {
        let mut torn = content.clone();
        torn[cut..].fill(0);
        let vfs = SimVfs::from_image(Image::from([(path.clone(), torn)]));
        let wal = open(&vfs).unwrap();
        let whole = [entry(1, 0, "first"), entry(1, 1, "second")];
        let found = all(&wal);
        assert!(found == whole[..1] || found == whole, "cut at {cut}: {found:?}");
        // It is a log like any other afterwards, also after one more restart.
        append(&wal, vec![entry(2, found.len() as u64, "third")]).unwrap();
        wal.close();
        assert_eq!(all(&open(&vfs).unwrap()).len(), found.len() + 1, "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_is_an_error_or_harmless_but_never_a_wrong_answer() {
    let (image, _) = small_log();
    let (path, content) = image.into_iter().next().unwrap();
    let used = content.iter().rposition(|byte| *byte != 0).unwrap() + 16;
    let mut errors = 0;
    for bit in 0..used * 8 {
        let mut flipped = content.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let vfs = SimVfs::from_image(Image::from([(path.clone(), flipped)]));
        match open(&vfs) {
            Ok(wal) => {
                let whole = [entry(1, 0, "first"), entry(1, 1, "second")];
                assert_eq!(all(&wal), whole, "bit {bit} lost what was acknowledged");
                assert_eq!(wal.vote().as_deref(), Some(&b"vote"[..]), "bit {bit}");
            }
            Err(WalError::Corrupt { .. }) => errors += 1,
            Err(error) => panic!("bit {bit}: {error}"),
        }
    }
    assert!(errors > 0);
}

#[test]
fn corruption_names_the_file_and_the_offset() {
    let (image, _) = small_log();
    let (path, mut content) = image.into_iter().next().unwrap();
    content[520] ^= 1;
    let error = open(&SimVfs::from_image(Image::from([(path, content)]))).err().unwrap();
    let text = error.to_string();
    assert!(
        text.starts_with("raft log: /wal/0000000000000001.wal is corrupt at offset 512"),
        "{text}"
    );
}

#[test]
fn a_missing_segment_is_noticed() {
    let vfs = SimVfs::default();
    let wal = open(&vfs).unwrap();
    for index in 0..50 {
        append(&wal, vec![entry(1, index, &"x".repeat(500))]).unwrap();
    }
    wal.close();
    let mut image = vfs.image();
    let middle = image.keys().nth(image.len() / 2).unwrap().clone();
    image.remove(&middle);
    let error = open(&SimVfs::from_image(image)).err().unwrap();
    assert!(error.to_string().contains("are missing"), "{error}");
}

#[test]
fn after_a_failed_write_nothing_is_acknowledged() {
    let calls = {
        let vfs = SimVfs::default();
        let wal = open(&vfs).unwrap();
        append(&wal, vec![entry(1, 0, "a")]).unwrap();
        vfs.op_count()
    };
    for at in 0..calls + 2 {
        let vfs = SimVfs::default();
        vfs.fail_after(at);
        let Ok(wal) = open(&vfs) else { continue };
        let mut failed = false;
        for index in 0..4 {
            let result = append(&wal, vec![entry(1, index, "a")]);
            assert!(!failed || result.is_err(), "acknowledged after a failure at call {at}");
            failed = result.is_err();
        }
        assert!(failed, "call {at}");
    }
}

/// A step of a workload for the crash images.
#[derive(Clone, Debug)]
enum Step {
    Append(u8, u16),
    Vote(u8),
    Commit,
    Truncate(u8),
    Purge(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1_u8..4, 0_u16..900).prop_map(|(count, size)| Step::Append(count, size)),
        2 => any::<u8>().prop_map(Step::Vote),
        2 => Just(Step::Commit),
        1 => any::<u8>().prop_map(Step::Truncate),
        1 => any::<u8>().prop_map(Step::Purge),
    ];
    proptest::collection::vec(step, 1..25)
}

/// What a log holds: vote, purged index, entries by index.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    vote: Option<Bytes>,
    purged: Option<u64>,
    committed: Option<u64>,
    entries: BTreeMap<u64, LogEntry>,
    next: u64,
}

impl Model {
    fn of(wal: &Wal) -> Self {
        let entries = all(wal).into_iter().map(|entry| (entry.id.index, entry)).collect();
        let next = wal.last().map_or(0, |id| id.index + 1);
        let purged = wal.purged().map(|id| id.index);
        Self { vote: wal.vote(), purged, committed: None, entries, next }
    }

    fn without_commit(&self) -> Self {
        Self { committed: None, ..self.clone() }
    }
}

/// Does a step on the log and on the model, durable when it returns if anybody could know.
fn step(wal: &Wal, model: &mut Model, term: u64, step: &Step) {
    match step {
        Step::Append(count, size) => {
            let data = "d".repeat(usize::from(*size));
            let entries: Vec<_> =
                (0..u64::from(*count)).map(|n| entry(term, model.next + n, &data)).collect();
            for entry in &entries {
                model.entries.insert(entry.id.index, entry.clone());
            }
            model.next += u64::from(*count);
            append(wal, entries).unwrap();
        }
        Step::Vote(number) => {
            model.vote = Some(Bytes::from(vec![*number; 4]));
            vote(wal, &String::from_utf8_lossy(&[*number & 0x7f; 4])).unwrap();
            model.vote = wal.vote();
        }
        Step::Commit => {
            if let Some(last) = wal.last() {
                model.committed = Some(last.index);
                wal.save_committed(last).unwrap();
            }
        }
        Step::Truncate(back) => {
            let floor = model.committed.max(model.purged).map_or(0, |index| index + 1);
            let from = model.next.saturating_sub(u64::from(*back % 5)).max(floor);
            model.entries.retain(|index, _| *index < from);
            model.next = model.next.min(from);
            wal.truncate_from(from).unwrap();
        }
        Step::Purge(part) => {
            if let Some(committed) = model.committed {
                let upto = committed * u64::from(*part) / 255;
                if let Some(entry) = model.entries.get(&upto) {
                    wal.purge(entry.id).unwrap();
                    model.entries.retain(|index, _| *index > upto);
                    model.purged = Some(upto);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// WAL-1, WAL-2: after a power cut at any moment the log is what it was after some step not
    /// before the last acknowledged one, and opening it twice changes nothing.
    #[test]
    fn a_power_cut_loses_nothing_acknowledged(steps in steps(), seed in any::<u64>()) {
        let vfs = SimVfs::default();
        let wal = open(&vfs).unwrap();
        let mut model = Model::default();
        // The model after each step, and how many calls the disk had seen once it was known.
        let mut history = vec![(vfs.op_count(), model.clone())];
        for (number, each) in steps.iter().enumerate() {
            step(&wal, &mut model, number as u64 + 1, each);
            let calls = if matches!(each, Step::Append(..) | Step::Vote(_)) { vfs.op_count() } else { usize::MAX };
            history.push((calls, model.clone()));
        }
        wal.close();
        let ops = vfs.ops();
        for cut in 0..=ops.len() {
            let acknowledged = history.iter().rposition(|(calls, _)| *calls <= cut);
            crash_images(&ops[..cut], seed, &mut |image| {
                let vfs = SimVfs::from_image(image);
                let wal = match open(&vfs) {
                    Ok(wal) => wal,
                    Err(error) => panic!("cut after {cut} calls: {error}"),
                };
                let found = Model::of(&wal);
                let allowed = &history[acknowledged.unwrap_or(0)..];
                assert!(
                    acknowledged.is_none() || within(&found, allowed),
                    "cut after {cut} calls: {found:?} is none of {allowed:?}"
                );
                wal.close();
                let again = open(&vfs).unwrap();
                assert_eq!(Model::of(&again), found, "recovery is not idempotent");
            });
        }
    }
}

/// Whether `found` is one of `allowed`, or lies between two of them: a step of several entries may
/// be on disk in part.
fn within(found: &Model, allowed: &[(usize, Model)]) -> bool {
    allowed.iter().any(|(_, model)| model.without_commit() == *found)
        || allowed.windows(2).any(|pair| {
            let (before, after) = (&pair[0].1, &pair[1].1);
            before.vote == found.vote
                && before.purged == found.purged
                && found.next > before.next
                && found.next < after.next
                && found.entries.iter().all(|(index, entry)| {
                    before.entries.get(index).or(after.entries.get(index)) == Some(entry)
                })
        })
}

/// What is left to the caller is durable once it has written it, or with what is added after it.
#[test]
fn what_is_left_to_the_caller_is_written_by_it_or_with_what_follows() {
    let vfs = SimVfs::default();
    let wal = open(&vfs).unwrap();
    wal.set_replicates(true);
    let (done, durable) = mpsc::channel();
    let add = |index| {
        let done = done.clone();
        let durable: Callback = Box::new(move |result| done.send((index, result.is_ok())).unwrap());
        wal.append(vec![entry(1, index, "x")], durable).unwrap()
    };
    // The disk is not known to be quick before there were many syncs.
    let next = (0..100_000).find(|index| {
        let writes = add(*index);
        let soon = writes == Writes::CallerSoon;
        if !soon {
            assert_eq!(durable.recv().unwrap(), (*index, true));
        }
        soon
    });
    let next = next.expect("some syncs are quick here");
    assert!(durable.try_recv().is_err(), "nobody has written it");
    wal.write();
    assert_eq!(durable.try_recv(), Ok((next, true)));
    // Nothing is left to write.
    wal.write();
    let mut left = next + 1;
    while add(left) != Writes::CallerSoon {
        assert_eq!(durable.recv().unwrap(), (left, true));
        left += 1;
    }
    assert_eq!(add(left + 1), Writes::Thread);
    assert_eq!(durable.recv().unwrap(), (left, true));
    assert_eq!(durable.recv().unwrap(), (left + 1, true));
    // The end of the log writes what is left, too.
    wal.close();
    assert_eq!(all(&open(&vfs).unwrap()).len() as u64, left + 2);
}
