//! Embeds the definitions and the manifests of the contenders in the tree, so that the binary needs no checkout
//! and a new question touches one file.
//!
//! A crate that embeds whole folders was tried and dropped: it takes what a contender of its own crate has built
//! below its folder along, too.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo names the package's folder"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names the output folder"));

    let mut definitions = Vec::new();
    for family in sorted(&root.join("definitions"))? {
        let files = sorted(&family)?;
        definitions.extend(files.into_iter().filter(|f| f.extension().is_some_and(|e| e == "toml")));
    }
    println!("cargo::rerun-if-changed=definitions");

    let mut manifests = Vec::new();
    for folder in sorted(&root.join("contenders"))? {
        let manifest = folder.join("contender.toml");
        if !manifest.is_file() {
            continue;
        }
        // Not the folder `contenders` as a whole: a contender's own build below it would start ours again.
        println!("cargo::rerun-if-changed={}", relative(&root, &manifest));
        // One with a `run` is a program of its own; the parent finds it by its folder.
        if !fs::read_to_string(&manifest)?.lines().any(|l| l.starts_with("run")) {
            manifests.push(manifest);
        }
    }
    // Whoever adds a contender to the tree adds it there, and so starts this build again.
    println!("cargo::rerun-if-changed=src/contenders.rs");

    let text = table("DEFINITIONS", &root, &definitions) + &table("MANIFESTS", &root, &manifests);
    fs::write(out.join("embedded.rs"), text)
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = fs::read_dir(folder)?.map(|e| Ok(e?.path())).collect::<io::Result<Vec<_>>>()?;
    found.retain(|p| !p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')));
    found.sort();
    Ok(found.into_iter().filter(|p| p.is_dir() || p.extension().is_some()).collect())
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).expect("found below the root").display().to_string()
}

fn table(name: &str, root: &Path, files: &[PathBuf]) -> String {
    let mut text = format!("static {name}: &[(&str, &str)] = &[\n");
    for file in files {
        let (path, absolute) = (relative(root, file), file.display().to_string());
        writeln!(text, "    ({path:?}, include_str!({absolute:?})),").expect("a string takes all");
    }
    text + "];\n"
}
