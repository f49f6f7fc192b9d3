//! `kijabi store`, and the whole binary when it is linked as `etcd`.
//!
//! Owns: exit codes and signals of a member that runs alone. Must not know: what the flags mean. A
//! newcomer's trap: settings that cannot work are exit code 2, a member that cannot start is 1.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use kijabi_base::tasks::Shutdown;
use kijabi_server::config::{self, Config, Parsed};
use kijabi_server::logging::LogError;
use kijabi_server::{Member, StartError};

use crate::component;

/// Runs the role on its own arguments.
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    let arguments = arguments.iter().map(|argument| argument.to_string_lossy().into_owned());
    let environment = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into()));
    let config = match config::parse(arguments, environment) {
        Ok(Parsed::Run(config)) => *config,
        Ok(Parsed::Version) => return print(config::VERSION_TEXT),
        Ok(Parsed::Help) => return print(&config::help_text()),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kijabi store: {error:#}");
            let usage = error.downcast_ref::<StartError>().is_some_and(StartError::is_usage)
                || error.is::<LogError>();
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout();
    // Whoever closed the pipe has read enough.
    let _ = writeln!(out, "{}", text.trim_end());
    ExitCode::SUCCESS
}

fn run(config: Config) -> anyhow::Result<()> {
    kijabi_server::logging::init(&config)?;
    component::run(|shutdown| serve(config, shutdown))
}

/// Runs a member until it is told to stop, or stops itself.
pub(crate) async fn serve(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let member = tokio::select! {
        // It may wait long for the other members.
        () = shutdown.wait() => return Ok(()),
        member = Member::start(config) => member?,
    };
    kijabi_server::notify::ready(std::env::var_os("NOTIFY_SOCKET").as_deref());
    let ended = tokio::select! {
        () = shutdown.wait() => Ok(()),
        ended = member.wait() => ended.context("the member stopped itself"),
    };
    member.shutdown().await;
    ended
}
