//! The rules that a machine can keep, each with its reason in the message.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the checkout")
}

/// Files below a folder by ending, path relative to the root; nothing built.
fn files(below: &str, ending: &str) -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.join(below)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the checkout").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(ending) {
                let text = fs::read_to_string(&path).expect("a text file of the checkout");
                let relative =
                    path.strip_prefix(&root).expect("below the root").to_string_lossy().into_owned();
                found.push((relative, text));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no *{ending} below {below}: this test looks in the wrong place");
    found
}

/// The code of a file: without its comment lines.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn assembly_lives_in_arch_alone() {
    for (path, text) in files("", ".rs") {
        let here = path.starts_with("runtime/src/arch/")
            || path.starts_with("runtime/tests/")
            || path.contains("tidy.rs");
        let code = code(&text);
        assert!(
            here || !(code.contains("asm!(") || code.contains("naked_asm!(")),
            "{path}: assembly belongs in runtime/src/arch/, where the switch contract is written"
        );
    }
}

#[test]
fn libc_is_called_through_sys_alone() {
    for package in ["runtime/src", "harness/src", "benches/src"] {
        for (path, text) in files(package, ".rs") {
            // Constants are names for numbers; calls are what must be gathered. A test may call what it needs.
            let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
            let calls = code(shipped).contains("unsafe { libc::");
            assert!(
                !calls || path.ends_with("src/sys.rs"),
                "{path}: libc calls belong in the package's sys.rs"
            );
        }
    }
}

/// Direct dependencies of a manifest, those for development apart.
fn dependencies(manifest: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let text = fs::read_to_string(root().join(manifest)).expect("a manifest");
    let table: toml::Table = text.parse().expect("a manifest is TOML");
    let names = |section: &str| {
        let section = table.get(section).and_then(toml::Value::as_table);
        section.into_iter().flat_map(|t| t.keys().cloned()).collect()
    };
    (names("dependencies"), names("dev-dependencies"))
}

#[test]
fn dependencies_point_one_way() {
    let ours = |names: &BTreeSet<String>| -> BTreeSet<String> {
        names.iter().filter(|n| n.starts_with("switchmark")).cloned().collect()
    };
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("harness/schema/Cargo.toml", &[] as &[&str]),
        ("runtime/Cargo.toml", &[]),
        ("harness/Cargo.toml", &["switchmark-schema"]),
        ("reports/Cargo.toml", &["switchmark-schema"]),
        ("benches/Cargo.toml", &["switchmark-harness", "switchmark-runtime", "switchmark-schema"]),
    ]);
    for (manifest, allowed) in allowed {
        let (used, for_tests) = dependencies(manifest);
        for name in ours(&used).union(&ours(&for_tests)) {
            assert!(
                allowed.contains(&name.as_str()),
                "{manifest} may not know {name}: see docs/architecture.md"
            );
        }
    }
    let (runtime, _) = dependencies("runtime/Cargo.toml");
    assert_eq!(runtime, BTreeSet::from(["libc".to_owned()]), "the runtime needs libc and nothing else");
}

#[test]
fn documents_and_reports_forbid_unsafe_code() {
    for library in ["harness/schema/src/lib.rs", "reports/src/lib.rs", "harness/cli/src/main.rs"] {
        let text = fs::read_to_string(root().join(library)).expect("a crate root");
        assert!(text.contains("#![forbid(unsafe_code)]"), "{library}: it has no reason for unsafe code");
    }
}

#[test]
fn every_model_says_what_its_work_and_its_answer_are() {
    // A model is what a cell can be opened on; the rest of the folder serves models.
    let models: Vec<_> =
        files("benches/src/models", ".rs").into_iter().filter(|(_, t)| t.contains("pub fn open")).collect();
    assert!(models.len() >= 6, "this test no longer finds the models");
    for (path, text) in models {
        let head: String = text.lines().take_while(|l| l.starts_with("//!")).collect::<Vec<_>>().join("\n");
        for word in ["Work", "Ledger", "Check"] {
            let said = head.to_lowercase().contains(&word.to_lowercase());
            assert!(said, "{path}: its head does not speak of its {}", word.to_lowercase());
        }
    }
}

#[test]
fn every_file_of_some_length_opens_with_what_it_is_for() {
    for (path, text) in files("", ".rs") {
        // Lint levels of the file may stand before it.
        let opens = text.lines().take(8).any(|l| l.starts_with("//!"));
        assert!(opens || text.lines().count() < 60, "{path}: over 60 lines and no //! head");
    }
}

#[test]
fn every_manifest_and_definition_parses() {
    let contenders = files("benches/contenders", "contender.toml");
    for (path, text) in &contenders {
        let folder =
            Path::new(path).parent().and_then(Path::file_name).expect("its folder").to_string_lossy();
        let table: toml::Table = text.parse().unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(table["name"].as_str(), Some(folder.as_ref()), "{path}: the name is that of the folder");
        let readme = root().join(path).with_file_name("README.md");
        assert!(readme.exists(), "{path}: no README.md beside it says which decisions it took");
    }
    assert!(contenders.len() >= 4);
    for (path, text) in files("benches/definitions", ".toml") {
        let definition = switchmark_harness::definition::Definition::parse(&text, &path);
        let definition = definition.unwrap_or_else(|e| panic!("{e}"));
        assert!(
            path.contains(&format!("/{}/", definition.family())),
            "{path}: not in the folder of its family"
        );
    }
}

#[test]
fn the_published_schemas_are_those_of_the_types() {
    use switchmark_schema::{GateDocument, ResultDocument, json_schema};
    let published = [("result", json_schema::<ResultDocument>()), ("gate", json_schema::<GateDocument>())];
    for (name, derived) in published {
        let path = root().join(format!("docs/schema/{name}.json"));
        let text = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            text.trim(),
            derived.trim(),
            "docs/schema/{name}.json is stale: `switchmark schema {name} > docs/schema/{name}.json`"
        );
    }
}

#[test]
fn nothing_unfinished_is_left_behind() {
    // Written apart, so that this file does not find itself.
    let marks =
        [concat!("dbg", "!("), concat!("FIX", "ME"), concat!("todo", "!("), concat!("unimplemented", "!(")];
    for (path, text) in files("", ".rs").into_iter().chain(files("", ".toml")) {
        for mark in marks {
            assert!(!text.contains(mark), "{path}: {mark}");
        }
    }
}
