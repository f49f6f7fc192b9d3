//! A cache on a real etcd whose connection breaks.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use kijabi_base::tasks::{self, Shutdown};
use kijabi_meta::kind;

use super::*;
use crate::storage::{Cas, Key};
use crate::testing::{Etcd, Gate};

fn key(name: &str) -> Key {
    Key::object("configmaps", "g", name).unwrap()
}

async fn write(client: &Client, name: &str) -> Revision {
    let value = format!(r#"{{"kind":"ConfigMap","metadata":{{"name":"{name}","namespace":"g"}}}}"#);
    match client.create(&key(name), value.into_bytes(), 0).await.unwrap() {
        Cas::Done(revision) => revision,
        Cas::Changed(there) => panic!("{there:?}"),
    }
}

async fn started(client: Client, shutdown: &Shutdown) -> Arc<WatchCache> {
    started_asking(client, shutdown, Arc::new(AtomicBool::new(false))).await
}

async fn started_asking(
    client: Client,
    shutdown: &Shutdown,
    asks_progress: Arc<AtomicBool>,
) -> Arc<WatchCache> {
    let config_maps = kind::lookup("", "v1", "configmaps").unwrap();
    let cache = WatchCache::new(config_maps, client, asks_progress).unwrap();
    tasks::spawn("cache", cache.clone().run(shutdown.clone()));
    cache.wait_fresh(Revision(0)).await.unwrap();
    cache
}

async fn next(watcher: &mut Watcher) -> Step {
    tokio::time::timeout(Duration::from_secs(10), watcher.next()).await.expect("nothing in 10 s")
}

/// Waits longer than a reader would: the feed pauses between its tries.
async fn until_fresh(cache: &WatchCache, revision: Revision) {
    for _ in 0..5 {
        if cache.wait_fresh(revision).await.is_ok() {
            return;
        }
    }
    panic!("the cache did not catch up within 15 s");
}

#[tokio::test]
async fn a_broken_connection_is_made_up_for_without_the_watchers_noticing() {
    let etcd = Etcd::start().await;
    let gate = Gate::start(etcd.endpoint()).await;
    let (direct, shutdown) = (etcd.client(), Shutdown::new());
    let cache = started(gate.client(), &shutdown).await;
    let mut watcher = cache.watch(Start::Now, Selection::default());
    gate.set_open(false);
    let revision = write(&direct, "a").await;
    gate.set_open(true);
    until_fresh(&cache, revision).await;
    let Step::Events(events) = next(&mut watcher).await else { panic!("no event") };
    assert_eq!((events.len(), events[0].kind), (1, EventKind::Added));
    assert_eq!(events[0].entry.name(), "a");
    shutdown.trigger();
}

/// Whether the store can be asked for progress is found out after the caches have started.
#[tokio::test]
async fn a_quiet_cache_learns_of_revisions_elsewhere_once_the_store_can_be_asked() {
    let etcd = Etcd::start().await;
    let (client, shutdown) = (etcd.client(), Shutdown::new());
    let asks_progress = Arc::new(AtomicBool::new(false));
    let cache = started_asking(client.clone(), &shutdown, asks_progress.clone()).await;
    // One change of its own: after that the feed waits.
    let own = write(&client, "a").await;
    until_fresh(&cache, own).await;
    asks_progress.store(true, std::sync::atomic::Ordering::Relaxed);
    let elsewhere = Key::object("secrets", "g", "s").unwrap();
    let Cas::Done(revision) = client.create(&elsewhere, b"{}".to_vec(), 0).await.unwrap() else {
        panic!("it is new")
    };
    cache.wait_fresh(revision).await.unwrap();
    shutdown.trigger();
}

/// CACHE-1: what happened meanwhile cannot be told, so nobody may go on as if nothing had.
#[tokio::test]
async fn a_gap_that_is_compacted_away_fills_the_cache_anew_and_ends_its_watchers() {
    let etcd = Etcd::start().await;
    let gate = Gate::start(etcd.endpoint()).await;
    let (direct, shutdown) = (etcd.client(), Shutdown::new());
    let first = write(&direct, "a").await;
    let cache = started(gate.client(), &shutdown).await;
    let mut watcher = cache.watch(Start::Now, Selection::default());
    gate.set_open(false);
    direct.delete(&key("a"), first).await.unwrap();
    let last = write(&direct, "b").await;
    direct.compact(last).await.unwrap();
    gate.set_open(true);
    until_fresh(&cache, last).await;
    assert!(matches!(next(&mut watcher).await, Step::Ended));
    let names: Vec<_> = cache.snapshot(&Selection::default()).entries;
    let names: Vec<_> = names.iter().map(|entry| entry.name()).collect();
    assert_eq!(names, ["b"]);
    let mut late = cache.watch(Start::After(first), Selection::default());
    let Step::Failed(error) = next(&mut late).await else { panic!("an old version was taken") };
    assert_eq!(error.reason(), "Expired");
    shutdown.trigger();
}

#[tokio::test]
async fn a_cache_that_cannot_fill_says_so() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::connect(&[format!("http://{unused}")]).unwrap();
    let config_maps = kind::lookup("", "v1", "configmaps").unwrap();
    let cache = WatchCache::new(config_maps, client, Arc::new(AtomicBool::new(true))).unwrap();
    let error = cache.wait_fresh(Revision(0)).await.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (429, "storage is (re)initializing"));
}
