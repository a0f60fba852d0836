//! Tables as text: for a terminal, for Markdown, for a spreadsheet. The page's own tables are in `page`.

use crate::terminal::{Paint, reasons};
use crate::view::{self, families};
use crate::words::{clean, factor_interval, level, quantity_interval};
use std::fmt::Write as _;
use switchmark_schema::{Cell, ResultDocument};

/// Which edge of a column its texts keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A table no wider than `width`: long texts on the left are cut first, then columns of `drop` go, in that order.
pub(crate) fn text_table(
    heads: &[&str],
    aligns: &[Align],
    rows: &[Vec<String>],
    width: usize,
    drop: &[usize],
    paint: Paint,
) -> String {
    let len = |s: &str| s.chars().count();
    let natural: Vec<usize> = (0..heads.len())
        .map(|i| rows.iter().map(|r| len(&r[i])).max().unwrap_or(0).max(len(heads[i])))
        .collect();
    let mut kept: Vec<usize> = (0..heads.len()).collect();
    let mut drops = drop.iter();
    let widths = loop {
        let mut widths = natural.clone();
        let total =
            |w: &[usize]| kept.iter().map(|i| w[*i]).sum::<usize>() + 2 * kept.len().saturating_sub(1);
        while total(&widths) > width {
            let Some(i) = kept
                .iter()
                .copied()
                .filter(|i| aligns[*i] == Align::Left && widths[*i] > 18.min(natural[*i]))
                .max_by_key(|i| widths[*i])
            else {
                break;
            };
            widths[i] -= 1;
        }
        if total(&widths) <= width {
            break widths;
        }
        let Some(gone) = drops.next() else {
            break widths;
        };
        kept.retain(|i| i != gone);
    };
    let line = |cells: &dyn Fn(usize) -> String| {
        let mut out = String::new();
        for (n, i) in kept.iter().enumerate() {
            if n > 0 {
                out.push_str("  ");
            }
            let text = squeeze(&cells(*i), widths[*i].max(1));
            let pad = " ".repeat(widths[*i].saturating_sub(len(&text)));
            match aligns[*i] {
                Align::Left => out.extend([text.as_str(), &pad]),
                Align::Right => out.extend([pad.as_str(), &text]),
            }
        }
        let cut: String = out.chars().take(width).collect();
        cut.trim_end().to_owned()
    };
    let mut out = String::new();
    let _ = writeln!(out, "{}", paint.with("1", &line(&|i| heads[i].into())));
    for row in rows {
        let _ = writeln!(out, "{}", line(&|i| row[i].clone()));
    }
    out
}

/// Cuts out of the middle: rows differ at their ends.
fn squeeze(text: &str, most: usize) -> String {
    let text = clean(text, 1000);
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= most {
        return text;
    }
    let tail = most.saturating_sub(1) / 2;
    let head = most.saturating_sub(1) - tail;
    let keep = |part: &[char]| part.iter().collect::<String>();
    format!("{}…{}", keep(&chars[..head]), keep(&chars[chars.len() - tail..]))
}

/// Makes a text mean itself in Markdown: no markup, no link, no mention, no column.
pub(crate) fn escape_markdown(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '|' => out.push_str("&#124;"),
            '@' => out.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '#' | '!' | '~' => out.extend(['\\', c]),
            // A colon after a scheme is what turns a bare address into a link.
            ':' => out.push_str("&#58;"),
            '\n' | '\r' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// The summary for a README or a comment: a Markdown table, the machine, and the command that made it.
pub fn markdown_summary(doc: &ResultDocument, command: &str) -> String {
    let mut out = String::from(
        "| operation | thread | coroutine | coroutine's advantage | processes |\n|---|--:|--:|--:|--:|\n",
    );
    let mut empty = true;
    for workload in view::operations(&families(doc)) {
        for group in &workload.groups {
            let (thread, coroutine) = (group.of("thread"), group.of("coroutine"));
            if thread.is_none() && coroutine.is_none() {
                continue;
            }
            empty = false;
            let verdict = group.verdict();
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} |",
                escape_markdown(&clean(&workload.row_name(group), 160)),
                escape_markdown(&value(thread)),
                escape_markdown(&value(coroutine)),
                verdict.map_or_else(|| "–".into(), |a| factor_interval(a.median, a.low, a.high)),
                verdict.map_or_else(|| "–".into(), |a| a.blocks.to_string()),
            );
        }
    }
    if empty {
        out = String::from("No cell of this result is of a thread or a coroutine.\n");
    }
    let census = &doc.census;
    let _ = writeln!(
        out,
        "\n{} · Linux {} · {} CPUs · machine {} · {} · measured {} of {} cells{}.",
        escape_markdown(&clean(&doc.machine.cpu, 80)),
        escape_markdown(&clean(&doc.machine.kernel, 60)),
        doc.machine.cpus,
        escape_markdown(&clean(&doc.machine.key, 40)),
        escape_markdown(&clean(&doc.run.started, 40)),
        census.measured,
        census.total,
        reasons(doc).first().map_or_else(String::new, |(reason, status, _)| {
            escape_markdown(&format!(" (first of the others is {status}: {})", clean(reason, 120)))
        }),
    );
    if !view::has_estimates(doc) {
        out.push_str("\nFewer than six blocks: there are no intervals, so these are no results.\n");
    }
    if !command.is_empty() {
        // A code span cannot be escaped, only fenced by more backticks than it holds.
        let command = clean(command, 300).replace('`', "'");
        let _ = writeln!(out, "\nMade by `{command}`.");
    }
    out
}

