//! Documents that nobody would write: markup in every string, floats that are none, sizes without sense.
//! They come from outside, so a page must be made of them, and it must say what they say and do nothing.

use crate::common::{faults, gate, quick};
use proptest::prelude::*;
use std::collections::BTreeMap;
use switchmark_reports::{
    PageOptions, charts, csv, gate_markdown, gate_text, markdown_summary, png, render_page, terminal_summary,
};
use switchmark_schema::{
    Better, Cell, Census, Estimate, Memory, Metric, ParamValue, PerUnitBytes, Ratio, ResultDocument, Sample,
    Status, Stopped, Witness,
};

const EVIL: &str = "</title></style></script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`|@all [a](javascript:x) ]]> --> {{ 7919*7907 }} {% x %} \u{1b}[31m\u{0}\u{202e}&lt;\n# h";

/// Puts a text wherever the document holds one.
fn poison(doc: &ResultDocument, evil: &str) -> ResultDocument {
    fn walk(value: &mut serde_json::Value, evil: &str) {
        match value {
            serde_json::Value::String(s) if !FIXED.contains(&s.as_str()) => *s = format!("{evil}{s}"),
            serde_json::Value::Array(a) => a.iter_mut().for_each(|v| walk(v, evil)),
            serde_json::Value::Object(o) => {
                let old = std::mem::take(o);
                for (k, mut v) in old {
                    walk(&mut v, evil);
                    // Maps keyed by the document's words: parameters, metrics, counters.
                    let free = ["tasks", "coroutines", "context-switches", "cycles", "per_yield"]
                        .contains(&k.as_str());
                    o.insert(if free { format!("{evil}{k}") } else { k }, v);
                }
            }
            _ => {}
        }
    }
    // Words that are variants of a type, and what ties cells together.
    const FIXED: [&str; 24] = [
        "measured",
        "invalid",
        "unsupported",
        "skipped",
        "failed",
        "lower",
        "higher",
        "width",
        "budget",
        "cap",
        "counted",
        "scaled",
        "not_counted",
        "denied",
        "overflow",
        "null",
        "liveness",
        "ok",
        "warn",
        "bad",
        "unknown",
        "time",
        "bytes",
        "thread",
    ];
    let mut value = serde_json::to_value(doc).expect("json");
    walk(&mut value, evil);
    serde_json::from_value(value).expect("still the shape of a result")
}

fn tries(doc: &ResultDocument) -> String {
    let options = PageOptions { command: EVIL.into() };
    let page = render_page(std::slice::from_ref(doc), &options).expect("a page");
    assert_eq!(faults(&page), Vec::<String>::new());
    for chart in charts(doc).expect("charts") {
        let svg = roxmltree::Document::parse(&chart.svg).expect("a chart is well-formed");
        assert!(svg.descendants().all(|n| n.tag_name().name() != "script"));
        assert!(!chart.svg.contains("NaN") && !chart.svg.contains("\"inf"));
    }
    for width in [0, 1, 30, 90] {
        for line in terminal_summary(doc, width, false).lines() {
            assert!(line.chars().count() <= width.max(20));
            assert!(!line.contains('\u{1b}') && !line.contains('\u{202e}'));
        }
    }
    let markdown = markdown_summary(doc, EVIL);
    let written = markdown.split_once("Made by `").map_or(markdown.as_str(), |(before, _)| before);
    assert!(!written.contains('<'), "{markdown}");
    let _ = csv(doc);
    page
}

#[test]
fn markup_in_any_string_of_a_result_is_text_everywhere() {
    let doc = poison(&quick(), EVIL);
    assert!(doc.machine.cpu.contains("<script>") && doc.cells[0].id.contains("<script>"), "it is poisoned");
    let page = tries(&doc);
    assert_eq!(page.matches("<script>").count(), 1, "ours alone");
    assert!(!page.contains("<img") && !page.contains("62615533"), "markup or a template came to life");
    assert!(page.contains("&lt;script&gt;alert(1)"), "and the reader sees what stood there");
}

#[test]
fn a_row_of_markdown_stays_a_row_whatever_its_words() {
    let doc = poison(&quick(), EVIL);
    for line in markdown_summary(&doc, "x").lines().filter(|l| l.starts_with("| ")) {
        assert_eq!(line.matches('|').count(), 6, "{line}");
    }
    let mut doc = gate();
    for cell in &mut doc.cells {
        cell.id = format!("{EVIL}{}", cell.id);
        cell.reason = Some(EVIL.into());
    }
    doc.warnings = vec![EVIL.into()];
    doc.machine.cpu = EVIL.into();
    let text = gate_markdown(&doc);
    for line in text.lines() {
        assert!(!line.contains("<script") && !line.contains("<img") && !line.contains("@all"), "{line}");
        if line.starts_with("| ") {
            assert_eq!(line.matches('|').count(), 7, "{line}");
        }
    }
    assert!(text.len() < 65_536, "more than a comment holds");
    assert!(gate_text(&doc, 80, false).lines().all(|l| l.chars().count() <= 80 && !l.contains('\u{1b}')));
}

#[test]
fn a_formula_in_a_csv_is_a_text() {
    let mut doc = quick();
    doc.cells[0].id = "=HYPERLINK(\"x\")".into();
    assert!(csv(&doc).contains("\"'=HYPERLINK(\"\"x\"\")\""));
}

