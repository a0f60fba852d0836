//! `switchmark report`: renders results that were stored.

use super::print;
use crate::measure::{write_charts, write_page};
use std::path::PathBuf;
use switchmark_harness::Result;
use switchmark_harness::document::read;
use switchmark_schema::ResultDocument;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Result documents.
    #[arg(required = true)]
    results: Vec<PathBuf>,
    /// The page.
    #[arg(short, long, default_value = "report.html")]
    output: PathBuf,
    /// Each chart as a file in this folder too.
    #[arg(long, value_name = "DIR")]
    charts: Option<PathBuf>,
    /// Charts as PNG beside the SVG.
    #[arg(long, requires = "charts")]
    png: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let documents: Vec<ResultDocument> =
        arguments.results.iter().map(|path| read(path)).collect::<Result<_>>()?;
    write_page(&documents, &arguments.output)?;
    if let Some(folder) = &arguments.charts {
        write_charts(&documents, folder, arguments.png)?;
    }
    print(&format!("{}\n", arguments.output.display()))?;
    Ok(0)
}
