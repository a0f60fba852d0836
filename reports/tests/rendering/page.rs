//! The page and its charts, over the golden samples.

use crate::common::{anatomised, empty, faults, metric, outward, page, quick, smoke, words};
use switchmark_reports::{charts, png, render_page, terminal_summary};
use switchmark_schema::{CounterState, Status};

#[test]
fn the_page_is_well_formed_with_headings_in_order_and_loads_nothing() {
    for (what, results) in [
        ("quick", vec![quick()]),
        ("smoke", vec![smoke()]),
        ("empty", vec![empty()]),
        ("three", vec![quick(), smoke(), empty()]),
        ("the same twice", vec![quick(), quick()]),
    ] {
        let page = page(&results);
        assert_eq!(faults(&page), Vec::<String>::new(), "{what}");
        assert!(page.contains(
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
        ));
        for loader in ["url(", "@import", "fetch(", "XMLHttp", "http-equiv=\"refresh\""] {
            assert!(!page.contains(loader), "{what}: {loader}");
        }
    }
}

#[test]
fn the_fault_finder_finds_faults() {
    let good = page(&[quick()]);
    for (from, to) in [
        ("<h1>", "<h3>"),
        ("<caption>", "<div>"),
        ("scope=\"col\"", "data-x=\"col\""),
        ("<body>", "<body><img src=\"x\"/>"),
        ("href=\"#environment\"", "href=\"#nowhere\""),
        ("href=\"#environment\"", "href=\"https://example.org/\""),
        ("id=\"environment\"", "id=\"method\""),
    ] {
        assert!(good.contains(from), "{from} is on the page");
        assert!(!faults(&good.replacen(from, to, 1)).is_empty(), "{from} to {to}");
    }
}

#[test]
fn every_cell_of_the_document_is_on_the_page_with_its_reason() {
    for doc in [quick(), smoke()] {
        let words = words(&page(std::slice::from_ref(&doc)));
        for cell in &doc.cells {
            assert!(words.contains(&cell.id), "{}", cell.id);
            if let Some(reason) = &cell.reason {
                assert!(words.contains(reason.as_str()), "{}: {reason}", cell.id);
            }
        }
    }
}

#[test]
fn a_cell_that_is_not_measured_shows_no_number_even_if_it_carries_one() {
    let mut doc = quick();
    let cell = doc
        .cells
        .iter_mut()
        .find(|c| c.id == "switch.yield/tasks=2/same-core/coroutine")
        .expect("in the sample");
    cell.status = Status::Invalid;
    cell.reason = Some("the books do not balance".into());
    let metric = cell.metrics.get_mut("time").expect("its metric");
    metric.estimate.as_mut().expect("its estimate").median = 424_242.0;
    doc.census = switchmark_schema::Census::of(&doc.cells);
    let words = words(&page(std::slice::from_ref(&doc)));
    assert!(words.contains("the books do not balance"));
    assert!(!words.contains("424"), "an invalid number is printed");
    let text = terminal_summary(&doc, 120, false);
    assert!(!text.contains("424") && text.contains("the books do not balance"), "{text}");
}

#[test]
fn a_run_that_is_not_to_be_trusted_says_so_on_the_terminal_and_on_top_of_the_page() {
    let mut doc = quick();
    let said = "environment: not trusted: the null control is 1.01 to 1.20";
    doc.warnings = vec![said.into()];
    assert!(terminal_summary(&doc, 120, false).contains(said));
    let words = words(&page(std::slice::from_ref(&doc)));
    let (warning, first_chart) = (words.find(said).expect("on the page"), words.find("switch.yield"));
    assert!(first_chart.is_none_or(|chart| warning < chart), "before any number");
}

/// Caps are the only lines three pixels thick; each interval has two.
fn caps(svg: &str) -> usize {
    svg.matches("stroke-width=\"3\"").count()
}

