//! What the tests share: the golden samples, and a reader that takes a page apart.

use switchmark_schema::{GateDocument, ResultDocument, read};

pub(crate) fn quick() -> ResultDocument {
    read(include_str!("../../../harness/schema/samples/result-quick.json")).expect("the sample is a result")
}

pub(crate) fn smoke() -> ResultDocument {
    read(include_str!("../../../harness/schema/samples/result-smoke.json")).expect("the sample is a result")
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
