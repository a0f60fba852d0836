//! What the tests share: the golden samples, and a reader that takes a page apart.

use switchmark_schema::{
    Better, Cell, Estimate, GateDocument, Latency, Metric, ParamValue, Ratio, ResultDocument, Status,
    Stopped, read,
};

pub(crate) fn quick() -> ResultDocument {
    read(include_str!("../../../harness/schema/samples/result-quick.json")).expect("the sample is a result")
}

pub(crate) fn smoke() -> ResultDocument {
    read(include_str!("../../../harness/schema/samples/result-smoke.json")).expect("the sample is a result")
}

/// A result of servers and of ticks, which the samples have none of: `io.echo` over connections, `io.idle` and `policy.hog`.
pub(crate) fn outward() -> ResultDocument {
    let mut doc = quick();
    let like = doc.cells.iter().find(|c| c.status == Status::Measured).expect("in the sample").clone();
    let cell = |group: &str, contender: &str, primary: &str| Cell {
        id: format!("{group}/{contender}"),
        workload: group.split('/').next().expect("an id").into(),
        contender: contender.into(),
        params: group
            .split('/')
            .filter_map(|part| part.split_once('='))
            .map(|(name, value)| {
                let number = value.parse().map(ParamValue::Number);
                (name.to_owned(), number.unwrap_or_else(|_| ParamValue::Word(value.into())))
            })
            .collect(),
        placement: group.rsplit('/').next().expect("a placement").into(),
        primary: primary.into(),
        metrics: std::collections::BTreeMap::new(),
        memory: None,
        latency: None,
        ..like.clone()
    };
    let mut cells = Vec::new();
    let contenders = ["thread", "coroutine", "epoll", "tokio", "may", "go"];
    for (n, contender) in contenders.into_iter().enumerate() {
        let slower = 1.0 + n as f64 / 7.0;
        for connections in [100.0, 1000.0, 5000.0_f64] {
            let group = format!("io.echo/connections={connections}/bytes=64/loop=closed/one-core");
            let mut echo = cell(&group, contender, "rate");
            let tail = connections * 31.0 * slower;
            echo.metrics = [
                ("rate", "requests/s", Better::Higher, 300_000.0 / slower / connections.powf(0.2)),
                ("p50", "µs", Better::Lower, tail / 2.0),
                ("p99", "µs", Better::Lower, tail),
                ("max", "µs", Better::Lower, tail * 3.0),
                ("per_server_second", "requests/CPU s", Better::Higher, 120_000.0 / slower),
                ("per_client_second", "requests/CPU s", Better::Higher, 125_000.0),
                ("bytes", "bytes/connection", Better::Lower, 900.0 * slower),
            ]
            .map(|(name, unit, better, value)| (name.to_owned(), metric(unit, better, value)))
            .into();
            cells.push(echo);
        }
        let mut idle = cell("io.idle/idle=1000/active=100/one-core", contender, "p99");
        idle.metrics = [
            ("p99", "µs", 4000.0 * slower),
            ("bytes", "bytes/connection", 5400.0 * slower),
            ("kernel_bytes", "bytes/connection", 7600.0),
        ]
        .map(|(name, unit, value)| (name.to_owned(), metric(unit, Better::Lower, value)))
        .into();
        cells.push(idle);
    }
    for (dial, late) in [("cooperative", 900_000.0), ("flag", 6000.0), ("handoff", 7000.0)] {
        let group = format!("policy.hog/dial={dial}/quantum_us=10000/same-core");
        for (contender, us) in [("thread", 3500.0), ("coroutine", late)] {
            let mut hog = cell(&group, contender, "p99");
            let curve =
                [("p50", 0.1), ("p75", 0.2), ("p90", 0.5), ("p99", 1.0), ("p99.9", 1.7), ("max", 2.0)];
            let told = |name: &str| !["p75", "p90"].contains(&name);
            hog.metrics = curve
                .into_iter()
                .filter(|(name, _)| told(name))
                .map(|(name, share)| (name.to_owned(), metric("µs late", Better::Lower, us * share)))
                .collect();
            hog.latency = Some(Latency {
                percentiles: curve.map(|(name, share)| (name.to_owned(), us * share * 1e3)).into(),
                count: 12_000,
                load: "open".into(),
                histogram: None,
            });
            if late > 1e5 && contender == "coroutine" {
                let p99 = hog.metrics.get_mut("p99").expect("set above");
                p99.ratios[0] = Ratio { median: 241.0, low: 159.0, high: 262.0, ..p99.ratios[0].clone() };
            }
            cells.push(hog);
        }
        let mut absent = cell(&group, "go", "p99");
        absent.status = Status::Unsupported;
        absent.reason = Some("go does not run the model hog-and-tick".into());
        cells.push(absent);
    }
    doc.census = switchmark_schema::Census::of(&cells);
    doc.cells = cells;
    doc
}

