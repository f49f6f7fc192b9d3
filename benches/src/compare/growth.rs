//! How cost grows: a line through the points of a series, and what its slope says.
//!
//! Owns: the series, the fit, the words. Must not know: how points were measured. A newcomer's
//! trap: both axes are logarithmic, so the slope is the exponent; 0 is flat, 1 is in proportion.

use super::Storage;
use super::figure::Figure;
use super::report::{Findings, Setup, median};

/// Points of a program.
pub(super) type Points = Vec<(f64, f64)>;

/// A figure over an axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Series {
    /// Its name in the loads.
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) axis: &'static str,
    pub(super) figure: Figure,
}

const fn series(
    name: &'static str,
    title: &'static str,
    axis: &'static str,
    figure: Figure,
) -> Series {
    Series { name, title, axis, figure }
}

/// All of them.
pub(super) const SERIES: [Series; 16] = [
    series("put", "puts against clients", "clients", Figure::PerSecond),
    series("put", "latency of a put against clients", "clients", Figure::P99),
    series("put", "CPU of a put against clients", "clients", Figure::CpuMicros),
    series("fan-out", "events delivered", "watchers", Figure::Events),
    series(
        "fan-out with prev_kv",
        "events delivered, with previous values",
        "watchers",
        Figure::Events,
    ),
    series("value size", "puts against the value's size", "bytes", Figure::PerSecond),
    series("value size", "latency of a put against the value's size", "bytes", Figure::P99),
    series("memory", "memory against keys", "keys", Figure::Rss),
    series("recovery", "SIGKILL to serving against keys", "keys", Figure::Seconds),
    series("get", "latency of a get against keys", "keys", Figure::P50),
    series("count", "latency of a count against keys", "keys", Figure::P50),
    series("page", "latency of a page of 500 against keys", "keys", Figure::P50),
    series("put by keys", "puts against keys", "keys", Figure::PerSecond),
    series("put by keys", "latency of a put against keys", "keys", Figure::P99),
    series(MEMBERS, "puts against members, 1,000 clients", "members", Figure::PerSecond),
    series(MEMBERS, "latency of a put against members", "members", Figure::P99),
];

/// The series that goes over the setups.
pub(super) const MEMBERS: &str = "members";
const OF_MEMBERS: &str = "put, 1000 clients";

/// The medians of a program.
pub(super) fn points(
    findings: &Findings,
    setup: Setup,
    series: &Series,
    program: &'static str,
) -> Points {
    let value =
        |setup, id: &str| median(findings.figures(setup, id, program, series.figure).into_values());
    if series.name == MEMBERS {
        let of = |members: usize| Some((members as f64, value((setup.0, members), OF_MEMBERS)?));
        return if setup.1 == 1 { [1, 3, 5].into_iter().filter_map(of).collect() } else { vec![] };
    }
    let of_setup = findings.loads.iter().filter(|(other, _)| *other == setup);
    let of_series = of_setup.filter_map(|(_, load)| match load.point {
        Some((name, x)) if name == series.name => Some((x, load)),
        _ => None,
    });
    of_series.filter_map(|(x, load)| Some((x, value(setup, &load.id)?))).collect()
}

/// The exponent of the power that fits best.
pub(super) fn exponent(points: &Points) -> Option<f64> {
    let logs: Vec<(f64, f64)> = points
        .iter()
        .filter(|(x, y)| *x > 0.0 && *y > 0.0)
        .map(|(x, y)| (x.ln(), y.ln()))
        .collect();
    if logs.len() < 2 {
        return None;
    }
    let count = logs.len() as f64;
    let mean_x = logs.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = logs.iter().map(|(_, y)| y).sum::<f64>() / count;
    let spread: f64 = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let slope: f64 = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    (spread > 0.0).then(|| slope / spread)
}

/// An exponent in words.
pub(super) fn words(exponent: f64) -> String {
    let shape = match exponent {
        ..-0.9 => "falls in proportion",
        ..-0.3 => "falls, slower than in proportion",
        ..-0.1 => "falls slightly",
        ..0.1 => "flat",
        ..0.3 => "grows slightly",
        ..0.9 => "grows slower than in proportion",
        ..1.1 => "grows in proportion",
        _ => "grows faster than in proportion",
    };
    format!("{shape} (n^{exponent:.2})")
}

/// The setups a series is drawn for: each that has points.
pub(super) fn heading(setup: Setup, series: &Series) -> String {
    let storage = match setup.0 {
        Storage::Tmpfs => "tmpfs",
        Storage::Disk => "disk",
    };
    if series.name == MEMBERS {
        storage.into()
    } else {
        format!("{} member(s), {storage}", setup.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_is_found() {
        let of = |power: f64| -> Points {
            [10.0_f64, 100.0, 1_000.0].iter().map(|x| (*x, 3.0 * x.powf(power))).collect()
        };
        for power in [-1.0, 0.0, 0.5, 1.0, 2.0] {
            assert!((exponent(&of(power)).unwrap() - power).abs() < 1e-9);
        }
        assert_eq!(exponent(&vec![(1.0, 1.0)]), None);
        assert_eq!(words(0.02), "flat (n^0.02)");
        assert_eq!(words(1.0), "grows in proportion (n^1.00)");
    }
}
