//! The flags of metrics, logs, traces, upkeep, and what is unsafe.

use super::{Flag, Kind, duration, flag, only, set, size, unsigned, word};
use crate::config::values::{parse_bool, parse_set, parse_signed, parse_urls};

#[rustfmt::skip]
pub(super) const FLAGS: &[Flag] = &[
    flag("enable-pprof", "false", "Serve Go's profiles on the client URLs.", Kind::Bool, |_, v| only(parse_bool(v)))
        .idle("there are no Go profiles of a program that is not written in Go"),
    flag("metrics", "basic", "'extensive' adds histograms of the latencies of RPCs.", Kind::Text,
        // etcd takes any other word for 'basic'.
        |d, v| set(&mut d.config.extensive_metrics, v == "extensive")),
    flag("listen-metrics-urls", "", "More URLs for /metrics and the health paths.", Kind::Text,
        |d, v| if v.is_empty() { Ok(()) } else { set(&mut d.config.listen_metrics_urls, parse_urls(v)?) }),
];

/// etcd's default of `--log-rotation-config-json`.
pub(super) const ROTATION: &str =
    r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#;

#[rustfmt::skip]
pub(super) const LOGGING: &[Flag] = &[
    flag("logger", "zap", "The form of log lines: zap's.", Kind::Text,
        |_, v| match v {
            "zap" => Ok(()),
            "capnslog" => Err("--logger=capnslog is removed in v3.5".into()),
            _ => Err(format!("unknown logger option \"{v}\"")),
        }),
    flag("log-outputs", "default", "'stdout', 'stderr', or paths of files.", Kind::Text,
        |d, v| set(&mut d.config.log.outputs, parse_set(v))),
    flag("log-level", "info", "Least severe lines to write: debug, info, warn, error, panic, fatal.", Kind::Text,
        |d, v| {
            let known = ["debug", "info", "warn", "error", "panic", "fatal"];
            let level = word(v, &known).map_err(|_| format!("unrecognized level: \"{v}\""))?;
            set(&mut d.config.log.level, level)
        }),
    flag("log-format", "json", "'json' or 'console'.", Kind::Text,
        |d, v| match v {
            "" => Ok(()),
            "json" | "console" => set(&mut d.config.log.format, v.to_owned()),
            _ => Err(format!("unknown log format: {v}, supported values json, console")),
        }),
    flag("enable-log-rotation", "false", "Rotate the one file among the outputs.", Kind::Bool,
        |d, v| set(&mut d.log_rotation, parse_bool(v)?)),
    flag("log-rotation-config-json", ROTATION, "How it is rotated.", Kind::Text,
        |d, v| set(&mut d.log_rotation_json, v.to_owned())),
    flag("warning-unary-request-duration", "300ms", "A unary request slower than this is logged.", Kind::Duration,
        // etcd takes zero for the default.
        |d, v| match duration(v)? {
            time if time.is_zero() => Ok(()),
            time => set(&mut d.config.warning_unary_request, time),
        }),
];

const NO_TRACES: &str = "no traces are exported";

#[rustfmt::skip]
pub(super) const TRACING: &[Flag] = &[
    flag("enable-distributed-tracing", "false", "Export traces by OpenTelemetry.", Kind::Bool, |_, v| only(parse_bool(v)))
        .idle(NO_TRACES),
    flag("distributed-tracing-address", "localhost:4317", "Where they are sent.", Kind::Text, |_, _| Ok(()))
        .idle(NO_TRACES),
    flag("distributed-tracing-service-name", "etcd", "The service's name in them.", Kind::Text, |_, _| Ok(()))
        .idle(NO_TRACES),
    flag("distributed-tracing-instance-id", "", "The instance's id in them.", Kind::Text, |_, _| Ok(()))
        .idle(NO_TRACES),
    flag("distributed-tracing-sampling-rate", "0", "Samples in a million spans.", Kind::Text, |_, v| only(parse_signed(v)))
        .idle(NO_TRACES),
];

#[rustfmt::skip]
pub(super) const FEATURES: &[Flag] = &[
    flag("corrupt-check-time", "0s", "Time between two comparisons of the members' data (0 = never).", Kind::Duration,
        |d, v| set(&mut d.config.corrupt_check_interval, duration(v)?)),
    flag("compact-hash-check-time", "1m", "Time between two comparisons of the members' compaction hashes.", Kind::Duration,
        |d, v| set(&mut d.config.compact_hash_check_interval, duration(v)?))
        .idle("the members' data is compared all the time, compacted or not"),
    flag("compaction-batch-limit", "1000", "Most revisions in one step of compaction.", Kind::Text,
        |d, v| match usize::try_from(parse_signed(v)?).unwrap_or(0) {
            // etcd takes zero for the default.
            0 => Ok(()),
            limit => set(&mut d.config.compaction_batch_limit, limit),
        }),
    flag("compaction-sleep-interval", "10ms", "Pause between two steps of compaction.", Kind::Duration,
        |d, v| match duration(v)? {
            pause if pause.is_zero() => Ok(()),
            pause => set(&mut d.config.compaction_pause, pause),
        }),
    flag("watch-progress-notify-interval", "10m", "Time between two progress notifications of a watch.", Kind::Duration,
        |d, v| match duration(v)? {
            time if time.is_zero() => Ok(()),
            time => set(&mut d.config.watch_progress_interval, time),
        }),
    flag("warning-apply-duration", "100ms", "A command that takes longer than this to apply is logged.", Kind::Duration,
        |d, v| set(&mut d.config.warning_apply, duration(v)?)),
    flag("bootstrap-defrag-threshold-megabytes", "0", "Defragment at the start if that frees so many megabytes.", Kind::Text,
        |_, v| only(unsigned(v)))
        .idle("the state is compacted while the member runs; there is nothing to gain at the start"),
    flag("max-learners", "1", "Most learners at a time.", Kind::Text,
        |d, v| set(&mut d.config.max_learners, size(v)?)),
    flag("downgrade-check-time", "5s", "Time between two looks at whether a downgrade is done.", Kind::Duration,
        |_, v| only(duration(v)))
        .idle("there is no earlier version to go back to"),
    flag("snapshot-catchup-entries", "5000", "Entries kept behind a snapshot for members that are slow.", Kind::Text,
        |d, v| set(&mut d.config.snapshot_catch_up_entries, unsigned(v)?)),
];

#[rustfmt::skip]
pub(super) const UNSAFE: &[Flag] = &[
    flag("force-new-cluster", "false", "Begin a cluster of this member alone with the data it has.", Kind::Bool,
        |d, v| set(&mut d.config.force_new_cluster, parse_bool(v)?)),
    flag("unsafe-no-fsync", "false", "Do not wait for the disk.", Kind::Bool, |_, v| only(parse_bool(v)))
        .idle("what is acknowledged is on the disk"),
];
