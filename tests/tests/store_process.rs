//! The store as a process: its flags, environment, configuration file, exit codes, log and TLS, as
//! scripts around etcd and kubeadm use them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use kijabi_tests::poll;
use kijabi_tests::process::{self, Program, kijabi, succeed};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use serde_json::Value;

const START_LIMIT: Duration = Duration::from_secs(60);

/// `kijabi store` with these arguments and no `ETCD_*` of whoever runs the tests.
fn store(args: &[&str]) -> Command {
    let mut command = Command::new(kijabi());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ETCD_")) {
        command.env_remove(name);
    }
    command.arg("store").args(args);
    command
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn wait_until_ready(program: &Program) {
    poll::eventually("the member serves", START_LIMIT, || {
        let output = program.output();
        let ready = output.contains("ready to serve client requests");
        if ready { Ok(()) } else { Err(output) }
    });
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// E25: whoever gives settings that cannot work is told why in one line, and the exit code is 2.
#[test]
fn wrong_settings_are_one_line_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let taken = format!("http://{}", taken.local_addr().unwrap());
    let (data, free) = (dir.path().join("data"), format!("http://127.0.0.1:{}", free_port()));
    let data = format!("--data-dir={}", data.display());
    let client = format!("--listen-client-urls={free}");
    let advertised = format!("--advertise-client-urls={free}");
    let peer = format!("http://127.0.0.1:{}", free_port());
    let base = [
        data.as_str(),
        "--name=a",
        &client,
        &advertised,
        &format!("--listen-peer-urls={peer}"),
        &format!("--initial-advertise-peer-urls={peer}"),
    ];
    for (args, expected) in [
        (vec!["--nonsense".to_owned()], "flag provided but not defined: -nonsense"),
        (vec!["--auto-compaction-retention=-1".into()], "error parsing CompactionRetention"),
        (
            vec!["--initial-cluster-state=other".into()],
            "invalid value \"other\" for flag -initial-cluster-state",
        ),
        (
            vec![format!("--initial-cluster=a={peer},a=http://127.0.0.1:1")],
            "missing from --initial-advertise-peer-urls",
        ),
        (vec![format!("--initial-cluster=a={peer},b={peer}")], "has duplicate url"),
        (vec![format!("--initial-cluster=b={peer}")], "couldn't find local name \"a\""),
        (vec![format!("--listen-client-urls={taken}")], "address already in use"),
        (vec![format!("--listen-peer-urls={taken}")], "address already in use"),
        (
            vec!["--log-outputs=/nonexistent/folder/log".into()],
            "/nonexistent/folder/log: No such file",
        ),
        (vec!["--config-file=/nonexistent".into()], "no such file or directory"),
        (
            vec![format!("--listen-client-urls={}", free.replace("http", "https"))],
            "TLS key/cert (--cert-file, --key-file) must be provided",
        ),
    ] {
        let args: Vec<&str> = base.iter().copied().chain(args.iter().map(String::as_str)).collect();
        let output = process::run(&mut store(&args));
        let said = errors(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        let last = said.lines().next_back().unwrap_or_default();
        assert!(last.contains(expected), "{args:?}: {said}");
    }
    let conflict = process::run(store(&["--name=a"]).env("ETCD_NAME", "b"));
    assert_eq!(conflict.status.code(), Some(2));
    assert!(errors(&conflict).starts_with("conflicting environment variable \"ETCD_NAME\""));
    let version = succeed(&mut store(&["--version"]));
    assert!(version.starts_with("etcd Version: 3.6."), "{version}");
    assert!(succeed(&mut store(&["-h"])).contains("--listen-client-urls"));
}

/// Certificates in a folder.
struct Pki {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    fn new(folder: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(folder.join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder: folder.to_owned(), issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.folder.join(format!("{name}.crt")), cert.pem()).unwrap();
        fs::write(self.folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// The flags that kubeadm starts etcd with; then etcdctl with TLS, the probes, and the log.
#[test]
fn kubeadm_and_etcdctl_find_what_they_expect() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    for name in ["server", "peer", "client"] {
        pki.issue(name);
    }
    let (client, peer, metrics) = (free_port(), free_port(), free_port());
    let (client, peer) =
        (format!("https://127.0.0.1:{client}"), format!("https://127.0.0.1:{peer}"));
    let notify = dir.path().join("notify");
    let systemd = UnixDatagram::bind(&notify).unwrap();
    systemd.set_read_timeout(Some(START_LIMIT)).unwrap();
    let args = [
        "--name=node1".to_owned(),
        "--feature-gates=InitialCorruptCheck=true".into(),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--data-dir={}", dir.path().join("data").display()),
        format!("--cert-file={}", pki.file("server.crt")),
        format!("--key-file={}", pki.file("server.key")),
        format!("--trusted-ca-file={}", pki.file("ca.crt")),
        "--client-cert-auth=true".into(),
        format!("--peer-cert-file={}", pki.file("peer.crt")),
        format!("--peer-key-file={}", pki.file("peer.key")),
        format!("--peer-trusted-ca-file={}", pki.file("ca.crt")),
        "--peer-client-cert-auth=true".into(),
        "--snapshot-count=10000".into(),
        format!("--listen-metrics-urls=http://127.0.0.1:{metrics}"),
        "--watch-progress-notify-interval=5s".into(),
        format!("--initial-cluster=node1={peer}"),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut command = store(&args);
    let program = Program::start(command.env("NOTIFY_SOCKET", &notify), &dir.path().join("log"));
    wait_until_ready(&program);
    let mut told = [0; 16];
    let length = systemd.recv(&mut told).unwrap();
    assert_eq!(&told[..length], b"READY=1");

    let etcdctl = |pair: Option<&str>, args: &[&str]| {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &client, "--dial-timeout=5s"]);
        command.args(["--cacert", &pki.file("ca.crt")]);
        if let Some(name) = pair {
            let (cert, key) = (format!("{name}.crt"), format!("{name}.key"));
            command.args(["--cert", &pki.file(&cert), "--key", &pki.file(&key)]);
        }
        process::run(command.args(args))
    };
    assert!(etcdctl(Some("client"), &["put", "k", "v"]).status.success());
    let got = etcdctl(Some("client"), &["get", "k", "--print-value-only"]);
    assert_eq!(String::from_utf8_lossy(&got.stdout), "v\n", "{}", errors(&got));
    assert!(!etcdctl(None, &["get", "k"]).status.success(), "without a certificate");
    for path in ["/livez", "/readyz"] {
        let url = format!("http://127.0.0.1:{metrics}{path}");
        assert_eq!(succeed(Command::new("curl").args(["-sf", &url])), "ok\n");
    }

    for line in program.output().lines() {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for field in ["level", "ts", "caller", "msg"] {
            assert!(line[field].is_string(), "{line}");
        }
    }
}

/// A configuration file and nothing else; the log in two files, in columns.
#[test]
fn a_configuration_file_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let (client, peer) = (free_port(), free_port());
    let logs = [dir.path().join("a.log"), dir.path().join("b.log")];
    let text = format!(
        "name: from-file\ndata-dir: {}\nlisten-client-urls: http://127.0.0.1:{client}\n\
         advertise-client-urls: http://127.0.0.1:{client}\nlisten-peer-urls: http://127.0.0.1:{peer}\n\
         initial-advertise-peer-urls: http://127.0.0.1:{peer}\n\
         initial-cluster: from-file=http://127.0.0.1:{peer}\n\
         log-format: console\nlog-outputs: [{}, {}]\n",
        dir.path().join("data").display(),
        logs[0].display(),
        logs[1].display(),
    );
    let file = dir.path().join("etcd.yaml");
    fs::write(&file, text).unwrap();
    let mut command = store(&[]);
    command.env("ETCD_CONFIG_FILE", &file).env("ETCD_NAME", "ignored");
    let mut program = Program::start(&mut command, &dir.path().join("out"));
    let read = |path: &PathBuf| fs::read_to_string(path).unwrap_or_default();
    poll::eventually("the member serves", START_LIMIT, || {
        let log = read(&logs[0]);
        if log.contains("ready to serve client requests") { Ok(()) } else { Err(log) }
    });
    let output = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &format!("127.0.0.1:{client}"), "member", "list"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("from-file"), "{}", errors(&output));
    program.signal("TERM");
    assert_eq!(program.wait(START_LIMIT), Some(0));
    assert_eq!(read(&logs[0]), read(&logs[1]));
    assert!(read(&logs[0]).lines().all(|line| line.split('\t').count() >= 4));
    assert_eq!(program.output(), "");
}

