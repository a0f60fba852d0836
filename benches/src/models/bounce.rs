//! `bounce`: resume a suspended coroutine, which suspends at once. No queue, no scheduler.
//!
//! **Work.** One coroutine, or several in turn. A bounce is two switches: in and out.
//! **Ledger.** Units: the coroutines. Switches: resumes made outside plus turns counted inside, so that one that
//! returned without running its turn is missed.
//! **Check.** Turns counted inside: `iterations`.
//!
//! Both sides move: at each stay the resumer enters its loop at another depth, and with the same resume passes
//! [`Turn::Enter`] in, at which the coroutine leaves its own loop and enters it at another depth. For the floor
//! `call`, which has no stack to keep, a turn is a function call and both of its transfers are counted alike.

use super::{Opened, number};
use crate::concurrency::{Inside, Raw, Turn};
use crate::layout::{self, Layout};
use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use switchmark_harness::protocol::{Prepare, Sample};

/// The clock is the one of every contender; `Raw` has none of its own.
use crate::sys::monotonic_ns;

/// Where several are resumed in turn, each stays this many turns at a depth.
const TURNS_OF_A_STAY: u64 = 64;

/// Opens the cell.
pub fn open<R: Raw>(prepare: &Prepare) -> Opened {
    of::<R>(number(prepare, "coroutines")?)
}

/// The same of so many coroutines.
pub(crate) fn of<R: Raw>(count: usize) -> Opened {
    if count == 0 {
        return Err("parameter coroutines is 0: there is nobody to resume".into());
    }
    let turns = Rc::new(Cell::new(0));
    let one = |ordinal| {
        let inside = Counting {
            turns: Rc::clone(&turns),
            // The resumer is unit 0.
            layout: Layout::of_unit(ordinal + 1),
        };
        R::coroutine(inside).map_err(|e| format!("coroutine {} of {count}: {e}", ordinal + 1))
    };
    let mut coroutines = (0..count).map(one).collect::<Result<Vec<_>, _>>()?;
    let mut layout = Layout::of_unit(0);
    // Several are at as many depths at once; entering again must not show beside the few turns of each.
    let shortest = if count > 1 { TURNS_OF_A_STAY * count as u64 } else { 1 };
    // Where the ring was left: a slice need not be a multiple of it.
    let mut next = 0;
    Ok(Box::new(move |iterations| {
        turns.set(0);
        let mut resumes = 0;
        let start = monotonic_ns();
        for stay in layout::stays_of_at_least(shortest, iterations) {
            layout.enter(|| {
                resumes += if let [only] = coroutines.as_mut_slice() {
                    bounce_one::<R>(only, stay)
                } else {
                    bounce_in_turn::<R>(&mut coroutines, &mut next, stay)
                };
            });
        }
        let elapsed_ns = monotonic_ns() - start;
        Sample {
            iterations,
            elapsed_ns,
            units: count as u64,
            peak_live: count as u64,
            switches: Some(resumes + turns.get()),
            check: turns.get(),
            ..Sample::default()
        }
    }))
}

fn bounce_one<R: Raw>(coroutine: &mut R::Coroutine, bounces: u64) -> u64 {
    R::resume(coroutine, Turn::Enter);
    for _ in 1..bounces {
        R::resume(coroutine, Turn::Stay);
    }
    bounces
}

/// As far as the slice goes: each coroutine is resumed in turn, the first round of a stay moves it.
fn bounce_in_turn<R: Raw>(coroutines: &mut [R::Coroutine], next: &mut usize, bounces: u64) -> u64 {
    let mut turn = Turn::Enter;
    let mut moved = 0;
    for _ in 0..bounces {
        R::resume(&mut coroutines[*next], turn);
        *next += 1;
        if *next == coroutines.len() {
            *next = 0;
        }
        moved += 1;
        if moved == coroutines.len() {
            turn = Turn::Stay;
        }
    }
    bounces
}

/// The inside: counts its turns.
struct Counting {
    turns: Rc<Cell<u64>>,
    layout: Layout,
}

impl Inside for Counting {
    fn live(mut self, _first: Turn, mut suspend: impl FnMut() -> Turn) -> Infallible {
        let turns = &*self.turns;
        loop {
            // The first turn of a stay is the one that asked to enter.
            self.layout.enter(|| {
                loop {
                    turns.set(turns.get() + 1);
                    if suspend() == Turn::Enter {
                        break;
                    }
                }
            });
        }
    }

    fn turn(&mut self) {
        self.turns.set(self.turns.get() + 1);
    }
}
