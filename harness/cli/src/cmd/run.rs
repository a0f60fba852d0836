//! `switchmark run`: measures, writes, and says what came out.

use super::print;
use crate::measure::{self, measure};
use std::io::IsTerminal;
use switchmark_harness::Result;
use switchmark_harness::document::to_json;
use switchmark_reports::terminal_summary;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    measure: measure::Arguments,
    /// An invalid cell is a failure too.
    #[arg(long)]
    strict: bool,
    /// Print the result document on standard output, and nothing else there.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let measured = measure(&arguments.measure)?;
    if arguments.json {
        print(&to_json(&measured.document))?;
    } else {
        let summary = terminal_summary(&measured.document, width(), color());
        print(&format!("{summary}\n{}\n", measured.folder.join("report.html").display()))?;
    }
    Ok(measured.exit_code(arguments.strict))
}

/// Columns of the terminal; a pipe gets a width that mail and logs can bear.
pub(crate) fn width() -> usize {
    terminal_size::terminal_size().map_or(100, |(terminal_size::Width(columns), _)| usize::from(columns))
}

/// Colour only for a terminal whose user did not decline it (no-color.org).
pub(crate) fn color() -> bool {
    let declined = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !declined
}
