//! Programs of the system that the agent calls: where they are found, and that they are there.
//!
//! Must not know: what they are called for. A newcomer's trap: a service manager or cron gives a
//! short PATH without the sbin folders, where runc, nft and ip are.

use std::ffi::OsString;
use std::path::PathBuf;

use tokio::process::Command;

use crate::Error;

/// Folders looked into after those of PATH.
const MORE_FOLDERS: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"];

fn path() -> OsString {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&own).chain(MORE_FOLDERS.map(PathBuf::from));
    std::env::join_paths(folders).unwrap_or(own)
}

/// A command that is looked for in the system folders, too, as are the programs it calls.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", path());
    command
}

/// Checks that a program is installed.
pub(crate) fn require(program: &'static str, hint: &'static str) -> Result<(), Error> {
    let found = std::env::split_paths(&path()).any(|folder| folder.join(program).is_file());
    if found { Ok(()) } else { Err(Error::Missing { program, hint }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_how_to_get_it() {
        assert!(require("sh", "").is_ok());
        let error = require("no-such-program", "apt-get install it").unwrap_err();
        assert_eq!(error.to_string(), "no-such-program is not installed: apt-get install it");
    }
}
