//! The charts of the report, as SVG.
//!
//! Owns: axes and lines. Must not know: what a figure means. A newcomer's trap: axes are
//! logarithmic, because loads and key spaces grow by factors.

use anyhow::{Context as _, anyhow};
use plotters::prelude::*;

use super::Compare;
use super::loads::{Figure, Value};
use super::report::{Findings, Setup, median};

const SIZE: (u32, u32) = (720, 420);
const PROGRAMS: [(&str, RGBColor); 2] =
    [("etcd", RGBColor(90, 90, 90)), ("kijabi", RGBColor(0, 110, 200))];

/// A chart: its series in the loads, its axes and its figure.
struct Chart {
    series: &'static str,
    title: &'static str,
    x: &'static str,
    figure: Figure,
}

const CHARTS: [Chart; 5] = [
    Chart { series: "put", title: "puts", x: "clients", figure: Figure::PerSecond },
    Chart { series: "fan-out", title: "events delivered", x: "watchers", figure: Figure::Events },
    Chart {
        series: "fan-out-prev-kv",
        title: "events delivered, with previous values",
        x: "watchers",
        figure: Figure::Events,
    },
    Chart { series: "memory", title: "memory", x: "keys", figure: Figure::Rss },
    Chart { series: "recovery", title: "SIGKILL to serving", x: "keys", figure: Figure::Seconds },
];

type Points = Vec<(f64, f64)>;

/// Draws the charts of a setup there is something for; returns their names.
pub(super) fn draw(
    args: &Compare,
    findings: &Findings,
    setup: Setup,
) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for chart in &CHARTS {
        let lines = PROGRAMS.map(|(program, _)| points(findings, setup, chart, program));
        let title = format!("{} ({})", chart.title, chart.figure.unit());
        let name = format!("{}-{}-{}", chart.series, setup.1, setup.0.name());
        if lines.iter().all(|line| line.len() > 1) {
            plot(args, &name, &title, chart.x, &lines)?;
            names.push(name);
        }
    }
    let lines = PROGRAMS.map(|(program, _)| percentiles(findings, setup, program));
    if lines.iter().all(|line| !line.is_empty()) {
        let name = format!("latency-{}-{}", setup.1, setup.0.name());
        plot(args, &name, "latency of a put, 64 clients (ms)", "one in so many is slower", &lines)?;
        names.push(name);
    }
    Ok(names)
}

fn points(findings: &Findings, setup: Setup, chart: &Chart, program: &'static str) -> Points {
    let loads = findings.loads.iter().filter(|(other, _)| *other == setup);
    let of_series = loads.filter_map(|(_, load)| match load.point {
        Some((series, x)) if series == chart.series => Some((x, load)),
        _ => None,
    });
    let points = of_series.filter_map(|(x, load)| {
        let values = findings.figures(setup, &load.id, program, chart.figure);
        Some((x, median(values.into_values())?))
    });
    points.collect()
}

/// How slow the slowest of so many are.
fn percentiles(findings: &Findings, setup: Setup, program: &'static str) -> Points {
    let mut of_rounds: [Vec<f64>; 4] = Default::default();
    for (_, value) in findings.values(setup, "put, 64 clients", program) {
        let Value::Report(report) = value else { continue };
        let latency = &report.latency;
        let all = [latency.p50, latency.p90, latency.p99, latency.p999];
        for (rounds, micros) in of_rounds.iter_mut().zip(all) {
            rounds.push(micros as f64 / 1_000.0);
        }
    }
    let axis = [2.0, 10.0, 100.0, 1_000.0];
    axis.into_iter().zip(of_rounds).filter_map(|(x, rounds)| Some((x, median(rounds)?))).collect()
}

fn plot(
    args: &Compare,
    name: &str,
    title: &str,
    x: &str,
    lines: &[Points; 2],
) -> anyhow::Result<()> {
    let path = args.out.join(format!("{name}.svg"));
    let all = || lines.iter().flatten();
    let bounds = |of: fn(&(f64, f64)) -> f64| {
        let low = all().map(of).fold(f64::INFINITY, f64::min).max(1e-6);
        let high = all().map(of).fold(f64::NEG_INFINITY, f64::max).max(low);
        (low / 1.2)..(high * 1.2)
    };
    let root = SVGBackend::new(&path, SIZE).into_drawing_area();
    let drawing = || -> Result<(), Box<dyn std::error::Error + '_>> {
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(
                bounds(|point| point.0).log_scale(),
                bounds(|point| point.1).log_scale(),
            )?;
        chart.configure_mesh().x_desc(x).light_line_style(RGBColor(235, 235, 235)).draw()?;
        for ((program, color), points) in PROGRAMS.iter().zip(lines) {
            chart
                .draw_series(
                    LineSeries::new(points.iter().copied(), color.stroke_width(2)).point_size(3),
                )?
                .label(*program)
                .legend(|(x, y)| {
                    PathElement::new(vec![(x, y), (x + 20, y)], color.stroke_width(2))
                });
        }
        chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
        root.present()?;
        Ok(())
    };
    drawing()
        .map_err(|error| anyhow!("{error}"))
        .with_context(|| format!("cannot draw {}", path.display()))
}
