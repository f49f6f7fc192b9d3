//! Bad input: each gets the error Kubernetes gives, and the server goes on.

use std::net::TcpListener;
use std::process::Command;

use kijabi_tests::cluster::{Cluster, Options};
use kijabi_tests::curl::{Curl, Who};
use kijabi_tests::process;

const JSON: &str = "application/json";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

#[test]
fn the_api_server_answers_bad_input_and_goes_on() {
    let cluster = Cluster::start(&Options { hollow_nodes: 1, ..Options::default() });
    let kubectl = cluster.kubectl("1.36");
    let curl = Curl::new(&kubectl, cluster.scratch());
    bodies(&curl);
    paths(&curl);
    callers(&curl);
    let file = cluster.scratch().join("bad.yaml");
    std::fs::write(&file, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: [x\n").unwrap();
    let error = kubectl.fails(&format!("create -f {}", file.display()));
    assert!(error.contains("error converting YAML to JSON") || error.contains("yaml:"), "{error}");
    std::fs::write(&file, "apiVersion: v1\nkind: Gadget\nmetadata:\n  name: x\n").unwrap();
    // Validation by the client would ask for CustomResourceDefinitions first.
    let error = kubectl.fails(&format!("create --validate=false -f {}", file.display()));
    assert!(error.contains("no matches for kind \"Gadget\" in version \"v1\""), "{error}");
    assert_eq!(curl.send(Who::Admin, "GET", "/readyz", None).body, "ok");
}

fn bodies(curl: &Curl) {
    let post = |path: &str, content_type: &str, body: &[u8]| {
        curl.send(Who::Admin, "POST", path, Some((content_type, body)))
    };
    let cases: [(&str, &str, &[u8], u16, &str); 8] = [
        (CONFIG_MAPS, JSON, b"{\"metadata\":", 400, "unexpected end of JSON input"),
        (CONFIG_MAPS, "application/yaml", b"metadata: [x\n", 400, "yaml"),
        (CONFIG_MAPS, "text/plain", b"x", 415, "the body of the request was in an unknown format"),
        (CONFIG_MAPS, JSON, br#"{"apiVersion":"v9","kind":"ConfigMap","metadata":{"name":"z"}}"#, 400, "no kind \"ConfigMap\" is registered for version \"v9\""),
        (CONFIG_MAPS, JSON, br#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"z"}}"#, 400, "Secret"),
        (CONFIG_MAPS, JSON, br#"{"metadata":{"name":"UPPER"}}"#, 422, "a lowercase RFC 1123 subdomain must consist of"),
        (DEPLOYMENTS, JSON, br#"{"metadata":{"name":"d"},"spec":{"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#, 422, "spec.selector: Required value"),
        ("/api/v1/namespaces/default/gadgets", JSON, b"{}", 404, "the server could not find the requested resource"),
    ];
    for (path, content_type, body, code, text) in cases {
        let reply = post(path, content_type, body);
        assert_eq!(reply.code, code, "{}", reply.body);
        let status = reply.json();
        assert_eq!(status["kind"], "Status");
        let message = status["message"].as_str().unwrap_or_default();
        assert!(message.contains(text), "{message:?} does not say {text:?}");
    }
    let large = format!(
        "{{\"metadata\":{{\"name\":\"l\"}},\"data\":{{\"k\":\"{}\"}}}}",
        "x".repeat(3 << 20)
    );
    let reply = post(CONFIG_MAPS, JSON, large.as_bytes());
    assert_eq!(reply.code, 413, "{}", &reply.body[..reply.body.len().min(300)]);
    // Answered before their bodies are read.
    for (who, path, code) in [
        (Who::Admin, "/api/v1/namespaces/default/gadgets", 404),
        (Who::Admin, "/apis/gadgets/v1/things", 404),
        (Who::Nobody, CONFIG_MAPS, 401),
    ] {
        let reply = curl.send(who, "POST", path, Some((JSON, large.as_bytes())));
        assert_eq!(reply.code, code, "{path}: {}", &reply.body[..reply.body.len().min(300)]);
    }
    let deep = format!(
        "{{\"metadata\":{{\"name\":\"n\"}},\"x\":{}{}}}",
        "[".repeat(10_001),
        "]".repeat(10_001)
    );
    for (content_type, body) in [(JSON, deep.clone()), ("application/yaml", deep)] {
        let reply = post(CONFIG_MAPS, content_type, body.as_bytes());
        assert_eq!(reply.code, 400, "{content_type}: {}", &reply.body[..reply.body.len().min(300)]);
    }
}

fn paths(curl: &Curl) {
    for path in [
        "/api/v1/namespaces/default/configmaps/..",
        "/api/v1/namespaces/../configmaps/x",
        "/api/v1/namespaces/default/configmaps/%2e%2e",
        "/api/v1/namespaces/default/configmaps/a%2fb",
        "/api/v1/namespaces/%2e%2e%2fkube-system/secrets/x",
    ] {
        let reply = curl.send(Who::Admin, "GET", path, None);
        assert!(reply.code == 400 || reply.code == 404, "{path}: {} {}", reply.code, reply.body);
        assert!(!reply.body.contains("\"items\""), "{path}: {}", reply.body);
    }
}

fn callers(curl: &Curl) {
    for who in [Who::Nobody, Who::Stranger] {
        let reply = curl.send(who, "GET", "/api/v1/namespaces", None);
        assert_eq!(reply.code, 401, "{who:?}: {}", reply.body);
        assert_eq!(reply.json()["reason"], "Unauthorized", "{who:?}");
    }
    assert_eq!(curl.send(Who::Nobody, "GET", "/livez", None).code, 200);
}

/// Runs `kijabi up`, which must refuse with one line and exit code 1.
fn refused(arguments: &[&str], says: &str) {
    let output = process::run(
        Command::new(process::kijabi())
            .args(["--log=error", "up", "--hollow=1", "--kubelet-port=0"])
            .args(arguments),
    );
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("kijabi: ")).collect();
    assert_eq!(lines.len(), 1, "one clear line: {text}");
    assert!(lines[0].contains(says), "{text}");
}

#[test]
fn what_stands_in_the_way_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = format!("--secure-port={}", taken.local_addr().unwrap().port());
    refused(&["--data-dir", &data, &port], "in use");

    let file = folder.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let below = file.join("data").display().to_string();
    refused(&["--data-dir", &below, "--secure-port=0"], "data folder");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "not a folder");

    let unknown = process::run(Command::new(process::kijabi()).args(["up", "--nonsense"]));
    assert_eq!(unknown.status.code(), Some(2));
    let unknown = process::run(Command::new(process::kijabi()).args(["store", "--nonsense"]));
    assert_eq!(unknown.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&unknown.stderr).lines().count(), 1);
}
