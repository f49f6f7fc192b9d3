//! `etcdctl check`, and watches that run a command or report progress.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use kijabi_tests::etcd::{Kind, Member};
use kijabi_tests::poll;
use kijabi_tests::process::{Program, succeed};

use crate::{etcdctl, printed};

/// `check perf` takes a minute whatever it finds; `check datascale` runs beside it.
#[test]
fn etcdctl_checks_what_a_member_bears() {
    let (member, large) = (Member::start(Kind::Ours), Member::start(Kind::Ours));
    let arguments = ["check", "perf", "--load=s", "--auto-compact", "--auto-defrag"];
    let mut command = etcdctl(&member.endpoint(), &arguments);
    let mut perf = Program::start(&mut command, &member.folder().join("perf"));
    let scale = ["--command-timeout=2m", "check", "datascale", "--load=s"];
    let scale = succeed(etcdctl(&large.endpoint(), &scale).arg("--auto-compact"));
    assert!(scale.contains("PASS: Approximate system memory used"), "{scale}");
    // How fast it was is a matter of the machine: etcdctl's exit code is, too.
    let _ = perf.wait(Duration::from_secs(180));
    let said = perf.output();
    for expected in ["Throughput ", "Slowest request took ", "Stddev "] {
        assert!(said.contains(expected), "{said}");
    }
    assert!(!said.contains("too many errors"), "{said}");
    // It cleans up behind itself.
    for member in [&member, &large] {
        let left =
            succeed(&mut etcdctl(&member.endpoint(), &["get", "", "--prefix", "--keys-only"]));
        assert_eq!(left, "");
    }
}

#[test]
fn etcdctl_runs_a_command_for_each_event() {
    let member = Member::start(Kind::Ours);
    let script =
        r#"echo "$ETCD_WATCH_REVISION $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE""#;
    let watch = ["watch", "a", "b", "--rev=2", "--", "sh", "-c", script];
    let put = |key: &str, value: &str| {
        succeed(&mut etcdctl(&member.endpoint(), &["put", key, value]));
    };
    put("a1", "one");
    let mut command = etcdctl(&member.endpoint(), &watch);
    let running = Program::start(&mut command, &member.folder().join("exec"));
    put("other", "x");
    put("a2", "two");
    succeed(&mut etcdctl(&member.endpoint(), &["del", "a1"]));
    printed(&running, "\"DELETE\" \"a1\" \"\"");
    let said = running.output();
    assert!(
        said.contains("\"PUT\" \"a1\" \"one\"") && said.contains("\"PUT\" \"a2\" \"two\""),
        "{said}"
    );
}

#[test]
fn etcdctl_asks_for_a_watchs_progress() {
    let member = Member::start(Kind::Ours);
    let out = member.folder().join("watch");
    let mut child = etcdctl(&member.endpoint(), &["watch", "-i"])
        .stdin(Stdio::piped())
        .stdout(std::fs::File::create(&out).unwrap())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"watch a\n").unwrap();
    succeed(&mut etcdctl(&member.endpoint(), &["put", "other", "x"]));
    // A request before the watch is there is not answered.
    poll::eventually("progress", Duration::from_secs(30), || {
        input.write_all(b"progress\n").unwrap();
        let said = std::fs::read_to_string(&out).unwrap();
        if said.contains("progress notify: 2\n") { Ok(()) } else { Err(said) }
    });
    child.kill().unwrap();
    child.wait().unwrap();
}
