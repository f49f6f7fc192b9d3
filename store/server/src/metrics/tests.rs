//! The names that dashboards and alerts rely on.

use kijabi_machine::{Machine, Settings};

use super::*;

/// What etcd's published dashboard and alert rules (the mixin of its repository) look at, as far as
/// a member alone has it.
const MIXIN: &[&str] = &[
    "etcd_disk_backend_commit_duration_seconds_bucket",
    "etcd_disk_wal_fsync_duration_seconds_bucket",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "etcd_network_client_grpc_received_bytes_total",
    "etcd_network_client_grpc_sent_bytes_total",
    "etcd_server_has_leader",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_proposals_applied_total",
    "etcd_server_proposals_committed_total",
    "etcd_server_proposals_failed_total",
    "etcd_server_proposals_pending",
    "etcd_server_quota_backend_bytes",
    "grpc_server_handled_total",
    "grpc_server_handling_seconds_bucket",
    "grpc_server_started_total",
    "process_resident_memory_bytes",
];

/// Names of Debian's etcd 3.4 that say nothing here; COMPATIBILITY.md has the reasons.
const NOT_HERE: &[&str] = &[
    "etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
    "etcd_debugging_disk_backend_commit_spill_duration_seconds",
    "etcd_debugging_disk_backend_commit_write_duration_seconds",
    "etcd_debugging_mvcc_db_total_size_in_bytes",
    "etcd_debugging_mvcc_delete_total",
    "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
    "etcd_debugging_mvcc_pending_events_total",
    "etcd_debugging_mvcc_put_total",
    "etcd_debugging_mvcc_range_total",
    "etcd_debugging_mvcc_txn_total",
    "etcd_debugging_snap_save_marshalling_duration_seconds",
    "etcd_debugging_snap_save_total_duration_seconds",
    "etcd_debugging_store_expires_total",
    "etcd_debugging_store_reads_total",
    "etcd_debugging_store_watch_requests_total",
    "etcd_debugging_store_watchers",
    "etcd_debugging_store_writes_total",
    "etcd_grpc_proxy_cache_hits_total",
    "etcd_grpc_proxy_cache_keys_total",
    "etcd_grpc_proxy_cache_misses_total",
    "etcd_grpc_proxy_events_coalescing_total",
    "etcd_grpc_proxy_watchers_coalescing_total",
    "etcd_mvcc_db_open_read_transactions",
    "etcd_server_go_version",
    "etcd_snap_db_fsync_duration_seconds",
    "etcd_snap_db_save_total_duration_seconds",
    "etcd_snap_fsync_duration_seconds",
    "promhttp_metric_handler_requests_in_flight",
    "promhttp_metric_handler_requests_total",
];

/// What Debian's etcd 3.4 shows with `--metrics=extensive`, without Go's own: name and type.
const DEBIANS: &str = include_str!("etcd-3.4.txt");

fn rendered() -> String {
    let config = Config { extensive_metrics: true, ..Config::default() };
    let rpcs = crate::serve::gateway::routes::rpcs();
    let metrics = Metrics::of(1, "3.6.14", &config, &rpcs);
    let machine = Machine::open(
        std::sync::Arc::new(kijabi_machine::state::MemoryState::default()) as _,
        Settings::default(),
    );
    metrics.look(&machine.unwrap(), &Tally::default());
    metrics.health_checked("livez", "serializable_read", true);
    drop(metrics.rpc.begin("/etcdserverpb.KV/Range", Some("3.6")));
    String::from_utf8(metrics.render()).unwrap()
}

#[test]
fn what_dashboards_and_alerts_look_at_is_there() {
    let text = rendered();
    for name in MIXIN {
        let shown = text.lines().any(|line| {
            line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} "))
        });
        assert!(shown, "{name}");
    }
    assert!(text.contains("etcd_cluster_version{cluster_version=\"3.6\"} 1"));
    let gate = r#"etcd_server_feature_enabled{name="TxnModeWriteWithSharedBuffer",stage="BETA"} 1"#;
    assert!(text.contains(gate));
    let called = r#"grpc_server_handled_total{grpc_code="Canceled",grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#;
    assert!(text.contains(called));
    assert!(text.contains(r#"grpc_server_started_total{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 0"#));
}

#[test]
fn names_and_types_are_debians_but_for_the_ones_that_say_nothing_here() {
    let text = rendered();
    for line in DEBIANS.lines() {
        let (name, _) = line.split_once(' ').unwrap();
        let declared = text.contains(&format!("# TYPE {line}\n"));
        assert_eq!(declared, !NOT_HERE.contains(&name), "{line}");
    }
}
