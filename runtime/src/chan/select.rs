#![allow(unsafe_code, reason = "one wait has nodes in the lists of several channels")]
//! Waiting for whichever of several channels is ready first: [`select!`](macro@crate::select), and the functions under it.
//!
//! ```
//! use switchmark_runtime::{chan, select};
//!
//! let ((a, from_a), (b, from_b)) = (chan::bounded(1), chan::rendezvous::<&str>());
//! a.send(7).unwrap();
//! select! {
//!     n = from_a => assert_eq!(n, Ok(7)),
//!     word = from_b => unreachable!("nobody sent {word:?}"),
//! }
//! ```
//!
//! **How.** All channels are locked, in the order of their addresses, so that two selects never wait for each other's. If arms are
//! ready one of them is taken, each with the same chance: the arms are tried in an order drawn anew each time, or a busy channel in
//! the first arm would starve the others. If none is, a node goes into the list of each, all are unlocked, and the coroutine waits.
//!
//! Whoever then pops one of the nodes has not won yet: it casts the select's one ballot, by compare-and-swap, and lets the node go
//! if another channel was first. It does so under its channel's lock, and the select takes each lock once more to unlink its nodes before
//! it returns or unwinds, so no node is touched when its frame has gone. A deadline and a cancellation cast the same ballot.

use std::cell::Cell;
use std::fmt;
use std::ptr;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::channel::{Party, Receiver, Sender, Shared};
use super::error::{RecvError, SendError, TryRecvError, TrySendError};
use crate::atomic::{AtomicUsize, Mutex, Ordering};
use crate::park::{Wait, Waiter};
use crate::task::Kind;
use crate::time::Deadline;
use crate::wait_list::Node;

/// Which arm of a select has won; in its frame.
#[derive(Debug)]
struct Urn(AtomicUsize);

/// Nobody has won yet.
const OPEN: usize = usize::MAX;
/// The select has given up waiting.
const GIVEN_UP: usize = usize::MAX - 1;

impl Urn {
    fn cast(&self, what: usize) -> bool {
        // Relaxed, twice: the count decides, and who acts on it is ordered by a channel's lock or by the wake-up.
        self.0.compare_exchange(OPEN, what, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// One arm's vote, in its node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ballot {
    urn: *const Urn,
    arm: usize,
}

impl Ballot {
    /// Claims the select for this arm; `false` if it is decided. For whoever has just popped the node, under the channel's lock.
    pub(super) fn cast(self) -> bool {
        // SAFETY: the select unlinks this node, under the lock we have, before the urn goes.
        unsafe { &*self.urn }.cast(self.arm)
    }
}

/// Draws numbers, under a channel's lock: no state of a thread, which a coroutine must not keep an address of.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new() -> Dice {
        Dice(0)
    }

    /// A number below `sides`.
    fn roll(&mut self, sides: usize) -> usize {
        // Knuth's generator; the address makes channels differ. Its upper half is the random one.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        #[cfg(not(all(test, shuttle)))]
        let salt = (ptr::from_ref(self).addr() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        #[cfg(all(test, shuttle))] // Which can replay its own numbers, and no addresses.
        let salt = shuttle::rand::RngCore::next_u64(&mut shuttle::rand::thread_rng());
        (((self.0 ^ salt) >> 33) as usize) % sides
    }
}

/// What a select needs of an arm. All through shared references: others reach the node meanwhile.
///
/// # Safety
/// `mutex` is always the same and guards everything that the other functions and other threads touch.
#[doc(hidden)]
#[allow(private_interfaces, reason = "sealed: nobody outside can name it, so nobody outside calls these")]
pub unsafe trait Sealed {
    fn mutex(&self) -> &Mutex<()>;

    /// Panics if the arm was used already.
    fn check(&self);

    /// # Safety
    /// The caller has the lock.
    unsafe fn roll(&self, sides: usize) -> usize;

    /// Passes a value, or learns that the channel closed, if that needs no wait.
    ///
    /// # Safety
    /// The caller has the lock.
    unsafe fn attempt(&self) -> Attempt;

    /// # Safety
    /// The caller has the lock; it calls `leave` before the arm or the urn in the ballot goes.
    unsafe fn enter(&self, waiter: Waiter, ballot: Ballot);

    /// Unlinks the node, if it is in the list still. Takes the lock.
    ///
    /// # Safety
    /// `enter` was called.
    unsafe fn leave(&self);

