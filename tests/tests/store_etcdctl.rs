//! Debian's etcdctl against Debian's etcd and against our member: what it prints and how it exits
//! must be the same, but for ids.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use kijabi_tests::etcd::{Kind, Member};
use kijabi_tests::poll;
use kijabi_tests::process::{Program, succeed};

/// One call: its arguments, and what it reads from standard input.
struct Call {
    arguments: &'static str,
    input: &'static str,
}

const fn call(arguments: &'static str) -> Call {
    Call { arguments, input: "" }
}

const fn txn(arguments: &'static str, input: &'static str) -> Call {
    Call { arguments, input }
}

const CALLS: &[Call] = &[
    call("get nothing"),
    call("put a 1"),
    call("put a 2 --prev-kv"),
    call("put b 1"),
    call("put c 1"),
    call("put nothing x --ignore-value"),
    call("put nothing x --ignore-lease"),
    call("put a x --lease=1234"),
    call("get a"),
    call("get a -w json"),
    call("get a -w fields"),
    call("get a --rev=2"),
    call("get a --rev=999"),
    call("get a c"),
    call("get --prefix ''"),
    call("get --prefix '' --keys-only --limit=2"),
    call("get --from-key b --count-only -w fields"),
    call("get --prefix '' --order=DESCEND --sort-by=MODIFY"),
    call("get --prefix '' --sort-by=VERSION --order=DESCEND --limit=1"),
    call("get a --consistency=s"),
    txn("txn", "mod(\"a\") = \"3\"\n\nput d 4\nget d\n\nget a\n\n"),
    txn("txn", "value(\"a\") = \"9\"\n\nput d 5\n\nget a\ndel b\n\n"),
    txn("txn", "\nput d 5\nput d 6\n\n\n"),
    call("del d --prev-kv"),
    call("del d"),
    call("put k1 x"),
    call("put k2 y"),
    call("del --prefix k"),
    call("lease list"),
    call("lease revoke 1234"),
    call("lease timetolive 1234"),
    call("lease keep-alive --once 1234"),
    call("lease grant 99999999999"),
    call("compaction 4"),
    call("compaction 4"),
    call("compaction 9999"),
    call("get a --rev=3"),
    call("get a --rev=4"),
    call("endpoint health -w fields"),
    call("alarm list"),
    call("alarm disarm"),
    call("defrag"),
    call("endpoint health"),
    call("move-leader 1"),
    call("check nothing"),
    call("get"),
    call("member list -w fields"),
    call("endpoint hashkv"),
    call("endpoint hashkv --rev=5"),
    call("endpoint hashkv --rev=99999"),
    call("endpoint hashkv --rev=2"),
    call("lock mutex echo locked"),
    call("get --prefix mutex"),
    call("lock mutex --ttl=5 false"),
    call("version"),
    call("endpoint status -w fields"),
    call("endpoint health --cluster"),
    call("put e 1 --lease=zz"),
    call("put"),
    call("put -- -dash 1"),
    call("get -- -dash"),
    txn("put piped", "from standard input"),
    call("get piped"),
    call("get piped --print-value-only"),
    call("get piped --hex"),
    call("get a z --limit=2 -w json"),
    call("get a z --sort-by=CREATE --order=DESCEND"),
    call("get a z --sort-by=VALUE"),
    call("get a z --sort-by=NOTHING"),
    call("get --prefix '' --from-key"),
    call("del a c --prev-kv -w fields"),
    call("del --from-key zzz"),
    call("lease grant x"),
    call("lease revoke zz"),
    call("lease timetolive 1234 --keys"),
    txn("txn", "create(\"nothing\") = \"0\"\n\nput new 1\n\n\n"),
    txn("txn", "ver(\"new\") > \"0\"\n\nget new\ndel new\n\n\n"),
    txn("txn", "nonsense\n\n\n\n"),
    txn("txn -w json", "val(\"new\") = \"1\"\n\nget new\n\nget new\n\n"),
    txn("txn --interactive", "mod(\"a\") > \"0\"\n\nget a\n\nget b\n\n"),
    call("compaction 10 --physical"),
    call("compaction x"),
    call("compaction"),
    call("nonsense"),
    call("auth status"),
    call("endpoint nonsense"),
];

/// The answer of one call: exit code, output, errors, with what may differ masked.
fn answer(endpoint: &str, call: &Call) -> String {
    let words = call.arguments.split(' ').map(|word| if word == "''" { "" } else { word });
    let mut child = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", endpoint])
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
    for call in CALLS {
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

/// etcdctl at `endpoint`, to run until the test is done with it.
fn etcdctl(endpoint: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", endpoint]).args(arguments);
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
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &member.endpoint()]);
        assert!(command.args(["put", key, value]).status().unwrap().success());
    };
    put("a", "1");
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", &member.endpoint()]);
    command.args(["watch", "--prefix", "a", "--rev=1", "--prev-kv"]);
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
