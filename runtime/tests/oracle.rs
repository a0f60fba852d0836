//! Channels against two oracles: a model that says what may happen, and `crossbeam-channel`, which others wrote.
//!
//! A program is two or three units, each a short list of sends, receives, tries, selects and drops over up to three channels of random
//! capacity. What a unit sees depends on the schedule, so a program has a *set* of outcomes. The model computes it, by walking through
//! every interleaving of a specification of twenty lines ([`Model::steps`]). Then the program runs for real: on our channels in coroutines
//! of one worker, of two workers and on OS threads, and on crossbeam's on OS threads. Each outcome has to be in the set.
//!
//! That crossbeam's are shows that the model does not just repeat what we believe of ourselves. The model is not narrower than
//! the interface: it lets any of several waiters be served, where ours serves the first.
//!
//! Programs that may block for ever are left out, as crossbeam's threads would. So are those with too many states.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel as theirs;
use switchmark_runtime::chan::{self as ours, select};
use switchmark_runtime::{Builder, spawn, yield_now};

/// Programs that are run. The seeds are fixed: a failure names its own.
const CASES: usize = 10_000;
/// States after which a program counts as too large.
const MANY: usize = 1_500;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Arm {
    Send(usize),
    Recv(usize),
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Op {
    Send(usize),
    Recv(usize),
    TrySend(usize),
    TryRecv(usize),
    Select(Vec<Arm>, bool),
    DropSender(usize),
    DropReceiver(usize),
}

/// What a unit saw of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Saw {
    Sent,
    Got(u8),
    Closed,
    /// A try that would have had to wait, or a default.
    Nothing,
    Arm(u8, Result<Option<u8>, ()>),
}

type Outcome = Vec<Vec<Saw>>;

#[derive(Debug)]
struct Program {
    capacities: Vec<usize>,
    /// Each ends with the drops of what it still has.
    units: Vec<Vec<Op>>,
    /// Whether a unit has an end of a channel in the beginning: `[unit][channel]`.
    senders: Vec<Vec<bool>>,
    receivers: Vec<Vec<bool>>,
}

/// The value that a unit sends by an operation, through an arm.
fn value(unit: usize, op: usize, arm: usize) -> u8 {
    u8::try_from(unit * 64 + op * 4 + arm).expect("a program is small")
}

/// Sebastiano Vigna's splitmix64.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, sides: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits") % sides
    }

    fn one_of(&mut self, all: &[usize]) -> Option<usize> {
        (!all.is_empty()).then(|| all[self.below(all.len())])
    }
}

impl Program {
    fn random(dice: &mut Dice) -> Program {
        let (channels, units) = (1 + dice.below(3), 2 + dice.below(2));
        let capacities: Vec<usize> = (0..channels).map(|_| [0, 0, 1, 1, 2][dice.below(5)]).collect();
        let mut ends = |likely: usize| -> Vec<Vec<bool>> {
            (0..units).map(|_| (0..channels).map(|_| dice.below(10) < likely).collect()).collect()
        };
        let (senders, receivers) = (ends(6), ends(6));
        let units = (0..units)
            .map(|unit| {
                let (mut tx, mut rx) = (senders[unit].clone(), receivers[unit].clone());
                let mut ops = Vec::new();
                for _ in 0..=dice.below(4) {
                    let has =
                        |ends: &[bool]| (0..channels).filter(|&channel| ends[channel]).collect::<Vec<_>>();
                    let (can_send, can_receive) = (has(&tx), has(&rx));
                    let op = match dice.below(12) {
                        0..3 => dice.one_of(&can_send).map(Op::Send),
                        3..6 => dice.one_of(&can_receive).map(Op::Recv),
                        6 => dice.one_of(&can_send).map(Op::TrySend),
                        7 => dice.one_of(&can_receive).map(Op::TryRecv),
                        8 => dice.one_of(&can_send).map(Op::DropSender),
                        9 => dice.one_of(&can_receive).map(Op::DropReceiver),
                        _ => {
                            let arms: Vec<_> = (0..=dice.below(3))
                                .filter_map(|_| match dice.below(2) {
                                    0 => dice.one_of(&can_send).map(Arm::Send),
                                    _ => dice.one_of(&can_receive).map(Arm::Recv),
                                })
                                .collect();
                            (!arms.is_empty()).then(|| Op::Select(arms, dice.below(4) == 0))
                        }
                    };
                    match op {
                        Some(Op::DropSender(channel)) => tx[channel] = false,
                        Some(Op::DropReceiver(channel)) => rx[channel] = false,
                        _ => {}
                    }
                    ops.extend(op);
                }
                ops.extend((0..channels).filter(|&channel| tx[channel]).map(Op::DropSender));
                ops.extend((0..channels).filter(|&channel| rx[channel]).map(Op::DropReceiver));
                ops
            })
            .collect();
        Program { capacities, units, senders, receivers }
    }
}

