//! The same scripted requests to Debian's etcd and to our member: every field of every answer but
//! ids, terms and remaining times must agree.
//!
//! `cases.rs` is the script. Both members start empty and see all requests in the same order, so
//! revisions are compared as they are. Debian's etcd is 3.4; where that differs from 3.6, which is
//! what we are, the case says so. `KIJABI_TEST_ETCD=path/to/etcd` puts an etcd 3.6 in its place, with
//! many more cases: those that 3.4 cannot be asked, and more drawn ones.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; the count is a result")]

mod cases;

use std::fmt::Debug;

use kijabi_proto::etcdserverpb as pb;
use kijabi_proto::etcdserverpb::ResponseHeader;
use kijabi_proto::etcdserverpb::response_op::Response as Op;
use kijabi_tests::etcd::{Client, Kind, Member, other_etcd};
use tonic::{Response, Status};

use cases::{Call, WatchStep};

/// Cases that there must be, and how many of them are errors or odd inputs.
const CASES_MIN: usize = 600;

#[tokio::test(flavor = "multi_thread")]
async fn our_member_answers_as_debians_etcd_does() {
    let (ours, theirs) = (Member::start(Kind::Ours), Member::start(Kind::Debians));
    let (our_client, their_client) = (ours.client().await, theirs.client().await);
    let cases = cases::all(other_etcd().is_some());
    let odd = cases.iter().filter(|case| case.odd).count();
    assert!(cases.len() >= CASES_MIN && 2 * odd >= cases.len(), "{odd} odd of {}", cases.len());
    println!("{} cases, {odd} of them errors or odd inputs", cases.len());
    let mut differences = Vec::new();
    for case in &cases {
        let (our_answer, their_answer) =
            tokio::join!(ask(&our_client, &case.call), ask(&their_client, &case.call));
        if our_answer != their_answer {
            let name = &case.name;
            let (theirs, ours) = (shorten(&their_answer), shorten(&our_answer));
            differences.push(format!("{name}\n  etcd: {theirs}\n  ours: {ours}"));
        }
    }
    assert!(
        differences.is_empty(),
        "{} of {} differ:\n{}",
        differences.len(),
        cases.len(),
        differences.join("\n")
    );
}

/// Enough of an answer to see what differs.
fn shorten(answer: &str) -> String {
    const CHARACTERS_MAX: usize = 2000;
    answer.chars().take(CHARACTERS_MAX).collect()
}

