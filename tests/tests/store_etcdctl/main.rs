//! etcdctl against etcd and against our member: what it prints and how it exits must be the same, but
//! for ids. Both are Debian's 3.4, or what `KIJABI_TEST_ETCD` and `KIJABI_TEST_ETCDCTL` name.
#![allow(clippy::unwrap_used, reason = "tests")]

mod calls;
mod checks;
mod coverage;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use kijabi_tests::etcd::{Kind, Member, other_etcd};
use kijabi_tests::poll;
use kijabi_tests::process::{Program, succeed};

use calls::{CALLS, Call, NEWER};

/// The answer of one call: exit code, output, errors, with what may differ masked.
fn answer(endpoint: &str, call: &Call) -> String {
    let words = call.arguments.split(' ').map(|word| if word == "''" { "" } else { word });
    let mut child = etcdctl(endpoint, &[])
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(call.input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| mask(&String::from_utf8_lossy(bytes), endpoint);
    format!("{:?}\n{}{}", output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Hides endpoints, ports, ids, terms and times.
fn mask(text: &str, endpoint: &str) -> String {
    let mut masked = Vec::new();
    for line in text.replace(endpoint, "ENDPOINT").lines() {
        // Client logs carry a time and the connection's address.
        if line.starts_with("{\"level\"") {
            let error = line.split("\"error\":").nth(1).unwrap_or_default();
            masked.push(format!("log: {error}"));
            continue;
        }
        if line.contains("Took") || line.contains("took") {
            continue;
        }
        let variable = [
            "ClusterID",
            "MemberID",
            "Raft",
            "cluster_id",
            "\"ID\"",
            "URL",
            "DBSize",
            "\"Leader\"",
            "\"Version\" : \"",
        ];
        if variable.iter().any(|name| line.contains(name)) {
            masked.push(letters(line));
        } else {
            masked.push(line.to_owned());
        }
    }
    masked.join("\n") + "\n"
}

/// A line without its digits and the letters of hexadecimal numbers.
fn letters(line: &str) -> String {
    line.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.chars().any(|c| c.is_ascii_digit()))
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn etcdctl_sees_no_difference() {
    let (ours, theirs) = (Member::start(Kind::Ours), Member::start(Kind::Debians));
    let mut differences = Vec::new();
    let newer = if other_etcd().is_some() { NEWER } else { &[] };
    for call in CALLS.iter().chain(newer) {
        let (our_answer, their_answer) =
            (answer(&ours.endpoint(), call), answer(&theirs.endpoint(), call));
        if our_answer != their_answer {
            let arguments = call.arguments;
            differences.push(format!(
                "etcdctl {arguments}\n--- etcd:\n{their_answer}--- ours:\n{our_answer}"
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// etcdctl itself.
fn program() -> Command {
    if let Some(other) = std::env::var_os("KIJABI_TEST_ETCDCTL") {
        return Command::new(other);
    }
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3");
    command
}

/// etcdctl at `endpoint`, to run until the test is done with it.
fn etcdctl(endpoint: &str, arguments: &[&str]) -> Command {
    let mut command = program();
    command.args(["--endpoints", endpoint]).args(arguments);
    command
}

/// Waits until a running etcdctl has printed what is wanted.
fn printed(program: &Program, what: &str) {
    poll::eventually(what, Duration::from_secs(30), || {
        let output = program.output();
        if output.contains(what) { Ok(()) } else { Err(output) }
    });
}

#[test]
fn etcdctl_holds_leases_locks_and_offices() {
    let member = Member::start(Kind::Ours);
    let endpoint = member.endpoint();
    let run = |arguments: &[&str]| succeed(&mut etcdctl(&endpoint, arguments));
    let start = |name: &str, arguments: &[&str]| {
        Program::start(&mut etcdctl(&endpoint, arguments), &member.folder().join(name))
    };
    let granted = run(&["lease", "grant", "2"]);
    let lease = granted.split(' ').nth(1).unwrap().to_owned();
    let renewing = start("renewing", &["lease", "keep-alive", &lease]);
    printed(&renewing, &format!("lease {lease} keepalived with TTL(2)"));

    let holder = start("holder", &["lock", "mutex"]);
    printed(&holder, "mutex/");
    let waiter = start("waiter", &["lock", "mutex"]);
    poll::eventually("two in the queue", Duration::from_secs(20), || {
        let keys = run(&["get", "--prefix", "mutex/", "--keys-only"]);
        let count = keys.lines().filter(|line| !line.is_empty()).count();
        if count == 2 { Ok(()) } else { Err(keys) }
    });
    assert!(waiter.output().is_empty(), "two hold one lock");
    holder.signal("TERM");
    printed(&waiter, "mutex/");

    let leading = start("leading", &["elect", "office", "first"]);
    printed(&leading, "first");
    let following = start("following", &["elect", "office", "second"]);
    let observing = start("observing", &["elect", "-l", "office"]);
    printed(&observing, "first");
    leading.signal("TERM");
    printed(&following, "second");
    printed(&observing, "second");
    // The lease was renewed all the while.
    assert!(run(&["lease", "timetolive", &lease]).contains("remaining"));
    assert!(run(&["lease", "timetolive", &lease]).contains("granted with TTL(2s)"));
}

#[test]
fn etcdctl_mirrors_into_debians_etcd_and_back() {
    let (ours, theirs) = (Member::start(Kind::Ours), Member::start(Kind::Debians));
    for (from, to) in [(&ours, &theirs), (&theirs, &ours)] {
        let prefix = if std::ptr::eq(from, &raw const ours) { "there/" } else { "back/" };
        let put = |key: &str| {
            let key = format!("{prefix}{key}");
            succeed(&mut etcdctl(&from.endpoint(), &["put", &key, "x"]));
        };
        for at in 0..5 {
            put(&format!("early{at}"));
        }
        let target = to.endpoint();
        let target = target.trim_start_matches("http://");
        let arguments = ["make-mirror", "--prefix", prefix, target];
        let mut command = etcdctl(&from.endpoint(), &arguments);
        let _mirror = Program::start(&mut command, &from.folder().join("mirror"));
        let arrived = |count: usize| {
            poll::eventually("the mirror", Duration::from_secs(30), || {
                let get = ["get", "--prefix", prefix, "--keys-only"];
                let keys = succeed(&mut etcdctl(&to.endpoint(), &get));
                let found = keys.lines().filter(|line| !line.is_empty()).count();
                if found == count { Ok(()) } else { Err(keys) }
            });
        };
        arrived(5);
        put("late");
        arrived(6);
    }
}

#[test]
fn etcdctl_watches_interactively() {
    let member = Member::start(Kind::Ours);
    let mut child = etcdctl(&member.endpoint(), &["watch", "-i"])
        .stdin(Stdio::piped())
        .stdout(std::fs::File::create(member.folder().join("out")).unwrap())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"watch one\nwatch t1 t9\n").unwrap();
    let output = || std::fs::read_to_string(member.folder().join("out")).unwrap();
    let put = |key: &str| succeed(&mut etcdctl(&member.endpoint(), &["put", key, "x"]));
    // Until both watches are there nothing is seen of a put: put until it is.
    for key in ["one", "t5"] {
        poll::eventually("an event", Duration::from_secs(30), || {
            put(key);
            if output().contains(&format!("PUT\n{key}\nx\n")) { Ok(()) } else { Err(output()) }
        });
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn etcdctl_watches_the_past_and_the_present() {
    let member = Member::start(Kind::Ours);
    let put = |key: &str, value: &str| {
        succeed(&mut etcdctl(&member.endpoint(), &["put", key, value]));
    };
    put("a", "1");
    let watched = ["watch", "--prefix", "a", "--rev=1", "--prev-kv"];
    let mut command = etcdctl(&member.endpoint(), &watched);
    let watch = Program::start(&mut command, &member.folder().join("watch"));
    let limit = Duration::from_secs(20);
    let wait_for = |expected: &str| {
        poll::eventually("the watch's output", limit, || {
            let output = watch.output();
            if output == expected { Ok(()) } else { Err(output) }
        });
    };
    wait_for("PUT\na\n1\n");
    put("a", "2");
    put("b", "2");
    put("ab", "3");
    wait_for("PUT\na\n1\nPUT\na\n1\na\n2\nPUT\nab\n3\n");
}
