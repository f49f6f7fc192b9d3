//! The client against a real etcd: what its callers rely on.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::*;
use crate::testing::Etcd;

fn key(name: &str) -> Key {
    Key::object("pods", "g", name).unwrap()
}

fn value(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

#[track_caller]
fn done(outcome: Cas) -> Revision {
    match outcome {
        Cas::Done(revision) => revision,
        Cas::Changed(there) => panic!("changed: {there:?}"),
    }
}

#[tokio::test]
async fn a_swap_happens_once_and_shows_what_stands_in_its_way() {
    let etcd = Etcd::start().await;
    let client = etcd.client();
    let a = key("a");
    let first = done(client.create(&a, value("1"), 0).await.unwrap());
    let Cas::Changed(Some(there)) = client.create(&a, value("2"), 0).await.unwrap() else {
        panic!("created twice");
    };
    assert_eq!((&there.value[..], there.revision), (&b"1"[..], first));
    let second = done(client.replace(&a, first, value("2"), 0).await.unwrap());
    assert!(matches!(
        client.replace(&a, first, value("3"), 0).await.unwrap(),
        Cas::Changed(Some(_))
    ));
    assert!(matches!(client.delete(&a, first).await.unwrap(), Cas::Changed(Some(_))));
    done(client.delete(&a, second).await.unwrap());
    assert_eq!(client.delete(&a, second).await.unwrap(), Cas::Changed(None));
    assert_eq!(client.get(&a).await.unwrap().0, None);
}

#[tokio::test]
async fn pages_are_read_at_one_revision() {
    let etcd = Etcd::start().await;
    let client = etcd.client();
    for name in ["a", "b", "c"] {
        done(client.create(&key(name), value(name), 0).await.unwrap());
    }
    let range = KeyRange::resource("pods", "g").unwrap();
    let first = client.page(&range, range.start(), 2, None).await.unwrap();
    assert!(first.has_more());
    let (record, _) = client.get(&key("c")).await.unwrap();
    done(client.delete(&key("c"), record.unwrap().revision).await.unwrap());
    let from = range.key_at("b\0");
    let rest = client.page(&range, from.clone(), 2, Some(first.revision)).await.unwrap();
    assert_eq!((rest.records.len(), rest.has_more()), (1, false));
    assert_eq!(client.page(&range, from, 2, None).await.unwrap().records.len(), 0);
    let future = client.page(&range, range.start(), 0, Some(Revision(1_000))).await;
    assert_eq!(future.unwrap_err(), StoreError::FutureRevision);
    assert_eq!(client.latest_write(&range).await.unwrap(), Revision(3));
}

#[tokio::test]
async fn a_feed_tells_each_change_with_what_was_before() {
    let etcd = Etcd::start().await;
    let client = etcd.client();
    let range = KeyRange::resource("pods", "").unwrap();
    let start = client.current_revision(&range).await.unwrap();
    let mut feed = Feed::open(&client, &range, start).await.unwrap();
    let first = done(client.create(&key("a"), value("1"), 0).await.unwrap());
    let second = done(client.replace(&key("a"), first, value("2"), 0).await.unwrap());
    done(client.delete(&key("a"), second).await.unwrap());
    let mut changes = Vec::new();
    while changes.len() < 3 {
        let item = tokio::time::timeout(Duration::from_secs(10), feed.next()).await.unwrap();
        changes.extend(item.unwrap().changes);
    }
    let text = |record: &Option<Record>| {
        record.as_ref().map(|one| String::from_utf8_lossy(&one.value).into_owned())
    };
    let told: Vec<_> = changes.iter().map(|c| (text(&c.before), text(&c.now))).collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(told, [(None, some("1")), (some("1"), some("2")), (some("2"), None)]);
    assert_eq!(changes[0].revision, first);
}

#[tokio::test]
async fn a_feed_from_a_compacted_revision_says_so() {
    let etcd = Etcd::start().await;
    let client = etcd.client();
    let first = done(client.create(&key("a"), value("1"), 0).await.unwrap());
    let second = done(client.replace(&key("a"), first, value("2"), 0).await.unwrap());
    client.compact(second).await.unwrap();
    let range = KeyRange::resource("pods", "").unwrap();
    let mut feed = Feed::open(&client, &range, Revision(1)).await.unwrap();
    assert_eq!(feed.next().await.unwrap_err(), StoreError::Compacted);
}

#[tokio::test]
async fn objects_share_a_lease_and_expire_with_it() {
    let etcd = Etcd::start().await;
    let client = etcd.client();
    let pool = LeasePool::new(1);
    let lease = pool.lease(&client).await.unwrap();
    assert_eq!(pool.lease(&client).await.unwrap(), lease);
    done(client.create(&key("a"), value("1"), lease).await.unwrap());
    for _ in 0..300 {
        if client.get(&key("a")).await.unwrap().0.is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the object did not expire within 30 s");
}

#[tokio::test]
async fn a_store_that_is_not_there_is_unavailable_and_bad_addresses_are_refused() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::connect(&[format!("http://{unused}")]).unwrap();
    assert!(matches!(client.get(&key("a")).await, Err(StoreError::Unavailable(_))));
    for bad in ["127.0.0.1:2379", "ftp://x", ""] {
        assert!(Client::connect(&[bad.to_owned()]).is_err(), "{bad:?}");
    }
    assert!(Client::connect(&[]).is_err());
}

#[tokio::test]
async fn a_dead_endpoint_beside_a_living_one_costs_no_request() {
    let etcd = Etcd::start().await;
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoints = [format!("http://{unused}"), etcd.endpoint().to_owned()];
    let client = Client::connect(&endpoints).unwrap();
    for n in 0..20 {
        let name = key(&format!("k{n}"));
        done(client.create(&name, value("1"), 0).await.unwrap());
        assert!(client.get(&name).await.unwrap().0.is_some());
    }
}

/// What a [`lossy_proxy`] does with what the server says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Open,
    Mute,
    Cut,
}

