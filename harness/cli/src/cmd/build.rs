//! `switchmark build`: contenders with a folder of their own.

use crate::world::World;
use switchmark_harness::contender::Contender;
use switchmark_harness::{Error, Result};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// These; without one, all whose needs are met.
    contenders: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let world = World::load(&[], None)?;
    let outside: Vec<&Contender> = world.contenders.iter().filter(|c| c.folder.is_some()).collect();
    if let Some(unknown) = arguments.contenders.iter().find(|id| !outside.iter().any(|c| c.id() == *id)) {
        let known: Vec<&str> = outside.iter().map(|c| c.id()).collect();
        return Err(Error::usage(format!(
            "no contender `{unknown}` to build here; known: {}",
            if known.is_empty() { "none (run it in a checkout)".into() } else { known.join(", ") }
        )));
    }
    let asked =
        |c: &&&Contender| arguments.contenders.is_empty() || arguments.contenders.iter().any(|a| a == c.id());
    let mut failed = Vec::new();
    for contender in outside.iter().filter(asked) {
        let missing = contender.missing_needs();
        if !missing.is_empty() {
            eprintln!("{}: skipped: {}", contender.id(), missing.join("; "));
            if arguments.contenders.iter().any(|a| a == contender.id()) {
                failed.push(contender.id());
            }
            continue;
        }
        eprintln!("{}: building", contender.id());
        match contender.build() {
            Ok(()) => eprintln!("{}: built", contender.id()),
            Err(e) => {
                eprintln!("switchmark: {e}");
                failed.push(contender.id());
            }
        }
    }
    if failed.is_empty() { Ok(0) } else { Err(Error::worker(format!("not built: {}", failed.join(", ")))) }
}