    fn win(&self);
}

#[derive(Debug)]
pub(super) enum Attempt {
    /// It would have to wait.
    No,
    /// Done, and this one is to be woken after the locks.
    Done(Option<Waiter>),
}

/// One of several things to wait for: a [`Receiving`] or a [`Sending`].
pub trait Arm: Sealed {}

impl<T> Arm for Receiving<'_, T> {}
impl<T> Arm for Sending<'_, T> {}

/// Receiving, as an arm.
pub struct Receiving<'a, T> {
    shared: &'a Shared<T>,
    node: Node<Party<T>>,
    won: Cell<bool>,
    open: bool,
}

/// Sending, as an arm.
pub struct Sending<'a, T> {
    shared: &'a Shared<T>,
    node: Node<Party<T>>,
    won: Cell<bool>,
    open: bool,
}

/// An arm that receives.
pub fn receive<T>(receiver: &Receiver<T>) -> Receiving<'_, T> {
    Receiving {
        shared: &receiver.shared,
        node: Node::new(Party::new(None)),
        won: Cell::new(false),
        open: true,
    }
}

/// An arm that sends `value`.
pub fn send<T>(sender: &Sender<T>, value: T) -> Sending<'_, T> {
    Sending {
        shared: &sender.shared,
        node: Node::new(Party::new(Some(value))),
        won: Cell::new(false),
        open: true,
    }
}

impl<T> Receiving<'_, T> {
    /// Shuts the arm unless `open`: it is never chosen then.
    #[must_use]
    pub fn only_if(mut self, open: bool) -> Self {
        self.open = open;
        self
    }

    /// What came of it, if this arm was chosen. Taken by the first call; after that the arm may be used again.
    pub fn outcome(&mut self) -> Option<Result<T, RecvError>> {
        if !self.won.take() {
            return None;
        }
        // SAFETY: the node is in no list, so the value is the arm's own.
        let value = unsafe { &mut *self.node.data().value.get() };
        Some(value.take().ok_or(RecvError))
    }
}

impl<T> Sending<'_, T> {
    /// Shuts the arm unless `open`: it is never chosen then.
    #[must_use]
    pub fn only_if(mut self, open: bool) -> Self {
        self.open = open;
        self
    }

    /// What came of it, if this arm was chosen. Taken by the first call.
    pub fn outcome(&mut self) -> Option<Result<(), SendError<T>>> {
        if !self.won.take() {
            return None;
        }
        // SAFETY: the node is in no list, so the value is the arm's own.
        let value = unsafe { &mut *self.node.data().value.get() };
        Some(value.take().map_or(Ok(()), |value| Err(SendError(value))))
    }

    /// The value, if it was not sent.
    pub fn into_value(self) -> Option<T> {
        self.node.into_data().value.into_inner()
    }
}

#[allow(private_interfaces, reason = "sealed")]
// SAFETY: the mutex is the channel's, which guards its sides and the nodes in its lists.
unsafe impl<T> Sealed for Receiving<'_, T> {
    fn mutex(&self) -> &Mutex<()> {
        &self.shared.mutex
    }

    fn check(&self) {
        assert!(!self.won.get(), "an arm that was chosen gives its outcome before it is used again");
    }

    unsafe fn roll(&self, sides: usize) -> usize {
        // SAFETY: the caller has the lock.
        unsafe { &mut *self.shared.sides.get() }.dice.roll(sides)
    }

    unsafe fn attempt(&self) -> Attempt {
        if !self.open {
            return Attempt::No;
        }
        // SAFETY: the caller has the lock.
        match unsafe { &mut *self.shared.sides.get() }.accept() {
            Ok((value, sender)) => {
                // SAFETY: the node is in no list, so the value is the arm's own. It is empty: nothing is dropped.
                unsafe { *self.node.data().value.get() = Some(value) };
                Attempt::Done(sender.map(crate::wait_list::Popped::into_waiter))
            }
            Err(TryRecvError::Closed) => Attempt::Done(None),
            Err(TryRecvError::Empty) => Attempt::No,
        }
    }

    unsafe fn enter(&self, waiter: Waiter, ballot: Ballot) {
        if !self.open {
            return;
        }
        self.node.data().ballot.set(Some(ballot));
        // SAFETY: the caller has the lock.
        let sides = unsafe { &mut *self.shared.sides.get() };
        // SAFETY: the caller calls `leave`, which has the list, before the arm goes.
        unsafe { sides.receivers.push(&raw const self.node, waiter) };
    }

    unsafe fn leave(&self) {
        // SAFETY: `enter` pushed it there, or nowhere.
        unsafe { self.shared.lock().receivers.remove(&raw const self.node) };
    }

    fn win(&self) {
        self.won.set(true);
    }
}