// The model.

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    /// Of each unit: its next operation, and whether it was seen to wait there.
    at: Vec<(u8, bool)>,
    buffers: Vec<Vec<u8>>,
    senders: Vec<u8>,
    receivers: Vec<u8>,
    saw: Outcome,
}

struct Model<'a>(&'a Program);

impl Model<'_> {
    fn start(&self) -> State {
        let count = |ends: &[Vec<bool>], channel: usize| {
            u8::try_from(ends.iter().filter(|ends| ends[channel]).count()).expect("three")
        };
        let channels = self.0.capacities.len();
        State {
            at: vec![(0, false); self.0.units.len()],
            buffers: vec![Vec::new(); channels],
            senders: (0..channels).map(|channel| count(&self.0.senders, channel)).collect(),
            receivers: (0..channels).map(|channel| count(&self.0.receivers, channel)).collect(),
            saw: vec![Vec::new(); self.0.units.len()],
        }
    }

    fn op(&self, state: &State, unit: usize) -> Option<&Op> {
        self.0.units[unit].get(usize::from(state.at[unit].0))
    }

    /// The state after a unit has finished its operation, and seen this.
    fn past(state: &State, unit: usize, saw: Option<Saw>) -> State {
        let mut next = state.clone();
        next.at[unit] = (state.at[unit].0 + 1, false);
        next.saw[unit].extend(saw);
        next
    }

    /// What an operation amounts to: its arms, and whether they are those of a select.
    fn arms(op: &Op) -> (Vec<Arm>, bool) {
        match op {
            Op::Send(channel) | Op::TrySend(channel) => (vec![Arm::Send(*channel)], false),
            Op::Recv(channel) | Op::TryRecv(channel) => (vec![Arm::Recv(*channel)], false),
            Op::Select(arms, _) => (arms.clone(), true),
            Op::DropSender(_) | Op::DropReceiver(_) => (vec![], false),
        }
    }

    /// How an outcome of one arm looks to a unit.
    fn seen(select: bool, arm: usize, result: Result<Option<u8>, ()>) -> Saw {
        match (select, result) {
            (true, result) => Saw::Arm(u8::try_from(arm).expect("three"), result),
            (false, Ok(Some(value))) => Saw::Got(value),
            (false, Ok(None)) => Saw::Sent,
            (false, Err(())) => Saw::Closed,
        }
    }

    /// What a unit may do next. This is the specification of a channel.
    fn steps(&self, state: &State, unit: usize) -> Vec<State> {
        let Some(op) = self.op(state, unit) else { return vec![] };
        let pc = usize::from(state.at[unit].0);
        let (arms, select) = Self::arms(op);
        let mut ready = Vec::new();
        for (index, arm) in arms.iter().enumerate() {
            let closed = match *arm {
                Arm::Send(channel) => state.receivers[channel] == 0,
                Arm::Recv(channel) => state.senders[channel] == 0 && state.buffers[channel].is_empty(),
            };
            if closed {
                ready.push(Self::past(state, unit, Some(Self::seen(select, index, Err(())))));
                continue;
            }
            match *arm {
                Arm::Send(channel) if state.buffers[channel].len() < self.0.capacities[channel] => {
                    let mut next = Self::past(state, unit, Some(Self::seen(select, index, Ok(None))));
                    next.buffers[channel].push(value(unit, pc, index));
                    ready.push(next);
                }
                Arm::Recv(channel) if !state.buffers[channel].is_empty() => {
                    let got = Some(state.buffers[channel][0]);
                    let mut next = Self::past(state, unit, Some(Self::seen(select, index, Ok(got))));
                    next.buffers[channel].remove(0);
                    ready.push(next);
                }
                // Without a buffer it meets somebody who waits for the opposite.
                Arm::Send(channel) | Arm::Recv(channel) if self.0.capacities[channel] == 0 => {
                    for other in (0..state.at.len()).filter(|&other| other != unit && state.at[other].1) {
                        let Some(waits) = self.op(state, other) else { continue };
                        let (their_arms, their_select) = Self::arms(waits);
                        for (their_index, their_arm) in their_arms.iter().enumerate() {
                            let their_pc = usize::from(state.at[other].0);
                            let (here, there) = match (*arm, *their_arm) {
                                (Arm::Send(a), Arm::Recv(b)) if a == b => {
                                    (None, Some(value(unit, pc, index)))
                                }
                                (Arm::Recv(a), Arm::Send(b)) if a == b => {
                                    (Some(value(other, their_pc, their_index)), None)
                                }
                                _ => continue,
                            };
                            let next = Self::past(state, unit, Some(Self::seen(select, index, Ok(here))));
                            let saw = Self::seen(their_select, their_index, Ok(there));
                            ready.push(Self::past(&next, other, Some(saw)));
                        }
                    }
                }
                _ => {}
            }
        }
        match op {
            Op::DropSender(channel) => {
                let mut next = Self::past(state, unit, None);
                next.senders[*channel] -= 1;
                return vec![next];
            }
            Op::DropReceiver(channel) => {
                let mut next = Self::past(state, unit, None);
                next.receivers[*channel] -= 1;
                if next.receivers[*channel] == 0 {
                    next.buffers[*channel].clear();
                }
                return vec![next];
            }
            Op::TrySend(_) | Op::TryRecv(_) | Op::Select(_, true) if ready.is_empty() => {
                ready.push(Self::past(state, unit, Some(Saw::Nothing)));
            }
            Op::Send(_) | Op::Recv(_) | Op::Select(_, false) if ready.is_empty() && !state.at[unit].1 => {
                let mut next = state.clone();
                next.at[unit].1 = true;
                ready.push(next);
            }
            _ => {}
        }
        ready
    }

    /// Every outcome there may be; `None` if some schedule blocks for ever, or there are too many states.
    fn outcomes(&self) -> Option<HashSet<Outcome>> {
        let mut seen = HashSet::from([self.start()]);
        let mut open = vec![self.start()];
        let mut outcomes = HashSet::new();
        while let Some(state) = open.pop() {
            let mut stuck = true;
            for unit in 0..state.at.len() {
                for next in self.steps(&state, unit) {
                    stuck = false;
                    if seen.insert(next.clone()) {
                        open.push(next);
                    }
                }
            }
            if stuck {
                if (0..state.at.len()).any(|unit| self.op(&state, unit).is_some()) {
                    return None;
                }
                outcomes.insert(state.saw);
            }
            if seen.len() > MANY {
                return None;
            }
        }
        Some(outcomes)
    }
}

