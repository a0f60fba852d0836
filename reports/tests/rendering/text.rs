//! What is not the page: terminal, gate, CSV, spliced Markdown. The wording is held by golden files.

use crate::common::{empty, gate, quick, smoke};
use switchmark_reports::{csv, gate_markdown, gate_text, markdown_summary, splice, terminal_summary};
use switchmark_schema::{GateCensus, Verdict};

/// Compares with a golden file; what came out instead is left in the target folder.
fn golden(name: &str, got: &str) {
    let expected = match name {
        "terminal-quick.txt" => include_str!("../golden/terminal-quick.txt"),
        "terminal-smoke.txt" => include_str!("../golden/terminal-smoke.txt"),
        "summary-quick.md" => include_str!("../golden/summary-quick.md"),
        "gate.md" => include_str!("../golden/gate.md"),
        "gate.txt" => include_str!("../golden/gate.txt"),
        other => panic!("no golden file {other}"),
    };
    if got != expected {
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, got).expect("the target folder can be written");
        panic!("differs from tests/golden/{name}; if that is meant, copy {} over it", path.display());
    }
}

#[test]
fn the_terminal_summary_says_what_it_said() {
    golden("terminal-quick.txt", &terminal_summary(&quick(), 100, false));
    golden("terminal-smoke.txt", &terminal_summary(&smoke(), 80, false));
}

#[test]
fn the_markdown_summary_says_what_it_said() {
    golden("summary-quick.md", &markdown_summary(&quick(), "switchmark run --profile quick"));
}

#[test]
fn the_gate_says_what_it_said() {
    golden("gate.md", &gate_markdown(&gate()));
    golden("gate.txt", &gate_text(&gate(), 110, false));
}

#[test]
fn the_terminal_summary_fits_its_width_and_a_screen() {
    for doc in [quick(), smoke(), empty()] {
        for width in [20, 40, 60, 80, 100, 132, 400] {
            let text = terminal_summary(&doc, width, false);
            assert!(text.lines().count() <= 24, "{text}");
            for line in text.lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
            assert!(!text.contains('\u{1b}'));
        }
    }
    assert!(terminal_summary(&quick(), 80, true).contains('\u{1b}'));
}

#[test]
fn a_gate_says_judged_of_all_first_and_has_a_row_for_every_cell_not_plainly_ok() {
    let doc = gate();
    let text = gate_markdown(&doc);
    let first = text.lines().next().expect("a line");
    assert!(first.contains("judged 4 of 7"), "{first}");
    for cell in &doc.cells {
        let id = cell.id.replace('_', "\\_");
        let plain = cell.verdict == Verdict::Ok && cell.reason.is_none();
        assert_eq!(text.contains(&id), !plain, "{}", cell.id);
    }
    let line = text.lines().find(|l| l.starts_with("| REGRESSED")).expect("its row");
    assert!(line.contains("+7.2 % (+5.1 to +9.4) | 9 |"), "{line}");
}

#[test]
fn a_gate_that_judged_nothing_does_not_look_green() {
    let mut doc = gate();
    doc.cells.clear();
    doc.census = GateCensus::of(&doc.cells);
    doc.exit = 0;
    for text in [gate_markdown(&doc), gate_text(&doc, 100, false)] {
        assert!(text.contains("nothing was judged") && text.contains("judged 0 of 0"), "{text}");
        assert!(!text.contains("plainly OK") && !text.contains("no regression"), "{text}");
    }
}

#[test]
fn csv_has_a_row_for_every_cell_and_all_rows_have_the_same_fields() {
    let doc = quick();
    let text = csv(&doc);
    let head = text.lines().next().expect("a head").split(',').count();
    for cell in &doc.cells {
        let row = text.lines().find(|l| l.starts_with(&format!("{},", cell.id))).expect("its row");
        if !row.contains('"') {
            assert_eq!(row.split(',').count(), head, "{row}");
        }
    }
    let row =
        text.lines().find(|l| l.starts_with("switch.yield/tasks=2/same-core/coroutine,")).expect("its row");
    assert_eq!(row.rsplit(',').next().expect("samples").split(';').count(), 12);
}

#[test]
fn a_summary_can_be_spliced_into_a_readme_again_and_again() {
    let readme = "# R\n<!-- switchmark:begin summary -->\n<!-- switchmark:end summary -->\nend\n";
    let table = markdown_summary(&quick(), "switchmark run");
    let once = splice(readme, "summary", &table).expect("spliced");
    assert!(once.contains("| Yield · tasks 2 |") && once.ends_with("-->\nend\n"));
    assert_eq!(splice(&once, "summary", &table).expect("spliced"), once);
}

#[test]
fn the_samples_agree_with_themselves() {
    let doc = quick();
    let middle = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
    };
    let mut ratios = 0;
    for cell in &doc.cells {
        for metric in cell.metrics.values() {
            let mut values: Vec<f64> = metric.samples.iter().map(|s| s.value).collect();
            let estimate = metric.estimate.as_ref().expect("twelve blocks");
            assert!((middle(&mut values) - estimate.median).abs() <= 1e-6 * estimate.median);
            assert!(values.contains(&estimate.low) && values.contains(&estimate.high));
        }
        let Some(metric) = cell.primary_metric() else {
            continue;
        };
        for ratio in &metric.ratios {
            let other = doc
                .cells
                .iter()
                .find(|c| c.group() == cell.group() && c.contender == ratio.to)
                .and_then(|c| c.primary_metric())
                .expect("the other cell");
            let mut paired: Vec<f64> = metric
                .samples
                .iter()
                .filter_map(|s| {
                    let o = other.samples.iter().find(|o| o.block == s.block)?;
                    Some(s.value / o.value)
                })
                .collect();
            assert!((middle(&mut paired) - ratio.median).abs() <= 1e-5 * ratio.median, "{}", cell.id);
            ratios += 1;
        }
    }
    assert!(ratios > 40);
}