#[allow(private_interfaces, reason = "sealed")]
// SAFETY: as above.
unsafe impl<T> Sealed for Sending<'_, T> {
    fn mutex(&self) -> &Mutex<()> {
        &self.shared.mutex
    }

    fn check(&self) {
        // SAFETY: the node is in no list, so the value is the arm's own.
        let value = unsafe { &*self.node.data().value.get() };
        assert!(!self.won.get() && value.is_some(), "an arm that has sent its value is used up");
    }

    unsafe fn roll(&self, sides: usize) -> usize {
        // SAFETY: the caller has the lock.
        unsafe { &mut *self.shared.sides.get() }.dice.roll(sides)
    }

    unsafe fn attempt(&self) -> Attempt {
        if !self.open {
            return Attempt::No;
        }
        // SAFETY: the node is in no list, so the value is the arm's own.
        let place = unsafe { &mut *self.node.data().value.get() };
        let value = place.take().expect("`check` saw it");
        // SAFETY: the caller has the lock.
        match unsafe { &mut *self.shared.sides.get() }.offer(value) {
            Ok(receiver) => Attempt::Done(receiver.map(crate::wait_list::Popped::into_waiter)),
            Err(TrySendError::Closed(value)) => {
                *place = Some(value);
                Attempt::Done(None)
            }
            Err(TrySendError::Full(value)) => {
                *place = Some(value);
                Attempt::No
            }
        }
    }

    unsafe fn enter(&self, waiter: Waiter, ballot: Ballot) {
        if !self.open {
            return;
        }
        self.node.data().ballot.set(Some(ballot));
        // SAFETY: the caller has the lock.
        let sides = unsafe { &mut *self.shared.sides.get() };
        // SAFETY: the caller calls `leave`, which has the list, before the arm goes.
        unsafe { sides.senders.push(&raw const self.node, waiter) };
    }

    unsafe fn leave(&self) {
        // SAFETY: `enter` pushed it there, or nowhere.
        unsafe { self.shared.lock().senders.remove(&raw const self.node) };
    }

    fn win(&self) {
        self.won.set(true);
    }
}

/// Until when a select waits: a time from now, or a point in time.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// So long from now.
    After(Duration),
    /// Up to then.
    At(Instant),
}

impl From<Duration> for Until {
    fn from(duration: Duration) -> Until {
        Until::After(duration)
    }
}

impl From<Instant> for Until {
    fn from(instant: Instant) -> Until {
        Until::At(instant)
    }
}

impl Until {
    fn deadline(self) -> Deadline {
        Deadline::after(match self {
            Until::After(duration) => duration,
            Until::At(instant) => instant.saturating_duration_since(Instant::now()),
        })
    }
}

/// Waits until one of the arms has passed its value, or its channel closed, and says which.
///
/// Suspends if it has to wait, and unwinds if the coroutine is cancelled. Arms that are not chosen are as before. Without any it waits
/// to be cancelled.
///
/// ```
/// use switchmark_runtime::chan::{self, select};
///
/// let (sender, receiver) = chan::rendezvous();
/// let (never, other) = chan::bounded(0);
/// let sending = std::thread::spawn(move || sender.send(5));
/// let (mut a, mut b) = (select::receive(&receiver), select::send(&never, "nobody comes"));
/// assert_eq!(select::wait(&mut [&mut a, &mut b]), 0);
/// assert_eq!(a.outcome(), Some(Ok(5)));
/// assert_eq!((b.outcome(), b.into_value()), (None, Some("nobody comes")));
/// # sending.join().unwrap().unwrap();
/// # drop(other);
/// ```
///
/// # Panics
/// If an arm was used already; and as [`Sender::send`] does.
#[track_caller]
pub fn wait(arms: &mut [&mut dyn Arm]) -> usize {
    choose(arms, &Mode::Wait).expect("without a deadline it waits for an arm")
}

/// Waits as [`wait`] does, and says `None` if the deadline came first.
///
/// # Panics
/// As [`wait`] does.
#[track_caller]
pub fn wait_until(arms: &mut [&mut dyn Arm], until: impl Into<Until>) -> Option<usize> {
    choose(arms, &Mode::Until(until.into()))
}

