//! `spawn-join`: start an empty unit, wait for its end, again.
//!
//! **Work.** One unit at a time; each touches `touched` bytes of its stack and returns a number. The stack it gets
//! is `stack` bytes, or the contender's default.
//! **Ledger.** As many units as iterations, one alive at a time. Switches are recorded.
//! **Check.** The i-th unit returns 2·i, counted from 1; their sum is `iterations * iterations + iterations`.
//! (Twice i, because a formula of a definition knows no division.)

use super::crew::since;
use super::{Opened, number, stack};
use crate::concurrency::Concurrency;
use crate::layout::{self, Layout};
use switchmark_harness::protocol::{Prepare, Sample};

/// Opens the cell.
pub fn open<C: Concurrency>(prepare: &Prepare) -> Opened {
    let options = stack(prepare)?;
    let touched = number(prepare, "touched")?;
    // One unit shows whether such a stack can be had.
    C::join(C::spawn(options, || ()).map_err(|e| format!("cannot start a unit: {e}"))?);
    let mut layout = Layout::of_unit(0);
    Ok(Box::new(move |iterations| {
        let (mut started, mut sum) = (0, 0);
        let switches = C::switches();
        let start = C::stamp();
        for stay in layout::stays(iterations) {
            layout.enter(|| {
                for _ in 0..stay {
                    started += 1;
                    let answer = 2 * started;
                    let unit = C::spawn(options, move || {
                        layout::touch(touched);
                        answer
                    });
                    sum += C::join(unit.expect("one unit more could be started before"));
                }
            });
        }
        let elapsed_ns = C::stamp() - start;
        Sample {
            iterations,
            elapsed_ns,
            units: started,
            peak_live: 1,
            switches: since::<C>(switches),
            check: sum,
            ..Sample::default()
        }
    }))
}