fn value(cell: Option<&Cell>) -> String {
    let Some(cell) = cell else { return "–".into() };
    match (view::cell_point(cell), cell.primary_metric()) {
        (Some(p), Some(m)) => match p.interval {
            Some(i) => quantity_interval(p.middle, i.low, i.high, &m.unit),
            None => crate::words::quantity(p.middle, &m.unit),
        },
        _ => view::status_word(cell.status).into(),
    }
}

/// One row a cell and metric, samples joined by `;`; a cell without numbers has its row with status and reason.
pub fn csv(doc: &ResultDocument) -> String {
    let mut out = String::from(
        "id,workload,contender,placement,status,reason,metric,unit,better,median,low,high,level,\
         ratio_to_thread,ratio_low,ratio_high,blocks,samples\n",
    );
    for cell in &doc.cells {
        let head = [
            cell.id.as_str(),
            &cell.workload,
            &cell.contender,
            &cell.placement,
            view::status_word(cell.status),
            cell.reason.as_deref().unwrap_or(""),
        ]
        .map(csv_field)
        .join(",");
        if cell.metrics.is_empty() {
            let _ = writeln!(out, "{head}{}", ",".repeat(12));
        }
        for (name, metric) in &cell.metrics {
            let number =
                |x: Option<f64>| x.filter(|x| x.is_finite()).map_or_else(String::new, |x| x.to_string());
            let e = metric.estimate.as_ref();
            let r = metric.ratios.iter().find(|r| r.to == "thread");
            let samples: Vec<String> = metric.samples.iter().map(|s| number(Some(s.value))).collect();
            let fields = [
                csv_field(name),
                csv_field(&metric.unit),
                match metric.better {
                    switchmark_schema::Better::Lower => "lower".into(),
                    switchmark_schema::Better::Higher => "higher".into(),
                },
                number(e.map(|e| e.median)),
                number(e.map(|e| e.low)),
                number(e.map(|e| e.high)),
                number(e.map(|e| e.level)),
                number(r.map(|r| r.median)),
                number(r.map(|r| r.low)),
                number(r.map(|r| r.high)),
                r.map_or_else(String::new, |r| r.blocks.to_string()),
                samples.join(";"),
            ];
            let _ = writeln!(out, "{head},{}", fields.join(","));
        }
    }
    out
}

/// Quoted where needed; what a spreadsheet would run as a formula gets an apostrophe first.
fn csv_field(text: &str) -> String {
    let text = clean(text, 4000);
    let text = if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text };
    if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// `n = 12, order-statistic interval at 96.1 %`.
pub(crate) fn interval_words(cells: &[&Cell]) -> String {
    let estimates: Vec<_> = cells
        .iter()
        .filter_map(|c| c.primary_metric())
        .filter_map(|m| m.estimate.as_ref().map(|e| (m.samples.len(), e)))
        .collect();
    if estimates.is_empty() {
        return "No interval: fewer than six processes a cell, so only the processes themselves are drawn"
            .into();
    }
    let span = |mut v: Vec<f64>, show: &dyn Fn(f64) -> String| {
        v.retain(|x| x.is_finite());
        v.sort_by(f64::total_cmp);
        match (v.first(), v.last()) {
            (Some(a), Some(b)) if show(*a) == show(*b) => show(*a),
            (Some(a), Some(b)) => format!("{} to {}", show(*a), show(*b)),
            _ => "–".into(),
        }
    };
    let n = span(estimates.iter().map(|(n, _)| *n as f64).collect(), &|x| format!("{x:.0}"));
    let levels = span(estimates.iter().map(|(_, e)| e.level).collect(), &level);
    format!(
        "{n} processes a cell; whisker: {} interval of the median at {levels}",
        clean(&estimates[0].1.method, 40)
    )
}