/// Does what [`wait`] does if that needs no wait. Never suspends.
///
/// # Panics
/// If an arm was used already.
pub fn try_now(arms: &mut [&mut dyn Arm]) -> Option<usize> {
    choose(arms, &Mode::Try)
}

enum Mode {
    Try,
    Wait,
    Until(Until),
}

/// Arms for which the two orders lie on the stack.
const FEW: usize = 8;

#[track_caller]
fn choose(arms: &mut [&mut dyn Arm], mode: &Mode) -> Option<usize> {
    for arm in &*arms {
        arm.check();
    }
    // Exclusive borrows, so that no arm is there twice; shared ones from here on, as others will reach the nodes.
    let arms: &[&mut dyn Arm] = arms;
    // Before the locks: it may unwind, and let others run.
    let wait = if matches!(mode, Mode::Try) { None } else { Some(Wait::begin(Kind::Select)) };
    let (mut few, mut many);
    let orders: &mut [usize] = if arms.len() <= FEW {
        few = [0; 2 * FEW];
        &mut few[..2 * arms.len()]
    } else {
        many = vec![0; 2 * arms.len()];
        &mut many
    };
    let (by_address, at_random) = orders.split_at_mut(arms.len());
    (0..).zip(&mut *by_address).for_each(|(arm, place)| *place = arm);
    by_address.sort_unstable_by_key(|&arm| ptr::from_ref(arms[arm].mutex()).addr());

    let urn = Urn(AtomicUsize::new(OPEN));
    let mut done = None;
    locked(arms, by_address, &mut || {
        // SAFETY: all locks are ours here.
        shuffle(at_random, |sides| unsafe { arms[0].roll(sides) });
        for &arm in &*at_random {
            // SAFETY: as above.
            if let Attempt::Done(to_wake) = unsafe { arms[arm].attempt() } {
                done = Some((arm, to_wake));
                return;
            }
        }
        if let Some(wait) = &wait {
            let waiter = wait.waiter();
            for (arm, each) in arms.iter().enumerate() {
                // SAFETY: as above; all leave below, or when the wait is interrupted, before this frame goes.
                unsafe { each.enter(waiter, Ballot { urn: &raw const urn, arm }) };
            }
        }
    });
    let leave = || {
        // SAFETY: all have entered.
        arms.iter().for_each(|arm| unsafe { arm.leave() });
    };
    if let Some((arm, to_wake)) = done {
        arms[arm].win();
        if let Some(waiter) = to_wake {
            waiter.wake();
        }
        return Some(arm);
    }
    let deadline = match mode {
        Mode::Until(until) => Some(until.deadline()),
        Mode::Wait | Mode::Try => None,
    };
    let chosen = wait.as_ref()?.wait_until(deadline, || {
        let given_up = urn.cast(GIVEN_UP);
        if given_up {
            leave();
        }
        given_up
    });
    if !chosen {
        return None;
    }
    leave();
    let arm = urn.0.load(Ordering::Relaxed); // The wake-up orders.
    arms[arm].win();
    Some(arm)
}

/// Runs `then` with the locks of all arms, taken in this order. A frame an arm, so that there may be any number.
fn locked(arms: &[&mut dyn Arm], order: &[usize], then: &mut dyn FnMut()) {
    let Some((&first, mut rest)) = order.split_first() else { return then() };
    let mutex = arms[first].mutex();
    while let Some((&next, behind)) = rest.split_first()
        && ptr::eq(mutex, arms[next].mutex())
    {
        rest = behind;
    }
    let _guard = mutex.lock().unwrap_or_else(PoisonError::into_inner);
    locked(arms, rest, then);
}

/// Fills `order` with its indices, each order with the same chance.
fn shuffle(order: &mut [usize], mut roll: impl FnMut(usize) -> usize) {
    for index in 0..order.len() {
        let other = if index == 0 { 0 } else { roll(index + 1) };
        order[index] = order[other];
        order[other] = index;
    }
}

impl<T> fmt::Debug for Receiving<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiving").field("chosen", &self.won.get()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Sending<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").field("chosen", &self.won.get()).finish_non_exhaustive()
    }
}