/// Nothing but `ETCD_*`, as systemd units and containers start etcd.
#[test]
fn the_environment_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let client = format!("http://127.0.0.1:{}", free_port());
    let peer = format!("http://127.0.0.1:{}", free_port());
    let mut command = store(&[]);
    command
        .env("ETCD_NAME", "from-environment")
        .env("ETCD_DATA_DIR", dir.path().join("data"))
        .env("ETCD_LISTEN_CLIENT_URLS", &client)
        .env("ETCD_ADVERTISE_CLIENT_URLS", &client)
        .env("ETCD_LISTEN_PEER_URLS", &peer)
        .env("ETCD_INITIAL_ADVERTISE_PEER_URLS", &peer)
        .env("ETCD_INITIAL_CLUSTER", format!("from-environment={peer}"))
        .env("ETCD_MAX_TXN_OPS", "2")
        .env("ETCD_NOT_A_FLAG", "x");
    let mut program = Program::start(&mut command, &dir.path().join("log"));
    wait_until_ready(&program);
    let etcdctl = |args: &[&str]| {
        let mut command = Command::new("etcdctl");
        process::run(command.env("ETCDCTL_API", "3").args(["--endpoints", &client]).args(args))
    };
    let list = etcdctl(&["member", "list"]);
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.contains(&format!("started, from-environment, {peer}, {client}")), "{list}");
    let body = r#"{"success":[{"request_put":{"key":"YQ=="}},{"request_put":{"key":"Yg=="}},
                   {"request_put":{"key":"Yw=="}}]}"#;
    let url = format!("{client}/v3/kv/txn");
    let answer = succeed(Command::new("curl").args(["-s", "-d", body, &url]));
    assert!(answer.contains("too many operations in txn request"), "{answer}");
    let unknown = "unrecognized environment variable";
    assert!(program.output().contains(unknown), "{}", program.output());
    program.signal("TERM");
    assert_eq!(program.wait(START_LIMIT), Some(0));
}
