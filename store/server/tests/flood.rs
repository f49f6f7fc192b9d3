//! Floods of HTTP/2 frames: each ends the connection that it came on, and nobody else notices.
//!
//! Row E20 of the list of hostile inputs, and of E5 what no client's library sends, byte by byte.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::time::Duration;

use etcd_client::Client;
use kijabi_server::{Config, Member};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long a connection may last that is flooded.
const LIMIT: Duration = Duration::from_secs(60);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const ENHANCE_YOUR_CALM: u32 = 11;

fn config(dir: &std::path::Path) -> Config {
    Config {
        data_dir: dir.join("data"),
        listen_client_urls: vec!["http://127.0.0.1:0".into()],
        ..Config::default()
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of a request for a path that the static table has: `POST / http`.
const HEAD: &[u8] = &[0x83, 0x84, 0x86, 0x41, 1, b'h'];

/// Sends the preface and then what `flood` makes of ever higher numbers, until the server ends it.
/// Returns the error code of its GOAWAY, if one arrived.
async fn flooded(member: &Member, flood: impl Fn(u32) -> Vec<u8>) -> Option<u32> {
    let mut stream = TcpStream::connect(member.client_addrs()[0]).await.unwrap();
    stream.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).await.unwrap();
    let (mut read, mut write) = stream.split();
    let mut answer = Vec::new();
    let sending = async {
        for number in 0.. {
            let bytes = flood(number);
            if write.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    let reading = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length) = read.read(&mut buffer).await {
            if length == 0 {
                break;
            }
            answer.extend_from_slice(&buffer[..length]);
        }
    };
    let ended = tokio::time::timeout(LIMIT, async {
        // Whoever ends first: the server closes for reading, or resets.
        tokio::select! {
            () = sending => {}
            () = reading => {}
        }
    });
    assert!(ended.await.is_ok(), "the connection still stands");
    goaway(&answer)
}

/// The error code of the GOAWAY among the frames.
fn goaway(mut bytes: &[u8]) -> Option<u32> {
    while let Some((&[a, b, c, kind, ..], rest)) = bytes.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let payload = rest.get(..length)?;
        if kind == 7 && payload.len() >= 8 {
            let code = u32::from_be_bytes(payload[4..8].try_into().unwrap());
            if code != 0 {
                return Some(code);
            }
        }
        bytes = &rest[length..];
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_ends_its_own_connection_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let member = Member::start(config(dir.path())).await.unwrap();
    let mut healthy = Client::connect(member.client_urls(), None).await.unwrap();
    let stream = |number: u32| 2 * number + 1;
    let many = |bytes: Vec<u8>| move |_: u32| bytes.repeat(1_000);
    type Flood = Box<dyn Fn(u32) -> Vec<u8>>;
    let floods: Vec<(&str, Flood)> = vec![
        ("ping", Box::new(many(frame(6, 0, 0, &[7; 8])))),
        ("settings", Box::new(many(frame(4, 0, 0, &[])))),
        ("unknown frames", Box::new(many(frame(77, 0, 0, b"x")))),
        // Each request is given up as soon as it was made.
        (
            "rapid reset",
            Box::new(move |number| {
                let stream = stream(number);
                [frame(1, 4, stream, HEAD), frame(3, 0, stream, &[0, 0, 0, 8])].concat()
            }),
        ),
        // A header block that never ends.
        (
            "continuation",
            Box::new(move |number| match number {
                0 => frame(1, 0, 1, HEAD),
                _ => frame(9, 0, 1, &[]),
            }),
        ),
        (
            "empty data",
            Box::new(move |number| match number {
                0 => frame(1, 4, 1, HEAD),
                _ => frame(0, 0, 1, &[]).repeat(100),
            }),
        ),
    ];
    for (what, flood) in floods {
        let code = flooded(&member, flood).await;
        // A reset may overtake the last frame; if it arrived, it says why.
        assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{what}: {code:?}");
        healthy.put(what, "still here", None).await.unwrap();
    }
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_of_zero_and_very_many_streams_hold_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let member = Member::start(config(dir.path())).await.unwrap();
    let mut healthy = Client::connect(member.client_urls(), None).await.unwrap();
    let mut lazy = TcpStream::connect(member.client_addrs()[0]).await.unwrap();
    // SETTINGS_INITIAL_WINDOW_SIZE = 0, and requests whose answers are never taken.
    lazy.write_all(&[PREFACE, &frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])].concat()).await.unwrap();
    let flooding = async {
        for number in 0..50_000 {
            if lazy.write_all(&frame(1, 4, 2 * number + 1, HEAD)).await.is_err() {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(10), flooding).await;
    for number in 0..10 {
        healthy.put("k", number.to_string(), None).await.unwrap();
    }
    member.shutdown().await;
}

/// E5: a length is not believed before the bytes are there, and nothing is unpacked.
#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_length_and_a_packed_message_are_refused_before_they_cost_anything() {
    use std::io::Write as _;

    let dir = tempfile::tempdir().unwrap();
    let member = Member::start(config(dir.path())).await.unwrap();
    let path = |rpc: &str| format!("{}/etcdserverpb.{rpc}", member.client_urls()[0]);
    let claimed = [&[0, 0xff, 0xff, 0xff, 0xff][..], &[0x0a; 100]].concat();
    for rpc in ["KV/Put", "KV/Range", "KV/Txn", "Watch/Watch", "Lease/LeaseKeepAlive"] {
        let (status, text) = support::raw::call(&path(rpc), &[], claimed.clone()).await;
        assert_eq!(status, "8", "{rpc}: {text}");
        assert!(text.starts_with("grpc: received message larger than max ("), "{rpc}: {text}");
    }
    let garbage = vec![0, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff];
    for rpc in ["KV/Put", "Watch/Watch", "Lease/LeaseKeepAlive"] {
        let (status, text) = support::raw::call(&path(rpc), &[], garbage.clone()).await;
        assert_eq!(status, "13", "{rpc}: {text}");
    }
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0_u8; 1 << 20];
    for _ in 0..64 {
        bomb.write_all(&zeros).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    let length = u32::try_from(bomb.len()).unwrap().to_be_bytes();
    let packed = [&[1][..], &length, &bomb].concat();
    let headers = [("grpc-encoding", "gzip")];
    let (status, text) = support::raw::call(&path("KV/Put"), &headers, packed).await;
    assert_eq!(status, "12", "{text}");
    let mut client = Client::connect(member.client_urls(), None).await.unwrap();
    client.put("k", "v", None).await.unwrap();
    member.shutdown().await;
}
