//! Services taking and giving back addresses and ports, on a real etcd.

use std::sync::Arc;

use kijabi_meta::kind;

use super::*;
use crate::admission::fixture::Fixture;
use crate::testing::Etcd;
use crate::user::User;

struct Setup {
    _etcd: Etcd,
    services: Services,
    user: User,
}

async fn setup(range: &str, ports: (u16, u16)) -> Setup {
    let etcd = Etcd::start().await;
    let services = Services::new(etcd.client(), range.parse().unwrap(), ports);
    Setup { _etcd: etcd, services, user: User::default() }
}

impl Setup {
    fn attributes<'a>(&'a self, name: &'a str, old: Option<&'a Value>) -> Attributes<'a> {
        Attributes {
            user: &self.user,
            operation: if old.is_some() { Operation::Update } else { Operation::Create },
            kind: kind::lookup("", "v1", "services").unwrap(),
            subresource: "",
            namespace: "g",
            name,
            old,
            dry_run: false,
        }
    }

    async fn create(&self, name: &str, spec: Value) -> Result<Value, String> {
        let mut service =
            json!({"kind": "services", "metadata": {"namespace": "g", "name": name}, "spec": spec});
        let attributes = self.attributes(name, None);
        let taken = self.services.reserve(&attributes, &mut service).await;
        taken.map_err(|error| error.to_string())?.commit().await;
        Ok(service)
    }
}

fn cluster_ip() -> Value {
    json!({"type": "ClusterIP", "ports": [{"port": 80}]})
}

#[tokio::test]
async fn each_service_gets_an_address_of_its_own_until_none_is_left() {
    let setup = setup("10.0.0.0/29", (30_000, 30_010)).await;
    let mut all = BTreeSet::new();
    for n in 0..6 {
        let service = setup.create(&format!("s{n}"), cluster_ip()).await.unwrap();
        all.insert(service["spec"]["clusterIP"].as_str().unwrap().to_owned());
    }
    assert_eq!(all.len(), 6, "{all:?}");
    assert!(!all.contains("10.0.0.0") && !all.contains("10.0.0.7"), "{all:?}");
    assert_eq!(
        setup.create("more", cluster_ip()).await.unwrap_err(),
        "Internal error occurred: failed to allocate a serviceIP: range is full"
    );
}

#[tokio::test]
async fn refusals_are_kubernetes_field_errors() {
    let setup = setup("10.0.0.0/24", (30_000, 30_010)).await;
    let at = |ip: &str| json!({"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip]});
    let port = |port: i64| json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    setup.create("one", at("10.0.0.9")).await.unwrap();
    setup.create("two", port(30_001)).await.unwrap();
    for (spec, text) in [
        (
            at("10.0.0.9"),
            r#"spec.clusterIPs: Invalid value: ["10.0.0.9"]: failed to allocate IP 10.0.0.9: provided IP is already allocated"#,
        ),
        (
            at("192.0.2.9"),
            r#"spec.clusterIPs: Invalid value: ["192.0.2.9"]: failed to allocate IP 192.0.2.9: the provided network does not match the current range"#,
        ),
        (
            port(30_001),
            "spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated",
        ),
        (
            port(80),
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-30010",
        ),
    ] {
        let error = setup.create("bad", spec).await.unwrap_err();
        assert_eq!(error, format!("Service \"bad\" is invalid: {text}"));
    }
    // What was taken on the way to a refusal is free again.
    assert_eq!(setup.services.addresses.claims().await.unwrap().len(), 2);
}

#[tokio::test]
async fn one_port_may_serve_two_protocols_of_one_service() {
    let setup = setup("10.0.0.0/24", (30_000, 30_010)).await;
    let both = json!({"type": "NodePort", "ports": [
        {"port": 53, "protocol": "TCP", "nodePort": 30_005},
        {"port": 53, "protocol": "UDP", "nodePort": 30_005},
        {"port": 80, "protocol": "TCP"},
    ]});
    let service = setup.create("dns", both).await.unwrap();
    let drawn = service["spec"]["ports"][2]["nodePort"].as_i64().unwrap();
    assert!((30_000..=30_010).contains(&drawn) && drawn != 30_005);
    assert_eq!(setup.services.ports.claims().await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_a_service_no_longer_needs_is_free_again() {
    let setup = setup("10.0.0.0/24", (30_000, 30_010)).await;
    let node_port = json!({"type": "NodePort", "ports": [{"port": 80}]});
    let old = setup.create("s", node_port).await.unwrap();
    let mut new = old.clone();
    new["spec"]["type"] = "ExternalName".into();
    for field in ["clusterIP", "clusterIPs", "ports"] {
        new["spec"].as_object_mut().unwrap().remove(field);
    }
    let taken = setup.services.reserve(&setup.attributes("s", Some(&old)), &mut new).await.unwrap();
    taken.commit().await;
    assert!(setup.services.addresses.claims().await.unwrap().is_empty());
    assert!(setup.services.ports.claims().await.unwrap().is_empty());

    let again = setup.create("t", cluster_ip()).await.unwrap();
    setup.services.release(&setup.attributes("t", None), &again).await;
    assert!(setup.services.addresses.claims().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_repair_frees_orphans_and_claims_what_is_held() {
    let setup = setup("10.0.0.0/24", (30_000, 30_010)).await;
    setup.create("gone", cluster_ip()).await.unwrap();
    let there = json!({"kind": "services", "metadata": {"namespace": "g", "name": "there"},
        "spec": {"type": "ClusterIP", "clusterIP": "10.0.0.5"}});
    let objects = Arc::new(Fixture::new(vec![there]));
    let mut repair = Repair::new(setup.services.clone(), objects);
    repair.once().await.unwrap();
    let claims = setup.services.addresses.claims().await.unwrap();
    assert_eq!(claims.len(), 2, "an orphan may be a service on its way: {claims:?}");
    repair.once().await.unwrap();
    let claims = setup.services.addresses.claims().await.unwrap();
    let names: Vec<_> = claims.iter().map(|claim| claim.name.as_str()).collect();
    assert_eq!(names, ["10.0.0.5"]);
}
