//! `tickers`: units that wait for their time, on one core: a tick each millisecond, dealt in turn, each with work.
//!
//! **Work.** Of n units the i-th serves every n-th tick from the i-th on, and computes for `task_ns` after each.
//! **Ledger.** The units.
//! **Check.** The ticks served.

use super::{Opened, number, ticks};
use crate::concurrency::{Timed, UnitOptions};
use switchmark_harness::protocol::Prepare;

/// Opens the cell.
pub(super) fn open<C: Timed>(prepare: &Prepare) -> Opened {
    let tickers = number(prepare, "tickers")?;
    let task_ns = ticks::nanoseconds(prepare, "task_ns")?;
    if tickers == 0 {
        return Err("parameter tickers is 0: there is nobody to tick".into());
    }
    C::room_for(tickers as u64)?;
    Ok(Box::new(move |iterations| {
        let start = C::stamp();
        let units: Vec<_> = (1..=tickers as u64)
            .map(|first| {
                let work = move || {
                    let end = C::stamp() + task_ns;
                    while C::stamp() < end {
                        std::hint::spin_loop();
                    }
                };
                let body = move || ticks::serve::<C>(start, (first..=iterations).step_by(tickers), work);
                C::spawn(UnitOptions::default(), body).unwrap_or_else(|e| panic!("cannot start a unit: {e}"))
            })
            .collect();
        let late = units.into_iter().flat_map(|unit| C::join(unit)).collect();
        ticks::sample(iterations, tickers as u64, C::stamp() - start, late)
    }))
}
