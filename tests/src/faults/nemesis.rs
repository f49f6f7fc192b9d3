//! Faults drawn from a seed, and what undoes them.
//!
//! Owns: the schedule. Must not know: what clients do meanwhile. A newcomer's trap: the schedule is
//! drawn before the run begins, so that a seed always gives the same one; who leads is looked up
//! when a fault begins.

use std::sync::atomic::Ordering;
use std::time::Duration;

use kijabi_base::clock;
use kijabi_proto::etcdserverpb as pb;
use rand::Rng as _;
use rand::rngs::StdRng;

use super::generator;
use super::record::ask;
use super::traffic::Shared;
use crate::etcd::Client;
use crate::linear::Request;

/// Waits between faults, in milliseconds.
const CALM_MS: (u64, u64) = (200, 1500);
/// How long a fault lasts, in milliseconds.
const FAULT_MS: (u64, u64) = (300, 3000);
/// How often a flapping link changes, in milliseconds.
const FLAP_MS: u64 = 150;
/// How far behind the last revision compactions stay at most.
const COMPACT_BEHIND_MAX: i64 = 300;
const CALL_LIMIT: Duration = Duration::from_millis(2500);
/// How long a member that was removed may take to come back.
const REPLACE_LIMIT: Duration = Duration::from_secs(30);

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    Member(usize),
    Leader,
}

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Kill(Whom),
    KillAll,
    Pause(Whom),
    /// Nobody hears it and it hears nobody.
    Isolate(Whom),
    /// The others do not hear it.
    Mute(Whom),
    /// It does not hear the others.
    Deafen(Whom),
    /// Two members do not hear each other; a third hears both.
    Part(usize, usize),
    /// Its links come and go.
    Flap(Whom),
    Compact(i64),
    /// Another member is to lead.
    MoveLeader(usize),
    /// A member is removed, loses its disk, and comes back as another; as a learner first or not.
    Replace(usize, bool),
}

/// A fault, the calm before it, and how long it lasts.
#[derive(Clone, Debug)]
pub(super) struct Step {
    calm: Duration,
    fault: Fault,
    lasts: Duration,
}

/// The schedules of a run: one for what hits members and links, one for what clients may do.
pub(super) fn schedules(
    seed: u64,
    members: usize,
    span: Duration,
    replace: bool,
) -> [Vec<Step>; 2] {
    let mut harsh = generator(seed, 1);
    let mut gentle = generator(seed, 2);
    let draw = |random: &mut StdRng, pick: &dyn Fn(&mut StdRng) -> Fault| {
        let (mut steps, mut total) = (Vec::new(), Duration::ZERO);
        while total < span {
            let calm = Duration::from_millis(random.random_range(CALM_MS.0..CALM_MS.1));
            let lasts = Duration::from_millis(random.random_range(FAULT_MS.0..FAULT_MS.1));
            steps.push(Step { calm, fault: pick(random), lasts });
            total += calm + lasts;
        }
        steps
    };
    [
        draw(&mut harsh, &|random| harsh_fault(random, members, replace)),
        draw(&mut gentle, &|random| gentle_fault(random, members)),
    ]
}

fn harsh_fault(random: &mut StdRng, members: usize, replace: bool) -> Fault {
    let one = random.random_range(0..members);
    let whom = if random.random() { Whom::Leader } else { Whom::Member(one) };
    if members == 1 {
        return if random.random() { Fault::Kill(whom) } else { Fault::Pause(whom) };
    }
    match random.random_range(0..16 + if replace { 3 } else { 0 }) {
        0..4 => Fault::Kill(whom),
        4 => Fault::KillAll,
        5..8 => Fault::Pause(whom),
        8..10 => Fault::Isolate(whom),
        10..12 => Fault::Mute(whom),
        12 => Fault::Deafen(whom),
        13 => Fault::Part(one, (one + 1) % members),
        14..16 => Fault::Flap(whom),
        _ => Fault::Replace(one, random.random()),
    }
}

fn gentle_fault(random: &mut StdRng, members: usize) -> Fault {
    if members > 1 && random.random_range(0..4) == 0 {
        return Fault::MoveLeader(random.random_range(0..members));
    }
    // Often close to the last revision: that is where deletes and slow watchers are.
    let most = if random.random() { 5 } else { COMPACT_BEHIND_MAX };
    Fault::Compact(random.random_range(0..most))
}

