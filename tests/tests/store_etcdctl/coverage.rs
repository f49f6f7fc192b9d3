//! Every command that etcdctl says it has is tried: one that it gets in a later version fails this.

use std::path::Path;

use kijabi_tests::process::succeed;

use crate::calls::{CALLS, NEWER};
use crate::program;

/// Commands that are not among the calls compared, and the file that runs them.
const ELSEWHERE: &[(&str, &str)] = &[
    ("check datascale", "tests/store_etcdctl/checks.rs"),
    ("check perf", "tests/store_etcdctl/checks.rs"),
    ("elect", "tests/store_etcdctl/main.rs"),
    ("lease keep-alive", "tests/store_etcdctl/main.rs"),
    ("make-mirror", "tests/store_etcdctl/main.rs"),
    ("watch", "tests/store_etcdctl/main.rs"),
    ("member add", "../store/server/tests/membership_etcdctl.rs"),
    ("member promote", "../store/server/tests/membership_etcdctl.rs"),
    ("member remove", "../store/server/tests/membership_etcdctl.rs"),
    ("member update", "../store/server/tests/membership_etcdctl.rs"),
    ("move-leader", "../store/server/tests/membership_etcdctl.rs"),
    ("snapshot restore", "tests/store_backup.rs"),
    ("snapshot save", "tests/store_backup.rs"),
    ("snapshot status", "tests/store_backup.rs"),
];

/// Commands that talk to no member.
const ALONE: &[&str] = &[
    "completion",
    "completion bash",
    "completion fish",
    "completion powershell",
    "completion zsh",
    "migrate",
];

/// The commands in etcdctl's help.
fn commands() -> Vec<String> {
    let help = succeed(program().arg("--help"));
    let lines = help.lines().skip_while(|line| *line != "COMMANDS:").skip(1);
    let lines = lines.skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty());
    lines.map(|line| line.trim().split('\t').next().unwrap_or_default().trim().to_owned()).collect()
}

#[test]
fn every_command_of_etcdctl_is_tried() {
    let commands = commands();
    assert!(commands.len() > 40, "{commands:?}");
    let mut missing = Vec::new();
    for command in &commands {
        let begins = |arguments: &str| {
            let words = arguments.split(' ').skip_while(|word| word.starts_with("--user"));
            let words: Vec<&str> = words.collect();
            let command: Vec<&str> = command.split(' ').collect();
            words.starts_with(&command)
        };
        let compared = CALLS.iter().chain(NEWER).any(|call| begins(call.arguments));
        let elsewhere = ELSEWHERE.iter().find(|(name, _)| name == command);
        let elsewhere = elsewhere.is_some_and(|(name, file)| {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            let text = std::fs::read_to_string(&file).unwrap();
            // As one string, or as the words of a list.
            text.contains(name) || text.contains(&name.replace(' ', "\", \""))
        });
        if !compared && !elsewhere && !ALONE.contains(&command.as_str()) {
            missing.push(command);
        }
    }
    assert!(missing.is_empty(), "never tried: {missing:?}");
}
