//! The command line as scripts around etcd write it.

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

#[test]
fn flags_have_all_of_gos_forms_and_win_over_the_environment() {
    let expected = "from-flag";
    for args in [
        &["--name=from-flag"][..],
        &["--name", "from-flag"],
        &["-name", "from-flag"],
        &["-name=from-flag"],
        &["--name=other", "--name=from-flag"],
    ] {
        let config = run(args, &[("ETCD_NAME", "from-env")]).unwrap();
        assert_eq!(config.name, expected, "{args:?}");
        assert_eq!(config.data_dir, PathBuf::from("from-flag.etcd"));
    }
    assert_eq!(run(&[], &[("ETCD_NAME", "from-env")]).unwrap().name, "from-env");
    assert_eq!(run(&[], &[("ETCD_UNSUPPORTED_ARCH", "arm64")]).unwrap().name, "default");
}

#[test]
fn wrong_command_lines_are_one_clear_line() {
    for (args, expected) in [
        (&["--bogus"][..], "flag provided but not defined: -bogus"),
        (&["-bogus=1"], "flag provided but not defined: -bogus"),
        (&["--name"], "flag needs an argument: -name"),
        (&["name"], "\"name\" is not a valid flag"),
        (&["---name=a"], "bad flag syntax: ---name=a"),
        (
            &["--heartbeat-interval=soon"],
            "invalid value \"soon\" for flag -heartbeat-interval: parse error",
        ),
        (&["--cert-file=a.pem"], "flag -cert-file is not supported yet"),
        (&["--discovery=a"], "flag -discovery is not supported yet"),
        (
            &["--experimental-corrupt-check-time=1m"],
            "flag -experimental-corrupt-check-time is not supported yet",
        ),
        (
            &["--initial-cluster-state=other"],
            "invalid value \"other\" for flag -initial-cluster-state: expected new or existing",
        ),
        (
            &["--initial-cluster=a=http://a:1,b=http://b:1"],
            "--initial-cluster with more than one member is not supported yet",
        ),
        (
            &["--listen-client-urls=ftp://a:1"],
            "invalid value \"ftp://a:1\" for flag -listen-client-urls: URL scheme must be http, https, unix, or unixs: ftp://a:1",
        ),
        (
            &["--heartbeat-interval=500"],
            "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[500ms]",
        ),
        (
            &["--config-file=/nonexistent"],
            "error verifying flags, /nonexistent: No such file or directory (os error 2)",
        ),
    ] {
        assert_eq!(run(args, &[]).unwrap_err(), expected, "{args:?}");
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
fn flags_that_ask_for_nothing_new_are_accepted() {
    let args =
        ["--logger=zap", "--client-cert-auth=false", "--pre-vote", "--strict-reconfig-check"];
    run(&args, &[]).unwrap();
}

#[test]
fn the_configuration_file_replaces_flags_and_environment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("etcd.yaml");
    std::fs::write(
        &path,
        "name: from-file\ndata-dir: /data\nheartbeat-interval: 50\nwatch-progress-notify-interval: 5000000000\n",
    )
    .unwrap();
    let flag = format!("--config-file={}", path.display());
    let config = run(&[&flag, "--name=ignored"], &[("ETCD_MAX_TXN_OPS", "7")]).unwrap();
    assert_eq!((config.name.as_str(), config.max_txn_ops), ("from-file", 128));
    assert_eq!(config.heartbeat_interval, Duration::from_millis(50));
    assert_eq!(config.watch_progress_interval, Duration::from_secs(5));
    std::fs::write(&path, "a: [b").unwrap();
    assert!(run(&[&flag], &[]).unwrap_err().starts_with("error verifying flags, "));
}

#[test]
fn version_and_help_are_known() {
    assert!(matches!(parse(["--version".to_owned()], []), Ok(Parsed::Version)));
    assert!(matches!(parse(["-h".to_owned()], []), Ok(Parsed::Help)));
    assert!(VERSION_TEXT.starts_with("etcd Version: 3.6.14\n"));
}