#[test]
fn a_megabyte_of_reason_and_ten_thousand_cells_still_give_a_page_that_opens() {
    let mut doc = quick();
    let cell = doc.cells[0].clone();
    for n in 0..2000 {
        let mut c = cell.clone();
        c.id = format!("switch.raw/coroutines={n}/same-core/call");
        doc.cells.push(c);
    }
    doc.cells[0].status = Status::Failed;
    doc.cells[0].reason = Some("x".repeat(1 << 20));
    doc.census = Census::of(&doc.cells);
    let page = tries(&doc);
    assert!(page.len() < 4_000_000, "{}", page.len());
    assert!(
        crate::common::words(&page).contains("switch.raw/coroutines=1999/same-core/call"),
        "every cell has its row"
    );
}

#[test]
fn no_nan_reaches_a_chart_or_a_reader() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 1e308, 5e-324] {
        let mut doc = quick();
        for cell in &mut doc.cells {
            for metric in cell.metrics.values_mut() {
                metric.samples[0].value = bad;
                if let Some(e) = &mut metric.estimate {
                    (e.median, e.high) = (bad, bad);
                }
                for r in &mut metric.ratios {
                    (r.median, r.level) = (bad, bad);
                }
            }
            if let Some(m) = &mut cell.memory {
                m.per_unit_bytes.slab = bad;
                m.vmas_per_unit = bad;
            }
        }
        doc.controls[0].ratio.median = bad;
        let page = tries(&doc);
        assert!(!crate::common::words(&page).contains("NaN"), "{bad}");
    }
}

#[test]
fn an_svg_that_is_not_ours_gives_an_error_or_a_picture_but_loads_nothing() {
    assert!(png("").is_err());
    assert!(png("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1 90000\"/>").is_err(), "too high");
    let outside = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 9 9\"><image href=\"/etc/hostname\" width=\"9\" height=\"9\"/></svg>";
    assert!(png(outside).is_ok());
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => 0.1..1e6_f64,
        1 => prop_oneof![Just(0.0), Just(f64::NAN), Just(f64::INFINITY), Just(-3.0), Just(1e300), Just(1e-300)],
    ]
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop_oneof![
            Just("thread".to_owned()), Just("coroutine".to_owned()), Just("same-core".to_owned()),
            Just("time".to_owned()), Just("ns/switch".to_owned()), Just("bytes/unit".to_owned()),
            Just("switch.yield".to_owned()), Just("stack.idle".to_owned()), Just("io.echo".to_owned()),
        ],
        1 => "\\PC{0,12}",
        1 => Just(EVIL.to_owned()),
        1 => Just(String::new()),
    ]
}

fn metric() -> impl Strategy<Value = Metric> {
    (
        word(),
        any::<bool>(),
        prop::collection::vec((0..20_u32, float()), 0..8),
        prop::option::of((float(), float(), float(), float())),
        prop::collection::vec((word(), float(), float(), float()), 0..3),
    )
        .prop_map(|(unit, lower, samples, estimate, ratios)| Metric {
            unit,
            better: if lower { Better::Lower } else { Better::Higher },
            minimum: None,
            samples: samples.into_iter().map(|(block, value)| Sample { block, value }).collect(),
            estimate: estimate.map(|(median, low, high, level)| Estimate {
                median,
                low,
                high,
                level,
                method: "order-statistic".into(),
                stopped: Stopped::Cap,
            }),
            ratios: ratios
                .into_iter()
                .map(|(to, median, low, high)| Ratio { to, median, low, high, level: 0.9, blocks: 6 })
                .collect(),
        })
}

fn cell() -> impl Strategy<Value = Cell> {
    (
        (word(), word(), word(), word(), word()),
        0..5_u8,
        prop::option::of(word()),
        prop::collection::btree_map(word(), metric(), 0..3),
        prop::option::of([float(), float(), float(), float(), float()]),
    )
        .prop_map(|((workload, contender, placement, primary, key), status, reason, metrics, memory)| {
            Cell {
                id: format!("{workload}/{key}=1/{placement}/{contender}"),
                workload,
                contender,
                params: BTreeMap::from([(key, ParamValue::Number(1))]),
                placement,
                status: [
                    Status::Measured,
                    Status::Invalid,
                    Status::Unsupported,
                    Status::Skipped,
                    Status::Failed,
                ][usize::from(status)],
                reason,
                primary,
                metrics,
                ledger: None,
                counters: BTreeMap::new(),
                memory: memory.map(|[a, b, c, d, e]| Memory {
                    per_unit_bytes: PerUnitBytes {
                        total: a,
                        user_stack: a,
                        user_other: b,
                        kernel_stack: c,
                        slab: d,
                        page_tables: e,
                    },
                    vmas_per_unit: a,
                    virtual_bytes: b,
                    cgroup: Some(Witness {
                        anonymous: Some(c),
                        kernel: (a > b).then_some(d),
                        reason: Some(EVIL.into()),
                    }),
                }),
                latency: None,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cells_whatever_give_a_well_formed_page(cells in prop::collection::vec(cell(), 0..10)) {
        let mut doc = crate::common::empty();
        doc.census = Census::of(&cells);
        doc.cells = cells;
        tries(&doc);
    }
}
