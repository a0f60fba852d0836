//! Every reader meets texts that were real once: cut, doubled, exchanged, with numbers that no document has. None may panic or
//! hang; and what is accepted survives being written and read again.
//!
//! `SWITCHMARK_FUZZ=100000 cargo test -p switchmark-harness --test fuzz` is the long run; a failure prints seed and text.

use fastrand::Rng;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use switchmark_harness::blocks::Blocks;
use switchmark_harness::contender::Contender;
use switchmark_harness::definition::Definition;
use switchmark_harness::document::to_json;
use switchmark_harness::pin::parse_list;
use switchmark_harness::protocol::{Reply, Request};
use switchmark_schema::{Document, GateDocument, ResultDocument};

/// What numbers, strings and structure go wrong with.
const TOKENS: [&str; 24] = [
    "NaN",
    "Infinity",
    "-1",
    "-0.0",
    "1e999",
    "1e-999",
    "18446744073709551616",
    "9007199254740993",
    "\u{0}",
    "\u{202e}",
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "=",
    "%",
    "%zz",
    "\n",
    " ",
];

/// One text, damaged up to four times.
fn damaged(rng: &mut Rng, text: &str) -> String {
    let mut text = text.to_owned();
    for _ in 0..rng.usize(1..=4) {
        let mut at = |text: &str| {
            let at = rng.usize(0..=text.len());
            (at..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(0)
        };
        let (a, b) = (at(&text), at(&text));
        let (a, b) = (a.min(b), a.max(b));
        // Most damage is small: a large cut loses all structure, and then every reader says the same.
        let near = (a..=(a + 12).min(text.len())).rev().find(|&n| text.is_char_boundary(n)).unwrap_or(a);
        match rng.u32(0..7) {
            0 => text.truncate(b),
            1 => text.replace_range(a..near, ""),
            2 => text.insert_str(a, TOKENS[rng.usize(0..TOKENS.len())]),
            3 => text.replace_range(a..near, TOKENS[rng.usize(0..TOKENS.len())]),
            4 => {
                let again = text[a..near].to_owned();
                text.insert_str(b, &again);
            }
            5 => text.insert_str(a, &TOKENS[rng.usize(0..TOKENS.len())].repeat(rng.usize(1..300))),
            _ => text.replace_range(a..b, ""),
        }
    }
    text
}

/// Shows so many damaged texts to a reader.
fn show(texts: &[String], read: impl Fn(&str)) {
    let rounds = std::env::var("SWITCHMARK_FUZZ").map_or(1000, |n| n.parse().expect("a number of texts"));
    for seed in 0..rounds {
        let mut rng = Rng::with_seed(seed);
        let which = rng.usize(0..texts.len());
        let text = damaged(&mut rng, &texts[which]);
        let read = AssertUnwindSafe(|| read(&text));
        assert!(catch_unwind(read).is_ok(), "seed {seed}: {text:?}");
    }
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The texts of all files below a folder that have an extension.
fn files(folder: &Path, extension: &str) -> Vec<String> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            texts.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            texts.extend(fs::read_to_string(path));
        }
    }
    texts
}

fn survives<D: Document + PartialEq + std::fmt::Debug + serde::Serialize>(text: &str) {
    if let Ok(document) = switchmark_schema::read::<D>(text) {
        assert_eq!(switchmark_schema::read::<D>(&to_json(&document)), Ok(document));
    }
}

#[test]
fn documents() {
    let samples = files(&here("schema/samples"), "json");
    assert!(samples.len() >= 4);
    show(&samples, |text| {
        survives::<ResultDocument>(text);
        survives::<GateDocument>(text);
    });
    let deep = "[".repeat(1 << 20);
    survives::<ResultDocument>(&deep);
    survives::<ResultDocument>(&format!("{{\"schema\":\"switchmark.result/1\",\"cells\":{deep}"));
}

#[test]
fn definitions_and_manifests() {
    let definitions = files(&here("../benches/definitions"), "toml");
    assert!(definitions.len() > 10);
    show(&definitions, |text| {
        if let Ok(definition) = Definition::parse(text, "fuzz.toml") {
            // What is accepted can be planned.
            definition.grid(Some("smoke"));
        }
    });
    let manifests: Vec<String> = files(&here("../benches/contenders"), "toml")
        .into_iter()
        .filter(|text| text.contains("models"))
        .collect();
    assert!(manifests.len() > 5);
    show(&manifests, |text| {
        let _ = Contender::in_tree(text, "fuzz.toml");
    });
}

#[test]
fn lines_of_the_protocol() {
    let said = [
        "hello protocol=switchmark.worker/1",
        "prepare workload=io.echo model=echo placement=one-core cpus=1,0 connections=10 bytes=64 loop=closed address=127.0.0.1:1",
        "prepare workload=io.open model=echo placement=one-core cpus=1,0 connections=10 bytes=64 loop=open rate=9000 seed=7 address=127.0.0.1:1",
        "slice iterations=100000",
        "finish",
        "hello contender=go version=go1.27.3 models=yield-ring,ping-pong",
        "ready address=127.0.0.1:65535",
        "unsupported reason=no%20such%20thing",
        "sample iterations=1 elapsed_ns=2 units=3 peak_live=4 switches=5 check=6 latencies_ns=1,2,3 base_ns=7 parked=8 user_stack_bytes=9",
        "done accepted=1 answered=2",
    ];
    show(&said.map(str::to_owned), |line| {
        if let Ok(request) = Request::parse(line) {
            assert_eq!(Request::parse(&request.to_string()), Ok(request));
        }
        if let Ok(reply) = Reply::parse(line) {
            assert_eq!(Reply::parse(&reply.to_string()), Ok(reply));
        }
    });
    show(&["0,2-3,7".to_owned(), "0-18446744073709551615".to_owned()], |list| {
        parse_list(list);
    });
}

#[test]
fn files_of_blocks() {
    let head = r#"{"schema":"switchmark.blocks/1","seed":1,"plan":"p","machine":"m","tool":"t"}"#;
    let block = r#"{"kind":"cell","cell":"w/same-core","block":1,"order":"AB","redrawn":false,"workers":[{"contender":"thread","iterations":1,"slices_ns":[1],"values":{"time":1.5},"status":"measured"}],"contamination":{"steal_ticks":0,"pressure_us":0,"involuntary":0,"migrations":0,"faults":0,"idle_cpu_ns":0}}"#;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("blocks.jsonl");
    show(&[format!("{head}\n{block}\n{}\n", block.replace("\"block\":1", "\"block\":2"))], |text| {
        fs::write(&path, text).expect("written");
        if let Ok((blocks, head, kept)) = Blocks::resume(folder.path()) {
            drop(blocks);
            let (_, again, same) = Blocks::resume(folder.path()).expect("what was taken up once");
            assert_eq!((again, same), (head, kept));
        }
    });
}