/// Sends a request and writes its answer down, without what may differ.
async fn ask(client: &Client, call: &Call) -> String {
    match call.clone() {
        Call::Range(request) => {
            show(client.kv().range(request).await, |r| same_header(&mut r.header))
        }
        Call::Put(request) => show(client.kv().put(request).await, |r| same_header(&mut r.header)),
        Call::Delete(request) => {
            show(client.kv().delete_range(request).await, |r| same_header(&mut r.header))
        }
        Call::Txn(request) => show(client.kv().txn(request).await, same_txn),
        Call::Compact(request) => {
            show(client.kv().compact(request).await, |r| same_header(&mut r.header))
        }
        Call::Grant(request) => {
            let random = request.id == 0;
            show(client.lease().lease_grant(request).await, |r| {
                same_header(&mut r.header);
                if random {
                    r.id = i64::from(r.id > 0);
                }
            })
        }
        Call::Revoke(id) => {
            let answer = client.lease().lease_revoke(pb::LeaseRevokeRequest { id }).await;
            show(answer, |r| same_header(&mut r.header))
        }
        Call::TimeToLive(id, keys) => {
            let request = pb::LeaseTimeToLiveRequest { id, keys };
            show(client.lease().lease_time_to_live(request).await, same_time_to_live)
        }
        Call::Leases => show(client.lease().lease_leases(pb::LeaseLeasesRequest {}).await, |r| {
            same_header(&mut r.header);
            // By remaining time; leases of one age have no order.
            r.leases.sort_by_key(|lease| lease.id);
        }),
        Call::KeepAlive(id) => {
            let answer = client.keep_alive(id).await.map(Response::new);
            show(answer, |r| same_header(&mut r.header))
        }
        Call::Status => {
            let answer = client.maintenance().status(pb::StatusRequest {}).await;
            show(answer, same_status)
        }
        Call::HashKv(revision) => {
            let request = pb::HashKvRequest { revision };
            show(client.maintenance().hash_kv(request).await, |r| {
                same_header(&mut r.header);
                // 3.4 does not say which revision it is.
                if other_etcd().is_none() {
                    r.hash_revision = 0;
                }
            })
        }
        Call::HashAgo(ago) => {
            let revision = revision(client).await - ago;
            Box::pin(ask(client, &Call::HashKv(revision))).await
        }
        Call::CompactAgo(ago) => {
            let revision = revision(client).await - ago;
            let physical = true;
            let compact = pb::CompactionRequest { revision, physical };
            Box::pin(ask(client, &Call::Compact(compact))).await
        }
        Call::Alarm(action, alarm) => {
            let request = pb::AlarmRequest { action, member_id: 0, alarm };
            show(client.maintenance().alarm(request).await, |r| {
                same_header(&mut r.header);
                // 3.4 leaves it out.
                if other_etcd().is_none() {
                    r.header = None;
                }
                for alarm in &mut r.alarms {
                    alarm.member_id = u64::from(alarm.member_id != 0);
                }
            })
        }
        Call::Defragment => {
            let answer = client.maintenance().defragment(pb::DefragmentRequest {}).await;
            show(answer, |r| same_header(&mut r.header))
        }
        Call::MoveLeader(target_id) => {
            let request = pb::MoveLeaderRequest { target_id };
            let answer = client.maintenance().move_leader(request).await;
            show(answer, |r| same_header(&mut r.header))
        }
        Call::Members => {
            let request = pb::MemberListRequest { linearizable: false };
            show(client.cluster().member_list(request).await, |r| {
                same_header(&mut r.header);
                r.members.iter_mut().for_each(same_member);
            })
        }
        Call::MemberAdd(peer_ur_ls, is_learner) => {
            let request = pb::MemberAddRequest { peer_ur_ls, is_learner };
            show(client.cluster().member_add(request).await, |r| same_header(&mut r.header))
        }
        Call::MemberRemove(id) => {
            let request = pb::MemberRemoveRequest { id };
            let answer = client.cluster().member_remove(request).await;
            show(answer, |r| same_header(&mut r.header))
        }
        Call::MemberUpdate(id, peer_ur_ls) => {
            let request = pb::MemberUpdateRequest { id, peer_ur_ls };
            let answer = client.cluster().member_update(request).await;
            show(answer, |r| same_header(&mut r.header))
        }
        Call::MemberPromote(id) => {
            let request = pb::MemberPromoteRequest { id };
            let answer = client.cluster().member_promote(request).await;
            show(answer, |r| same_header(&mut r.header))
        }
        Call::Downgrade(action, version) => {
            let request = pb::DowngradeRequest { action, version };
            let answer = client.maintenance().downgrade(request).await;
            show(answer, |r| same_header(&mut r.header))
        }
        Call::Watch(steps) => Box::pin(watch(client, &steps)).await,
    }
}

/// The current one.
async fn revision(client: &Client) -> i64 {
    let request = pb::RangeRequest { key: b"a".as_slice().into(), ..Default::default() };
    let answer = client.kv().range(request).await.unwrap();
    answer.into_inner().header.unwrap().revision
}

fn show<M: Debug>(answer: Result<Response<M>, Status>, same: impl FnOnce(&mut M)) -> String {
    match answer {
        Ok(response) => {
            let mut message = response.into_inner();
            same(&mut message);
            format!("{message:?}")
        }
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    }
}

fn same_header(header: &mut Option<ResponseHeader>) {
    if let Some(header) = header {
        *header = ResponseHeader { revision: header.revision, ..Default::default() };
    }
}

