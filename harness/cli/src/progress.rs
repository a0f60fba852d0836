//! Progress on a terminal: what is running, how wide the widest interval still is, time left. Drawn between
//! blocks only, on standard error, and nowhere but on a terminal.

use std::io::{IsTerminal, Write};
use std::time::Duration;
use switchmark_harness::run::Event;

/// Draws one line and keeps it up to date.
#[derive(Debug)]
pub(crate) struct Progress {
    terminal: bool,
    drawn: bool,
}

impl Progress {
    /// Draws only if standard error is a terminal.
    pub(crate) fn new() -> Progress {
        Progress { terminal: std::io::stderr().is_terminal(), drawn: false }
    }

    pub(crate) fn show(&mut self, event: &Event<'_>) {
        if self.terminal
            && let Some(text) = describe(event)
        {
            eprint!("\r\x1b[2K{text}");
            let _ = std::io::stderr().flush();
            self.drawn = true;
        }
    }

    /// Clears the line, so that what follows starts on a clean one.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            eprint!("\r\x1b[2K");
        }
    }
}

fn describe(event: &Event<'_>) -> Option<String> {
    match event {
        Event::Calibrating { cell, done, of } => Some(format!("calibrating {}/{of}  {cell}", done + 1)),
        Event::Block { group, block, done, of, taken, widest, elapsed } => {
            let left = match u32::try_from(*taken) {
                Ok(taken @ 1..) => {
                    let left = *elapsed * u32::try_from(of.saturating_sub(*done)).unwrap_or(u32::MAX) / taken;
                    humantime::format_duration(Duration::from_secs(left.as_secs())).to_string()
                }
                _ => "…".to_owned(),
            };
            let widest = widest.map_or(String::new(), |w| format!("  widest ±{:.0} %", w * 100.0));
            Some(format!("{}/{of}  block {block}  {group}{widest}  {left} left", done + 1))
        }
        Event::Done(_) => None,
    }
}
