//! The report: the table of ratios, medians and spread, and its charts.
//!
//! Owns: what is kept of the rounds and how it is shown. Must not know: how it was measured. A
//! newcomer's trap: a ratio is taken within one round; ratios of medians of different rounds
//! would compare different moments of a noisy machine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::Context as _;

use super::loads::{Figure, Load, Row, Value};
use super::{Compare, Storage, charts};

/// A setup: where the data is, and how many members.
pub(super) type Setup = (Storage, usize);

/// All values so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// In the order in which they were first measured.
    pub(super) loads: Vec<(Setup, Load)>,
    /// By setup, load, program and round.
    values: BTreeMap<(Setup, String, &'static str, usize), Value>,
}

impl Findings {
    pub(super) fn add(
        &mut self,
        storage: Storage,
        members: usize,
        round: usize,
        load: &Load,
        program: &'static str,
        value: Value,
    ) {
        let setup = (storage, members);
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

/// Writes `report.md` and the charts.
pub(super) fn write(args: &Compare, findings: &Findings) -> anyhow::Result<()> {
    let mut text = String::from("# Kijabi's store beside etcd\n\n");
    let _ = writeln!(
        text,
        "Same machine, same run, fsync on; {} round(s), each with both servers started anew; the ratio is Kijabi ÷ etcd, \
         the median of the rounds' ratios, with the lowest and the highest. {}\n",
        args.rounds,
        machine()
    );
    let mut setups: Vec<Setup> = findings.loads.iter().map(|(setup, _)| *setup).collect();
    setups.dedup();
    for setup in setups {
        let _ = writeln!(text, "## {} member(s), {}\n", setup.1, setup.0.name());
        let _ = writeln!(
            text,
            "| load | figure | etcd | Kijabi | ratio | spread | must | goal | |\n|---|---|---|---|---|---|---|---|---|"
        );
        for (_, load) in findings.loads.iter().filter(|(other, _)| *other == setup) {
            for row in &load.rows {
                text.push_str(&table_row(findings, setup, load, *row));
            }
        }
        text.push('\n');
        for name in charts::draw(args, findings, setup)? {
            let _ = writeln!(text, "![{name}]({name}.svg)");
        }
        text.push('\n');
    }
    let path = args.out.join("report.md");
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn table_row(findings: &Findings, setup: Setup, load: &Load, row: Row) -> String {
    let of = |program| findings.figures(setup, &load.id, program, row.figure);
    let (theirs, ours) = (of("etcd"), of("kijabi"));
    let ratios: Vec<f64> =
        ours.iter().filter_map(|(round, value)| Some(value / theirs.get(round)?)).collect();
    let number = |value: Option<f64>| value.map_or_else(|| "-".into(), shown);
    let bound = |value: Option<f64>| {
        let sign = if row.figure.more_is_better() { "≥" } else { "≤" };
        value.map_or_else(String::new, |value| format!("{sign} {value}"))
    };
    let ratio = median(ratios.iter().copied());
    let spread =
        match (ratios.iter().copied().reduce(f64::min), ratios.iter().copied().reduce(f64::max)) {
            (Some(low), Some(high)) => format!("{low:.2} to {high:.2}"),
            _ => String::new(),
        };
    let verdict = match (ratio, row.must, row.goal) {
        (Some(ratio), Some(must), goal) => {
            let reaches = |bound: f64| {
                if row.figure.more_is_better() { ratio >= bound } else { ratio <= bound }
            };
            if goal.is_some_and(reaches) {
                "goal"
            } else if reaches(must) {
                "ok"
            } else {
                "missed"
            }
        }
        _ => "",
    };
    format!(
        "| {} | {} | {} | {} | {} | {spread} | {} | {} | {verdict} |\n",
        load.id,
        row.figure.unit(),
        number(median(theirs.values().copied())),
        number(median(ours.values().copied())),
        ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}")),
        bound(row.must),
        bound(row.goal),
    )
}

fn shown(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
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
    use super::super::loads::Measure;
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
        let row = Row { figure: Figure::Seconds, must: Some(0.5), goal: Some(0.25) };
        let load =
            Load { id: "r".into(), measure: Measure::Recovery, rows: vec![row], point: None };
        for (round, theirs, ours) in [(0, 1.0, 0.4), (1, 10.0, 3.0), (2, 2.0, 1.8)] {
            findings.add(Storage::Disk, 1, round, &load, "etcd", Value::Seconds(theirs));
            findings.add(Storage::Disk, 1, round, &load, "kijabi", Value::Seconds(ours));
        }
        let line = table_row(&findings, (Storage::Disk, 1), &load, row);
        assert_eq!(line, "| r | s | 2.00 | 1.80 | 0.40 | 0.30 to 0.90 | ≤ 0.5 | ≤ 0.25 | ok |\n");
    }
}