/// Versions, sizes and the numbers of log entries may differ.
fn same_status(status: &mut pb::StatusResponse) {
    let header = status.header.take().unwrap_or_default();
    let (leads, term) = (status.leader == header.member_id, status.raft_term == header.raft_term);
    let applied = status.raft_applied_index <= status.raft_index && status.raft_applied_index > 0;
    let sized = status.db_size >= status.db_size_in_use && status.db_size > 0;
    *status = pb::StatusResponse {
        header: Some(pb::ResponseHeader { revision: header.revision, ..Default::default() }),
        leader: u64::from(leads),
        raft_term: u64::from(term),
        raft_index: u64::from(applied),
        db_size: i64::from(sized),
        is_learner: status.is_learner,
        errors: status.errors.iter().map(|text| words(text)).collect(),
        ..newer(status)
    };
}

/// What 3.4 does not say of itself.
fn newer(status: &pb::StatusResponse) -> pb::StatusResponse {
    if other_etcd().is_none() {
        return pb::StatusResponse::default();
    }
    pb::StatusResponse {
        storage_version: status.storage_version.clone(),
        db_size_quota: status.db_size_quota,
        downgrade_info: status.downgrade_info.clone(),
        ..Default::default()
    }
}

/// A text without its numbers.
fn words(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

fn same_member(member: &mut pb::Member) {
    member.id = u64::from(member.id != 0);
    for url in member.peer_ur_ls.iter_mut().chain(&mut member.client_ur_ls) {
        *url = words(url);
    }
}

fn same_txn(response: &mut pb::TxnResponse) {
    same_header(&mut response.header);
    for op in &mut response.responses {
        match &mut op.response {
            Some(Op::ResponseRange(r)) => same_header(&mut r.header),
            Some(Op::ResponsePut(r)) => same_header(&mut r.header),
            Some(Op::ResponseDeleteRange(r)) => same_header(&mut r.header),
            Some(Op::ResponseTxn(r)) => same_txn(r),
            None => {}
        }
    }
}

/// The remaining time may be a moment less than the granted one.
fn same_time_to_live(response: &mut pb::LeaseTimeToLiveResponse) {
    const MOMENT_SECONDS: i64 = 30;
    same_header(&mut response.header);
    if (1..=MOMENT_SECONDS).contains(&(response.granted_ttl - response.ttl)) {
        response.ttl = response.granted_ttl;
    }
    response.keys.sort();
}

/// Plays a watch script: requests, other calls in between, and the responses expected in number.
async fn watch(client: &Client, steps: &[WatchStep]) -> String {
    let sends = steps.iter().map_while(|step| match step {
        WatchStep::Send(request) => Some(request.clone()),
        _ => None,
    });
    let first: Vec<pb::WatchRequest> = sends.collect();
    let mut stream = match client.watch(&first).await {
        Ok(stream) => stream,
        Err(status) => return format!("{:?}: {}", status.code(), status.message()),
    };
    let mut answers = Vec::new();
    for step in &steps[first.len()..] {
        match step {
            WatchStep::Send(request) => stream.send(request.clone()).await,
            WatchStep::Do(call) => answers.push(Box::pin(ask(client, call)).await),
            WatchStep::Receive => {
                let answer = stream.next().await.map(Response::new);
                answers.push(show(answer, |r| same_header(&mut r.header)));
            }
            WatchStep::ReceiveEvents(count) => {
                // How many events share a response is up to the server; what is in them is not.
                let mut events = Vec::new();
                while events.len() < *count {
                    match stream.next().await {
                        Ok(response) => events.extend(
                            response.events.into_iter().map(|event| (response.watch_id, event)),
                        ),
                        Err(status) => return format!("{events:?}, then {status}"),
                    }
                }
                events.sort_by_key(|(id, _)| *id);
                answers.push(format!("{events:?}"));
            }
        }
    }
    answers.join("\n    ")
}
