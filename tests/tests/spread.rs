//! The walk-through rows that need several nodes, on simulated ones: C5, C8, C17, C18, C22.

use std::collections::BTreeMap;
use std::time::Duration;

use kijabi_tests::cluster::{Cluster, Options};
use kijabi_tests::kubectl::{Kubectl, VERSIONS};
use kijabi_tests::poll;

/// Running pods by node.
fn running_by_node(kubectl: &Kubectl) -> BTreeMap<String, usize> {
    let out = kubectl.ok("get pods --no-headers -o wide");
    let mut nodes = BTreeMap::new();
    for line in out.lines() {
        let columns: Vec<_> = line.split_whitespace().collect();
        if columns.get(2) == Some(&"Running") {
            *nodes.entry(columns[6].to_owned()).or_default() += 1;
        }
    }
    nodes
}

fn wait_for_spread(kubectl: &Kubectl, want: &[usize]) {
    poll::eventually(&format!("pods spread as {want:?}"), Duration::from_secs(60), || {
        let nodes = running_by_node(kubectl);
        let mut counts: Vec<_> = nodes.values().copied().collect();
        counts.sort_unstable();
        if counts == want { Ok(()) } else { Err(format!("{nodes:?}")) }
    });
}

fn scale(kubectl: &Kubectl, replicas: u32) {
    let out = kubectl.ok(&format!("scale deployment dpy-nginx --replicas={replicas}"));
    assert_eq!(out, "deployment.apps/dpy-nginx scaled\n");
}

fn walk(kubectl: &Kubectl) {
    kubectl.until(60, "get nodes --no-headers", |out| out.matches(" Ready ").count() == 3);
    let nodes = kubectl.ok("get nodes --no-headers");
    let first: Vec<_> = nodes.lines().next().expect("a node").split_whitespace().collect();
    assert_eq!(first.len(), 5, "NAME STATUS ROLES AGE VERSION: {nodes}");
    assert!(first[4].starts_with("v1."), "{nodes}");
    let third =
        nodes.lines().nth(2).and_then(|line| line.split_whitespace().next()).expect("a third node");

    kubectl.ok("create deployment dpy-nginx --image=nginx");
    scale(kubectl, 9);
    wait_for_spread(kubectl, &[3, 3, 3]);
    scale(kubectl, 3);
    wait_for_spread(kubectl, &[1, 1, 1]);

    assert_eq!(kubectl.ok(&format!("cordon {third}")), format!("node/{third} cordoned\n"));
    let nodes = kubectl.ok("get nodes --no-headers");
    assert!(nodes.contains("Ready,SchedulingDisabled"), "{nodes}");
    scale(kubectl, 9);
    poll::eventually("nine pods running", Duration::from_secs(60), || {
        let nodes = running_by_node(kubectl);
        if nodes.values().sum::<usize>() == 9 { Ok(()) } else { Err(format!("{nodes:?}")) }
    });
    assert_eq!(
        running_by_node(kubectl)[third],
        1,
        "a cordoned node keeps its pods and gets no new ones"
    );
    assert_eq!(kubectl.ok(&format!("uncordon {third}")), format!("node/{third} uncordoned\n"));
    kubectl.ok("delete deployment dpy-nginx");
    kubectl.until(60, "get pods --no-headers", |out| !out.contains("dpy-nginx"));
}

#[test]
fn pods_spread_over_three_workers() {
    let cluster = Cluster::start(&Options { hollow_nodes: 3, ..Options::default() });
    for version in VERSIONS {
        walk(&cluster.kubectl(version));
    }
}
