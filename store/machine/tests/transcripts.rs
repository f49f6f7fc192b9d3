//! Transcript tests of the machine: each file in `transcripts/` is a conversation with one store.
//!
//! A step is a command line, `----` and the answer's lines, up to a blank line. Lines that start
//! with `#` say what the next steps show. `reopen` rebuilds the machine from its durable state.

mod support;

use support::script::run;

fn play(name: &str, text: &str) {
    let mut script = support::script::Script::new();
    let mut failures = Vec::new();
    for step in text.split("\n\n") {
        let step: Vec<&str> = step.lines().filter(|line| !line.starts_with('#')).collect();
        let Some(divider) = step.iter().position(|line| *line == "----") else {
            assert!(step.iter().all(|line| line.trim().is_empty()), "{name}: no ---- in {step:?}");
            continue;
        };
        let command = step[..divider].join(" ");
        let expected = step[divider + 1..].join("\n");
        let answer = run(&mut script, &command);
        if answer != expected.trim_end() {
            failures.push(format!("{command}\n  expected: {expected}\n  answered: {answer}"));
        }
    }
    assert!(failures.is_empty(), "{name}:\n{}", failures.join("\n"));
}

macro_rules! transcripts {
    ($($name:ident),+ $(,)?) => {
        $(#[test]
        fn $name() {
            play(
                stringify!($name),
                include_str!(concat!("transcripts/", stringify!($name), ".txt")),
            );
        })+
    };
}

transcripts!(put_and_range, range_options, delete, txn, lease, compaction, alarm, issues);
