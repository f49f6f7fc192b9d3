//! Compaction and defragmentation give back the disk's space, while clients write.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use etcd_client::{Client, CompactionOptions};
use kijabi_base::tasks;
use kijabi_server::{Config, Member};

const KEYS: u64 = 200;
const VALUE_BYTES: usize = 8 << 10;

/// A value that does not get smaller by being packed.
fn value(mut seed: u64) -> Vec<u8> {
    let mut value = Vec::with_capacity(VALUE_BYTES);
    while value.len() < VALUE_BYTES {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        value.extend((seed >> 11).to_le_bytes());
    }
    value
}

/// Bytes of the files of the state.
fn on_disk(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    // Files that are not needed any more go while they are counted.
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    entries.map(|path| if path.is_dir() { on_disk(&path) } else { size(&path) }).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn compacted_revisions_leave_the_disk_while_clients_write() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let config = Config {
        data_dir: data.clone(),
        listen_client_urls: vec!["http://127.0.0.1:0".into()],
        // So that there is a copy for other members, which shares the files.
        snapshot_entries: 1_000,
        ..Config::default()
    };
    let member = Member::start(config).await.unwrap();
    let mut client = Client::connect(member.client_urls(), None).await.unwrap();
    for number in 0..10 * KEYS {
        client.put(format!("k{:04}", number % KEYS), value(number), None).await.unwrap();
    }
    client.defragment().await.unwrap();
    let full = on_disk(&data.join("member/snap"));
    assert!(full > 10 * KEYS * VALUE_BYTES as u64, "{full} bytes are less than what was written");

    let (writes, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let writer = tasks::spawn("writer", {
        let (mut client, writes, ended) = (client.clone(), Arc::clone(&writes), Arc::clone(&ended));
        async move {
            while !ended.load(Ordering::Relaxed) {
                client.put("written meanwhile", "x", None).await.unwrap();
                writes.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let revision = client.get("k0000", None).await.unwrap().header().unwrap().revision();
    client.compact(revision, Some(CompactionOptions::new().with_physical())).await.unwrap();
    client.defragment().await.unwrap();
    let packed = on_disk(&data.join("member/snap"));
    assert!(packed < full / 4, "{packed} bytes are left of {full}, {KEYS} values in them");
    ended.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    assert!(writes.load(Ordering::Relaxed) > 0);
    let status = client.status().await.unwrap();
    assert!(status.db_size() < i64::try_from(full / 4).unwrap(), "{}", status.db_size());
    for number in 0..KEYS {
        let kept = client.get(format!("k{number:04}"), None).await.unwrap();
        assert_eq!(kept.kvs()[0].value(), value(9 * KEYS + number));
    }
    member.shutdown().await;
}
