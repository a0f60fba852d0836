//! `pipe-ping-pong`: two units send four bytes to and fro over two pipes.
//!
//! **Work.** A round trip: each side writes the token to one pipe and reads it from the other.
//! **Ledger.** Two units; two switches a round trip on one core. Two writes and two reads, in which a thread also waits; a scheduler that
//! waits apart adds its own calls.
//! **Check.** The token, which each side adds one to: `2 * iterations`.

use super::crew::{Crew, Station};
use super::{Opened, pair};
use crate::concurrency::Descriptors;
use crate::layout;
use std::sync::{Arc, Mutex, PoisonError};
use switchmark_harness::protocol::{Prepare, Sample};

/// The ends of one side.
struct Ends<C: Descriptors> {
    from: C::Reader,
    to: C::Writer,
}

/// What a read takes at most. More than a token, so that one who has read a token knows that he has taken all.
const ROOM: usize = 8;

/// Opens the cell.
pub fn open<C: Descriptors>(prepare: &Prepare) -> Opened {
    let two = C::pipe().and_then(|there| Ok((there, C::pipe()?)));
    let ((from_first, to_second), (from_second, to_first)) =
        two.map_err(|e| format!("cannot open pipes: {e}"))?;
    let [first, second] =
        [Ends { from: from_second, to: to_second }, Ends { from: from_first, to: to_first }].map(Mutex::new);
    let sides: Arc<[Mutex<Ends<C>>; 2]> = Arc::new([first, second]);
    let mut crew = Crew::<C>::new(&pair(prepare)?, move |station| {
        // Each side is one unit's, which takes it for the slice: nobody ever waits for it.
        let side = &mut *sides[station.ordinal].lock().unwrap_or_else(PoisonError::into_inner);
        if station.ordinal == 0 {
            serve(station, side);
        } else {
            answer(station, side);
        }
    })?;
    Ok(Box::new(move |iterations| {
        let slice = crew.slice(iterations);
        Sample {
            iterations,
            elapsed_ns: slice.elapsed_ns,
            units: 2,
            peak_live: 2,
            switches: slice.switches,
            check: slice.answer,
            ..Sample::default()
        }
    }))
}

/// The first unit: timed; answers with the token.
fn serve<C: Descriptors>(station: &mut Station<'_, C>, side: &mut Ends<C>) {
    station.gather();
    let token = station.time(|station| {
        let mut token = 0_u32;
        for stay in layout::stays(station.iterations) {
            station.layout.enter(|| {
                for _ in 0..stay {
                    send::<C>(token + 1, side);
                    token = receive::<C>(side);
                }
            });
        }
        token
    });
    station.answer(u64::from(token));
}

/// The second unit.
fn answer<C: Descriptors>(station: &mut Station<'_, C>, side: &mut Ends<C>) {
    for stay in layout::stays(station.iterations) {
        station.layout.enter(|| {
            for _ in 0..stay {
                let token = receive::<C>(side);
                send::<C>(token + 1, side);
            }
        });
    }
}

// Four bytes are below PIPE_BUF, so a write is whole or not at all, and the reader finds all of them.

fn send<C: Descriptors>(token: u32, side: &mut Ends<C>) {
    let sent = C::write(&mut side.to, &token.to_ne_bytes());
    assert_eq!(sent.expect("the other side keeps its end open"), 4, "a token is written whole");
}

fn receive<C: Descriptors>(side: &mut Ends<C>) -> u32 {
    let mut buffer = [0; ROOM];
    let got = C::read(&mut side.from, &mut buffer);
    assert_eq!(got.expect("the other side keeps its end open"), 4, "a token is read whole, and alone");
    let [a, b, c, d, ..] = buffer;
    u32::from_ne_bytes([a, b, c, d])
}
