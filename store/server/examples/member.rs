//! One member of the store, for trying out the crate alone; the real binary is `kijabi store`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program")]

use std::process::ExitCode;

use kijabi_server::config::{Parsed, VERSION_TEXT, help_text, parse};
use kijabi_server::{Member, logging, memory, notify};

/// The binary's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    memory::use_small_pages();
    run()
}

#[tokio::main]
async fn run() -> ExitCode {
    let config = match parse(std::env::args().skip(1), std::env::vars()) {
        Ok(Parsed::Run(config)) => *config,
        Ok(Parsed::Version) => {
            print!("{VERSION_TEXT}");
            return ExitCode::SUCCESS;
        }
        Ok(Parsed::Help) => {
            print!("{}", help_text());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = logging::init(&config) {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    let member = match Member::start(config).await {
        Ok(member) => member,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(if error.is_usage() { 2 } else { 1 });
        }
    };
    notify::ready(std::env::var_os("NOTIFY_SOCKET").as_deref());
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .expect("signals can be handled");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
        ended = member.wait() => {
            if let Err(error) = ended {
                eprintln!("{error}");
                return ExitCode::from(1);
            }
        }
    }
    member.shutdown().await;
    ExitCode::SUCCESS
}
