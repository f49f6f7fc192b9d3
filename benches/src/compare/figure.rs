//! The figures that are taken from a run, and what they must come to.
//!
//! Owns: units, and judging. Must not know: which load it is. A newcomer's trap: most bounds are
//! ratios ours ÷ etcd's; a few are absolute, because a pause hurts however long etcd's is.

use crate::load::report::Report;

/// What came out of a measurement.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) enum Value {
    Report(Box<Report>),
    Seconds(f64),
}

impl Value {
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Report(report) => {
                let memory = format!("{:.0} MB", report.usage.rss_bytes as f64 / 1e6);
                let events = match report.extra.as_ref().map(|extra| (extra.bytes_each, extra)) {
                    None => String::new(),
                    // Nothing was asked: there is nothing else to tell.
                    Some((Some(bytes), _)) => {
                        return format!("{memory}, {:.1} KB each", bytes / 1e3);
                    }
                    Some((None, extra)) => format!(", {:.0} events/s", extra.per_second),
                };
                format!(
                    "{:.0}/s, p99 {:.2} ms, max {:.1} ms, {:.1} µs CPU ({:.1} here, others {:.1} cores), {memory}{events}",
                    report.per_second,
                    millis(report.latency.p99),
                    millis(report.latency.max),
                    report.server_cpu_us,
                    report.client_cpu_us,
                    report.others_cores,
                )
            }
            Self::Seconds(seconds) => format!("{seconds:.3} s"),
        }
    }
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

/// How a figure is taken from a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    PerSecond,
    Events,
    EventsP99,
    /// How long it took until a late watcher had all.
    CaughtUp,
    P50,
    P99,
    Max,
    /// The longest, in medians.
    MaxOverP50,
    CpuMicros,
    Rss,
    /// Without what is mapped from files.
    RssOwn,
    /// Memory of each watch.
    Each,
    Seconds,
}

impl Figure {
    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::PerSecond => "/s",
            Self::Events => "events/s",
            Self::EventsP99 => "ms p99 of events",
            Self::CaughtUp => "s to catch up",
            Self::P50 => "ms p50",
            Self::P99 => "ms p99",
            Self::Max => "ms max",
            Self::MaxOverP50 => "max ÷ p50",
            Self::CpuMicros => "µs CPU",
            Self::Rss => "MB",
            Self::RssOwn => "MB not mapped",
            Self::Each => "KB each",
            Self::Seconds => "s",
        }
    }

    /// Whether more is better.
    pub(super) fn more_is_better(self) -> bool {
        matches!(self, Self::PerSecond | Self::Events)
    }

    pub(super) fn of(self, value: &Value) -> Option<f64> {
        let report = match (self, value) {
            (Self::Seconds, Value::Seconds(seconds)) => return Some(*seconds),
            (_, Value::Seconds(_)) | (Self::Seconds, _) => return None,
            (_, Value::Report(report)) => report,
        };
        let latency = &report.latency;
        Some(match self {
            Self::PerSecond => report.per_second,
            Self::Events => report.extra.as_ref()?.per_second,
            Self::EventsP99 => millis(report.extra.as_ref()?.latency.p99),
            Self::CaughtUp => millis(report.extra.as_ref()?.latency.max) / 1_000.0,
            Self::P50 => millis(latency.p50),
            Self::P99 => millis(latency.p99),
            Self::Max => millis(latency.max),
            Self::MaxOverP50 => latency.max as f64 / latency.p50.max(1) as f64,
            Self::CpuMicros => report.server_cpu_us,
            Self::Rss => report.usage.rss_bytes as f64 / 1e6,
            Self::RssOwn => report.usage.rss_own_bytes as f64 / 1e6,
            Self::Each => report.extra.as_ref()?.bytes_each? / 1e3,
            Self::Seconds => return None,
        })
    }
}

/// What a figure must or should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    /// Ours ÷ etcd's.
    Ratio(f64),
    /// Ours alone.
    Ours(f64),
}

/// One figure of a load in the table, with its bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) figure: Figure,
    pub(super) must: Option<Bound>,
    pub(super) goal: Option<Bound>,
}

impl Row {
    /// With bounds on the ratio.
    pub(super) fn ratio(figure: Figure, must: f64, goal: f64) -> Self {
        Self { figure, must: Some(Bound::Ratio(must)), goal: Some(Bound::Ratio(goal)) }
    }

    /// With a bound on our figure.
    pub(super) fn ours(figure: Figure, must: f64) -> Self {
        Self { figure, must: Some(Bound::Ours(must)), goal: None }
    }

    /// Without bounds.
    pub(super) fn shown(figure: Figure) -> Self {
        Self { figure, must: None, goal: None }
    }

    /// A bound in words.
    pub(super) fn words(&self, bound: Option<Bound>) -> String {
        let sign = if self.figure.more_is_better() { "≥" } else { "≤" };
        match bound {
            None => String::new(),
            Some(Bound::Ratio(ratio)) => format!("{sign} {ratio}×"),
            Some(Bound::Ours(value)) => format!("{sign} {value} {}", self.figure.unit()),
        }
    }

    /// `goal`, `ok`, `missed`, or nothing if there is no bound.
    pub(super) fn verdict(&self, ratio: Option<f64>, ours: Option<f64>) -> &'static str {
        let reached = |bound: Bound| {
            let (value, bound) = match bound {
                Bound::Ratio(bound) => (ratio, bound),
                Bound::Ours(bound) => (ours, bound),
            };
            let more = self.figure.more_is_better();
            value.is_some_and(|value| if more { value >= bound } else { value <= bound })
        };
        let has = |bound: Bound| match bound {
            Bound::Ratio(_) => ratio.is_some(),
            Bound::Ours(_) => ours.is_some(),
        };
        match (self.must, self.goal) {
            (must, Some(goal)) if reached(goal) && must.is_none_or(reached) => "goal",
            (Some(must), _) if reached(must) => "ok",
            (Some(must), _) if has(must) => "missed",
            (None, Some(goal)) if has(goal) => "not yet",
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_judged_by_its_own_kind_of_bound() {
        let row = Row::ratio(Figure::PerSecond, 2.0, 3.0);
        assert_eq!(row.verdict(Some(3.1), None), "goal");
        assert_eq!(row.verdict(Some(2.1), None), "ok");
        assert_eq!(row.verdict(Some(1.9), None), "missed");
        assert_eq!(row.verdict(None, Some(9.0)), "");
        let row = Row::ours(Figure::Max, 50.0);
        assert_eq!(row.verdict(Some(9.0), Some(49.0)), "ok");
        assert_eq!(row.verdict(Some(0.1), Some(51.0)), "missed");
        assert_eq!(row.words(row.must), "≤ 50 ms max");
        let row = Row {
            figure: Figure::Each,
            must: Some(Bound::Ratio(0.6)),
            goal: Some(Bound::Ours(12.0)),
        };
        assert_eq!(row.verdict(Some(0.5), Some(13.0)), "ok");
        assert_eq!(row.verdict(Some(0.5), Some(11.0)), "goal");
    }
}