/// Passes bytes between a client and `to`; what the server says is lost while the line is mute, and
/// the connection when it is cut.
async fn lossy_proxy(to: String, line: watch::Receiver<Line>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    kijabi_base::tasks::spawn("proxy", async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(to.trim_start_matches("http://")).await.unwrap();
            let mut line = line.clone();
            kijabi_base::tasks::spawn("connection", async move {
                let heard = line.clone();
                let (mut from_client, mut to_client) = client.split();
                let (mut from_server, mut to_server) = server.split();
                let answers = async {
                    let mut buffer = vec![0; 4096];
                    loop {
                        let read = from_server.read(&mut buffer).await.unwrap_or(0);
                        if read == 0 {
                            return;
                        }
                        if *heard.borrow() == Line::Open {
                            to_client.write_all(&buffer[..read]).await.unwrap();
                        }
                    }
                };
                tokio::select! {
                    () = answers => {}
                    _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                    _ = line.wait_for(|line| *line == Line::Cut) => {}
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_not_sent_again() {
    let etcd = Etcd::start().await;
    let (line, heard) = watch::channel(Line::Open);
    let address = lossy_proxy(etcd.endpoint().to_owned(), heard).await;
    let (lossy, direct) = (Client::connect(&[address]).unwrap(), etcd.client());
    let first = done(lossy.create(&key("a"), value("1"), 0).await.unwrap());
    line.send_replace(Line::Mute);
    let writing = kijabi_base::tasks::spawn("write", async move {
        lossy.replace(&key("a"), first, value("2"), 0).await
    });
    let second = loop {
        let (record, _) = direct.get(&key("a")).await.unwrap();
        let record = record.unwrap();
        if record.revision != first {
            break record;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    line.send_replace(Line::Cut);
    let outcome = writing.await.unwrap();
    assert!(outcome.is_err(), "{outcome:?}");
    // It happened once: the next revision is the next write's.
    assert_eq!((&second.value[..], second.revision), (&b"2"[..], Revision(first.0 + 1)));
    assert_eq!(done(direct.create(&key("b"), value("1"), 0).await.unwrap()), Revision(first.0 + 2));
}