/// Does one schedule after another until the run stops; returns what was done.
pub(super) async fn rage(shared: Shared, steps: Vec<Step>, number: u32) -> Vec<String> {
    let mut done = Vec::new();
    for step in steps {
        if !wait(&shared, step.calm).await {
            break;
        }
        done.push(format!("{:.1} s: {:?}", shared.recorder.now() as f64 / 1e6, step.fault));
        if cause(&shared, &step, number).await {
            done.push(format!("{:.1} s: replaced", shared.recorder.now() as f64 / 1e6));
        }
    }
    done
}

/// Waits; `false` if the run stops.
async fn wait(shared: &Shared, span: Duration) -> bool {
    tokio::time::timeout(span, shared.stop.wait()).await.is_err()
}

async fn find(shared: &Shared, whom: Whom) -> usize {
    match whom {
        Whom::Member(member) => member,
        Whom::Leader => shared.cluster.read().await.leader().await.unwrap_or(0),
    }
}

/// Causes a fault, waits, and undoes it. Answers whether a member was replaced.
async fn cause(shared: &Shared, step: &Step, number: u32) -> bool {
    let members = shared.cluster.read().await.size();
    let all = 0..members;
    let cut = async |from: usize, to: usize, cut: bool| {
        shared.cluster.read().await.links().set(from, to, cut);
    };
    match &step.fault {
        Fault::Kill(whom) => {
            let member = find(shared, *whom).await;
            shared.cluster.write().await.kill(member);
            wait(shared, step.lasts).await;
            shared.cluster.write().await.launch(member);
        }
        Fault::KillAll => {
            for member in all.clone() {
                shared.cluster.write().await.kill(member);
            }
            wait(shared, step.lasts / 4).await;
            for member in all {
                shared.cluster.write().await.launch(member);
            }
        }
        Fault::Pause(whom) => {
            let member = find(shared, *whom).await;
            shared.cluster.write().await.pause(member, true);
            wait(shared, step.lasts).await;
            shared.cluster.write().await.pause(member, false);
        }
        Fault::Isolate(whom) | Fault::Mute(whom) | Fault::Deafen(whom) | Fault::Flap(whom) => {
            let member = find(shared, *whom).await;
            let (out, into) = match step.fault {
                Fault::Mute(_) => (true, false),
                Fault::Deafen(_) => (false, true),
                _ => (true, true),
            };
            let flaps = matches!(step.fault, Fault::Flap(_));
            let times = if flaps { step.lasts.as_millis() as u64 / FLAP_MS } else { 1 };
            for time in 0..times {
                let on = time % 2 == 0;
                for other in all.clone() {
                    cut(member, other, out && on).await;
                    cut(other, member, into && on).await;
                }
                wait(shared, if flaps { Duration::from_millis(FLAP_MS) } else { step.lasts }).await;
            }
            shared.cluster.read().await.links().heal();
        }
        Fault::Part(one, other) => {
            cut(*one, *other, true).await;
            cut(*other, *one, true).await;
            wait(shared, step.lasts).await;
            shared.cluster.read().await.links().heal();
        }
        Fault::Compact(behind) => compact(shared, *behind, number).await,
        Fault::MoveLeader(to) => move_leader(shared, *to).await,
        Fault::Replace(member, learner) => {
            let replaced = replace(shared, *member, *learner).await.is_ok();
            if !replaced {
                shared.cluster.write().await.launch(*member);
            }
            return replaced;
        }
    }
    false
}

async fn compact(shared: &Shared, behind: i64, number: u32) {
    let collected = shared.collected.load(Ordering::Relaxed);
    let revision = (shared.seen.load(Ordering::Relaxed) - behind).min(collected);
    let cluster = shared.cluster.read().await;
    for member in 0..cluster.size() {
        if revision < 2 {
            return;
        }
        let (client, session) = (cluster.connect(member).await, cluster.session(member));
        let Some(client) = client else { continue };
        let request = Request::Compact(revision);
        // A compaction of unknown fate is in the history, too.
        let _ = ask(&client, &shared.recorder, (number, session), request, CALL_LIMIT).await;
        return;
    }
}

