//! A verb a file: parse, call, print. Each answers with its exit code.

pub(crate) mod build;
pub(crate) mod doctor;
pub(crate) mod gate;
pub(crate) mod list;
pub(crate) mod load;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod selftest;
pub(crate) mod worker;

use switchmark_harness::{Error, Result};

/// Prints to standard output; a reader that went away (`| head`) is no fault of ours.
pub(crate) fn print(text: &str) -> Result<()> {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::document(format!("cannot write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}
