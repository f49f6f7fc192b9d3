//! The hash of the key space is etcd's own: what an operator compares between members, and what
//! etcd's corruption checks compare, agrees with Debian's etcd through deletes and compactions.

use etcd_client::{Client, Compare, CompareOp, GetOptions, Txn, TxnOp};
use kijabi_tests::etcd::{Kind, Member};

const OPERATIONS: u64 = 400;
const KEYS: u64 = 12;

/// A small generator, so that both members get the same operations on every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

async fn operate(client: &mut Client, numbers: &mut Numbers, revision: &mut i64) {
    let key = format!("k{}", numbers.below(KEYS));
    let response = match numbers.below(4) {
        0 | 1 => client.put(key, "v", None).await.expect("put").header().cloned(),
        2 => client.delete(key, None).await.expect("delete").header().cloned(),
        _ => {
            let other = format!("other{}", numbers.below(3));
            let txn = Txn::new()
                .when([Compare::version(key.clone(), CompareOp::Greater, 0)])
                .and_then([TxnOp::delete(key.clone(), None), TxnOp::put(other, "t", None)])
                .or_else([TxnOp::put(key, "t", None)]);
            client.txn(txn).await.expect("transaction").header().cloned()
        }
    };
    *revision = response.expect("a header").revision();
}

#[tokio::test(flavor = "multi_thread")]
async fn hashes_agree_with_etcd_through_deletes_and_compactions() {
    let (ours, theirs) = (Member::start(Kind::Ours), Member::start(Kind::Debians));
    let mut clients = Vec::new();
    for member in [&ours, &theirs] {
        clients.push(Client::connect([member.endpoint()], None).await.expect("connect"));
    }
    let (mut revision, mut compacted) = (1, -1);
    let mut compactions = 0;
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for number in 0..OPERATIONS {
        let before = numbers.0;
        for client in &mut clients {
            numbers.0 = before;
            operate(client, &mut numbers, &mut revision).await;
        }
        if number % 37 == 36 && compacted.max(1) < revision {
            let span = (revision - compacted.max(1)) as u64;
            compacted = compacted.max(1) + 1 + numbers.below(span) as i64;
            compactions += 1;
            for client in &mut clients {
                client.compact(compacted, None).await.expect("compact");
            }
        }
        if number % 5 == 0 {
            let at = [0, revision.max(compacted + 1).min(revision), (compacted + 1).max(2)];
            for at in at.into_iter().filter(|at| *at <= revision) {
                let mut hashes = Vec::new();
                for client in &mut clients {
                    let hash = client.hash_kv(at).await.expect("hash");
                    hashes.push((hash.hash(), hash.compact_version()));
                }
                assert_eq!(hashes[0], hashes[1], "at {at} of {revision}, compacted {compacted}");
            }
        }
    }
    assert!(compactions > 5, "{compactions} compactions");
    let everything = GetOptions::new().with_all_keys();
    let count = clients[0].get("", Some(everything)).await.expect("read").count();
    assert!(count > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_below_the_compaction_or_in_the_future_is_refused() {
    let member = Member::start(Kind::Ours);
    let mut client = Client::connect([member.endpoint()], None).await.expect("connect");
    for _ in 0..5 {
        client.put("k", "v", None).await.expect("put");
    }
    client.compact(4, None).await.expect("compact");
    client.hash_kv(4).await.expect("the compacted revision itself can be hashed");
    for (revision, text) in [
        (3, "etcdserver: mvcc: required revision has been compacted"),
        (7, "etcdserver: mvcc: required revision is a future revision"),
    ] {
        let error = client.hash_kv(revision).await.expect_err("refused").to_string();
        assert!(error.contains(text), "{revision}: {error}");
    }
}
