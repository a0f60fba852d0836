//! `rung`: one component of a hand-off, over and over.
//!
//! **Work.** What the parameter `rung` names, as the contender has it: a call that one unit repeats; a yield, which two units do in turn; a
//! bounce of a raw coroutine, or of the function call that is its floor. An iteration is one call, one yield of either unit, or one bounce.
//! **Ledger.** Units: one, or the two that give way. Switches: by the contender's own count; none where one unit repeats a call.
//! **Check.** The operations that came out as they must: the kernel named the parent, woke nobody, refused to wait; a yield came back; a
//! resume and a turn were made. Two an iteration where two take part.
//!
//! The yields of a pair are counted for both, and timed until the later of them is done: who is left alone for the last yield switches to
//! nobody, and the ledger sees through more than a hundredth of such.

use super::crew::Crew;
use super::{Opened, Slices};
use crate::concurrency::{Concurrency, Rung, Rungs, UnitOptions};
use crate::layout;
use switchmark_harness::protocol::{Prepare, Sample};
use switchmark_schema::ParamValue;

/// Opens the cell.
pub fn open<C: Rungs>(prepare: &Prepare) -> Opened {
    let Some(ParamValue::Word(name)) = prepare.param("rung") else {
        return Err("parameter rung is missing, or not a word".into());
    };
    match C::RUNGS.iter().find(|(known, _)| known == name) {
        Some((_, Rung::Alone(repeat))) => crew::<C>(1, *repeat),
        Some((_, Rung::GivingWay)) => crew::<C>(2, gives_way::<C>),
        Some((_, Rung::Bounce(open))) => Ok(bounced(open()?)),
        None => {
            let known: Vec<&str> = C::RUNGS.iter().map(|(name, _)| *name).collect();
            // The same words for every rung, so that a summary says them once.
            Err(format!("no component of its hand-off, which has {}", known.join(", ")))
        }
    }
}

fn gives_way<C: Concurrency>(times: u64) -> u64 {
    for _ in 0..times {
        C::yield_now();
    }
    times
}

/// So many units that each do all iterations, in stays; `stay` says how many operations it made of its own.
fn crew<C: Concurrency>(units: usize, stay: fn(u64) -> u64) -> Opened {
    let mut crew = Crew::<C>::new(&vec![UnitOptions::default(); units], move |station| {
        let done = station.together(|station| {
            let mut done = 0;
            for length in layout::stays(station.iterations) {
                station.layout.enter(|| done += stay(length));
            }
            done
        });
        station.answer(done);
    })?;
    Ok(Box::new(move |iterations| {
        let slice = crew.slice(iterations);
        Sample {
            iterations,
            elapsed_ns: slice.elapsed_ns,
            units: units as u64,
            peak_live: units as u64,
            switches: slice.switches,
            check: slice.answer,
            ..Sample::default()
        }
    }))
}

/// A bounce is two operations, and its model counts both: resumes outside, turns inside.
fn bounced(mut slices: Slices) -> Slices {
    Box::new(move |iterations| {
        let sample = slices(iterations);
        Sample { check: sample.switches.unwrap_or(0), ..sample }
    })
}
