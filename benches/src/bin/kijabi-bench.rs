//! `kijabi bench` alone: the same command line without the rest of the program, so that it builds
//! in a minute (`cargo build --release -p kijabi-benches --bin kijabi-bench`).

use std::process::ExitCode;

use clap::Parser;
use kijabi_benches::load::{self, Bench};

/// The load generator of `kijabi bench`.
#[derive(Parser)]
#[command(name = "kijabi-bench")]
struct Line {
    #[command(flatten)]
    bench: Bench,
}

#[tokio::main]
async fn main() -> ExitCode {
    match load::run(Line::parse().bench).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
