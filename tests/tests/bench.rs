//! `kijabi bench compare`: both servers in turns, a table with ratios, charts.

use std::fs;
use std::process::Command;

use kijabi_tests::process;

#[test]
fn a_comparison_with_etcd_ends_in_a_table_and_charts() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("bench");
    let run = process::succeed(
        Command::new(process::kijabi())
            .args(["--log=warn", "bench", "compare", "--rounds=1", "--members=1", "--storage=disk"])
            .args(["--each=200ms", "--clients-max=8", "--keys-max=10000"])
            .arg(format!("--out={}", out.display())),
    );
    let report = fs::read_to_string(out.join("report.md")).unwrap();
    for (load, unit) in [
        ("put, 8 clients", "/s"),
        ("get, 8 clients", "µs CPU"),
        ("compare-and-put, 256 clients", "/s"),
        ("fan-out to 10 watchers with prev_kv", "events/s"),
        ("memory with 10000 keys", "MB"),
        ("SIGKILL to serving with 10000 keys", "s"),
    ] {
        let start = format!("| {load} | {unit} | ");
        let row = report.lines().find(|line| line.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("no row {start:?} in\n{report}\n{run}"));
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let ratio: f64 = cells[5].parse().unwrap_or_else(|_| panic!("no ratio in {row:?}"));
        assert!(ratio > 0.0, "{row}");
    }
    let chart = fs::read_to_string(out.join("fan-out-1-disk.svg")).unwrap();
    assert!(chart.contains("<svg") && chart.contains("kijabi"), "{chart}");
    let left: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.iter().all(|path| path.is_file()), "the servers' data is gone: {left:?}");
}