/// Waits for whichever of several channels is ready first, and runs that arm.
///
/// | arm | ready when | what it binds |
/// |---|---|---|
/// | `v = receiver => ..` | a value is there, or every sender is gone | `Result<T, RecvError>` |
/// | `sent = sender.send(value) => ..` | a receiver waits or there is room, or every receiver is gone | `Result<(), SendError<T>>` |
/// | `_ = deadline(t) => ..` | no other was by then; `t` is a `Duration` from now or an `Instant` | |
/// | `default => ..` | no other is now; a select with this never waits | |
///
/// Among several that are ready each has the same chance. The same channel may stand in several arms. `receiver` and `sender` are
/// any expressions, borrowed only until an arm is chosen, and the bodies may `break`, `return` or use `?` as in a `match`.
///
/// A channel that has closed stays ready. To leave it out from then on, an arm takes a condition, `v = receiver, if open => ..`,
/// which is asked once, at the beginning; a select of which all arms are shut waits for its deadline, or for ever.
///
/// Every value to be sent is made before it waits, and dropped if its arm is not chosen; the functions under this, in
/// [`chan::select`](mod@crate::chan::select), give it back.
///
/// Works in coroutines and on OS threads. Suspends if it has to wait, and unwinds if the coroutine is cancelled.
///
/// ```
/// use std::time::{Duration, Instant};
/// use switchmark_runtime::{Builder, chan, select, spawn};
///
/// // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
/// unsafe {
///     Builder::new().run_local(|| {
///         let (give, numbers) = chan::rendezvous();
///         let (ask, questions) = chan::bounded(1);
///         spawn(move || {
///             (1..=3).for_each(|n| give.send(n).unwrap());
///             drop(give);
///             questions.recv() // Then it is asked what the sum was.
///         });
///         let (mut sum, mut open) = (0, true);
///         let end = Instant::now() + Duration::from_secs(60);
///         while open {
///             select! {
///                 n = numbers => match n {
///                     Ok(n) => sum += n,
///                     Err(_) => open = false,
///                 },
///                 _ = deadline(end) => panic!("it is slow"),
///             }
///         }
///         select! {
///             asked = ask.send(sum) => assert!(asked.is_ok() && sum == 6),
///             n = numbers, if open => unreachable!("{n:?}"),
///             default => unreachable!("the other has room"),
///         }
///     })?
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[macro_export]
macro_rules! select {
    ($($arms:tt)+) => {
        $crate::__select!(@next [] [] [] $($arms)+)
    };
}

