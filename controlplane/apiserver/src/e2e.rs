//! The whole server over TLS on a real etcd, asked the way clients ask.
//!
//! Owns: a small client with a certificate, a token or neither. A newcomer's trap: every test has
//! its own store, server and folder, so none can see another's objects.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::pki::{KeyCert, Pki, PkiOptions};
use crate::testing::Etcd;
use crate::tls::client_config;
use crate::{ApiServer, Config, StartError};

struct Cluster {
    etcd: Etcd,
    folder: tempfile::TempDir,
    server: ApiServer,
}

fn config(etcd: &Etcd, folder: &tempfile::TempDir) -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        advertise_address: Some([192, 0, 2, 1].into()),
        etcd_endpoints: vec![etcd.endpoint().to_owned()],
        pki_dir: folder.path().join("pki"),
        ..Config::default()
    }
}

impl Cluster {
    async fn start(adjust: impl FnOnce(&mut Config)) -> Self {
        let etcd = Etcd::start().await;
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&etcd, &folder);
        adjust(&mut config);
        let server = ApiServer::start(config).await.unwrap();
        let cluster = Self { etcd, folder, server };
        Self::wait_ready(&cluster.server).await;
        cluster
    }

    async fn wait_ready(server: &ApiServer) {
        for _ in 0..300 {
            if Client::new(server, None).get("/readyz").await.0 == 200 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not ready within 15 s");
    }

    fn client(&self, user: &str, group: Option<&str>) -> Client {
        let pair = self.server.pki().client(user, group).unwrap();
        Client::new(&self.server, Some(&pair))
    }

    fn admin(&self) -> Client {
        self.client("kubernetes-admin", Some("system:masters"))
    }

    fn stranger(&self) -> Client {
        Client::new(&self.server, None)
    }
}

struct Client {
    address: SocketAddr,
    tls: TlsConnector,
    token: Option<String>,
}

impl Client {
    fn new(server: &ApiServer, pair: Option<&KeyCert>) -> Self {
        let config = client_config(server.pki().ca_pem(), pair).unwrap();
        let tls = TlsConnector::from(Arc::new(config));
        Self { address: server.local_addr(), tls, token: None }
    }

    fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    async fn open(&self, method: &str, target: &str, body: Option<&Value>) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::IpAddress(self.address.ip().into());
        let stream = self.tls.connect(name, stream).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        kijabi_base::tasks::spawn("test-connection", connection);
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, "kubernetes")
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let bytes = body.map(|body| body.to_string()).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(bytes))).unwrap();
        sender.send_request(request).await.unwrap()
    }

    async fn send(&self, method: &str, target: &str, body: Option<&Value>) -> (u16, Value) {
        let response = self.open(method, target, body).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| text()))
    }

    async fn get(&self, target: &str) -> (u16, Value) {
        self.send("GET", target, None).await
    }

    async fn post(&self, target: &str, body: Value) -> (u16, Value) {
        self.send("POST", target, Some(&body)).await
    }

    /// Asks until the answer is as wanted.
    async fn get_until(&self, target: &str, wanted: impl Fn(&(u16, Value)) -> bool) -> Value {
        let mut last = (0, Value::Null);
        for _ in 0..300 {
            last = self.get(target).await;
            if wanted(&last) {
                return last.1;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{target} is not as wanted within 15 s, but {last:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_or_a_foreign_certificate_sees_health_only() {
    let cluster = Cluster::start(|_| {}).await;
    let foreign_folder = tempfile::tempdir().unwrap();
    let foreign = Pki::ensure(foreign_folder.path(), &PkiOptions::default()).unwrap();
    let pair = foreign.client("kubernetes-admin", Some("system:masters")).unwrap();
    let foreign = Client::new(&cluster.server, Some(&pair));

    assert_eq!(cluster.admin().get("/api/v1/namespaces").await.0, 200);
    let (code, status) = cluster.stranger().get("/api/v1/namespaces").await;
    assert_eq!((code, &status["message"]), (401, &json!("Unauthorized")));
    assert_eq!(foreign.get("/api/v1/namespaces").await.0, 401);
    let nonsense = cluster.stranger().with_token("nonsense");
    assert_eq!(nonsense.get("/api/v1/namespaces").await.0, 401);
    for open in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(cluster.stranger().get(open).await.0, 200, "{open}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_anonymous_access_strangers_are_known_but_may_do_nothing() {
    let cluster = Cluster::start(|config| config.anonymous_auth = true).await;
    let (code, status) = cluster.stranger().get("/api/v1/namespaces").await;
    assert_eq!(
        (code, status["message"].as_str().unwrap()),
        (
            403,
            r#"namespaces is forbidden: User "system:anonymous" cannot list resource "namespaces" in API group "" at the cluster scope"#
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_cluster_gets_its_own_objects() {
    let cluster = Cluster::start(|_| {}).await;
    let admin = cluster.admin();
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        assert_eq!(admin.get(&format!("/api/v1/namespaces/{name}")).await.0, 200, "{name}");
    }
    let (_, service) = admin.get("/api/v1/namespaces/default/services/kubernetes").await;
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
    let endpoints = "/api/v1/namespaces/default/endpoints/kubernetes";
    let endpoints = admin.get_until(endpoints, |(code, _)| *code == 200).await;
    assert_eq!(endpoints["subsets"][0]["addresses"], json!([{"ip": "192.0.2.1"}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_are_refused_clearly() {
    let cluster = Cluster::start(|_| {}).await;
    let admin = cluster.admin();
    for target in [
        "/api/v1/namespaces/../pods",
        "/api/v1/namespaces/%2e%2e/pods",
        "/api/v1/namespaces/a%2fb/pods",
        "/api/v1//pods",
    ] {
        let (code, status) = admin.get(target).await;
        assert_eq!((code, &status["reason"]), (400, &json!("BadRequest")), "{target}");
    }
    let maps = "/api/v1/namespaces/default/configmaps";
    let large = json!({"metadata": {"name": "x"}, "data": {"k": "v".repeat(3 << 20)}});
    let (code, status) = admin.post(maps, large).await;
    assert_eq!((code, &status["reason"]), (413, &json!("RequestEntityTooLarge")));
    let (code, status) = admin.send("HEAD", "/version", None).await;
    assert_eq!((code, status), (200, json!("")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_speaks_for_its_account_until_the_account_goes() {
    let cluster = Cluster::start(|_| {}).await;
    let admin = cluster.admin();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    admin.post(accounts, json!({"metadata": {"name": "robot"}})).await;
    let ask = json!({"spec": {"expirationSeconds": 600}});
    let (code, answer) = admin.post(&format!("{accounts}/robot/token"), ask).await;
    assert_eq!(code, 201, "{answer}");
    let robot = cluster.stranger().with_token(answer["status"]["token"].as_str().unwrap());
    let (code, status) = robot.get("/api/v1/nodes").await;
    assert_eq!(
        (code, status["message"].as_str().unwrap()),
        (
            403,
            r#"nodes is forbidden: User "system:serviceaccount:default:robot" cannot list resource "nodes" in API group "" at the cluster scope"#
        )
    );
    assert_eq!(robot.get("/api").await.0, 200);
    admin.send("DELETE", &format!("{accounts}/robot"), None).await;
    robot.get_until("/api", |(code, _)| *code == 401).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_agent_changes_its_own_node_only() {
    let cluster = Cluster::start(|_| {}).await;
    let agent = cluster.client("system:node:w1", Some("system:nodes"));
    let nodes = "/api/v1/nodes";
    let (code, own) = agent.post(nodes, json!({"metadata": {"name": "w1"}})).await;
    assert_eq!(code, 201, "{own}");
    assert_eq!(own["spec"]["taints"][0]["key"], "node.kubernetes.io/not-ready");
    let (code, status) = agent.post(nodes, json!({"metadata": {"name": "w2"}})).await;
    assert_eq!(
        (code, status["message"].as_str().unwrap()),
        (403, r#"nodes "w2" is forbidden: node "w1" is not allowed to modify node "w2""#)
    );
    assert_eq!(agent.get("/api/v1/pods").await.0, 403);
    let own_pods = "/api/v1/pods?fieldSelector=spec.nodeName%3Dw1";
    assert_eq!(agent.get(own_pods).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_share_one_store() {
    let cluster = Cluster::start(|_| {}).await;
    let other = ApiServer::start(Config {
        advertise_address: Some([192, 0, 2, 2].into()),
        ..config(&cluster.etcd, &cluster.folder)
    })
    .await
    .unwrap();
    Cluster::wait_ready(&other).await;
    let admin = cluster.admin();
    let pair = other.pki().client("kubernetes-admin", Some("system:masters")).unwrap();
    let elsewhere = Client::new(&other, Some(&pair));
    let services = "/api/v1/namespaces/default/services";
    let mut addresses = std::collections::BTreeSet::new();
    for n in 0..10 {
        let service =
            |name: String| json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
        let (one, two) = tokio::join!(
            admin.post(services, service(format!("a{n}"))),
            elsewhere.post(services, service(format!("b{n}"))),
        );
        for (code, made) in [one, two] {
            assert_eq!(code, 201, "{made}");
            addresses.insert(made["spec"]["clusterIP"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(addresses.len(), 20, "{addresses:?}");
    let endpoints = "/api/v1/namespaces/default/endpoints/kubernetes";
    let both = json!([{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}]);
    admin.get_until(endpoints, |(_, one)| one["subsets"][0]["addresses"] == both).await;
    other.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_one_clear_error() {
    let cluster = Cluster::start(|_| {}).await;
    let taken = cluster.server.local_addr();
    let folder = tempfile::tempdir().unwrap();
    let again = Config { listen: taken, ..config(&cluster.etcd, &folder) };
    let error = ApiServer::start(again).await.unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }));
    let text = error.to_string();
    assert!(text.starts_with(&format!("listen {taken}: Address already in use")), "{text}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_watches_and_frees_the_port() {
    let cluster = Cluster::start(|_| {}).await;
    let watch = cluster.admin().open("GET", "/api/v1/namespaces?watch=1", None).await;
    assert_eq!(watch.status(), 200);
    let address = cluster.server.local_addr();
    cluster.server.shutdown().await;
    let rest = tokio::time::timeout(Duration::from_secs(10), watch.into_body().collect()).await;
    assert!(rest.is_ok(), "the watch is still open");
    tokio::net::TcpListener::bind(address).await.unwrap();
}

/// A node agent that answers every path with the path, or refuses as a real one would.
async fn fake_agent(pki: &Pki, refuse: bool) -> SocketAddr {
    use rustls::pki_types::pem::PemObject as _;
    let pair = pki.node_serving("w1", &[[127, 0, 0, 1].into()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = rustls::pki_types::CertificateDer::pem_slice_iter(pair.cert_pem.as_bytes());
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    kijabi_base::tasks::spawn("fake-agent", async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let service =
                hyper::service::service_fn(move |request: Request<Incoming>| async move {
                    let (code, text) = if refuse {
                        (
                            400,
                            "container \"c\" in pod \"p\" is waiting to start: ContainerCreating\n"
                                .into(),
                        )
                    } else {
                        (200, request.uri().to_string())
                    };
                    let response =
                        Response::builder().status(code).body(Full::new(Bytes::from(text)));
                    Ok::<_, std::convert::Infallible>(response.unwrap())
                });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    });
    address
}

async fn pod_on(cluster: &Cluster, agent: SocketAddr) {
    let admin = cluster.admin();
    let node = json!({"metadata": {"name": "w1"}});
    assert_eq!(admin.post("/api/v1/nodes", node).await.0, 201);
    let (_, mut node) = admin.get("/api/v1/nodes/w1").await;
    node["status"]["addresses"] = json!([{"type": "InternalIP", "address": "127.0.0.1"}]);
    node["status"]["daemonEndpoints"] = json!({"kubeletEndpoint": {"Port": agent.port()}});
    assert_eq!(admin.send("PUT", "/api/v1/nodes/w1/status", Some(&node)).await.0, 200);
    admin
        .post(
            "/api/v1/namespaces/default/serviceaccounts",
            json!({"metadata": {"name": "default"}}),
        )
        .await;
    let spec = json!({"nodeName": "w1", "containers": [{"name": "c", "image": "i"}]});
    let pod = json!({"metadata": {"name": "p"}, "spec": spec});
    let (code, made) = admin.post("/api/v1/namespaces/default/pods", pod).await;
    assert_eq!(code, 201, "{made}");
}

const LOG: &str = "/api/v1/namespaces/default/pods/p/log";

#[tokio::test(flavor = "multi_thread")]
async fn a_log_comes_from_the_agent_of_the_pods_node() {
    let cluster = Cluster::start(|config| config.allow_loopback_nodes = true).await;
    let agent = fake_agent(cluster.server.pki(), false).await;
    pod_on(&cluster, agent).await;
    let (code, text) = cluster.admin().get(&format!("{LOG}?follow=true&x=1")).await;
    assert_eq!((code, text), (200, json!("/containerLogs/default/p/c?follow=true")));
    let (code, status) = cluster.admin().get(&format!("{LOG}?container=z")).await;
    assert_eq!((code, &status["message"]), (400, &json!("container z is not valid for pod p")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_refusal_is_passed_on_as_a_status() {
    let cluster = Cluster::start(|config| config.allow_loopback_nodes = true).await;
    let agent = fake_agent(cluster.server.pki(), true).await;
    pod_on(&cluster, agent).await;
    let (code, status) = cluster.admin().get(LOG).await;
    let text = r#"container "c" in pod "p" is waiting to start: ContainerCreating"#;
    assert_eq!(
        (code, &status["message"], &status["reason"]),
        (400, &json!(text), &json!("BadRequest"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_cannot_turn_the_server_against_itself() {
    let cluster = Cluster::start(|_| {}).await;
    let agent = fake_agent(cluster.server.pki(), false).await;
    pod_on(&cluster, agent).await;
    let (code, status) = cluster.admin().get(LOG).await;
    assert_eq!(code, 500);
    assert!(status["message"].as_str().unwrap().ends_with("address not allowed"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_a_foreign_certificate_is_not_asked() {
    let cluster = Cluster::start(|config| config.allow_loopback_nodes = true).await;
    let folder = tempfile::tempdir().unwrap();
    let foreign = Pki::ensure(folder.path(), &PkiOptions::default()).unwrap();
    let agent = fake_agent(&foreign, false).await;
    pod_on(&cluster, agent).await;
    let (code, status) = cluster.admin().get(LOG).await;
    assert_eq!(code, 500, "{status}");
    assert!(status["message"].as_str().unwrap().contains("tls: "), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn anyone_may_ask_who_he_is_and_what_he_may() {
    let cluster = Cluster::start(|_| {}).await;
    let alice = cluster.client("alice", Some("devs"));
    let (code, me) =
        alice.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", json!({})).await;
    assert_eq!(code, 201, "{me}");
    let me = &me["status"]["userInfo"];
    assert_eq!(me["username"], "alice");
    assert_eq!(me["groups"], json!(["devs", "system:authenticated"]));
    let shown = &me["extra"]["authentication.kubernetes.io/credential-id"][0];
    assert!(shown.as_str().unwrap().starts_with("X509SHA256="), "{me}");

    let own = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let pods = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    assert_eq!(alice.post(own, pods.clone()).await.1["status"], json!({"allowed": false}));
    assert_eq!(cluster.admin().post(own, pods).await.1["status"], json!({"allowed": true}));
    let path = json!({"spec": {"nonResourceAttributes": {"verb": "get", "path": "/version"}}});
    assert_eq!(alice.post(own, path).await.1["status"], json!({"allowed": true}));
    let (code, status) = alice.post(own, json!({"spec": {}})).await;
    assert_eq!(code, 422, "{status}");

    let rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let (code, all) = alice.post(rules, json!({"spec": {"namespace": "g"}})).await;
    assert_eq!((code, &all["status"]["incomplete"]), (201, &json!(false)));
    let first = &all["status"]["resourceRules"][0]["resources"];
    assert_eq!(*first, json!(["selfsubjectreviews"]));

    let others = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let scheduler = json!({"spec": {"user": "system:kube-scheduler", "resourceAttributes":
        {"verb": "create", "resource": "pods", "subresource": "binding", "namespace": "g"}}});
    assert_eq!(alice.post(others, scheduler.clone()).await.0, 403);
    let (_, answer) = cluster.admin().post(others, scheduler).await;
    assert_eq!(answer["status"], json!({"allowed": true}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_judged_for_the_audience_that_asks() {
    let cluster = Cluster::start(|_| {}).await;
    let admin = cluster.admin();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    admin.post(accounts, json!({"metadata": {"name": "robot"}})).await;
    let ask = json!({"spec": {"audiences": ["vault"]}});
    let (_, answer) = admin.post(&format!("{accounts}/robot/token"), ask).await;
    let token = answer["status"]["token"].as_str().unwrap();
    assert_eq!(cluster.stranger().with_token(token).get("/api").await.0, 401);
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let review = |audience: &str| json!({"spec": {"token": token, "audiences": [audience]}});
    let (_, good) = admin.post(reviews, review("vault")).await;
    assert_eq!(good["status"]["user"]["username"], "system:serviceaccount:default:robot");
    let (_, bad) = admin.post(reviews, review("other")).await;
    assert_eq!(bad["status"], json!({"user": {}, "error": "invalid bearer token"}));
}
