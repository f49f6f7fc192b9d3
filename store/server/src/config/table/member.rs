//! The flags of a member itself.

use super::{Flag, Kind, duration, flag, only, path, set, size, unsigned, word};
use crate::config::DEFAULT_QUOTA_BYTES;
use crate::config::values::{parse_bool, parse_signed, parse_unsigned, parse_urls};

const NO_BBOLT: &str = "the state is kept by RocksDB, which has no such setting";
const NO_RAFTHTTP: &str =
    "members ping each other, and one that does not answer within an election timeout is given up";
const NO_FILES: &str = "old log files and snapshots go as soon as nobody needs them";

#[rustfmt::skip]
pub(super) const FLAGS: &[Flag] = &[
    flag("name", "default", "Human-readable name of this member.", Kind::Text,
        |d, v| set(&mut d.config.name, v.to_owned())),
    flag("data-dir", "${name}.etcd", "Folder of the data.", Kind::Text,
        |d, v| set(&mut d.data_dir, path(v))),
    flag("wal-dir", "", "Folder of the Raft log, if not in the data folder.", Kind::Text,
        |d, v| set(&mut d.config.wal_dir, path(v))),
    flag("snapshot-count", "100000", "Committed entries between two snapshots of the state.", Kind::Text,
        |d, v| set(&mut d.config.snapshot_entries, unsigned(v)?)),
    flag("heartbeat-interval", "100", "Milliseconds between two heartbeats of the leader.", Kind::Text,
        |d, v| set(&mut d.heartbeat_ms, unsigned(v)?)),
    flag("election-timeout", "1000", "Milliseconds without a leader before an election.", Kind::Text,
        |d, v| set(&mut d.election_ms, unsigned(v)?)),
    flag("initial-election-tick-advance", "true", "Do not wait a whole election timeout when starting.", Kind::Bool,
        |_, v| only(parse_bool(v)))
        .idle("elections are timed by openraft, which never waits longer than one timeout at the start"),
    flag("listen-peer-urls", "http://localhost:2380", "URLs to listen on for other members.", Kind::Text,
        |d, v| if v.is_empty() { Ok(()) } else { set(&mut d.config.listen_peer_urls, parse_urls(v)?) }),
    flag("listen-client-urls", "http://localhost:2379",
        "URLs to listen on for clients: gRPC, and HTTP unless --listen-client-http-urls is given.", Kind::Text,
        |d, v| if v.is_empty() { Ok(()) } else { set(&mut d.config.listen_client_urls, parse_urls(v)?) }),
    flag("listen-client-http-urls", "",
        "URLs to listen on for HTTP alone; --listen-client-urls then only take gRPC.", Kind::Text,
        |d, v| if v.is_empty() { Ok(()) } else { set(&mut d.config.listen_client_http_urls, parse_urls(v)?) }),
    flag("max-snapshots", "5", "Snapshot files to keep.", Kind::Text, |_, v| only(unsigned(v)))
        .idle(NO_FILES),
    flag("max-wals", "5", "Log files to keep.", Kind::Text, |_, v| only(unsigned(v)))
        .idle(NO_FILES),
    flag("memory-mlock", "false", "Keep the process's memory from being swapped out.", Kind::Bool,
        |d, v| set(&mut d.config.memory_lock, parse_bool(v)?)),
    flag("quota-backend-bytes", "0", "Largest database in bytes (0 = 2 GiB, negative = no limit).", Kind::Text,
        |d, v| {
            let bytes = match parse_signed(v)? {
                0 => DEFAULT_QUOTA_BYTES,
                bytes => u64::try_from(bytes).unwrap_or(0),
            };
            set(&mut d.config.quota_bytes, bytes)
        }),
    flag("backend-bbolt-freelist-type", "map", "How etcd's database keeps its free pages.", Kind::Text,
        |_, _| Ok(()))
        .idle(NO_BBOLT),
    flag("backend-batch-interval", "", "Longest time before etcd's database commits.", Kind::Duration,
        |_, v| only(duration(v)))
        .idle(NO_BBOLT),
    flag("backend-batch-limit", "0", "Most operations before etcd's database commits.", Kind::Text,
        |_, v| only(parse_signed(v)))
        .idle(NO_BBOLT),
    flag("max-txn-ops", "128", "Most operations in one branch of a transaction.", Kind::Text,
        |d, v| set(&mut d.config.max_txn_ops, size(v)?)),
    flag("max-request-bytes", "1572864", "Largest request of a client in bytes.", Kind::Text,
        |d, v| set(&mut d.config.max_request_bytes, size(v)?)),
    flag("max-concurrent-streams", "4294967295", "Most streams a client may have open on one connection.", Kind::Text,
        |d, v| set(&mut d.config.max_concurrent_streams, parse_unsigned(v, u64::from(u32::MAX))? as u32)),
    flag("grpc-keepalive-min-time", "5s", "A client that pings more often than this is sent away.", Kind::Duration,
        |d, v| set(&mut d.config.keep_alive.min_time, duration(v)?))
        .idle("pings are bounded by their number in a second, not by the time between two"),
    flag("grpc-keepalive-interval", "2h", "Silence of a client after which it is pinged (0 = never).", Kind::Duration,
        |d, v| set(&mut d.config.keep_alive.interval, duration(v)?)),
    flag("grpc-keepalive-timeout", "20s", "Time a client has to answer a ping (0 = never ping).", Kind::Duration,
        |d, v| set(&mut d.config.keep_alive.timeout, duration(v)?)),
    flag("socket-reuse-port", "false", "Let several processes listen on the same port.", Kind::Bool,
        |d, v| set(&mut d.config.socket.reuse_port, parse_bool(v)?)),
    flag("socket-reuse-address", "false", "Take a port whose last connections are still closing.", Kind::Bool,
        |d, v| set(&mut d.config.socket.reuse_address, parse_bool(v)?)),
    flag("enable-grpc-gateway", "true", "Answer JSON over HTTP on /v3/.", Kind::Bool,
        |d, v| set(&mut d.config.enable_grpc_gateway, parse_bool(v)?)),
    flag("raft-read-timeout", "5s", "Silence of another member after which its connection is given up.", Kind::Duration,
        |d, v| set(&mut d.config.raft_read_timeout, duration(v)?))
        .idle(NO_RAFTHTTP),
    flag("raft-write-timeout", "5s", "Time for a write to another member.", Kind::Duration,
        |d, v| set(&mut d.config.raft_write_timeout, duration(v)?))
        .idle(NO_RAFTHTTP),
    flag("feature-gates", "", "Features on trial, as Name=true,Other=false.", Kind::Text,
        |d, v| set(&mut d.feature_gates, v.to_owned())),
    flag("config-file", "", "A YAML file with the same names; all other settings are then ignored.", Kind::Text,
        |_, _| Ok(())),
    flag("v2-deprecation", "write-only", "Stage of the end of etcd's API v2.", Kind::Text,
        |_, v| {
            for stage in v.split(',') {
                word(stage, &["not-yet", "write-only", "write-only-drop-data", "gone"])
                    .map_err(|why| format!("{why} \"{stage}\""))?;
            }
            Ok(())
        })
        .idle("the API v2 is gone, as it is in etcd whatever this says"),
];
