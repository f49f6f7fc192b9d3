//! The service `kubernetes` in `default`: how pods reach the API servers.
//!
//! Owns: the service, its Endpoints and its EndpointSlice. Must not know: which servers live. A
//! newcomer's trap: loopback addresses are no valid endpoints, so a server that only listens there
//! has a service without endpoints.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::loopback::{Loopback, Refused};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SERVICE: &str = "/api/v1/namespaces/default/services/kubernetes";
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

pub(super) async fn ensure(client: &Loopback, address: IpAddr, port: u16) -> Result<(), Refused> {
    let ports = json!([{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}]);
    let Some(mut present) = client.get(SERVICE).await? else {
        let service = json!({
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"},
            },
            "spec": {
                "clusterIP": address.to_string(),
                "ports": ports,
                "sessionAffinity": "None",
                "type": "ClusterIP",
                "ipFamilyPolicy": "SingleStack",
            },
        });
        return client.ensure(SERVICES, &service).await;
    };
    if present["spec"]["ports"] != ports {
        present["spec"]["ports"] = ports;
        client.update(SERVICE, &present).await?;
    }
    Ok(())
}

/// Makes both forms of the endpoints say `alive`.
pub(super) async fn reconcile_endpoints(
    client: &Loopback,
    alive: &BTreeSet<IpAddr>,
    port: u16,
) -> Result<(), Refused> {
    let usable: Vec<String> =
        alive.iter().filter(|a| !a.is_loopback()).map(ToString::to_string).collect();
    if usable.is_empty() {
        return Ok(());
    }
    let named_port = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
    let addresses: Vec<Value> = usable.iter().map(|ip| json!({"ip": ip})).collect();
    let endpoints = json!({
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{"addresses": addresses, "ports": named_port}],
    });
    put(client, ENDPOINTS, &endpoints, &["subsets"]).await?;
    let ready: Vec<Value> =
        usable.iter().map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}})).collect();
    let slice = json!({
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv4",
        "endpoints": ready,
        "ports": named_port,
    });
    put(client, SLICES, &slice, &["endpoints", "ports"]).await
}

/// Creates the object, or updates it if one of `fields` differs.
async fn put(
    client: &Loopback,
    collection: &str,
    wanted: &Value,
    fields: &[&str],
) -> Result<(), Refused> {
    let path = format!("{collection}/kubernetes");
    let Some(mut present) = client.get(&path).await? else {
        return client.ensure(collection, wanted).await;
    };
    if fields.iter().all(|field| present[*field] == wanted[*field]) {
        return Ok(());
    }
    for field in fields {
        present[*field] = wanted[*field].clone();
    }
    client.update(&path, &present).await.map(|_| ())
}
