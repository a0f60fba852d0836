//! Limits: how many units lived at once, as a bar from zero, and under it the name of what ended them.
//!
//! Without the name the number is of this machine's settings and says nothing, so both are drawn together.

use super::{Canvas, Chart, Hold, WIDTH, draw};
use crate::RenderError;
use crate::prose;
use crate::theme::{ABSENT, INK, MUTED, look};
use crate::view::{self, Workload};
use crate::words::{count, fit};
use switchmark_schema::{Cell, Status};

const TOP: f64 = 26.0;
const HEAD: f64 = 26.0;
const LANE: f64 = 40.0;
/// Where bars may stand.
const PLOT: (f64, f64) = (142.0, 620.0);

/// Absent where no cell of the workload is a limit.
pub(super) fn limit(workload: &Workload) -> Result<Option<Chart>, RenderError> {
    let cells = || workload.groups.iter().flat_map(|g| g.cells.iter().copied());
    let Some(highest) = cells().filter_map(reached).reduce(u64::max) else { return Ok(None) };
    let height = TOP + workload.groups.iter().map(|g| HEAD + LANE * g.cells.len() as f64).sum::<f64>();
    let told =
        cells().map(|c| format!("{}: {}, {}.", c.id, reached(c).map_or("no number".into(), count), why(c)));
    let description = format!("Bars from zero. {}", told.collect::<Vec<_>>().join(" "));
    let title = prose::finding(workload);
    draw(workload.id, title, &description, height + 6.0, |canvas| {
        canvas.note((0.0, 12.0), "Units alive at once, from zero; beneath, what was met");
        let mut y = TOP;
        for group in &workload.groups {
            canvas.text((0.0, y + 10.0), &fit(&group.label, 40.0), 13.0, INK, Hold::Left, true);
            y += HEAD;
            for cell in &group.cells {
                bar(canvas, cell, y, highest);
                y += LANE;
            }
        }
    })
    .map(Some)
}

fn bar(canvas: &mut Canvas, cell: &Cell, y: f64, highest: u64) {
    let look = look(&cell.contender);
    canvas.mark(8.0, y + 8.0, look);
    canvas.text((20.0, y + 8.0), &fit(&cell.contender, 8.6), 13.0, INK, Hold::Left, false);
    let words = fit(&why(cell), (WIDTH - PLOT.0) / 12.0 - 0.5);
    let Some(units) = reached(cell) else {
        canvas.text((PLOT.0, y + 8.0), &words, 12.0, ABSENT, Hold::Left, false);
        return;
    };
    let right = PLOT.0 + (PLOT.1 - PLOT.0) * (units as f64 / highest as f64);
    // Half a pixel at least: what is there is drawn.
    canvas.rect((PLOT.0, y), (right.max(PLOT.0 + 0.5), y + 16.0), look.colour);
    canvas.text((right + 8.0, y + 8.0), &count(units), 12.5, INK, Hold::Left, true);
    canvas.text((PLOT.0, y + 25.0), &words, 12.0, MUTED, Hold::Left, false);
}

/// Units that lived at once.
fn reached(cell: &Cell) -> Option<u64> {
    let limit = cell.primary == "count" && cell.status == Status::Measured && cell.reason.is_some();
    let p =
        cell.primary_metric().and_then(view::point).filter(|p| limit && (1.0..1e12).contains(&p.middle))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10^12")]
    let units = p.middle as u64;
    Some(units)
}

/// What was met, or why there is no number.
fn why(cell: &Cell) -> String {
    let reason = cell.reason.as_deref().unwrap_or("no reason given");
    if reached(cell).is_some() {
        reason.to_owned()
    } else {
        format!("{}: {reason}", view::status_word(cell.status))
    }
}
