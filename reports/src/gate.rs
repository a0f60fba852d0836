//! The gate's report as text for a terminal and as Markdown for a pull request.
//!
//! Both open with how many cells were judged of how many: a gate that judged nothing must not look like a green one.

use crate::table::{Align, escape_markdown, text_table};
use crate::terminal::Paint;
use crate::words::{clean, digits, level};
use std::fmt::Write as _;
use switchmark_schema::{GateCell, GateDocument, Verdict};

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Regressed => "REGRESSED",
        Verdict::Ok => "OK",
        Verdict::Improved => "IMPROVED",
        Verdict::Inconclusive => "INCONCLUSIVE",
        Verdict::Unsupported => "UNSUPPORTED",
        Verdict::Failed => "FAILED",
    }
}

/// Worst first.
fn weight(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Regressed => 0,
        Verdict::Failed => 1,
        Verdict::Inconclusive => 2,
        Verdict::Unsupported => 3,
        Verdict::Improved => 4,
        Verdict::Ok => 5,
    }
}

/// `+3.1 % (+1.2 to +5.0)`.
fn change(cell: &GateCell) -> String {
    match &cell.estimate {
        Some(e) if e.percent.is_finite() => {
            let (low, high) = (signed(e.low), signed(e.high));
            format!("{} % ({low} to {high})", signed(e.percent))
        }
        _ => "–".into(),
    }
}

fn signed(x: f64) -> String {
    if !x.is_finite() {
        return "unbounded".into();
    }
    let text = if x.abs() < 100.0 { format!("{:.1}", x.abs()) } else { digits(x.abs()) };
    match text.as_str() {
        "0.0" => text,
        _ if x < 0.0 => format!("−{text}"),
        _ => format!("+{text}"),
    }
}

/// Cells that are not plainly OK, the worst first, in the document's order otherwise.
fn remarkable(doc: &GateDocument) -> Vec<&GateCell> {
    let mut cells: Vec<&GateCell> =
        doc.cells.iter().filter(|c| c.verdict != Verdict::Ok || c.reason.is_some()).collect();
    cells.sort_by_key(|c| weight(c.verdict));
    cells
}

fn judged(doc: &GateDocument) -> String {
    let c = &doc.census;
    let mut out = format!("judged {} of {}", c.judged, c.total);
    for (n, what) in [
        (c.regressed, "regressed"),
        (c.failed, "failed"),
        (c.inconclusive, "inconclusive"),
        (c.unsupported, "unsupported"),
        (c.improved, "improved"),
        (c.ok, "ok"),
    ] {
        if n > 0 {
            let _ = write!(out, ", {n} {what}");
        }
    }
    out
}

fn outcome(doc: &GateDocument) -> &'static str {
    match doc.exit {
        0 if doc.census.judged == 0 => "nothing was judged",
        0 => "no regression",
        1 => "regression",
        2 => "this gate could never fire",
        3 => "a worker failed",
        4 => "not to be trusted: controls failed, or inconclusive",
        _ => "stopped",
    }
}

fn controls(doc: &GateDocument) -> Option<String> {
    let total = doc.controls.len();
    let passed = doc.controls.iter().filter(|c| c.passed).count();
    (total > 0).then(|| format!("controls: {passed} of {total} passed"))
}

fn levels(cells: &[&GateCell]) -> Option<String> {
    let mut levels: Vec<f64> =
        cells.iter().filter_map(|c| c.estimate.map(|e| e.level)).filter(|l| l.is_finite()).collect();
    levels.sort_by(f64::total_cmp);
    match (levels.first(), levels.last()) {
        (Some(a), Some(b)) if a.to_bits() == b.to_bits() => Some(level(*a)),
        (Some(a), Some(b)) => Some(format!("{} to {}", level(*a), level(*b))),
        _ => None,
    }
}

/// The report for a terminal of `width` columns.
pub fn gate_text(doc: &GateDocument, width: usize, color: bool) -> String {
    let paint = Paint { on: color };
    let cells = remarkable(doc);
    let head = format!("gate: {}: {}", outcome(doc), judged(doc));
    let mut out = String::new();
    let line = |out: &mut String, text: &str, style: &str| {
        let _ = writeln!(out, "{}", paint.with(style, &clean(text, width)));
    };
    line(&mut out, &head, if doc.exit == 0 { "1" } else { "1;31" });
    if doc.identical {
        line(&mut out, "base and head are the same bytes", "2");
    }
    if let Some(text) = controls(doc) {
        line(&mut out, &text, "2");
    }
    for warning in &doc.warnings {
        line(&mut out, &format!("warning: {warning}"), "33");
    }
    if !cells.is_empty() {
        let rows: Vec<Vec<String>> = cells
            .iter()
            .map(|c| {
                vec![
                    word(c.verdict).into(),
                    clean(&c.id, 120),
                    change(c),
                    c.blocks.to_string(),
                    clean(c.reason.as_deref().unwrap_or(""), 200),
                ]
            })
            .collect();
        out.push('\n');
        out.push_str(&text_table(
            &["verdict", "cell", "Δ (interval)", "blocks", "reason"],
            &[Align::Left, Align::Left, Align::Right, Align::Right, Align::Left],
            &rows,
            width,
            &[3, 4],
            paint,
        ));
    }
    out
}

/// The report for a comment on a pull request.
pub fn gate_markdown(doc: &GateDocument) -> String {
    let cells = remarkable(doc);
    let mut out = format!("**Switchmark gate: {}** · {}\n", outcome(doc), judged(doc));
    if doc.identical {
        out.push_str("\nBase and head are the same bytes.\n");
    }
    if let Some(text) = controls(doc) {
        let _ = writeln!(out, "\n{text}");
    }
    for warning in &doc.warnings {
        let _ = writeln!(out, "\n> {}", escape_markdown(&clean(warning, 400)));
    }
    if cells.is_empty() {
        out.push_str("\nEvery cell is plainly OK.\n");
        if doc.cells.is_empty() {
            out.truncate(out.len() - "\nEvery cell is plainly OK.\n".len());
            out.push_str("\nThere was no cell to judge.\n");
        }
    } else {
        out.push_str(
            "\n| verdict | cell | metric | Δ (interval) | blocks | reason |\n|---|---|---|--:|--:|---|\n",
        );
        for c in cells.iter().take(MOST_ROWS) {
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} |",
                word(c.verdict),
                escape_markdown(&clean(&c.id, 200)),
                escape_markdown(&clean(&c.metric, 40)),
                change(c),
                c.blocks,
                escape_markdown(&clean(c.reason.as_deref().unwrap_or(""), 300)),
            );
        }
        if cells.len() > MOST_ROWS {
            let _ =
                writeln!(out, "\n… and {} more; the gate's document has them all.", cells.len() - MOST_ROWS);
        }
        if let Some(levels) = levels(&cells) {
            let _ = writeln!(
                out,
                "\nΔ is head against base, positive where head is worse; intervals hold at {levels}."
            );
        }
    }
    let _ = writeln!(
        out,
        "\n<sub>machine {} · {} · base {} · head {}</sub>",
        escape_markdown(&clean(&doc.machine.key, 40)),
        escape_markdown(&clean(&doc.machine.cpu, 80)),
        escape_markdown(&clean(&doc.base.command, 120)),
        escape_markdown(&clean(&doc.head.command, 120)),
    );
    out
}

/// A comment holds 65 536 characters; two hundred rows of these stay below it.
const MOST_ROWS: usize = 60;
