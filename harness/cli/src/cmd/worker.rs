//! `switchmark worker`: serves a contender in the tree, or is the shim before one outside.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use switchmark_harness::{Error, Result};

/// One of the two.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Arguments {
    /// Serve this contender.
    #[arg(long, value_name = "ID")]
    contender: Option<String>,
    /// Wait for one byte on standard input, then become this command.
    #[arg(long, value_name = "CMD", num_args = 1.., allow_hyphen_values = true)]
    exec: Vec<OsString>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    if let Some(id) = &arguments.contender {
        return switchmark_benches::serve(id)
            .map(|()| 0)
            .map_err(|e| Error::worker(format!("worker {id}: {e}")));
    }
    let (program, rest) =
        arguments.exec.split_first().ok_or_else(|| Error::usage("--exec needs a command"))?;
    let unreadable = |e: io::Error| Error::worker(format!("cannot read standard input: {e}"));
    // One byte and not one more, so no buffered reader: the rest is the contender's.
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned().map_err(unreadable)?);
    input.read_exact(&mut [0]).map_err(unreadable)?;
    drop(input);
    let error = Command::new(program).args(rest).exec();
    Err(Error::worker(format!("cannot start {}: {error}", program.display())))
}