/// The states of [`select!`]: each takes one piece off the front of the input. `@next` expects an arm, with what was collected in
/// brackets: arms, deadline, default. `@from` collects the tokens of a channel's expression, `@body` takes an arm's body off,
/// `@add` puts the arm to the others, with names that are new at each step, as each expansion has a hygiene of its own.
#[doc(hidden)]
#[macro_export]
macro_rules! __select {
    (@next [$($arms:tt)*] [$($deadline:tt)*] [$($default:tt)*]) => {
        $crate::__select!(@done [$($arms)*] [$($deadline)*] [$($default)*])
    };
    (@next $arms:tt [] [] default => $($rest:tt)+) => {
        $crate::__select!(@body [default] $arms [] [] $($rest)+)
    };
    (@next $arms:tt [$($deadline:tt)*] [$($default:tt)*] default => $($rest:tt)+) => {
        compile_error!("a select! has one default, or one deadline, not both")
    };
    (@next $arms:tt [] [] _ = deadline($($time:tt)*) => $($rest:tt)+) => {
        $crate::__select!(@body [deadline [$($time)*]] $arms [] [] $($rest)+)
    };
    (@next $arms:tt $deadline:tt $default:tt _ = deadline($($time:tt)*) => $($rest:tt)+) => {
        compile_error!("a select! has one default, or one deadline, not both")
    };
    (@next $arms:tt $deadline:tt $default:tt $pattern:pat = $($rest:tt)+) => {
        $crate::__select!(@from [$pattern] [] $arms $deadline $default $($rest)+)
    };
    (@next $arms:tt $deadline:tt $default:tt $($rest:tt)+) => {
        compile_error!(
            "an arm of a select! is `v = receiver => ..`, `sent = sender.send(value) => ..`, `_ = deadline(t) => ..` or `default => ..`"
        )
    };

    (@from $pattern:tt [$($end:tt)+] $arms:tt $deadline:tt $default:tt .send($($value:tt)*) => $($rest:tt)+) => {
        $crate::__select!(
            @body [arm $pattern [$crate::chan::select::send(&$($end)+, $($value)*)]] $arms $deadline $default $($rest)+
        )
    };
    (@from $pattern:tt [$($end:tt)+] $arms:tt $deadline:tt $default:tt .send($($value:tt)*), if $open:expr => $($rest:tt)+) => {
        $crate::__select!(
            @body [arm $pattern [$crate::chan::select::send(&$($end)+, $($value)*).only_if($open)]]
            $arms $deadline $default $($rest)+
        )
    };
    (@from $pattern:tt [$($end:tt)+] $arms:tt $deadline:tt $default:tt => $($rest:tt)+) => {
        $crate::__select!(
            @body [arm $pattern [$crate::chan::select::receive(&$($end)+)]] $arms $deadline $default $($rest)+
        )
    };
    (@from $pattern:tt [$($end:tt)+] $arms:tt $deadline:tt $default:tt, if $open:expr => $($rest:tt)+) => {
        $crate::__select!(
            @body [arm $pattern [$crate::chan::select::receive(&$($end)+).only_if($open)]]
            $arms $deadline $default $($rest)+
        )
    };
    (@from $pattern:tt [$($end:tt)*] $arms:tt $deadline:tt $default:tt $token:tt $($rest:tt)*) => {
        $crate::__select!(@from $pattern [$($end)* $token] $arms $deadline $default $($rest)*)
    };
    (@from $pattern:tt [$($end:tt)*] $arms:tt $deadline:tt $default:tt) => {
        compile_error!("an arm of a select! goes on with `=>` and what to do")
    };

    (@body $head:tt $arms:tt $deadline:tt $default:tt $body:block, $($rest:tt)*) => {
        $crate::__select!(@add $head [$body] $arms $deadline $default $($rest)*)
    };
    (@body $head:tt $arms:tt $deadline:tt $default:tt $body:block $($rest:tt)*) => {
        $crate::__select!(@add $head [$body] $arms $deadline $default $($rest)*)
    };
    (@body $head:tt $arms:tt $deadline:tt $default:tt $body:expr, $($rest:tt)*) => {
        $crate::__select!(@add $head [$body] $arms $deadline $default $($rest)*)
    };
    (@body $head:tt $arms:tt $deadline:tt $default:tt $body:expr) => {
        $crate::__select!(@add $head [$body] $arms $deadline $default)
    };

    (@add [arm $pattern:tt $make:tt] $body:tt [$($arms:tt)*] $deadline:tt $default:tt $($rest:tt)*) => {
        $crate::__select!(@next [$($arms)* (arm outcome $pattern $make $body)] $deadline $default $($rest)*)
    };
    (@add [deadline $time:tt] $body:tt $arms:tt [] [] $($rest:tt)*) => {
        $crate::__select!(@next $arms [$time $body] [] $($rest)*)
    };
    (@add [default] $body:tt $arms:tt [] [] $($rest:tt)*) => {
        $crate::__select!(@next $arms [] [$body] $($rest)*)
    };

    (@done $arms:tt [] []) => {
        $crate::__select!(@run $arms [$crate::chan::select::wait()] ::core::unreachable!())
    };
    (@done $arms:tt [[$($time:tt)*] [$($body:tt)*]] []) => {
        $crate::__select!(@run $arms [$crate::chan::select::wait_until($($time)*)] $($body)*)
    };
    (@done $arms:tt [] [[$($body:tt)*]]) => {
        $crate::__select!(@run $arms [$crate::chan::select::try_now()] $($body)*)
    };

    (@run [] [$($choose:ident)::+ ($($until:tt)*)] $($otherwise:tt)*) => {{
        $($choose)::+(&mut [], $($until)*);
        $($otherwise)*
    }};
    (
        @run [$(($arm:ident $outcome:ident [$pattern:pat] [$($make:tt)*] [$($body:tt)*]))*]
        [$($choose:ident)::+ ($($until:tt)*)] $($otherwise:tt)*
    ) => {{
        // The arms, and what they borrow, are gone when a body runs.
        let ($($outcome,)*) = match ($($($make)*,)*) {
            ($(mut $arm,)*) => {
                $($choose)::+(&mut [$(&mut $arm),*], $($until)*);
                ($($arm.outcome(),)*)
            }
        };
        $(if let ::core::option::Option::Some(outcome) = $outcome {
            let $pattern = outcome;
            $($body)*
        } else)* {
            $($otherwise)*
        }
    }};
}
