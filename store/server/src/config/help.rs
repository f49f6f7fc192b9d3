//! What `--help` prints, made from the table of flags.

use std::fmt::Write as _;

use super::table::{Effect, GROUPS, Kind};

const USAGE: &str = "Usage:

  kijabi store [flags]
    Run a member of the store. Linked as `etcd`, the binary does the same.

  kijabi store --version
    Show the version.

  kijabi store -h | --help
    Show this text.

Every flag can be given as -flag value, --flag=value or as the environment variable ETCD_ with its
name in capitals and underscores. With --config-file, a YAML file with the same names, all else is
ignored. The experimental-* names of etcd 3.5 are taken, too.
";

/// The text of `--help`.
pub fn help_text() -> String {
    let mut text = USAGE.to_owned();
    for (group, flags) in GROUPS {
        let _ = writeln!(text, "\n{group}:");
        for flag in *flags {
            let shown = if flag.kind == Kind::Bool && flag.default == "false" {
                format!("--{}", flag.name)
            } else {
                format!("--{} '{}'", flag.name, flag.default)
            };
            let _ = writeln!(text, "  {shown}\n    {}", flag.doc);
            match flag.effect {
                Effect::Works => {}
                Effect::Idle(why) => {
                    let _ = writeln!(text, "    Accepted without effect: {why}.");
                }
                Effect::Refused(why) => {
                    let _ = writeln!(text, "    Refused: {why}.");
                }
            }
        }
    }
    text
}
