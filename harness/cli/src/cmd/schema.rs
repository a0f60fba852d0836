//! `switchmark schema`: what documents and workers must look like.

use super::print;
use clap::ValueEnum;
use switchmark_harness::Result;
use switchmark_harness::protocol::GRAMMAR;
use switchmark_schema::{GateDocument, ResultDocument, json_schema};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Of what.
    #[arg(value_enum, default_value_t = Kind::Result)]
    kind: Kind,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Result,
    Gate,
    Worker,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    match arguments.kind {
        Kind::Result => print(&(json_schema::<ResultDocument>() + "\n"))?,
        Kind::Gate => print(&(json_schema::<GateDocument>() + "\n"))?,
        Kind::Worker => print(GRAMMAR)?,
    }
    Ok(0)
}
