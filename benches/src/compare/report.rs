//! The report: the table of ratios, medians and spread, how cost grows, and the charts.
//!
//! Owns: what is kept of the rounds and how it is shown. Must not know: how it was measured. A
//! newcomer's trap: a ratio is taken within one round; ratios of medians of different rounds
//! would compare different moments of a noisy machine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::Context as _;

use super::figure::{Figure, Row, Value};
use super::growth::{self, SERIES};
use super::loads::{Load, Measure};
use super::{Compare, Storage, charts};

/// A setup: where the data is, and how many members.
pub(super) type Setup = (Storage, usize);

/// Both programs, as findings name them.
pub(super) const PROGRAMS: [&str; 2] = ["etcd", "kijabi"];
/// From this share of its threads on the generator may be what limits.
const CLIENT_BUSY: f64 = 0.9;

/// All values so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    etcd: String,
    /// In the order in which they were first measured.
    pub(super) loads: Vec<(Setup, Load)>,
    /// By setup, load, program and round.
    values: BTreeMap<(Setup, String, &'static str, usize), Value>,
}

/// A value as it is kept for programs.
#[derive(serde::Serialize)]
struct Kept<'a> {
    storage: Storage,
    members: usize,
    load: &'a str,
    program: &'a str,
    round: usize,
    value: &'a Value,
}

impl Findings {
    /// Nothing yet, beside an etcd that says this of its version.
    pub(super) fn new(etcd: String) -> Self {
        Self { etcd, ..Self::default() }
    }

    pub(super) fn add(
        &mut self,
        setup: Setup,
        round: usize,
        load: &Load,
        program: &'static str,
        value: Value,
    ) {
        if !self.loads.iter().any(|(known, one)| *known == setup && one.id == load.id) {
            self.loads.push((setup, load.clone()));
        }
        self.values.insert((setup, load.id.clone(), program, round), value);
    }

    /// The values of a program in all rounds.
    pub(super) fn values<'a>(
        &'a self,
        setup: Setup,
        id: &'a str,
        program: &'static str,
    ) -> impl Iterator<Item = (usize, &'a Value)> {
        self.values
            .iter()
            .filter(move |((s, i, p, _), _)| *s == setup && i == id && *p == program)
            .map(|((.., round), value)| (*round, value))
    }

    pub(super) fn figures(
        &self,
        setup: Setup,
        id: &str,
        program: &'static str,
        figure: Figure,
    ) -> BTreeMap<usize, f64> {
        let of = |(round, value)| Some((round, figure.of(value)?));
        self.values(setup, id, program).filter_map(of).collect()
    }

    fn setups(&self) -> Vec<Setup> {
        let mut setups: Vec<Setup> = self.loads.iter().map(|(setup, _)| *setup).collect();
        setups.sort_unstable();
        setups.dedup();
        setups
    }

    fn of(&self, setup: Setup) -> impl Iterator<Item = &Load> {
        self.loads.iter().filter(move |(other, _)| *other == setup).map(|(_, load)| load)
    }
}

/// The middle one; the mean of the two middle ones of an even number.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// Writes `report.md`, `values.json` and the charts.
pub(super) fn write(args: &Compare, findings: &Findings) -> anyhow::Result<()> {
    let mut text = String::from("# Kijabi's store beside etcd\n\n");
    let _ = writeln!(
        text,
        "Beside {} on the same machine in the same run, fsync on, defaults; each group of loads on \
         servers started anew, the two programs one right after the other, up to {} round(s). The \
         ratio is Kijabi ÷ etcd within a round; shown are the median of the rounds' ratios and the \
         lowest and the highest. {} {}\n",
        findings.etcd,
        args.rounds,
        machine(),
        noise(findings),
    );
    text.push_str("## The goals\n\n");
    head(&mut text, "setup | load");
    for setup in findings.setups() {
        for load in findings.of(setup) {
            for row in load.rows.iter().filter(|row| row.must.or(row.goal).is_some()) {
                let _ = write!(text, "| {}, {} ", setup.1, setup.0.name());
                text.push_str(&table_row(findings, setup, load, *row));
            }
        }
    }
    for setup in findings.setups() {
        let _ = writeln!(text, "\n## {} member(s), {}\n", setup.1, setup.0.name());
        head(&mut text, "load");
        for load in findings.of(setup) {
            for row in &load.rows {
                text.push_str(&table_row(findings, setup, load, *row));
            }
        }
        text.push('\n');
        for name in charts::draw(args, findings, setup)? {
            let _ = writeln!(text, "![{name}]({name}.svg)");
        }
    }
    grown(&mut text, findings);
    commands(&mut text, findings);
    let path = args.out.join("report.md");
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    keep(args, findings)
}

