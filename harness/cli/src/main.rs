//! The command line: usage, and which verb does what. Everything else is in `cmd/`, a verb a file.

#![forbid(unsafe_code)]

mod cmd;
mod measure;
mod progress;
mod world;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// What a coroutine costs, what a thread costs, and why: measured on your own machine.
///
/// Without a verb: quick's default set, the report, a summary and the page's path.
#[derive(Debug, Parser)]
#[command(name = "switchmark", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 regression; 2 usage or configuration; 3 a worker failed; \
    4 not to be trusted; 5 unreadable document or I/O error; 130 interrupted, what was measured is saved.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Workloads, parameters, contenders, and whether each can run here.
    List(cmd::list::Arguments),
    /// Build contenders that have a folder of their own.
    Build(cmd::build::Arguments),
    /// Measure, and write result.json, blocks.jsonl, report.html and charts.
    Run(cmd::run::Arguments),
    /// Is this machine fit to measure on: findings, what they do, what helps.
    Doctor(cmd::doctor::Arguments),
    /// Try the instrument on differences that are known: does it see what is there, and nothing else.
    Selftest(cmd::selftest::Arguments),
    /// A verdict on a change, against a stored result.
    Gate(cmd::gate::Arguments),
    /// Render results.
    Report(cmd::report::Arguments),
    /// Print the JSON Schema of a document, or the grammar of the worker protocol.
    Schema(cmd::schema::Arguments),
    /// Serve one cell on standard input and output.
    #[command(hide = true)]
    Worker(cmd::worker::Arguments),
    /// Put load on a server of the io family, asked on standard input.
    #[command(hide = true)]
    Load,
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        None => cmd::run::run(&cmd::run::Arguments::default()),
        Some(Verb::Run(arguments)) => cmd::run::run(&arguments),
        Some(Verb::List(arguments)) => cmd::list::run(&arguments),
        Some(Verb::Build(arguments)) => cmd::build::run(&arguments),
        Some(Verb::Doctor(arguments)) => cmd::doctor::run(&arguments),
        Some(Verb::Selftest(arguments)) => cmd::selftest::run(&arguments),
        Some(Verb::Gate(arguments)) => cmd::gate::run(&arguments),
        Some(Verb::Report(arguments)) => cmd::report::run(&arguments),
        Some(Verb::Schema(arguments)) => cmd::schema::run(&arguments),
        Some(Verb::Worker(arguments)) => cmd::worker::run(&arguments),
        Some(Verb::Load) => cmd::load::run(),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("switchmark: {error}");
            ExitCode::from(error.kind.exit_code())
        }
    }
}