#[test]
fn every_interval_is_drawn() {
    let doc = quick();
    let charts = charts(&doc).expect("charts");
    let intervals = doc
        .cells
        .iter()
        .filter(|c| c.status == Status::Measured)
        .filter(|c| c.primary_metric().is_some_and(|m| m.estimate.is_some()))
        .count();
    let drawn: usize = charts.iter().filter(|c| c.name != "headline").map(|c| caps(&c.svg)).sum();
    assert_eq!(drawn, 2 * intervals);
    assert!(intervals > 20, "the sample has something to draw");
    let headline = charts.iter().find(|c| c.name == "headline").expect("a headline");
    assert!(caps(&headline.svg) >= 2 * 12);
}

fn chart(doc: &switchmark_schema::ResultDocument, name: &str) -> Option<switchmark_reports::Chart> {
    charts(doc).expect("charts").into_iter().find(|c| c.name == name)
}

#[test]
fn a_server_under_load_has_lines_of_its_rate_and_its_tail_with_every_interval() {
    let mut doc = outward();
    let load = chart(&doc, "io-echo-load").expect("the load");
    let cells = doc.cells.iter().filter(|c| c.workload == "io.echo").count();
    assert_eq!(caps(&load.svg), 2 * 2 * cells);
    assert!(
        load.svg.contains("1000 connections") && load.title.contains("1.50× (1.25–2.00)"),
        "{}",
        load.title
    );
    doc.cells.retain(|c| c.workload != "io.echo" || c.id.contains("connections=1000/"));
    assert_eq!(chart(&doc, "io-echo-load"), None, "one number of connections is no line");
    assert!(chart(&doc, "io-echo").is_some());
}

