//! The summary after a run: a screen at most, as wide as the terminal and no wider.

use crate::table::{Align, text_table};
use crate::view::{self, Group, families};
use crate::words::{clean, factor_interval, quantity};
use std::fmt::Write as _;
use switchmark_schema::{Cell, FindingStatus, ResultDocument, Status};

/// Rows of the table, so that with its head, the reasons and the path the summary fits 24 lines.
const MOST_ROWS: usize = 14;
/// Reasons spelt out.
const MOST_REASONS: usize = 4;

/// Colour or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    pub(crate) on: bool,
}

impl Paint {
    pub(crate) fn with(self, code: &str, text: &str) -> String {
        if self.on && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.into() }
    }
}

/// Operation, thread, coroutine, ratio with its interval, state of the ledger; then what has no number and why,
/// and the doctor's two worst findings. No line is wider than `width`.
pub fn terminal_summary(doc: &ResultDocument, width: usize, color: bool) -> String {
    let width = width.max(20);
    let paint = Paint { on: color };
    let mut rows = Vec::new();
    let mut left_out = 0;
    for workload in view::operations(&families(doc)) {
        for group in &workload.groups {
            if group.of("thread").is_none() && group.of("coroutine").is_none() {
                continue;
            }
            if rows.len() == MOST_ROWS {
                left_out += 1;
                continue;
            }
            rows.push(vec![
                clean(&workload.row_name(group), 80),
                number(group.of("thread")),
                number(group.of("coroutine")),
                group.verdict().map_or_else(|| "–".into(), |a| factor_interval(a.median, a.low, a.high)),
                ledger(group).into(),
            ]);
        }
    }
    let mut out = String::new();
    let mut line = |text: &str, style: &str| {
        let indent = if text.starts_with("  ") { "  " } else { "" };
        let text = clean(text, width - indent.len());
        let _ = writeln!(out, "{}", paint.with(style, &format!("{indent}{text}")));
    };
    if !view::has_estimates(doc) {
        line("no intervals: fewer than six blocks, so these are no results yet", "33");
    }
    // What makes the whole run doubtful, its exit code too.
    for warning in doc.warnings.iter().filter(|warning| warning.starts_with("environment:")) {
        line(warning, "1;31");
    }
    let census = &doc.census;
    let mut text = format!("measured {} of {} cells", census.measured, census.total);
    for (n, what) in [
        (census.invalid, "invalid"),
        (census.failed, "failed"),
        (census.unsupported, "unsupported"),
        (census.skipped, "skipped"),
    ] {
        if n > 0 {
            let _ = write!(text, ", {n} {what}");
        }
    }
    let bad = census.invalid + census.failed > 0;
    line(&text, if bad { "1;31" } else { "1" });
    for (reason, status, n) in reasons(doc).into_iter().take(MOST_REASONS) {
        let times = if n > 1 { format!(" ({n} cells)") } else { String::new() };
        line(&format!("  {status}{times}: {reason}"), "2");
    }
    for finding in worst_findings(doc) {
        line(&format!("  doctor: {finding}"), "33");
    }
    if rows.is_empty() {
        return out;
    }
    let mut table = text_table(
        &["operation", "thread", "coroutine", "advantage", "ledger"],
        &[Align::Left, Align::Right, Align::Right, Align::Right, Align::Left],
        &rows,
        width,
        &[4, 1, 2],
        paint,
    );
    if left_out > 0 {
        let _ = writeln!(
            table,
            "{}",
            paint.with("2", &clean(&format!("… and {left_out} more on the page"), width))
        );
    }
    format!("{table}\n{out}")
}

fn number(cell: Option<&Cell>) -> String {
    let Some(cell) = cell else { return "–".into() };
    match (view::cell_point(cell), cell.primary_metric()) {
        (Some(p), Some(m)) => quantity(p.middle, &m.unit),
        _ => view::status_word(cell.status).into(),
    }
}

/// The weaker of the two contenders' books.
fn ledger(group: &Group) -> &'static str {
    let words: Vec<&str> =
        ["thread", "coroutine"].iter().filter_map(|c| group.of(c)).map(view::ledger_word).collect();
    ["refuted", "none", "units only", "recorded", "balanced"]
        .into_iter()
        .find(|w| words.contains(w))
        .unwrap_or("none")
}

/// Reasons with their status and how many cells share them, the gravest first.
pub(crate) fn reasons(doc: &ResultDocument) -> Vec<(String, &'static str, usize)> {
    let mut out: Vec<(String, &'static str, usize)> = Vec::new();
    let grave = [Status::Failed, Status::Invalid, Status::Unsupported, Status::Skipped];
    for status in grave {
        for cell in doc.cells.iter().filter(|c| c.status == status) {
            let reason = clean(cell.reason.as_deref().unwrap_or("no reason given"), 300);
            let word = view::status_word(status);
            if let Some(seen) = out.iter_mut().find(|(r, w, _)| *r == reason && *w == word) {
                seen.2 += 1;
            } else if out.len() < 200 {
                out.push((reason, word, 1));
            }
        }
    }
    out
}

fn worst_findings(doc: &ResultDocument) -> Vec<String> {
    let of = |status| doc.doctor.iter().filter(move |f| f.status == status);
    of(FindingStatus::Bad)
        .chain(of(FindingStatus::Warn))
        .take(2)
        .map(|f| clean(&format!("{}: {}", f.check, f.effect), 200))
        .collect()
}
