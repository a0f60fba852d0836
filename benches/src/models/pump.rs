//! `pump`: producers pass messages to consumers through one channel.
//!
//! **Work.** A message: a number put in by one of `producers`, taken out by one of `consumers`. The channel holds
//! `capacity` of them; with 0 it is a hand-over. `implementation` is `own`, the contender's channel (for threads and our
//! coroutines the bundled runtime's: one source, only the waiting differs), or `std`, the standard library's.
//! **Ledger.** Units: producers and consumers. Switches are recorded: how often a side waits is the channel's own affair.
//! **Check.** The i-th message is 2·i, counted from 1; the sum of what was received is `iterations * iterations + iterations`.
//! (Twice i, because a formula of a definition knows no division.)
//!
//! Each unit puts in or takes out a share of the messages that is fixed beforehand, so nobody closes anything and none is
//! left over; the time ends with the last unit. The units and the channel outlive the slices.

use super::crew::{Crew, Station};
use super::{Opened, number};
use crate::concurrency::{Channel, Concurrency, Std, UnitOptions};
use crate::layout;
use std::sync::{Arc, Mutex, PoisonError};
use switchmark_harness::protocol::{Prepare, Sample};
use switchmark_schema::ParamValue;

/// What a unit holds of the channel.
enum End<H: Channel> {
    Sender(H::Sender),
    Receiver(H::Receiver),
}

/// Opens the cell.
pub fn open<C: Concurrency>(prepare: &Prepare) -> Opened {
    match prepare.param("implementation") {
        Some(ParamValue::Word(word)) if word == "own" => pump::<C, C::Channel>(prepare),
        Some(ParamValue::Word(word)) if word == "std" && C::BLOCKS_ALONE => pump::<C, Std>(prepare),
        Some(ParamValue::Word(word)) if word == "std" => {
            Err("a wait in the standard library's channel blocks the OS thread, and with it all units there"
                .into())
        }
        other => Err(format!("parameter implementation is {other:?}; it takes own or std")),
    }
}

fn pump<C: Concurrency, H: Channel>(prepare: &Prepare) -> Opened {
    let capacity = number(prepare, "capacity")?;
    let (producers, consumers) = (number(prepare, "producers")?, number(prepare, "consumers")?);
    if producers == 0 || consumers == 0 {
        return Err("a pump takes one producer and one consumer at least".into());
    }
    let units = producers + consumers;
    C::room_for(units as u64)?;
    let (senders, receivers) = H::open(capacity, producers, consumers)?;
    // Consumers first: the one that takes the time is one of them.
    let ends = receivers.into_iter().map(End::Receiver).chain(senders.into_iter().map(End::Sender));
    // A lock only so that units may share the table: each takes its own end out for the slice.
    let ends: Arc<Vec<Mutex<Option<End<H>>>>> = Arc::new(ends.map(|end| Mutex::new(Some(end))).collect());
    let mut crew = Crew::<C>::new(&vec![UnitOptions::default(); units], move |station| {
        let slot = || ends[station.ordinal].lock().unwrap_or_else(PoisonError::into_inner);
        let end: End<H> = slot().take().expect("put back after each slice");
        let received = station.together(|station| match &end {
            End::Receiver(from) => consume::<C, H>(station, from, consumers),
            End::Sender(to) => produce::<C, H>(station, to, station.ordinal - consumers, producers),
        });
        station.answer(received);
        *ends[station.ordinal].lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    })?;
    Ok(Box::new(move |iterations| {
        let slice = crew.slice(iterations);
        Sample {
            iterations,
            elapsed_ns: slice.elapsed_ns,
            base_ns: Some(slice.outside_ns),
            units: units as u64,
            peak_live: units as u64,
            switches: slice.switches,
            check: slice.answer,
            ..Sample::default()
        }
    }))
}

/// How many of the messages are this one's, of so many.
fn share(messages: u64, of: usize, ordinal: usize) -> u64 {
    let (of, ordinal) = (of as u64, ordinal as u64);
    messages / of + u64::from(ordinal < messages % of)
}

/// Returns the sum of what it took out.
fn consume<C: Concurrency, H: Channel>(
    station: &mut Station<'_, C>,
    from: &H::Receiver,
    consumers: usize,
) -> u64 {
    let mut sum = 0;
    for stay in layout::stays(share(station.iterations, consumers, station.ordinal)) {
        station.layout.enter(|| {
            for _ in 0..stay {
                sum += H::receive(from);
            }
        });
    }
    sum
}

/// Puts in every so-many-th message, from its own on; has received nothing.
fn produce<C: Concurrency, H: Channel>(
    station: &mut Station<'_, C>,
    to: &H::Sender,
    ordinal: usize,
    producers: usize,
) -> u64 {
    let mut message = ordinal as u64 + 1;
    for stay in layout::stays(share(station.iterations, producers, ordinal)) {
        station.layout.enter(|| {
            for _ in 0..stay {
                H::send(to, 2 * message);
                message += producers as u64;
            }
        });
    }
    0
}
