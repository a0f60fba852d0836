//! Switchmark's documents made readable: the page, its charts, the summary on the terminal, the gate's report.
//!
//! Pure functions from documents to text and pictures. This package knows no definition file, contender, clock,
//! environment variable or network, and it does no I/O: whoever calls it reads and writes. What a page needs and
//! a document does not hold (the command that made the page) comes in through [`PageOptions`].
//!
//! Documents from [`switchmark_schema::read`] are checked, but nothing here relies on it: a document built in
//! memory may hold NaN, crossed intervals or megabytes of markup, and still gives a page that says so.

#![forbid(unsafe_code)]

mod anatomy;
mod charts;
mod doctor;
mod gate;
mod page;
mod png;
mod prose;
mod splice;
mod table;
mod terminal;
mod theme;
mod view;
mod words;

pub use charts::{Chart, charts};
pub use doctor::doctor_text;
pub use gate::{gate_markdown, gate_text};
pub use page::{PageOptions, render_page};
pub use png::png;
pub use splice::splice;
pub use table::{csv, markdown_summary};
pub use terminal::terminal_summary;

use std::fmt;

/// Why there is no page, chart or spliced text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenderError {
    /// No document was given.
    NoResult,
    /// The page could not be filled in.
    Page(String),
    /// A chart could not be drawn.
    Chart {
        /// The chart's name.
        name: String,
        /// What the drawing library said.
        cause: String,
    },
    /// A picture could not be made of an SVG.
    Png(String),
    /// A text does not have the pair of markers to write between.
    Splice {
        /// Name in the markers.
        name: String,
        /// What is wrong with them.
        fault: &'static str,
    },
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RenderError::NoResult => {
                write!(f, "cannot render a page of no result; name at least one result.json")
            }
            RenderError::Page(cause) => write!(f, "cannot fill in the page: {cause}"),
            RenderError::Chart { name, cause } => write!(f, "cannot draw chart `{name}`: {cause}"),
            RenderError::Png(cause) => write!(f, "cannot make a png of the chart: {cause}"),
            RenderError::Splice { name, fault } => write!(
                f,
                "cannot splice `{name}`: {fault}; the text needs one line <!-- switchmark:begin {name} --> \
                 and after it one line <!-- switchmark:end {name} -->"
            ),
        }
    }
}

impl std::error::Error for RenderError {}
