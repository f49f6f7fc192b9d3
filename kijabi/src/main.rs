//! The one binary: its command line, and the joining of the roles.
//!
//! Owns: which role is started with which settings, logging, signals, exit codes. Must not know:
//! how a role works. A newcomer's trap: linked as `etcd` the binary is `kijabi store`, and that
//! role reads its own arguments, because etcd's flags are not this command line's.

mod backup;
mod cli;
mod component;
mod demo;
mod down;
mod logging;
mod member;
mod roles;
mod up;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

/// A third of the CPU of a write went into the C library's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    kijabi_server::memory::use_small_pages();
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_default();
    let rest: Vec<OsString> = arguments.collect();
    if Path::new(&program).file_name().is_some_and(|name| name == "etcd") {
        return roles::store::main(&rest);
    }
    if rest.starts_with(&["store".into(), "member".into()]) {
        return member::main(&rest[2..]);
    }
    if rest.first().is_some_and(|first| first == "store") {
        return roles::store::main(&rest[1..]);
    }
    let cli = cli::Cli::parse();
    match roles::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line: what could not be done, and why.
            eprintln!("kijabi: {error:#}");
            ExitCode::from(1)
        }
    }
}
