//! What a result says of the program that measured it: commit and compiler.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=../../.git/HEAD");
    println!("cargo::rerun-if-changed=../../.git/logs/HEAD");
    let git = answer("git", &["describe", "--always", "--dirty", "--abbrev=12"]);
    let rustc = answer(&std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into()), &["--version"]);
    println!("cargo::rustc-env=SWITCHMARK_GIT={git}");
    println!("cargo::rustc-env=SWITCHMARK_RUSTC={rustc}");
}

/// First line that a command prints, or `unknown`: a source archive has no commit.
fn answer(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok().filter(|o| o.status.success());
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    text.filter(|t| !t.is_empty()).unwrap_or_else(|| "unknown".into())
}
