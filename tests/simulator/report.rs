//! What was tried and how often, for people: as text, and as one page with pictures.

use crate::simulator::totals::{Totals, sorted};
use crate::simulator::world::SECOND;
use std::fmt::Write as _;
use std::time::Duration;

/// Of a bar, in pixels.
const BAR_WIDTH: u64 = 420;

fn millis(nanos: u64) -> String {
    let (whole, tenths) = (nanos / 1_000_000, nanos / 100_000 % 10);
    if whole >= 10 { format!("{whole} ms") } else { format!("{whole}.{tenths} ms") }
}

/// The numbers of the head: (what, how much).
fn head(totals: &Totals) -> Vec<(&'static str, String)> {
    let report = &totals.report;
    let seconds = report.nanos / SECOND;
    let speed = Duration::from_nanos(report.nanos).as_secs_f64() / totals.busy_seconds.max(1e-9);
    let mut rows = vec![
        ("seeds", totals.seeds.to_string()),
        ("seeds run twice, equal", totals.twice.to_string()),
        ("simulated hours", format!("{}.{:02}", seconds / 3600, seconds % 3600 / 36)),
        ("acknowledged operations", report.acknowledged.to_string()),
        ("faults", totals.inflicted().to_string()),
        ("leader changes", report.leader_changes.to_string()),
        ("snapshot installs", report.installs.to_string()),
        ("events", report.events.to_string()),
        ("speed", format!("{speed:.0} × real time a core")),
        ("wall time", format!("{:.0} s", totals.wall_seconds)),
    ];
    if totals.seeds == 1 {
        rows.push(("trace", format!("{:016x}", report.trace)));
    }
    rows
}

/// The report as text.
#[must_use]
pub fn text(totals: &Totals) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    for (what, value) in head(totals) {
        let _ = writeln!(out, "{what:<32} {value}");
    }
    let report = &totals.report;
    for (title, rows) in [("faults", &report.faults), ("checks", &report.checks)] {
        let _ = writeln!(out, "{title}");
        for (kind, count) in sorted(rows) {
            let _ = writeln!(out, "  {kind:<44} {count}");
        }
    }
    let title = "time without a success of anybody, by the fault in it";
    let _ = writeln!(out, "{title:<56} {:>10} {:>10}", "half below", "worst");
    for (kind, gaps) in &report.gaps {
        let (half, worst) = (millis(gaps.median()), millis(gaps.worst));
        let _ = writeln!(out, "  {kind:<54} {half:>10} {worst:>10}");
    }
    let _ = writeln!(out, "violations                       {}", totals.broken.len());
    for (seed, broken) in &totals.broken {
        let _ = writeln!(out, "  seed {seed}: {broken}");
    }
    out
}

/// A row of a table with a bar: how long, of the longest.
fn bar(out: &mut String, name: &str, value: &str, (length, longest): (u64, u64)) {
    let width = BAR_WIDTH * length / longest.max(1);
    let _ = writeln!(
        out,
        "<tr><td>{name}</td><td class=n>{value}</td><td><svg width={BAR_WIDTH} height=12>\
         <rect width={} height=12 rx=2></rect></svg></td></tr>",
        width.max(1)
    );
}

/// Logarithms, in thousandths of a doubling: counts differ by too much for a straight scale.
fn scaled(count: u64) -> u64 {
    let count = count.max(1);
    let whole = u64::from(count.ilog2());
    whole * 1_000 + (count - (1 << whole)) * 1_000 / (1 << whole) + 200
}

/// The report as one page.
#[must_use]
pub fn html(totals: &Totals) -> String {
    let mut out = String::from(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Quorate: simulated</title>\
         <style>body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;\
         padding:0 1rem;color:#222;background:#fff}table{border-collapse:collapse}\
         td{padding:.1rem .8rem .1rem 0}.n{text-align:right;font-variant-numeric:tabular-nums}\
         rect{fill:#3b6ea8}.bad{color:#a11}\
         @media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}\
         rect{fill:#6ea0dc}}</style><h1>What was tried, and how often</h1><table>\n",
    );
    for (what, value) in head(totals) {
        let _ = writeln!(out, "<tr><td>{what}</td><td class=n>{value}</td></tr>");
    }
    let class = if totals.broken.is_empty() { "" } else { " class=bad" };
    let _ = writeln!(
        out,
        "<tr{class}><td>violations</td><td class=n>{}</td></tr></table>",
        totals.broken.len()
    );
    let report = &totals.report;
    for (title, rows) in [("Faults", &report.faults), ("Checks", &report.checks)] {
        let _ = writeln!(out, "<h2>{title}</h2><p>Bars are on a logarithmic scale.</p><table>");
        let rows = sorted(rows);
        let longest = rows.first().map_or(1, |(_, count)| scaled(*count));
        for (kind, count) in rows {
            bar(&mut out, kind, &count.to_string(), (scaled(count), longest));
        }
        out.push_str("</table>\n");
    }
    out.push_str(
        "<h2>The longest time without a success of anybody, by the fault in it</h2>\
         <p>Other faults are about at the same time: the worst is that of their company.</p>\
         <table>\n",
    );
    let longest = report.gaps.values().map(|gaps| gaps.worst).max().unwrap_or(1);
    for (kind, gaps) in &report.gaps {
        let value = format!("{} (half below {})", millis(gaps.worst), millis(gaps.median()));
        bar(&mut out, kind, &value, (gaps.worst, longest));
    }
    out.push_str("</table></html>\n");
    out
}