/// A hand-off and its parts, which the samples have not: nanoseconds by rung, and of a round trip, the same in every block.
pub(crate) fn anatomised() -> ResultDocument {
    let mut doc = quick();
    let like = doc.cells.iter().find(|c| c.status == Status::Measured).expect("in the sample").clone();
    let cell = |workload: &str, (name, value): (&str, &str), contender: &str, ns: f64| Cell {
        id: format!("{workload}/{name}={value}/same-core/{contender}"),
        workload: workload.into(),
        contender: contender.into(),
        params: [(name.to_owned(), ParamValue::Word(value.into()))].into(),
        placement: "same-core".into(),
        primary: "time".into(),
        metrics: [("time".to_owned(), metric("ns", Better::Lower, ns))].into(),
        memory: None,
        latency: None,
        ..like.clone()
    };
    let mut cells = Vec::new();
    for (contender, round_trip) in [("thread", 2000.0), ("coroutine", 20.0)] {
        cells.push(cell("switch.handoff", ("idle_policy", "default"), contender, round_trip));
    }
    let rungs = [("loop", 1.0), ("syscall", 101.0), ("yield_alone", 250.0), ("futex_wake", 151.0)];
    let rungs = rungs.into_iter().chain([("futex_wait", 199.0), ("yield", 800.0)]).map(|r| ("thread", r));
    let ours = [("call", 1.0), ("raw", 2.0), ("yield", 5.0), ("park", 6.0)].map(|r| ("coroutine", r));
    for (contender, (rung, ns)) in rungs.chain(ours) {
        cells.push(cell("switch.anatomy", ("rung", rung), contender, ns));
    }
    let mut absent = cells.last().expect("just pushed").clone();
    absent.id = absent.id.replace("coroutine", "thread");
    absent.contender = "thread".into();
    (absent.status, absent.reason) = (Status::Unsupported, Some("no component of its hand-off".into()));
    cells.push(absent);
    doc.census = switchmark_schema::Census::of(&cells);
    doc.cells = cells;
    doc
}

/// Of some processes, with an interval and a ratio to `thread`.
pub(crate) fn metric(unit: &str, better: Better, value: f64) -> Metric {
    let samples = (1..=8).map(|block| switchmark_schema::Sample { block, value });
    Metric {
        unit: unit.into(),
        better,
        minimum: None,
        samples: samples.collect(),
        estimate: Some(Estimate {
            median: value,
            low: value * 0.8,
            high: value * 1.3,
            level: 0.97,
            method: "order-statistic".into(),
            stopped: Stopped::Width,
        }),
        ratios: vec![Ratio {
            to: "thread".into(),
            median: 1.5,
            low: 1.25,
            high: 2.0,
            level: 0.97,
            blocks: 8,
        }],
    }
}

pub(crate) fn empty() -> ResultDocument {
    read(include_str!("../../../harness/schema/samples/result-empty.json")).expect("the sample is a result")
}

pub(crate) fn gate() -> GateDocument {
    read(include_str!("../../../harness/schema/samples/gate-paired.json"))
        .expect("the sample is a gate's document")
}

pub(crate) fn page(results: &[ResultDocument]) -> String {
    let options = switchmark_reports::PageOptions { command: "switchmark report result.json".into() };
    switchmark_reports::render_page(results, &options).expect("a page")
}

/// The page without what an XML reader does not know: doctype, and the text of style and script.
pub(crate) fn as_xml(page: &str) -> String {
    let mut text = page.replacen("<!doctype html>", "", 1);
    for tag in ["style", "script"] {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        let mut out = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once(&open) {
            out.push_str(before);
            rest = after.split_once(&close).expect("closed").1;
        }
        out.push_str(rest);
        text = out;
    }
    text
}

/// Faults of a page as a document: nesting, headings, ids, references, tables, what it would load.
pub(crate) fn faults(page: &str) -> Vec<String> {
    let text = as_xml(page);
    let doc = match roxmltree::Document::parse(&text) {
        Ok(doc) => doc,
        Err(e) => return vec![format!("not well-formed: {e}")],
    };
    let mut out = Vec::new();
    let mut ids = std::collections::HashSet::new();
    let mut level = 0;
    let mut tops = 0;
    for node in doc.descendants().filter(roxmltree::Node::is_element) {
        let tag = node.tag_name().name();
        if let Some(id) = node.attribute("id")
            && !ids.insert(id)
        {
            out.push(format!("id `{id}` occurs twice"));
        }
        if let Some(h) = tag.strip_prefix('h').and_then(|h| h.parse::<u32>().ok()) {
            tops += u32::from(h == 1);
            if h > level + 1 {
                out.push(format!("h{h} after h{level}"));
            }
            level = h;
        }
        if tag == "th" && node.attribute("scope").is_none() {
            out.push("a th without scope".into());
        }
        if tag == "table" && node.first_element_child().is_none_or(|c| c.tag_name().name() != "caption") {
            out.push("a table without caption".into());
        }
        if tag == "figure" && node.attribute("role") != Some("group") {
            out.push("a figure without its role".into());
        }
        if ["img", "link", "iframe", "object", "embed", "base", "form", "image", "use", "foreignObject"]
            .contains(&tag)
        {
            out.push(format!("a {tag} has no place here"));
        }
        for a in node.attributes() {
            let (name, value) = (a.name(), a.value());
            if name.starts_with("on") || name == "src" || name == "style" || name == "srcset" {
                out.push(format!("attribute {name}"));
            }
            if name == "href" && !value.starts_with('#') && !value.starts_with("data:") {
                out.push(format!("link to {value}"));
            }
            if name == "href" && value.starts_with("data:") && node.attribute("download").is_none() {
                out.push("a data URI to open instead of to save".into());
            }
        }
    }
    for node in doc.descendants() {
        let hrefs = node.attribute("href").and_then(|h| h.strip_prefix('#'));
        let labels = node.attribute("aria-labelledby").unwrap_or("").split_whitespace();
        for id in hrefs.into_iter().chain(labels) {
            if !ids.contains(id) {
                out.push(format!("nothing has the id `{id}`"));
            }
        }
    }
    if tops != 1 {
        out.push(format!("{tops} h1"));
    }
    out
}

/// The words of a page, as a reader gets them.
pub(crate) fn words(page: &str) -> String {
    let text = as_xml(page);
    let doc = roxmltree::Document::parse(&text).expect("well-formed");
    doc.descendants().filter_map(|n| n.text().filter(|_| n.is_text())).collect::<Vec<_>>().join(" ")
}