// The libraries.

type ArmResult = Result<Option<u8>, ()>;

trait Library: 'static {
    type Sender: Clone + Send + 'static;
    type Receiver: Clone + Send + 'static;
    fn channel(capacity: usize) -> (Self::Sender, Self::Receiver);
    fn send(sender: &Self::Sender, value: u8) -> Saw;
    fn recv(receiver: &Self::Receiver) -> Saw;
    fn try_send(sender: &Self::Sender, value: u8) -> Saw;
    fn try_recv(receiver: &Self::Receiver) -> Saw;
    fn select(arms: &[End<'_, Self>], default: bool) -> Option<(usize, ArmResult)>;
}

enum End<'a, L: Library + ?Sized> {
    Send(&'a L::Sender, u8),
    Recv(&'a L::Receiver),
}

struct Ours;
struct Theirs;

impl Library for Ours {
    type Sender = ours::Sender<u8>;
    type Receiver = ours::Receiver<u8>;

    fn channel(capacity: usize) -> (Self::Sender, Self::Receiver) {
        ours::bounded(capacity)
    }

    fn send(sender: &Self::Sender, value: u8) -> Saw {
        sender.send(value).map_or_else(
            |error| {
                assert_eq!(error.into_inner(), value);
                Saw::Closed
            },
            |()| Saw::Sent,
        )
    }

    fn recv(receiver: &Self::Receiver) -> Saw {
        receiver.recv().map_or(Saw::Closed, Saw::Got)
    }

    fn try_send(sender: &Self::Sender, value: u8) -> Saw {
        match sender.try_send(value) {
            Ok(()) => Saw::Sent,
            Err(ours::TrySendError::Full(back)) if back == value => Saw::Nothing,
            Err(ours::TrySendError::Closed(back)) if back == value => Saw::Closed,
            Err(error) => panic!("another value came back: {error:?}"),
        }
    }

    fn try_recv(receiver: &Self::Receiver) -> Saw {
        match receiver.try_recv() {
            Ok(value) => Saw::Got(value),
            Err(ours::TryRecvError::Empty) => Saw::Nothing,
            Err(ours::TryRecvError::Closed) => Saw::Closed,
        }
    }

    fn select(arms: &[End<'_, Self>], default: bool) -> Option<(usize, ArmResult)> {
        enum Made<'a> {
            Send(select::Sending<'a, u8>),
            Recv(select::Receiving<'a, u8>),
        }
        let mut made: Vec<_> = arms
            .iter()
            .map(|arm| match arm {
                End::Send(sender, value) => Made::Send(select::send(sender, *value)),
                End::Recv(receiver) => Made::Recv(select::receive(receiver)),
            })
            .collect();
        let mut dynamic: Vec<&mut dyn select::Arm> = made
            .iter_mut()
            .map(|arm| match arm {
                Made::Send(arm) => arm as &mut dyn select::Arm,
                Made::Recv(arm) => arm,
            })
            .collect();
        let chosen = if default { select::try_now(&mut dynamic)? } else { select::wait(&mut dynamic) };
        let outcome = match &mut made[chosen] {
            Made::Send(arm) => arm.outcome().expect("chosen").map(|()| None).map_err(|_| ()),
            Made::Recv(arm) => arm.outcome().expect("chosen").map(Some).map_err(|_| ()),
        };
        for (index, arm) in made.into_iter().enumerate() {
            // Values of arms that were not chosen are still in hand.
            if let (Made::Send(arm), true) = (arm, index != chosen) {
                assert!(arm.into_value().is_some());
            }
        }
        Some((chosen, outcome))
    }
}

impl Library for Theirs {
    type Sender = theirs::Sender<u8>;
    type Receiver = theirs::Receiver<u8>;

    fn channel(capacity: usize) -> (Self::Sender, Self::Receiver) {
        theirs::bounded(capacity)
    }

    fn send(sender: &Self::Sender, value: u8) -> Saw {
        sender.send(value).map_or(Saw::Closed, |()| Saw::Sent)
    }

    fn recv(receiver: &Self::Receiver) -> Saw {
        receiver.recv().map_or(Saw::Closed, Saw::Got)
    }

    fn try_send(sender: &Self::Sender, value: u8) -> Saw {
        match sender.try_send(value) {
            Ok(()) => Saw::Sent,
            Err(theirs::TrySendError::Full(_)) => Saw::Nothing,
            Err(theirs::TrySendError::Disconnected(_)) => Saw::Closed,
        }
    }

    fn try_recv(receiver: &Self::Receiver) -> Saw {
        match receiver.try_recv() {
            Ok(value) => Saw::Got(value),
            Err(theirs::TryRecvError::Empty) => Saw::Nothing,
            Err(theirs::TryRecvError::Disconnected) => Saw::Closed,
        }
    }

    fn select(arms: &[End<'_, Self>], default: bool) -> Option<(usize, ArmResult)> {
        let mut select = theirs::Select::new();
        for arm in arms {
            match arm {
                End::Send(sender, _) => select.send(sender),
                End::Recv(receiver) => select.recv(receiver),
            };
        }
        let chosen = if default { select.try_select().ok()? } else { select.select() };
        let index = chosen.index();
        let outcome = match arms[index] {
            End::Send(sender, value) => chosen.send(sender, value).map(|()| None).map_err(|_| ()),
            End::Recv(receiver) => chosen.recv(receiver).map(Some).map_err(|_| ()),
        };
        Some((index, outcome))
    }
}

/// A unit with its ends, ready to run.
struct Unit<L: Library> {
    number: usize,
    ops: Vec<Op>,
    senders: Vec<Option<L::Sender>>,
    receivers: Vec<Option<L::Receiver>>,
}

impl<L: Library> Unit<L> {
    fn all_of(program: &Program) -> Vec<Unit<L>> {
        let channels: Vec<_> = program.capacities.iter().map(|&capacity| L::channel(capacity)).collect();
        (0..program.units.len())
            .map(|number| Unit {
                number,
                ops: program.units[number].clone(),
                senders: (channels.iter().zip(&program.senders[number]))
                    .map(|(channel, has)| has.then(|| channel.0.clone()))
                    .collect(),
                receivers: (channels.iter().zip(&program.receivers[number]))
                    .map(|(channel, has)| has.then(|| channel.1.clone()))
                    .collect(),
            })
            .collect()
    }

    fn run(mut self, mut pause: impl FnMut()) -> Vec<Saw> {
        let mut seen = Vec::new();
        for (pc, op) in self.ops.iter().enumerate() {
            pause();
            let own = "the generator keeps account of ends";
            let saw = match op {
                Op::Send(channel) => {
                    L::send(self.senders[*channel].as_ref().expect(own), value(self.number, pc, 0))
                }
                Op::Recv(channel) => L::recv(self.receivers[*channel].as_ref().expect(own)),
                Op::TrySend(channel) => {
                    L::try_send(self.senders[*channel].as_ref().expect(own), value(self.number, pc, 0))
                }
                Op::TryRecv(channel) => L::try_recv(self.receivers[*channel].as_ref().expect(own)),
                Op::Select(arms, default) => {
                    let ends: Vec<_> = arms
                        .iter()
                        .enumerate()
                        .map(|(index, arm)| match *arm {
                            Arm::Send(channel) => End::Send(
                                self.senders[channel].as_ref().expect(own),
                                value(self.number, pc, index),
                            ),
                            Arm::Recv(channel) => End::Recv(self.receivers[channel].as_ref().expect(own)),
                        })
                        .collect();
                    L::select(&ends, *default).map_or(Saw::Nothing, |(arm, result)| {
                        Saw::Arm(u8::try_from(arm).expect("three"), result)
                    })
                }
                Op::DropSender(channel) => {
                    self.senders[*channel] = None;
                    continue;
                }
                Op::DropReceiver(channel) => {
                    self.receivers[*channel] = None;
                    continue;
                }
            };
            seen.push(saw);
        }
        seen
    }
}

fn in_coroutines(program: &Program, dice: &mut Dice) -> Outcome {
    let units: Vec<_> = Unit::<Ours>::all_of(program)
        .into_iter()
        .map(|unit| {
            let mut dice = Dice(dice.next());
            spawn(move || unit.run(|| (0..dice.below(4)).for_each(|_| yield_now())))
        })
        .collect();
    units.into_iter().map(|unit| unit.join().unwrap()).collect()
}

fn on_threads<L: Library>(program: &Program, dice: &mut Dice) -> Outcome {
    let units = Unit::<L>::all_of(program);
    let ready = AtomicUsize::new(units.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = units
            .into_iter()
            .map(|unit| {
                let (mut dice, ready) = (Dice(dice.next()), &ready);
                scope.spawn(move || {
                    // Together, or the first would often be through before the last begins.
                    ready.fetch_sub(1, Ordering::AcqRel);
                    while ready.load(Ordering::Acquire) > 0 {
                        std::thread::yield_now();
                    }
                    unit.run(|| match dice.below(4) {
                        0 => std::thread::yield_now(),
                        1 => (0..dice.below(200)).for_each(|_| std::hint::spin_loop()),
                        _ => {}
                    })
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Programs with their outcomes, from the seed on.
fn programs(seed: u64) -> impl Iterator<Item = (u64, Program, HashSet<Outcome>)> {
    (seed..).filter_map(|seed| {
        let program = Program::random(&mut Dice(seed));
        let outcomes = Model(&program).outcomes()?;
        Some((seed, program, outcomes))
    })
}

fn check(seed: u64, how: &str, program: &Program, allowed: &HashSet<Outcome>, outcome: &Outcome) {
    assert!(
        allowed.contains(outcome),
        "seed {seed}, {how}: {outcome:?} is none of the {} outcomes of {program:?}",
        allowed.len()
    );
}

#[test]
fn ours_and_crossbeams_do_only_what_the_model_allows() {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(2);
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
    let runtime = unsafe { Builder::new().workers(workers).build() }.unwrap();
    let (mut open, mut most) = (0, 0);
    for (seed, program, allowed) in programs(1).take(CASES) {
        let mut dice = Dice(!seed);
        open += usize::from(allowed.len() > 1);
        most = most.max(allowed.len());
        // SAFETY: as above.
        let outcome = unsafe { Builder::new().run_local(|| in_coroutines(&program, &mut dice)) }.unwrap();
        check(seed, "coroutines", &program, &allowed, &outcome);
        let outcome = runtime.block_on(|| in_coroutines(&program, &mut dice));
        check(seed, "coroutines of two workers", &program, &allowed, &outcome);
        check(seed, "threads", &program, &allowed, &on_threads::<Ours>(&program, &mut dice));
        check(seed, "crossbeam", &program, &allowed, &on_threads::<Theirs>(&program, &mut dice));
    }
    // What was checked was not decided beforehand.
    assert!(open > CASES / 3 && most > 50, "{open} programs have several outcomes, {most} at most");
}
