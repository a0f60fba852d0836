//! `ping-pong`: two units hand one token to and fro.
//!
//! **Work.** A round trip: the first unit adds one to the token, wakes its partner and waits until the token has
//! come back; the second does the same when the token is its turn. The token is a word in memory.
//! **Ledger.** Two units; on one core two switches a round trip, by the contender's own count.
//! **Check.** The token, which each side adds one to: `2 * iterations`.
//!
//! Nobody spins: a side that looks and finds the token away parks at once. Spinning would hide the park.

use super::crew::{Crew, Station};
use super::{Opened, pair};
use crate::concurrency::Concurrency;
use crate::layout;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use switchmark_harness::protocol::{Prepare, Sample};

struct Table<C: Concurrency> {
    /// Even: the first unit's turn. Odd: the second's.
    token: AtomicU64,
    players: [OnceLock<C::Unparker>; 2],
}

/// Opens the cell.
pub fn open<C: Concurrency>(prepare: &Prepare) -> Opened {
    let table =
        Arc::new(Table::<C> { token: AtomicU64::new(0), players: [OnceLock::new(), OnceLock::new()] });
    let shared = Arc::clone(&table);
    let mut crew = Crew::<C>::new(&pair(prepare)?, move |station| {
        table.players[station.ordinal].get_or_init(C::unparker);
        if station.ordinal == 0 {
            serve(station, &table);
        } else {
            answer(station, &table);
        }
    })?;
    Ok(Box::new(move |iterations| {
        // Relaxed: the crew releases it to the units when it opens the slice, and acquires it when they leave.
        shared.token.store(0, Ordering::Relaxed);
        let slice = crew.slice(iterations);
        Sample {
            iterations,
            elapsed_ns: slice.elapsed_ns,
            units: 2,
            peak_live: 2,
            switches: slice.switches,
            check: shared.token.load(Ordering::Relaxed),
            ..Sample::default()
        }
    }))
}

/// The first unit: timed.
fn serve<C: Concurrency>(station: &mut Station<'_, C>, table: &Table<C>) {
    station.gather();
    // The partner gives its name before it looks at the token for the first time, not before it arrives.
    while table.players[1].get().is_none() {
        C::yield_now();
    }
    let partner = table.players[1].get().expect("waited for above");
    station.time(|station| {
        let mut token = 0;
        for stay in layout::stays(station.iterations) {
            station.layout.enter(|| {
                for _ in 0..stay {
                    pass(token + 1, partner, table);
                    token += 2;
                    wait_for(token, table);
                }
            });
        }
    });
}

/// The second unit.
fn answer<C: Concurrency>(station: &mut Station<'_, C>, table: &Table<C>) {
    let mut token = 1;
    for stay in layout::stays(station.iterations) {
        station.layout.enter(|| {
            for _ in 0..stay {
                wait_for(token, table);
                let partner = table.players[0].get().expect("it gave its name before it passed the token");
                pass(token + 1, partner, table);
                token += 2;
            }
        });
    }
}

fn pass<C: Concurrency>(token: u64, partner: &C::Unparker, table: &Table<C>) {
    // Release: pairs with the Acquire in `wait_for`. Only the side whose turn it is writes.
    table.token.store(token, Ordering::Release);
    C::unpark(partner);
}

fn wait_for<C: Concurrency>(token: u64, table: &Table<C>) {
    // Acquire: pairs with the Release in `pass`.
    while table.token.load(Ordering::Acquire) != token {
        C::park();
    }
}
