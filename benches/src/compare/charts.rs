//! The charts of the report, as SVG.
//!
//! Owns: axes and lines. Must not know: what a figure means. A newcomer's trap: axes are
//! logarithmic, because loads and key spaces grow by factors.

use anyhow::{Context as _, anyhow};
use plotters::prelude::*;

use super::Compare;
use super::figure::Value;
use super::growth::{self, Points, SERIES};
use super::report::{Findings, PROGRAMS, Setup, median};

const SIZE: (u32, u32) = (720, 420);
const COLORS: [RGBColor; 2] = [RGBColor(90, 90, 90), RGBColor(0, 110, 200)];
/// Loads whose latencies are drawn.
const LATENCIES: [&str; 3] =
    ["put, 64 clients", "put, 1000 clients", "puts at 70 % of etcd's peak"];

/// Draws the charts of a setup there is something for; returns their names.
pub(super) fn draw(
    args: &Compare,
    findings: &Findings,
    setup: Setup,
) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    let file = |what: &str, unit: &str| {
        let text = format!("{what}-{unit}-{}-{}", setup.1, setup.0.name());
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let text: String = text.chars().map(plain).collect();
        text.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
    };
    for series in &SERIES {
        let lines = PROGRAMS.map(|program| growth::points(findings, setup, series, program));
        let title = format!("{} ({})", series.title, series.figure.unit());
        let name = file(series.name, series.figure.unit());
        if lines.iter().all(|line| line.len() > 1) {
            plot(args, &name, &title, series.axis, &lines)?;
            names.push(name);
        }
    }
    for load in LATENCIES {
        let lines = PROGRAMS.map(|program| percentiles(findings, setup, load, program));
        if lines.iter().all(|line| !line.is_empty()) {
            let name = file("latency", load);
            let title = format!("latency: {load} (ms)");
            plot(args, &name, &title, "one in so many is slower", &lines)?;
            names.push(name);
        }
    }
    Ok(names)
}

/// How slow the slowest of so many are.
fn percentiles(findings: &Findings, setup: Setup, load: &str, program: &'static str) -> Points {
    let mut of_rounds: [Vec<f64>; 4] = Default::default();
    for (_, value) in findings.values(setup, load, program) {
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
        for ((program, color), points) in PROGRAMS.iter().zip(COLORS).zip(lines) {
            chart
                .draw_series(
                    LineSeries::new(points.iter().copied(), color.stroke_width(2)).point_size(3),
                )?
                .label(*program)
                .legend(move |(x, y)| {
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