#[test]
fn what_a_request_costs_either_end_stands_beside_the_rate() {
    let text = page(&[outward()]);
    let rows = text.split_once("every cell of <code>io.echo</code>").expect("its table").1;
    let at = |metric: &str| rows.find(&format!("<td>{metric} (")).expect("its row");
    let order = ["rate", "per_server_second", "per_client_second", "bytes"].map(at);
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn a_connection_is_drawn_by_its_weight_where_the_kernel_was_weighed_too() {
    let doc = outward();
    assert_eq!(chart(&doc, "io-echo-memory"), None);
    let memory = chart(&doc, "io-idle-memory").expect("the weight");
    assert_eq!(caps(&memory.svg), 2 * 6);
    for text in ["5.27\u{a0}KiB (4.22–6.86)", "7.42\u{a0}KiB"] {
        assert!(memory.svg.contains(text), "{text}");
    }
}

#[test]
fn what_a_stack_keeps_of_a_depth_is_drawn_in_two_parts_and_told_in_the_title() {
    let mut doc = outward();
    doc.cells.retain(|c| c.workload == "io.idle" && ["thread", "coroutine"].contains(&c.contender.as_str()));
    for (cell, kept, trimmed) in
        doc.cells.iter_mut().zip([(16.0, 16.0), (64.0, 4.0)]).map(|(c, (k, t))| (c, k * 1024.0, t * 1024.0))
    {
        cell.id = format!("stack.depth/depth_kib=64/same-core/{}", cell.contender);
        cell.workload = "stack.depth".into();
        cell.primary = "time".into();
        let bytes = |value| metric("bytes/unit", switchmark_schema::Better::Lower, value);
        let time = metric("ns/descent", switchmark_schema::Better::Lower, 9000.0);
        let metrics = [("time", time), ("kept", bytes(kept)), ("trimmed", bytes(trimmed))];
        cell.metrics = metrics.map(|(name, metric)| (name.to_owned(), metric)).into();
    }
    let kept = chart(&doc, "stack-depth-kept").expect("what is kept");
    let title = "for good a thread’s stack keeps 16.0\u{a0}KiB and a coroutine’s 4.00\u{a0}KiB (depth kib 64 · same-core)";
    assert!(kept.title.ends_with(title), "{}", kept.title);
    assert_eq!(caps(&kept.svg), 2 * 2);
    for text in ["for good", "until a pool trims it 60.0\u{a0}KiB", "64.0\u{a0}KiB (51.2–83.2)"] {
        assert!(kept.svg.contains(text), "{text}");
    }
    assert!(chart(&doc, "stack-depth").is_some(), "the time of a descent");
    assert_eq!(chart(&outward(), "stack-depth-kept"), None);
}

#[test]
fn a_limit_is_drawn_with_its_name() {
    let mut doc = outward();
    doc.cells
        .retain(|c| c.workload == "io.idle" && ["thread", "coroutine", "go"].contains(&c.contender.as_str()));
    for (cell, units) in doc.cells.iter_mut().zip([16_127.0, 32_511.0, 5.0]) {
        cell.id = format!("stack.limit/guard=mprotect/same-core/{}", cell.contender);
        cell.workload = "stack.limit".into();
        cell.primary = "count".into();
        cell.reason = Some(format!("vm.max_map_count = 65530 for {}", cell.contender));
        let count = metric("units", switchmark_schema::Better::Higher, units);
        cell.metrics = [("count".to_owned(), count)].into();
        if cell.contender == "go" {
            cell.status = Status::Unsupported;
        }
    }
    let limit = chart(&doc, "stack-limit").expect("the limits");
    assert!(limit.title.contains("16\u{202f}127 threads or 32\u{202f}511 coroutines"), "{}", limit.title);
    for text in ["65530 for thread", "65530 for coroutine", "32\u{202f}511", "unsupported: vm.max_map_count"]
    {
        assert!(limit.svg.contains(text), "{text}");
    }
    // One figure: a second of the same numbers would leave the names out.
    let drawn = charts(&doc).unwrap().into_iter().filter(|c| c.name.starts_with("stack-limit")).count();
    assert_eq!(drawn, 1);
    assert!(words(&page(std::slice::from_ref(&doc))).contains("vm.max_map_count = 65530 for thread"));
}

#[test]
fn lateness_is_drawn_by_quantile_with_the_intervals_that_there_are() {
    let doc = outward();
    let tail = chart(&doc, "policy-hog-tail").expect("the tail");
    // Three settings of two contenders, whose p50, p99, p99.9 and max are metrics; the others are points of the curve alone.
    assert_eq!(caps(&tail.svg), 2 * 3 * 2 * 4);
    for text in ["p99.9", "max", "dial cooperative", "go: unsupported", "max 1.80\u{a0}s"] {
        assert!(tail.svg.contains(text), "{text}");
    }
    let dots = chart(&doc, "policy-hog").expect("the dots");
    assert!(dots.svg.contains("1/241 (1/262–1/159)"), "a ratio of three digits behind the point has no room");
    assert_eq!(chart(&doc, "io-echo-tail"), None, "no curve was kept of a load");
}

#[test]
fn a_hand_off_is_stacked_of_its_parts_and_what_they_leave_is_drawn_and_tabled() {
    let mut doc = anatomised();
    // A machine that doubled in one block: what is taken block by block moves there, and its median does not.
    for cell in &mut doc.cells {
        cell.metrics.get_mut("time").expect("each has one").samples[0].value *= 2.0;
    }
    let waterfall = chart(&doc, "switch-anatomy-waterfall").expect("the waterfall");
    // Threads: 1000 - 151 - 199 - (800 - 250) = 100. Coroutines: 10 - 5 - 6 = -1.
    for text in ["550\u{a0}ns (550–1100)", "100\u{a0}ns (", "1.00\u{a0}µs (", "-1.00\u{a0}ns ("] {
        assert!(waterfall.svg.contains(text), "{text}");
    }
    assert!(waterfall.title.contains("10.0\u{a0}% (10.0–10.0)"), "{}", waterfall.title);
    // Five rows and four, each with an interval.
    assert_eq!(caps(&waterfall.svg), 2 * (5 + 4));
    let text = page(&[doc.clone()]);
    assert_eq!(faults(&text), Vec::<String>::new());
    let table = text.split_once("not measured as such").expect("its table").1;
    assert!(
        words(&text).contains("loop 1.00\u{a0}ns + system call 100\u{a0}ns + the futex’s own 50.0\u{a0}ns")
    );
    assert!(table.contains("<td>residual</td><td class=\"n\">100\u{a0}ns"), "{}", &table[..2000]);

    // A summary has the operations alone, and nothing is drawn of a side that lacks a part.
    let summary = terminal_summary(&doc, 100, false);
    assert!(summary.contains("Hand-off") && !summary.contains("Anatomy"), "{summary}");
    doc.cells.retain(|c| {
        !c.id.contains("rung=park") && !c.id.contains("switch.handoff/idle_policy=default/same-core/thread")
    });
    assert_eq!(chart(&doc, "switch-anatomy-waterfall"), None);
    assert!(chart(&doc, "switch-anatomy").is_some(), "then the parts are dots");
}

#[test]
fn a_tail_with_a_histogram_is_a_line_through_all_latencies_as_far_as_ten_lie_beyond() {
    let mut doc = outward();
    let longest = |doc: &switchmark_schema::ResultDocument| {
        let tail = chart(doc, "policy-hog-tail").expect("the tail").svg;
        let lines = tail
            .split("<polyline")
            .skip(1)
            .filter_map(|line| line.split_once("points=\"")?.1.split_once('"'));
        lines.map(|(points, _)| points.split_whitespace().count()).max().expect("lines")
    };
    assert_eq!(longest(&doc), 6, "the marks are joined");
    for cell in &mut doc.cells {
        let Some(latency) = &mut cell.latency else { continue };
        let ns: Vec<u64> = (1..=2000).map(|n| n * 1000).collect();
        latency.histogram = Some(switchmark_schema::Histogram::of(&ns).to_string());
    }
    // Ten of 2000 lie beyond 2.3 nines; the median is 0.3.
    assert_eq!(longest(&doc), 41);
    for cell in doc.cells.iter_mut().filter_map(|cell| cell.latency.as_mut()) {
        cell.histogram = Some("nonsense".into());
    }
    assert_eq!(longest(&doc), 6, "what cannot be read is not drawn");
}

#[test]
fn the_bill_has_its_witness_or_the_reason_why_there_is_none() {
    let mut doc = quick();
    let mut bills = doc.cells.iter_mut().filter_map(|cell| cell.memory.as_mut());
    let witness = |reason: Option<&str>| switchmark_schema::Witness {
        anonymous: reason.is_none().then_some(9801.4),
        kernel: reason.is_none().then_some(28_000.0),
        reason: reason.map(Into::into),
    };
    bills.next().expect("a bill").cgroup = Some(witness(None));
    bills.next().expect("another").cgroup = Some(witness(Some("it is in no control group")));
    drop(bills);
    let text = words(&page(&[doc]));
    for told in ["9801 + 28\u{202f}000", "none: it is in no control group"] {
        assert!(text.contains(told), "{told}");
    }
}

#[test]
fn a_smoke_run_claims_nothing_and_draws_no_interval() {
    let doc = smoke();
    let text = words(&page(std::slice::from_ref(&doc)));
    assert!(
        text.contains("This was a smoke run: it proves that 11 of 12 cells run on this machine"),
        "{text}"
    );
    assert!(!text.contains('×'), "a factor without an interval");
    assert!(charts(&doc).expect("charts").iter().all(|c| caps(&c.svg) == 0));
    let summary = terminal_summary(&doc, 100, false);
    assert!(summary.contains("fewer than six blocks") && !summary.contains('×'));
}

#[test]
fn the_answer_states_each_ratio_with_its_interval_and_when_it_does_not_matter() {
    let doc = quick();
    let text = words(&page(std::slice::from_ref(&doc)));
    let cell =
        doc.cells.iter().find(|c| c.id == "switch.yield/tasks=2/same-core/coroutine").expect("in the sample");
    let ratio = &cell.primary_metric().expect("time").ratios[0];
    assert_eq!(ratio.to, "thread");
    let expected = format!("{:.0}× ({:.0}–{:.0})", 1.0 / ratio.median, 1.0 / ratio.high, 1.0 / ratio.low);
    assert!(text.contains(&expected), "{expected}");
    assert!(text.contains("a handler of 50 µs that switches 4 times spends"));
}

#[test]
fn an_empty_result_says_so_and_has_no_chart() {
    let doc = empty();
    assert!(words(&page(std::slice::from_ref(&doc))).contains("nothing was measured"));
    assert!(charts(&doc).expect("charts").is_empty());
    assert!(render_page(&[], &switchmark_reports::PageOptions::default()).is_err());
}

#[test]
fn several_results_stand_side_by_side_as_ratios_alone() {
    let text = page(&[quick(), smoke()]);
    let table = text
        .split_once("<caption>How many times better")
        .and_then(|(_, t)| t.split_once("</table>"))
        .expect("the table")
        .0;
    assert!(table.contains("×") && table.contains("not in it") && table.contains("no ratio"));
    assert!(!table.contains("ns"), "nanoseconds of two runs in one row");
}

#[test]
fn a_counter_that_was_not_read_is_never_a_zero() {
    let mut doc = quick();
    let cell = &mut doc.cells[0];
    for (event, state) in [
        ("a-denied", CounterState::Denied),
        ("a-unsupported", CounterState::Unsupported),
        ("a-not-counted", CounterState::NotCounted),
        ("a-overflow", CounterState::Overflow),
    ] {
        let counter = switchmark_schema::Counter {
            state,
            value: Some(0),
            per_op: Some(0.0),
            share: None,
            reason: None,
        };
        cell.counters.insert(event.into(), counter);
    }
    let page = page(&[doc]);
    for event in ["a-denied", "a-unsupported", "a-not-counted", "a-overflow"] {
        let row = page
            .split_once(&format!("<td>{event}</td>"))
            .and_then(|(_, r)| r.split_once("</tr>"))
            .expect("its row")
            .0;
        assert!(row.contains("no reason given") && !row.contains(">0<"), "{row}");
    }
}

#[test]
fn what_is_refused_to_many_cells_is_said_once() {
    let mut doc = quick();
    for cell in &mut doc.cells {
        let counter = switchmark_schema::Counter {
            state: CounterState::Denied,
            value: None,
            per_op: None,
            share: None,
            reason: Some("by decree".into()),
        };
        cell.counters.insert("forbidden:u".into(), counter);
    }
    let cells = doc.cells.len();
    let page = page(&[doc]);
    assert_eq!(page.matches("<td>forbidden:u</td>").count(), 1);
    assert!(page.contains(&format!("{cells} cells</th><td>forbidden:u</td>")));
}

#[test]
fn a_quick_page_stays_below_one_and_a_half_megabytes() {
    let size = page(&[quick()]).len();
    assert!(size < 1_500_000, "{size}");
}

#[test]
fn a_result_too_large_for_a_page_leaves_its_json_beside_it() {
    let mut doc = quick();
    for cell in &mut doc.cells {
        for metric in cell.metrics.values_mut() {
            for block in 100..1000 {
                metric.samples.push(switchmark_schema::Sample { block, value: 1.5 });
            }
        }
    }
    let page = page(&[doc]);
    assert!(page.contains("too large for a page") && !page.contains("data:application/json"));
    assert!(page.len() < 1_500_000, "{}", page.len());
}

#[test]
fn a_chart_stands_alone_with_role_names_view_box_and_colours_that_fall_back() {
    for chart in charts(&quick()).expect("charts") {
        let doc = roxmltree::Document::parse(&chart.svg).expect("well-formed");
        let svg = doc.root_element();
        assert_eq!(svg.attribute("role"), Some("img"));
        assert!(svg.attribute("viewBox").is_some());
        let text = |tag: &str| {
            svg.children()
                .find(|n| n.tag_name().name() == tag)
                .and_then(|n| n.text())
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(text("title"), chart.title);
        assert!(text("desc").len() > 40);
        assert!(text("style").contains("var(--sw-ink,#1B1D20)"));
        for node in doc.descendants().filter(roxmltree::Node::is_element) {
            let colour = node
                .attribute("fill")
                .filter(|f| *f != "none")
                .or(node.attribute("stroke").filter(|s| *s != "none"));
            assert_eq!(colour.is_some(), node.attribute("class").is_some(), "{node:?}");
            for a in node.attributes() {
                assert!(!a.value().contains("NaN") && !a.value().contains("inf"), "{node:?}");
            }
        }
    }
}

#[test]
fn no_text_of_a_chart_is_cut_by_its_edge() {
    // The width of each text as the bundled font draws it, not as we guess it.
    for chart in [quick(), outward(), anatomised()].iter().flat_map(|doc| charts(doc).expect("charts")) {
        let mut options = resvg::usvg::Options { font_family: "Inter".into(), ..Default::default() };
        let fonts = options.fontdb_mut();
        fonts.load_font_data(include_bytes!("../../fonts/Inter-Regular.otf").to_vec());
        fonts.load_font_data(include_bytes!("../../fonts/Inter-SemiBold.otf").to_vec());
        let (head, rest) = chart.svg.split_once("<style>").expect("a style");
        let plain = format!("{head}{}", rest.split_once("</style>").expect("closed").1);
        let tree = resvg::usvg::Tree::from_str(&plain, &options).expect("an svg");
        let sheet = tree.size();
        let mut texts = 0;
        let mut boxes: Vec<(f32, f32, f32, f32)> = Vec::new();
        visit(tree.root(), &mut |b| {
            texts += 1;
            boxes.push(b);
        });
        assert!(texts > 10, "{}", chart.name);
        for (n, a) in boxes.iter().enumerate() {
            assert!(
                a.0 >= 0.0 && a.1 >= 0.0 && a.2 <= sheet.width() && a.3 <= sheet.height(),
                "{}: text {n} at {a:?} leaves {sheet:?}",
                chart.name
            );
            for b in &boxes[n + 1..] {
                let apart = a.2 <= b.0 || b.2 <= a.0 || a.3 <= b.1 || b.3 <= a.1;
                assert!(apart, "{}: texts overlap at {a:?} and {b:?}", chart.name);
            }
        }
    }
}

fn visit(group: &resvg::usvg::Group, each: &mut impl FnMut((f32, f32, f32, f32))) {
    for node in group.children() {
        match node {
            resvg::usvg::Node::Group(g) => visit(g, each),
            resvg::usvg::Node::Text(t) => {
                let b = t.abs_bounding_box();
                each((b.left(), b.top() + b.height() * 0.15, b.right(), b.bottom() - b.height() * 0.15));
            }
            _ => {}
        }
    }
}

#[test]
fn no_number_of_a_chart_is_cut_short() {
    for chart in [quick(), outward(), anatomised()].iter().flat_map(|doc| charts(doc).expect("charts")) {
        let doc = roxmltree::Document::parse(&chart.svg).expect("well-formed");
        let texts = doc.descendants().filter(|n| n.tag_name().name() == "text");
        let texts: Vec<&str> = texts.filter_map(|n| n.text()).map(str::trim).collect();
        let numbers: Vec<&&str> =
            texts.iter().filter(|t| t.starts_with(|c: char| c.is_ascii_digit())).collect();
        assert!(numbers.len() >= 3, "{}", chart.name);
        for text in numbers {
            assert!(!text.ends_with('…'), "{}: {text}", chart.name);
        }
    }
}

#[test]
fn a_picture_shows_both_contenders_and_its_words() {
    let charts = charts(&quick()).expect("charts");
    let chart = charts.iter().find(|c| c.name == "switch-yield").expect("the yield figure");
    let bytes = png(&chart.svg).expect("a picture");
    let picture = resvg::tiny_skia::Pixmap::decode_png(&bytes).expect("a png");
    assert_eq!(picture.width(), 1440);
    let count =
        |rgb: (u8, u8, u8)| picture.pixels().iter().filter(|p| (p.red(), p.green(), p.blue()) == rgb).count();
    assert!(count((0xD5, 0x5E, 0x00)) > 300, "thread");
    assert!(count((0x00, 0x72, 0xB2)) > 300, "coroutine");
    assert!(count((0x1B, 0x1D, 0x20)) > 3000, "words");
    assert!(png("<svg").is_err());
}

#[test]
fn charts_name_themselves_once_and_fit_for_a_file() {
    let names: Vec<String> = charts(&quick()).expect("charts").into_iter().map(|c| c.name).collect();
    assert_eq!(names[0], "headline");
    assert!(names.contains(&"stack-idle-bill".to_owned()));
    let unique: std::collections::HashSet<&String> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
    assert!(names.iter().all(|n| n.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')));
}