async fn move_leader(shared: &Shared, to: usize) {
    let cluster = shared.cluster.read().await;
    let (Some(leader), Some(status)) = (cluster.leader().await, cluster.status(to).await) else {
        return;
    };
    let Some(client) = cluster.connect(leader).await else { return };
    let target_id = status.header.map_or(0, |header| header.member_id);
    let mut maintenance = client.maintenance();
    let request = maintenance.move_leader(pb::MoveLeaderRequest { target_id });
    // It may be refused, and it may have lost its office meanwhile: both are fine.
    let _ = tokio::time::timeout(CALL_LIMIT, request).await;
}

/// Removes a member, wipes its disk, adds it again and starts it. `Err` = it is still the old one.
async fn replace(shared: &Shared, member: usize, learner: bool) -> Result<(), ()> {
    let (id, url) = {
        let cluster = shared.cluster.read().await;
        let status = cluster.status(member).await.ok_or(())?;
        (status.header.map_or(0, |header| header.member_id), cluster.peer_url(member))
    };
    let other = other_client(shared, member).await.ok_or(())?;
    let mut cluster = other.cluster();
    let removal = cluster.member_remove(pb::MemberRemoveRequest { id });
    match tokio::time::timeout(CALL_LIMIT, removal).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) => return Err(()),
        // Whether it is gone is looked up below.
        Err(_) => {}
    }
    shared.cluster.write().await.wipe(member);
    let deadline = clock::now() + REPLACE_LIMIT;
    while clock::now() < deadline {
        if let Some(other) = other_client(shared, member).await {
            match is_listed(&other, &url).await {
                Some(Some(listed)) if listed == id => {
                    let mut cluster = other.cluster();
                    let again = cluster.member_remove(pb::MemberRemoveRequest { id });
                    let _ = tokio::time::timeout(CALL_LIMIT, again).await;
                }
                // It was added: its answer may have been lost.
                Some(Some(_)) => break,
                Some(None) => {
                    let request =
                        pb::MemberAddRequest { peer_ur_ls: vec![url.clone()], is_learner: learner };
                    let _ =
                        tokio::time::timeout(CALL_LIMIT, other.cluster().member_add(request)).await;
                }
                None => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(FLAP_MS)).await;
    }
    shared.cluster.write().await.launch(member);
    if learner {
        promote(shared, member, &url).await;
    }
    Ok(())
}

/// Makes a voter of the learner at `url`, which may take until it has caught up.
async fn promote(shared: &Shared, member: usize, url: &str) {
    let deadline = clock::now() + REPLACE_LIMIT;
    while clock::now() < deadline {
        if let Some(other) = other_client(shared, member).await
            && let Some(Some(id)) = is_listed(&other, url).await
        {
            let mut cluster = other.cluster();
            let request = cluster.member_promote(pb::MemberPromoteRequest { id });
            match tokio::time::timeout(CALL_LIMIT, request).await {
                Ok(Ok(_)) => return,
                Ok(Err(status))
                    if status.message().contains("can only promote a learner member")
                        && !status.message().contains("in sync") =>
                {
                    return;
                }
                _ => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(FLAP_MS)).await;
    }
}

/// The id under which the cluster knows `url`; the outer `None` = nobody answered.
async fn is_listed(client: &Client, url: &str) -> Option<Option<u64>> {
    let request = pb::MemberListRequest { linearizable: true };
    let mut cluster = client.cluster();
    let list = tokio::time::timeout(CALL_LIMIT, cluster.member_list(request)).await.ok()?.ok()?;
    let members = list.into_inner().members;
    Some(members.iter().find(|m| m.peer_ur_ls.iter().any(|own| own == url)).map(|m| m.id))
}

/// A client of a member that is not `member`.
async fn other_client(shared: &Shared, member: usize) -> Option<Client> {
    let cluster = shared.cluster.read().await;
    for other in (0..cluster.size()).filter(|other| *other != member) {
        if cluster.serves(other).await {
            return cluster.connect(other).await;
        }
    }
    None
}
