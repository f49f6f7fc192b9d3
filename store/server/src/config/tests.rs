//! The command line as scripts around etcd write it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use super::table::{Effect, GROUPS, all};
use super::*;

fn run(args: &[&str], env: &[(&str, &str)]) -> Result<Config, String> {
    let args = args.iter().map(|arg| (*arg).to_owned());
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    match parse(args, env) {
        Ok(Parsed::Run(config)) => Ok(*config),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

/// The configuration from a file with this text.
fn from_file(text: &str) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("etcd.yaml");
    std::fs::write(&path, text).unwrap();
    let flag = format!("--config-file={}", path.display());
    run(&[&flag, "--name=ignored"], &[("ETCD_MAX_TXN_OPS", "7")])
        .map_err(|error| error.replace(path.to_str().unwrap(), "FILE"))
}

#[test]
fn flags_have_all_of_gos_forms() {
    let expected = "from-flag";
    for args in [
        &["--name=from-flag"][..],
        &["--name", "from-flag"],
        &["-name", "from-flag"],
        &["-name=from-flag"],
        &["--name=other", "--name=from-flag"],
        &["--name=from-flag", "--"],
    ] {
        let config = run(args, &[]).unwrap();
        assert_eq!(config.name, expected, "{args:?}");
        assert_eq!(config.data_dir, PathBuf::from("from-flag.etcd"));
    }
    assert!(!run(&["--pre-vote=false"], &[]).unwrap().pre_vote);
    assert!(run(&["--force-new-cluster", "--pre-vote"], &[]).unwrap().force_new_cluster);
}

#[test]
fn variables_are_read_and_may_not_contradict_flags() {
    let config = run(&[], &[("ETCD_NAME", "from-env"), ("ETCD_CORS", "")]).unwrap();
    assert_eq!(config.name, "from-env");
    let used = "recognized and used environment variable";
    assert!(config.notices.iter().any(|n| n.message == used && !n.is_warning));
    let config =
        run(&[], &[("ETCD_NONSENSE", "1"), ("OTHER", "2"), ("ETCD_VERSION", "v3")]).unwrap();
    let odd: Vec<_> = config
        .notices
        .iter()
        .filter(|n| n.message == "unrecognized environment variable")
        .collect();
    assert_eq!(odd.len(), 1);
    assert_eq!(odd[0].fields, [("environment-variable", "ETCD_NONSENSE=1".to_owned())]);
    for value in ["a", ""] {
        let error = run(&["--name=a"], &[("ETCD_NAME", value)]).unwrap_err();
        assert!(
            error.starts_with("conflicting environment variable \"ETCD_NAME\" is shadowed"),
            "{error}"
        );
    }
    let error = run(&[], &[("ETCD_MAX_TXN_OPS", "many")]).unwrap_err();
    assert_eq!(error, "invalid value \"many\" for ETCD_MAX_TXN_OPS: parse error");
}

/// Command lines and what is said of them.
const WRONG: &[(&[&str], &str)] = &[
    (&["--bogus"], "flag provided but not defined: -bogus"),
    (&["-bogus=1"], "flag provided but not defined: -bogus"),
    (&["--name"], "flag needs an argument: -name"),
    (&["name"], "\"name\" is not a valid flag"),
    (&["--", "name"], "\"name\" is not a valid flag"),
    (&["---name=a"], "bad flag syntax: ---name=a"),
    (
        &["--heartbeat-interval=soon"],
        "invalid value \"soon\" for flag -heartbeat-interval: parse error",
    ),
    (&["--max-txn-ops=-1"], "invalid value \"-1\" for flag -max-txn-ops: parse error"),
    (
        &["--max-concurrent-streams=4294967296"],
        "invalid value \"4294967296\" for flag -max-concurrent-streams: value out of range",
    ),
    (&["--pre-vote=x"], "invalid boolean value \"x\" for -pre-vote: parse error"),
    (&["--corrupt-check-time=5"], "invalid value \"5\" for flag -corrupt-check-time: parse error"),
    (
        &["--initial-cluster-state=other"],
        "invalid value \"other\" for flag -initial-cluster-state: invalid value",
    ),
    (
        &["--listen-client-urls=ftp://a:1"],
        "invalid value \"ftp://a:1\" for flag -listen-client-urls: URL scheme must be http, https, unix, or unixs: ftp://a:1",
    ),
    (
        &["--listen-client-urls=http://127.0.0.1:1"],
        "--advertise-client-urls is required when --listen-client-urls is set explicitly",
    ),
    (
        &["--listen-peer-urls=http://example.com:1"],
        "expected IP in URL for binding (http://example.com:1)",
    ),
    (
        &["--advertise-client-urls=http://:1"],
        "--advertise-client-urls \"http://:1\" must be \"host:port\" (unexpected empty host (http://:1))",
    ),
    (
        &["--heartbeat-interval=500"],
        "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[500ms]",
    ),
    (&["--heartbeat-interval=0"], "--heartbeat-interval must be >0 (set to 0ms)"),
    (
        &["--election-timeout=50001"],
        "--election-timeout[50001ms] is too long, and should be set less than 50000ms",
    ),
    (
        &["--auto-compaction-retention=-1"],
        "error parsing CompactionRetention: time: missing unit in duration \"-1\"",
    ),
    (
        &["--auto-compaction-retention=soon"],
        "error parsing CompactionRetention: time: invalid duration \"soon\"",
    ),
    (&["--auto-compaction-mode=never"], "unknown auto-compaction-mode \"never\""),
    (&["--compact-hash-check-time=0"], "--compact-hash-check-time must be >0 (set to 0s)"),
    (
        &["--corrupt-check-time=1m", "--experimental-corrupt-check-time=1m"],
        "cannot set --experimental-corrupt-check-time and --corrupt-check-time at the same time, please use --corrupt-check-time only",
    ),
    (
        &["--feature-gates=Nonsense=true"],
        "invalid value \"Nonsense=true\" for flag -feature-gates: unrecognized feature gate: Nonsense",
    ),
    (
        &["--feature-gates=LeaseCheckpointPersist=true"],
        "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
    ),
    (
        &["--log-level=loud"],
        "invalid value \"loud\" for flag -log-level: unrecognized level: \"loud\"",
    ),
    (&["--log-outputs=default,stderr"], "multi logoutput for \"default\" is not supported yet"),
    (
        &["--enable-log-rotation"],
        "--log-outputs requires a single file path when --log-rotate-config-json is defined",
    ),
    (
        &["--tls-min-version=TLS1.1"],
        "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)",
    ),
    (
        &["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
        "min version (TLS1.3) is greater than max version (TLS1.2)",
    ),
    (&["--cipher-suites=NONE"], "unexpected TLS cipher suite \"NONE\""),
    (&["--cert-file=a.pem"], "KeyFile and CertFile must both be present[key: , cert: a.pem]"),
    (
        &[
            "--listen-client-urls=https://127.0.0.1:1",
            "--advertise-client-urls=https://127.0.0.1:1",
        ],
        "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:1 with HTTPS scheme",
    ),
    (
        &["--discovery-srv=example.com"],
        "invalid value \"example.com\" for flag -discovery-srv: the first members are named by --initial-cluster; there is no discovery service",
    ),
    (
        &["--initial-cluster=a"],
        "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: ",
    ),
    (
        &["--config-file=/nonexistent"],
        "error verifying flags, /nonexistent: open /nonexistent: no such file or directory",
    ),
];

#[test]
fn wrong_command_lines_are_one_clear_line() {
    for (args, expected) in WRONG {
        assert_eq!(run(args, &[]).unwrap_err(), *expected, "{args:?}");
    }
}

/// A larger request could be written to the Raft log but not read back from it.
#[test]
fn requests_are_capped_at_half_of_what_a_log_frame_holds() {
    let cap = 32 << 20;
    assert!(2 * cap <= limits::LOG_FRAME_BYTES_MAX);
    let accepted = run(&[&format!("--max-request-bytes={cap}")], &[]).unwrap();
    assert_eq!(accepted.max_request_bytes, cap);
    for beyond in [cap + 1, usize::MAX / 2] {
        assert_eq!(
            run(&[&format!("--max-request-bytes={beyond}")], &[]).unwrap_err(),
            "--max-request-bytes must be at most 33554432"
        );
    }
}

#[test]
fn every_flag_takes_its_own_default_and_its_old_name() {
    for flag in all() {
        let default = match flag.name {
            "data-dir" | "config-file" => continue,
            // These two are shown as what nothing means.
            "backend-batch-interval" => "0s",
            "advertise-client-urls" => "http://localhost:2379",
            _ => flag.default,
        };
        let mut args = vec![format!("--{}={default}", flag.name)];
        if flag.name == "listen-client-urls" {
            args.push("--advertise-client-urls=http://localhost:2379".into());
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        run(&args, &[]).unwrap_or_else(|error| panic!("{args:?}: {error}"));
    }
    for (old, new) in table::OLD {
        let flag = table::find(new).unwrap_or_else(|| panic!("{old}: no {new}"));
        let config = run(&[&format!("--{old}={}", flag.default)], &[]).unwrap();
        assert!(config.notices.iter().any(|n| n.message.contains("is deprecated")), "{old}");
    }
    let config = run(&["--experimental-initial-corrupt-check", "--vv"], &[]).unwrap();
    assert!(config.feature_gates.initial_corrupt_check);
}

#[test]
fn settings_reach_the_configuration() {
    let config = run(
        &[
            "--auto-compaction-mode=revision",
            "--auto-compaction-retention=1000",
            "--quota-backend-bytes=-1",
            "--experimental-compaction-batch-limit=5",
            "--peer-cert-allowed-cn=a,b",
            "--log-outputs=stderr,stdout",
            "--metrics=extensive",
            "--tls-max-version=TLS1.2",
            "--cipher-suites=TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305,TLS_RSA_WITH_RC4_128_SHA",
        ],
        &[],
    )
    .unwrap();
    assert_eq!(config.auto_compaction, AutoCompaction::Revision(1000));
    assert_eq!((config.quota_bytes, config.compaction_batch_limit), (0, 5));
    assert_eq!(config.peer_tls.allowed_cns, ["a", "b"]);
    assert_eq!(config.log.outputs, ["stderr", "stdout"]);
    assert!(config.extensive_metrics);
    assert_eq!(config.tls.max_version, Some(TlsVersion::V12));
    let hours = run(&["--auto-compaction-retention=2"], &[]).unwrap().auto_compaction;
    assert_eq!(hours, AutoCompaction::Periodic(Duration::from_secs(7200)));
    let rotated =
        ["--log-outputs=/a", "--enable-log-rotation", "--log-rotation-config-json={\"maxsize\":1}"];
    assert_eq!(run(&rotated, &[]).unwrap().log.rotation.unwrap().max_megabytes, 1);
}

#[test]
fn the_configuration_file_replaces_flags_and_environment() {
    let config = from_file(
        "name: from-file\ndata-dir: /data\nheartbeat-interval: 50\nwatch-progress-notify-interval: 5000000000\n\
         grpc-keepalive-interval: 1m\nlisten-client-urls: http://127.0.0.1:1\nlog-outputs: [stderr]\nnonsense: {a: 1}\n\
         peer-transport-security:\n  cert-file: c\n  key-file: k\n  client-cert-auth: true\n  allowed-cn: [x]\n\
         discovery-config: {client: {dial-timeout: 1000}}\nsocket-options: {reuse-port: true}\n",
    )
    .unwrap();
    assert_eq!((config.name.as_str(), config.max_txn_ops), ("from-file", 128));
    assert_eq!(config.heartbeat_interval, Duration::from_millis(50));
    assert_eq!(config.watch_progress_interval, Duration::from_secs(5));
    assert_eq!(config.keep_alive.interval, Duration::from_secs(60));
    assert_eq!(config.peer_tls.allowed_cns, ["x"]);
    assert!(config.peer_tls.client_cert_auth && config.socket.reuse_port);
    assert!(config.notices.iter().any(|n| n.fields == [("key", "nonsense".to_owned())]));
    assert_eq!(from_file("# nothing\n").unwrap().name, "default");
}

#[test]
fn wrong_configuration_files_are_one_clear_line() {
    let mut bomb = "a: &a0 [x, x, x, x]\n".to_owned();
    for at in 1..40 {
        let before = format!("*a{}, ", at - 1).repeat(8);
        let _ = writeln!(bomb, "b{at}: &a{at} [{before}x]");
    }
    for text in ["a: [b", "name: [{a: b}]", "max-txn-ops: -1", "peer-transport-security: 1", &bomb]
    {
        let error = from_file(text).unwrap_err();
        assert!(error.starts_with("error verifying flags, FILE: "), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn the_flags_of_kubeadm_are_taken() {
    let args = "--name=a --feature-gates=InitialCorruptCheck=true --listen-client-urls=https://127.0.0.1:2379,https://10.0.0.1:2379 \
        --advertise-client-urls=https://10.0.0.1:2379 --listen-peer-urls=https://10.0.0.1:2380 \
        --initial-advertise-peer-urls=https://10.0.0.1:2380 --data-dir=/var/lib/etcd --cert-file=/a --key-file=/b \
        --trusted-ca-file=/c --client-cert-auth=true --peer-cert-file=/d --peer-key-file=/e --peer-trusted-ca-file=/f \
        --peer-client-cert-auth=true --snapshot-count=10000 --listen-metrics-urls=http://127.0.0.1:2381 \
        --watch-progress-notify-interval=5s --initial-cluster=a=https://10.0.0.1:2380 --initial-cluster-state=existing";
    let args: Vec<&str> = args.split_whitespace().collect();
    let config = run(&args, &[]).unwrap();
    assert!(config.client_tls.client_cert_auth && config.initial_cluster_existing);
    assert_eq!(config.check_bootstrap(), Ok(()));
}

#[test]
fn version_and_help_are_known() {
    assert!(matches!(parse(["--version".to_owned()], []), Ok(Parsed::Version)));
    for flag in ["-h", "--help"] {
        assert!(matches!(parse([flag.to_owned()], []), Ok(Parsed::Help)));
    }
    assert!(VERSION_TEXT.starts_with("etcd Version: 3.6.14\n"));
    let help = help_text();
    for flag in all() {
        assert!(help.contains(&format!("  --{}", flag.name)), "{}", flag.name);
    }
}

#[test]
fn every_flag_without_effect_is_in_the_compatibility_page() {
    let page = include_str!("../../../../COMPATIBILITY.md");
    for (group, flags) in GROUPS {
        for flag in flags.iter().filter(|flag| flag.effect != Effect::Works) {
            assert!(page.contains(&format!("`--{}`", flag.name)), "{group}: --{}", flag.name);
        }
    }
}
