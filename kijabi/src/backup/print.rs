//! Results as text: one line, a table, or JSON, as etcdutl prints them.
//!
//! Owns: these forms. Must not know: how results came about. A newcomer's trap: sizes are in
//! powers of ten, as etcdutl's.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use kijabi_server::backup::{EndpointHash, FileStatus, Restored};

use super::flags::Format;

/// A snapshot's numbers.
pub(super) fn status(status: &FileStatus, format: Format) -> anyhow::Result<()> {
    let row = vec![
        format!("{:x}", status.hash),
        status.revision.to_string(),
        status.total_key.to_string(),
        size(status.total_size),
        status.version.clone(),
    ];
    let heads = ["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE", "VERSION"];
    print(&heads, &[row], &serde_json::to_value(status)?, format)
}

/// A new member.
pub(super) fn restored(restored: &Restored, data_dir: &Path, format: Format) -> anyhow::Result<()> {
    let row = vec![
        data_dir.display().to_string(),
        format!("{:x}", restored.member_id),
        format!("{:x}", restored.cluster_id),
        restored.revision.to_string(),
        restored.compacted.to_string(),
        restored.replayed.to_string(),
    ];
    let heads =
        ["DATA DIR", "MEMBER ID", "CLUSTER ID", "REVISION", "COMPACT REVISION", "LOG ENTRIES"];
    print(&heads, &[row], &serde_json::to_value(restored)?, format)
}

/// Hashes of key spaces.
pub(super) fn hashes(hashes: &[(String, EndpointHash)], format: Format) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> = hashes
        .iter()
        .map(|(name, hash)| {
            let EndpointHash { hash, revision, compacted } = hash;
            vec![name.clone(), hash.to_string(), revision.to_string(), compacted.to_string()]
        })
        .collect();
    let json: Vec<serde_json::Value> = hashes
        .iter()
        .map(|(name, hash)| serde_json::json!({ "endpoint": name, "hashKV": hash }))
        .collect();
    let heads = ["ENDPOINT", "HASH", "HASH REVISION", "COMPACT REVISION"];
    print(&heads, &rows, &serde_json::Value::Array(json), format)
}

fn print(
    heads: &[&str],
    rows: &[Vec<String>],
    json: &serde_json::Value,
    format: Format,
) -> anyhow::Result<()> {
    let text = match format {
        Format::Simple => rows.iter().map(|row| row.join(", ") + "\n").collect(),
        Format::Table => table(heads, rows),
        Format::Json => format!("{json}\n"),
    };
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot print the result")
}

fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = heads
        .iter()
        .enumerate()
        .map(|(column, head)| {
            let cells =
                rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.max().unwrap_or(0).max(head.len())
        })
        .collect();
    let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
    let line = format!("+{}+\n", dashes.join("+"));
    let row = |cells: &[String]| -> String {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("| {cell:<width$} "));
        cells.collect::<String>() + "|\n"
    };
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let body: String = rows.iter().map(|cells| row(cells)).collect();
    format!("{line}{}{line}{body}{line}", row(&heads))
}

/// Bytes in powers of ten, with one digit behind the point below ten.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let value = (value * 10.0 + 0.5).floor() / 10.0;
    let digits = usize::from(value < 10.0);
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_etcdutls() {
        for (bytes, expected) in
            [(0, "0 B"), (20_480, "20 kB"), (1_253_376, "1.3 MB"), (999, "999 B"), (9_960, "10 kB")]
        {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn tables_are_as_wide_as_their_widest_cell() {
        let text = table(&["A", "LONG"], &[vec!["wide".into(), "1".into()]]);
        let expected =
            "+------+------+\n| A    | LONG |\n+------+------+\n| wide | 1    |\n+------+------+\n";
        assert_eq!(text, expected);
    }
}
