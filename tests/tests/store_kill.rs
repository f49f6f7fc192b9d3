//! SIGKILL under load, again and again: what was acknowledged stays, revisions neither repeat nor
//! skip.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use etcd_client::{Client, EventType, GetOptions, WatchOptions};
use kijabi_base::{rng, tasks};
use kijabi_tests::poll;
use kijabi_tests::process::{Program, kijabi};
use tokio::task::JoinHandle;

const ROUNDS: usize = 50;
const WRITERS: usize = 8;
/// Each writer goes round its own keys.
const KEYS_PER_WRITER: u64 = 16;
const START_LIMIT: Duration = Duration::from_secs(60);

/// A member on `folder`, with a log of its own for this round so that its readiness is its own.
fn start(folder: &Path, round: usize) -> (Program, String) {
    let log = folder.join(format!("log-{round}"));
    let mut command = Command::new(kijabi());
    command
        .args(["store", "--listen-client-urls=http://127.0.0.1:0"])
        .arg("--advertise-client-urls=http://127.0.0.1:0")
        .args(["--listen-peer-urls=http://127.0.0.1:0", "--data-dir"])
        .arg(folder.join("data"))
        // Snapshots are taken and the log is purged while the member is being killed.
        .args(["--snapshot-count=150", "--snapshot-catchup-entries=20"]);
    let mut program = Program::start(&mut command, &log);
    let endpoint = poll::eventually("the member serves", START_LIMIT, || {
        let output = program.output();
        if output.contains("ready to serve client requests") {
            let (_, rest) = output
                .split_once("\"serving client traffic\",\"address\":\"")
                .ok_or(output.clone())?;
            return Ok(rest.split('"').next().unwrap_or_default().to_owned());
        }
        assert!(program.runs(), "round {round}: the member ended: {output}");
        Err(output)
    });
    (program, endpoint)
}

/// What one writer knows of a key.
#[derive(Clone, Debug, PartialEq)]
struct Write {
    /// `None` = deleted.
    value: Option<String>,
    /// The revision it was acknowledged at; `None` = nobody knows whether it took effect.
    revision: Option<i64>,
}

/// What a writer did in one round: every write by key, in order.
type Writes = BTreeMap<String, Vec<Write>>;

/// Writes until the member is gone.
async fn write(endpoint: String, round: usize, writer: usize) -> Writes {
    let mut writes = Writes::new();
    let Ok(mut client) = Client::connect([endpoint], None).await else { return writes };
    for number in 0.. {
        let key = format!("w{writer}/k{}", number % KEYS_PER_WRITER);
        let (value, result) = if number % 10 == 9 {
            let deleted = client.delete(key.clone(), None).await;
            let revision = deleted.map(|r| (r.deleted() == 1).then(|| r.header().map(revision_of)));
            (None, revision)
        } else {
            let value = format!("{round}/{number}");
            let put = client.put(key.clone(), value.clone(), None).await;
            (Some(value), put.map(|response| Some(response.header().map(revision_of))))
        };
        match result {
            // A delete of what was not there changes nothing.
            Ok(None) => {}
            Ok(Some(revision)) => {
                writes.entry(key).or_default().push(Write { value, revision });
            }
            Err(_) => {
                writes.entry(key).or_default().push(Write { value, revision: None });
                return writes;
            }
        }
    }
    writes
}

fn revision_of(header: &etcd_client::ResponseHeader) -> i64 {
    header.revision()
}

/// All events from `from` to `upto`, by revision.
async fn history(
    client: &mut Client,
    from: i64,
    upto: i64,
) -> BTreeMap<i64, (String, Option<String>)> {
    let mut events = BTreeMap::new();
    if from > upto {
        return events;
    }
    let options = WatchOptions::new().with_prefix().with_start_revision(from);
    let mut stream = client.watch("w", Some(options)).await.expect("watch");
    while events.keys().next_back().is_none_or(|last| *last < upto) {
        let next = tokio::time::timeout(START_LIMIT, stream.message());
        let response = next.await.expect("an event in time").expect("no error").expect("no end");
        for event in response.events() {
            let kv = event.kv().expect("an event has a key");
            let key = kv.key_str().expect("a text").to_owned();
            let value = (event.event_type() == EventType::Put)
                .then(|| kv.value_str().expect("a text").to_owned());
            let repeated = events.insert(kv.mod_revision(), (key, value));
            assert_eq!(repeated, None, "revision {} came twice", kv.mod_revision());
        }
    }
    events
}

/// The state that the acknowledged writes and those of unknown fate allow is the one found.
async fn check_state(client: &mut Client, known: &BTreeMap<String, Write>, round: usize) {
    let options = GetOptions::new().with_prefix();
    let found = client.get("w", Some(options)).await.expect("read everything");
    let found: BTreeMap<String, (String, i64)> = found
        .kvs()
        .iter()
        .map(|kv| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (text(kv.key()), (text(kv.value()), kv.mod_revision()))
        })
        .collect();
    for (key, write) in known {
        let state = found.get(key).cloned();
        let expected = write.value.clone().map(|value| (value, write.revision.unwrap_or(0)));
        assert_eq!(state, expected, "round {round}: {key}");
    }
    assert_eq!(found.len(), known.values().filter(|write| write.value.is_some()).count());
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_lose_nothing_acknowledged() {
    let folder = tempfile::tempdir().expect("make a folder");
    // The last write of each key that took effect, and the last revision anybody knows of.
    let mut known: BTreeMap<String, Write> = BTreeMap::new();
    let mut last_revision = 1;
    let mut acknowledged = 0;
    let (mut program, mut endpoint) = start(folder.path(), 0);
    for round in 1..=ROUNDS {
        let writers: Vec<JoinHandle<Writes>> = (0..WRITERS)
            .map(|writer| tasks::spawn("writer", write(endpoint.clone(), round, writer)))
            .collect();
        tokio::time::sleep(Duration::from_millis(30 + rng::below(150))).await;
        program.kill();
        let mut writes = Writes::new();
        for writer in writers {
            writes.extend(writer.await.expect("a writer ends"));
        }

        (program, endpoint) = start(folder.path(), round);
        let mut client = Client::connect([&endpoint], None).await.expect("connect");
        let now = client.get("x", None).await.expect("read");
        let now = now.header().map(revision_of).expect("a header");
        let events = history(&mut client, last_revision + 1, now).await;
        let revisions: Vec<i64> = events.keys().copied().collect();
        let expected: Vec<i64> = (last_revision + 1..=now).collect();
        assert_eq!(revisions, expected, "round {round}: revisions repeat or skip");
        // Each acknowledged write is the event of its revision.
        for (key, writes) in &writes {
            for write in writes {
                let Some(revision) = write.revision else { continue };
                acknowledged += 1;
                let event = events.get(&revision);
                let expected = (key.clone(), write.value.clone());
                assert_eq!(event, Some(&expected), "round {round}: revision {revision}");
            }
        }
        // Every event is a write that somebody sent: acknowledged, or of unknown fate.
        for (revision, (key, value)) in events {
            let sent = writes.get(&key).into_iter().flatten().any(|write| {
                write.value == value && write.revision.is_none_or(|known| known == revision)
            });
            assert!(sent, "round {round}: nobody wrote {key}={value:?} at {revision}");
            known.insert(key, Write { value, revision: Some(revision) });
        }
        last_revision = now;
        check_state(&mut client, &known, round).await;
    }
    assert!(acknowledged > ROUNDS as u64, "the load was no load: {acknowledged} writes");
}
