//! `kijabi store member`: the members of a store, over the etcd API.
//!
//! Owns: the subcommands and what they print. Must not know: how a change is made. A newcomer's
//! trap: ids are hexadecimal on the command line and in what is printed, as with etcdctl.

mod client;
mod replace;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use kijabi_proto::etcdserverpb as pb;

use client::Client;

/// List, add, remove, promote, update or replace the members of a store.
#[derive(Debug, Parser)]
#[command(name = "kijabi store member", version)]
struct Cli {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    command: Command,
}

/// How the store is reached.
#[derive(Args, Clone, Debug)]
pub(crate) struct Access {
    /// Client URLs of members, separated by commas; the first that answers is asked.
    #[arg(
        long,
        global = true,
        value_delimiter = ',',
        env = "ETCDCTL_ENDPOINTS",
        default_value = "http://127.0.0.1:2379"
    )]
    pub(crate) endpoints: Vec<String>,
    /// CA of the members' certificates, for https endpoints.
    #[arg(long, global = true, env = "ETCDCTL_CACERT")]
    pub(crate) cacert: Option<PathBuf>,
    /// This client's certificate.
    #[arg(long, global = true, env = "ETCDCTL_CERT", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// Its private key.
    #[arg(long, global = true, env = "ETCDCTL_KEY", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// User and password as `name:password`, if authentication is on.
    #[arg(long, global = true, env = "ETCDCTL_USER")]
    pub(crate) user: Option<String>,
    /// Seconds that one request may take.
    #[arg(long, global = true, default_value_t = 10)]
    pub(crate) command_timeout: u64,
}

impl Access {
    fn timeout(&self) -> Duration {
        Duration::from_secs(self.command_timeout)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the members.
    List,
    /// Add a member, which is then to be started with what is printed.
    Add {
        /// The new member's name.
        name: String,
        /// Where the other members will reach it, separated by commas.
        #[arg(long, value_delimiter = ',', required = true)]
        peer_urls: Vec<String>,
        /// Add it as a learner, which does not vote until it is promoted.
        #[arg(long)]
        learner: bool,
    },
    /// Remove a member.
    Remove {
        /// Its id.
        #[arg(value_parser = parse_id)]
        id: u64,
    },
    /// Make a learner that has caught up a voter.
    Promote {
        /// Its id.
        #[arg(value_parser = parse_id)]
        id: u64,
    },
    /// Give a member other peer URLs.
    Update {
        /// Its id.
        #[arg(value_parser = parse_id)]
        id: u64,
        /// Where the other members reach it from now on, separated by commas.
        #[arg(long, value_delimiter = ',', required = true)]
        peer_urls: Vec<String>,
    },
    /// Replace a member whose data is lost: remove it, add it anew with the same URLs as a learner,
    /// start it on its empty folder, and make it a voter once it has caught up.
    Replace(replace::Replace),
}

fn parse_id(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16).map_err(|_| "not a hexadecimal member id".into())
}

/// Runs a subcommand on its own arguments.
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    let name = OsString::from("kijabi store member");
    let cli = Cli::parse_from(std::iter::once(name).chain(arguments.iter().cloned()));
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kijabi store member: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let Cli { access, command } = cli;
    if let Command::Replace(replace) = command {
        return replace::run(access, replace);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let client = Client::connect(&access).await?;
        match command {
            Command::List => list(&client).await,
            Command::Add { name, peer_urls, learner } => {
                let added = client.add(peer_urls, learner).await?;
                let member = added.member.context("the answer names no member")?;
                let cluster = added.header.unwrap_or_default().cluster_id;
                say(format_args!("Member {:16x} added to cluster {cluster:16x}", member.id));
                say(format_args!("\n{}", environment(&name, &member, &added.members)));
                Ok(())
            }
            Command::Remove { id } => {
                let removed = client.remove(id).await?;
                let cluster = removed.header.unwrap_or_default().cluster_id;
                say(format_args!("Member {id:16x} removed from cluster {cluster:16x}"));
                Ok(())
            }
            Command::Promote { id } => {
                let promoted = client.promote(id).await?;
                let cluster = promoted.header.unwrap_or_default().cluster_id;
                say(format_args!("Member {id:16x} promoted in cluster {cluster:16x}"));
                Ok(())
            }
            Command::Update { id, peer_urls } => {
                let updated = client.update(id, peer_urls).await?;
                let cluster = updated.header.unwrap_or_default().cluster_id;
                say(format_args!("Member {id:16x} updated in cluster {cluster:16x}"));
                Ok(())
            }
            Command::Replace(_) => unreachable!("it has a runtime of its own"),
        }
    })
}

async fn list(client: &Client) -> anyhow::Result<()> {
    for member in client.list().await? {
        let state = if member.name.is_empty() { "unstarted" } else { "started" };
        say(format_args!(
            "{:x}, {state}, {}, {}, {}, {}",
            member.id,
            member.name,
            member.peer_ur_ls.join(","),
            member.client_ur_ls.join(","),
            member.is_learner
        ));
    }
    Ok(())
}

/// The members as `--initial-cluster` takes them; `name` is the one that has not told its own yet.
fn initial_cluster(name: &str, added: u64, members: &[pb::Member]) -> String {
    let pairs = members.iter().flat_map(|member| {
        let name = if member.id == added { name } else { &member.name };
        member.peer_ur_ls.iter().map(move |url| format!("{name}={url}"))
    });
    pairs.collect::<Vec<_>>().join(",")
}

/// How the added member is to be started, as etcdctl prints it.
fn environment(name: &str, member: &pb::Member, members: &[pb::Member]) -> String {
    let cluster = initial_cluster(name, member.id, members);
    let urls = member.peer_ur_ls.join(",");
    [
        format!("ETCD_NAME=\"{name}\""),
        format!("ETCD_INITIAL_CLUSTER=\"{cluster}\""),
        format!("ETCD_INITIAL_ADVERTISE_PEER_URLS=\"{urls}\""),
        "ETCD_INITIAL_CLUSTER_STATE=\"existing\"".to_owned(),
    ]
    .join("\n")
}

/// A line for whoever runs the command. If nobody reads it, the change still stands.
fn say(line: std::fmt::Arguments<'_>) {
    use std::io::Write as _;

    let _ = writeln!(std::io::stdout(), "{line}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let given =
            ["member", "replace", "m3", "--endpoints=http://a:1,http://b:1", "--", "--data-dir=d"];
        let cli = Cli::try_parse_from(given).unwrap();
        assert_eq!(cli.access.endpoints, ["http://a:1", "http://b:1"]);
        let Command::Replace(replace) = cli.command else { panic!("{:?}", cli.command) };
        assert_eq!(replace.flags, ["--data-dir=d"]);
        assert!(Cli::try_parse_from(["member", "remove", "xyz"]).is_err());
    }

    #[test]
    fn what_is_printed_starts_the_added_member() {
        let member = |id, name: &str, url: &str| pb::Member {
            id,
            name: name.into(),
            peer_ur_ls: vec![url.into()],
            ..pb::Member::default()
        };
        let members = [member(1, "m1", "http://a:1"), member(2, "", "http://b:1")];
        assert_eq!(
            environment("m2", &members[1], &members),
            "ETCD_NAME=\"m2\"\nETCD_INITIAL_CLUSTER=\"m1=http://a:1,m2=http://b:1\"\n\
             ETCD_INITIAL_ADVERTISE_PEER_URLS=\"http://b:1\"\nETCD_INITIAL_CLUSTER_STATE=\"existing\""
        );
    }
}
