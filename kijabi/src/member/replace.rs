//! Replacing a member whose data is lost, in one command.
//!
//! Owns: the steps and their order. Must not know: how the store carries them out. A newcomer's
//! trap: the old id goes for good before the new one comes, because a member without its votes and
//! its log must never speak under its old id; each step is skipped if an earlier run did it.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use kijabi_base::clock;
use kijabi_proto::etcdserverpb as pb;
use kijabi_server::config::{self, Config, Parsed};

use super::client::Client;
use super::{Access, initial_cluster, say};
use crate::{component, roles};

/// Between two tries to promote.
const PROMOTE_INTERVAL: Duration = Duration::from_millis(500);
/// How long a change waits until the other members have been connected for long enough.
const SETTLE_LIMIT: Duration = Duration::from_secs(15);
/// What the leader says until then.
const UNHEALTHY: &str = "etcdserver: unhealthy cluster";
/// How long the member that is to go may take to show that it is alive.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Args, Debug)]
pub(crate) struct Replace {
    /// The member's name or id.
    member: String,
    /// Its peer URLs, if an earlier run has removed it already.
    #[arg(long, value_delimiter = ',')]
    peer_urls: Vec<String>,
    /// Replace it though it answers.
    #[arg(long)]
    force: bool,
    /// The flags the member runs with (etcd's, without `--name` and `--initial-*`): it is started
    /// with them in this process. Without any, the command that starts it is printed.
    #[arg(last = true)]
    pub(crate) flags: Vec<String>,
}

/// The member that takes the place.
struct Successor {
    name: String,
    id: u64,
    peer_urls: Vec<String>,
    initial_cluster: String,
}

impl Successor {
    fn flags(&self) -> [String; 4] {
        [
            format!("--name={}", self.name),
            format!("--initial-advertise-peer-urls={}", self.peer_urls.join(",")),
            format!("--initial-cluster={}", self.initial_cluster),
            "--initial-cluster-state=existing".into(),
        ]
    }
}

/// Runs the command.
pub(crate) fn run(access: Access, replace: Replace) -> anyhow::Result<()> {
    if replace.flags.is_empty() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(async move {
            let successor = exchange(&access, &replace).await?;
            say(format_args!("start it on its empty folder with its usual flags and"));
            say(format_args!("  kijabi store {}", successor.flags().join(" ")));
            promote(&access, &successor).await
        });
    }
    // Before anything is changed: a wrong flag or a folder with data ends it here.
    check_folder(&parse(&replace.flags, &[])?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let successor = runtime.block_on(exchange(&access, &replace))?;
    drop(runtime);
    let config = parse(&replace.flags, &successor.flags())?;
    kijabi_server::logging::init(&config)?;
    component::run(|shutdown| async move {
        let promoting = async {
            if let Err(error) = promote(&access, &successor).await {
                eprintln!("kijabi store member: {error:#}");
            }
            std::future::pending::<anyhow::Result<()>>().await
        };
        tokio::select! {
            ended = roles::store::serve(config, shutdown) => ended,
            never = promoting => never,
        }
    })
}

fn parse(flags: &[String], more: &[String]) -> anyhow::Result<Config> {
    let environment = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into()));
    let is_file = |flag: &String| flag.trim_start_matches('-').starts_with("config-file");
    ensure!(!flags.iter().any(is_file), "with --config-file etcd's flags do not count; give flags");
    match config::parse(flags.iter().chain(more).cloned(), environment)? {
        Parsed::Run(config) => Ok(*config),
        Parsed::Version | Parsed::Help => bail!("the flags do not start a member"),
    }
}

fn check_folder(config: &Config) -> anyhow::Result<()> {
    let member = config.data_dir.join("member");
    ensure!(
        !member.exists(),
        "{} has data; a member that lost its data starts on an empty folder, so move it away first",
        member.display()
    );
    Ok(())
}