fn keep(args: &Compare, findings: &Findings) -> anyhow::Result<()> {
    let kept =
        |((setup, load, program, round), value): (&(Setup, String, &'static str, usize), _)| {
            serde_json::to_value(Kept {
                storage: setup.0,
                members: setup.1,
                load,
                program,
                round: *round,
                value,
            })
        };
    let all: Result<Vec<_>, _> = findings.values.iter().map(kept).collect();
    let text = all.and_then(|all| serde_json::to_string(&all)).context("values as JSON")?;
    let path = args.out.join("values.json");
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn head(text: &mut String, first: &str) {
    let first_columns = first.split('|').count();
    let _ = writeln!(
        text,
        "| {first} | figure | etcd | Kijabi | ratio | spread | rounds | must | goal | |\n|{}",
        "---|".repeat(first_columns + 9)
    );
}

fn table_row(findings: &Findings, setup: Setup, load: &Load, row: Row) -> String {
    let of = |program| findings.figures(setup, &load.id, program, row.figure);
    let (theirs, ours) = (of(PROGRAMS[0]), of(PROGRAMS[1]));
    let ratios: Vec<f64> = ours
        .iter()
        .filter_map(|(round, value)| Some(value / theirs.get(round)?))
        .filter(|ratio| ratio.is_finite())
        .collect();
    let number = |value: Option<f64>| value.map_or_else(|| "-".into(), shown);
    let ratio = median(ratios.iter().copied());
    let spread =
        match (ratios.iter().copied().reduce(f64::min), ratios.iter().copied().reduce(f64::max)) {
            (Some(low), Some(high)) => format!("{low:.2} to {high:.2}"),
            _ => String::new(),
        };
    let our_median = median(ours.values().copied());
    format!(
        "| {} | {} | {} | {} | {} | {spread} | {} | {} | {} | {} |\n",
        load.id,
        row.figure.unit(),
        number(median(theirs.values().copied())),
        number(our_median),
        ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}")),
        ratios.len(),
        row.words(row.must),
        row.words(row.goal),
        row.verdict(ratio, our_median),
    )
}

/// How cost grows, in words.
fn grown(text: &mut String, findings: &Findings) {
    text.push_str(
        "\n## How cost grows\n\nThe exponent of the power of n that fits the medians best.\n\n\
         | what | setup | n | etcd | Kijabi |\n|---|---|---|---|---|\n",
    );
    for setup in findings.setups() {
        for series in &SERIES {
            let lines = PROGRAMS.map(|program| growth::points(findings, setup, series, program));
            let [Some(theirs), Some(ours)] = [&lines[0], &lines[1]].map(growth::exponent) else {
                continue;
            };
            let (first, last) = (lines[1][0].0, lines[1][lines[1].len() - 1].0);
            let _ = writeln!(
                text,
                "| {}, {} | {} | {first} to {last} {} | {} | {} |",
                series.title,
                series.figure.unit(),
                growth::heading(setup, series),
                series.axis,
                growth::words(theirs),
                growth::words(ours),
            );
        }
    }
}

/// How to make each load alone.
fn commands(text: &mut String, findings: &Findings) {
    text.push_str("\n## The command of each load\n\n| load | command |\n|---|---|\n");
    let mut shown = std::collections::BTreeSet::new();
    for (_, load) in &findings.loads {
        if shown.insert(&load.id) {
            let command = match &load.measure {
                Measure::Load(line) => format!("`kijabi bench {line}`"),
                Measure::Recovery | Measure::LeaderLoss => {
                    format!("`kijabi bench compare --only=\"{}\"`", load.id)
                }
            };
            let _ = writeln!(text, "| {} | {command} |", load.id);
        }
    }
}

/// What else the machine did, and where this program may have been the limit.
fn noise(findings: &Findings) -> String {
    let reports = || {
        findings.values.iter().filter_map(|((_, load, program, _), value)| match value {
            Value::Report(report) => Some((load, program, report)),
            Value::Seconds(_) => None,
        })
    };
    let others = median(reports().map(|(.., report)| report.others_cores)).unwrap_or(0.0);
    let mut text = format!("Others used {others:.2} cores meanwhile (median).");
    let busy: std::collections::BTreeSet<String> = reports()
        .filter(|(.., report)| report.client_busy > CLIENT_BUSY)
        .map(|(load, program, _)| format!("{load} ({program})"))
        .collect();
    if !busy.is_empty() {
        let busy: Vec<String> = busy.into_iter().collect();
        let _ =
            write!(text, " The load generator itself was at its limit in: {}.", busy.join("; "));
    }
    text
}

fn shown(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 0.1 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib =
        memory.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    format!("The machine: {cpus} cores, {:.0} GiB.", kib.unwrap_or(0.0) / 1_048_576.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0]), Some(2.5));
    }

    #[test]
    fn a_ratio_is_taken_within_a_round_and_judged_by_its_median() {
        let mut findings = Findings::default();
        let row = Row::ratio(Figure::Seconds, 0.5, 0.25);
        let load =
            Load { id: "r".into(), measure: Measure::Recovery, rows: vec![row], point: None };
        let setup = (Storage::Disk, 1);
        for (round, theirs, ours) in [(0, 1.0, 0.4), (1, 10.0, 3.0), (2, 2.0, 1.8)] {
            findings.add(setup, round, &load, "etcd", Value::Seconds(theirs));
            findings.add(setup, round, &load, "kijabi", Value::Seconds(ours));
        }
        let line = table_row(&findings, setup, &load, row);
        let expected =
            "| r | s | 2.00 | 1.80 | 0.40 | 0.30 to 0.90 | 3 | ≤ 0.5× | ≤ 0.25× | ok |\n";
        assert_eq!(line, expected);
    }
}
