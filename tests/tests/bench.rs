//! `kijabi bench compare`: both servers in turns, a table with ratios, charts.

use std::fs;
use std::process::Command;

use kijabi_tests::process;

#[test]
fn a_comparison_with_etcd_ends_in_a_table_and_charts() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("bench");
    for only in ["put, ", "70 %", "10000 keys"] {
        process::succeed(
            Command::new(process::kijabi())
                .args(["--log=warn", "bench", "compare", "--rounds=1", "--members=1"])
                .args(["--storage=tmpfs", "--each=200ms", "--clients-max=8", "--keys-max=10000"])
                .arg(format!("--only={only}"))
                .arg(format!("--out={}", out.join(only).display())),
        );
    }
    for (only, load, unit) in [
        ("put, ", "put, 8 clients", "/s"),
        ("put, ", "put, 1000 clients", "µs CPU"),
        ("70 %", "puts at 70 % of etcd's peak", "ms p99"),
        ("10000 keys", "count with 10000 keys", "ms p50"),
        ("10000 keys", "memory with 10000 keys", "MB"),
        ("10000 keys", "SIGKILL to serving with 10000 keys", "s"),
    ] {
        let report = fs::read_to_string(out.join(only).join("report.md")).unwrap();
        let start = format!("| {load} | {unit} | ");
        let row = report.lines().find(|line| line.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("no row {start:?} in\n{report}"));
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let ratio: f64 = cells[5].parse().unwrap_or_else(|_| panic!("no ratio in {row:?}"));
        assert!(ratio > 0.0, "{row}");
    }
    let chart = fs::read_to_string(out.join("put, /put-s-1-tmpfs.svg")).unwrap();
    let report = fs::read_to_string(out.join("put, /report.md")).unwrap();
    assert!(report.contains("puts against clients, /s"), "how cost grows: {report}");
    assert!(chart.contains("<svg") && chart.contains("kijabi"), "{chart}");
}