/// Takes the old member out and the new one in.
async fn exchange(access: &Access, replace: &Replace) -> anyhow::Result<Successor> {
    let client = Client::connect(access).await?;
    let members = client.list().await?;
    let (name, urls) = match find(&members, &replace.member) {
        Some(old) => {
            let name = if old.name.is_empty() { &replace.member } else { &old.name };
            (name.clone(), old.peer_ur_ls.clone())
        }
        None if replace.peer_urls.is_empty() => bail!(
            "there is no member {}; if an earlier run removed it, give --peer-urls",
            replace.member
        ),
        None => (replace.member.clone(), replace.peer_urls.clone()),
    };
    // One that was added by an earlier run and never started needs no replacing.
    let is_waiting = |member: &&pb::Member| member.name.is_empty() && member.peer_ur_ls == urls;
    if let Some(waiting) = members.iter().find(is_waiting) {
        say(format_args!("member {:x} waits to be started", waiting.id));
        return Ok(successor(name, urls, waiting.id, &members));
    }
    if let Some(old) = find(&members, &replace.member) {
        if !replace.force {
            ensure!(
                !is_alive(access, old).await,
                "member {:x} ({}) answers; stop it first, or use --force",
                old.id,
                old.name
            );
        }
        patiently(|| client.remove(old.id))
            .await
            .with_context(|| format!("removing member {:x}", old.id))?;
        say(format_args!("member {:x} ({name}) removed", old.id));
    }
    let added =
        patiently(|| client.add(urls.clone(), true)).await.context("adding the new member")?;
    let id = added.member.context("the answer names no member")?.id;
    say(format_args!("member {id:x} ({name}) added as a learner"));
    Ok(successor(name, urls, id, &added.members))
}

/// Makes a change, again while the leader is not sure yet that the others are there: a member often
/// loses its disk together with the machine that was just restarted.
async fn patiently<T, F>(change: impl Fn() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let deadline = clock::now() + SETTLE_LIMIT;
    loop {
        match change().await {
            Err(error) if error.to_string() == UNHEALTHY && clock::now() < deadline => {
                tokio::time::sleep(PROMOTE_INTERVAL).await;
            }
            result => return result,
        }
    }
}

fn successor(name: String, peer_urls: Vec<String>, id: u64, members: &[pb::Member]) -> Successor {
    let initial_cluster = initial_cluster(&name, id, members);
    Successor { name, id, peer_urls, initial_cluster }
}

fn find<'a>(members: &'a [pb::Member], wanted: &str) -> Option<&'a pb::Member> {
    let by_name = members.iter().find(|member| member.name == wanted);
    let id = u64::from_str_radix(wanted, 16).ok();
    by_name.or_else(|| members.iter().find(|member| Some(member.id) == id))
}

/// Whether the member answers on one of its client URLs.
async fn is_alive(access: &Access, member: &pb::Member) -> bool {
    let endpoints = member.client_ur_ls.clone();
    let asked = async {
        let client = Client::connect(&Access { endpoints, ..access.clone() }).await?;
        client.member_id().await
    };
    let answer = tokio::time::timeout(ALIVE_TIMEOUT, asked).await;
    matches!(answer, Ok(Ok(id)) if id == member.id)
}

/// Waits until the new member has caught up, and makes it a voter.
async fn promote(access: &Access, successor: &Successor) -> anyhow::Result<()> {
    let id = successor.id;
    loop {
        let tried = match Client::connect(access).await {
            Ok(client) => client.try_promote(id).await,
            // Whoever was asked so far may be down for a moment.
            Err(_) => Err(tonic::Status::unavailable("no endpoint")),
        };
        match tried {
            Ok(_) => {
                say(format_args!("member {id:x} has caught up and votes"));
                return Ok(());
            }
            Err(status) => match status.message() {
                "etcdserver: can only promote a learner member" => return Ok(()),
                "etcdserver: can only promote a learner member which is in sync with leader" => {}
                _ if matches!(
                    status.code(),
                    tonic::Code::Unavailable
                        | tonic::Code::Cancelled
                        | tonic::Code::DeadlineExceeded
                ) => {}
                why => bail!("member {id:x} was not promoted: {why}"),
            },
        }
        tokio::time::sleep(PROMOTE_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_by_name_or_id() {
        let member = |id, name: &str| pb::Member { id, name: name.into(), ..pb::Member::default() };
        let members = [member(0xab, "one"), member(0xcd, "ab")];
        assert_eq!(find(&members, "one").unwrap().id, 0xab);
        assert_eq!(find(&members, "ab").unwrap().id, 0xcd, "a name comes first");
        assert_eq!(find(&members, "cd").unwrap().id, 0xcd);
        assert!(find(&members, "zz").is_none());
    }

    #[test]
    fn a_folder_with_data_is_not_started_on() {
        let dir = tempfile::tempdir().unwrap();
        let flags = [format!("--data-dir={}", dir.path().display())];
        let config = parse(&flags, &[]).unwrap();
        check_folder(&config).unwrap();
        std::fs::create_dir(dir.path().join("member")).unwrap();
        let error = check_folder(&config).unwrap_err().to_string();
        assert!(error.contains("has data"), "{error}");
        assert!(parse(&["--config-file=x".into()], &[]).is_err());
    }
}
