//! `switchmark report`: renders results that were stored.

use super::print;
use crate::measure::{write_charts, write_page};
use std::path::{Path, PathBuf};
use switchmark_harness::document::{read, write_whole};
use switchmark_harness::{Error, Result};
use switchmark_reports::{markdown_summary, splice};
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
    /// Write the summary of the first result between the markers `switchmark:begin summary` and
    /// `switchmark:end summary` of this file.
    #[arg(long, value_name = "FILE")]
    splice: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let documents: Vec<ResultDocument> =
        arguments.results.iter().map(|path| read(path)).collect::<Result<_>>()?;
    write_page(&documents, &arguments.output)?;
    if let Some(folder) = &arguments.charts {
        write_charts(&documents, folder, arguments.png)?;
    }
    if let (Some(path), Some(first)) = (&arguments.splice, documents.first()) {
        splice_summary(path, first)?;
    }
    print(&format!("{}\n", arguments.output.display()))?;
    Ok(0)
}

/// Figures in prose are spliced, not typed: they carry the command that made them.
fn splice_summary(path: &Path, document: &ResultDocument) -> Result<()> {
    let about = |e: &dyn std::fmt::Display| Error::document(format!("cannot splice {}: {e}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| about(&e))?;
    let command = format!("switchmark {}", document.run.arguments.join(" "));
    let summary = markdown_summary(document, command.trim_end());
    let spliced = splice(&text, "summary", &summary).map_err(|e| about(&e))?;
    write_whole(path, spliced.as_bytes())
}
