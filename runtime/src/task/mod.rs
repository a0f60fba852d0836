#![allow(unsafe_code, reason = "the record holds values whose type only its vtable knows")]
//! The task record: everything about a coroutine but its stack.
//!
//! `spawn` fills a record and nothing else; a stack is bound when the coroutine first runs and taken back when it ends, while
//! the record stays until the last of its references is gone: the runtime's own, the handle's, one for each `Unparker`.
//!
//! Records are two cache lines each and come from slabs that are never freed, so `&'static Task` is always a reference to *a*
//! record. That it is still the same task is what the reference count guards. Fields are of three kinds:
//!
//! - set by `spawn` before the record is shared, then constant until it is recycled: `id`, `name`, `body`; and `worker`, if `spawn`
//!   chooses one, else it is set at the first run, before ASSIGNED;
//! - changed by the owning OS thread only, that is the one whose worker the task belongs to: `sp`, `slot`, `masks`, `asks`, `wait`, and `payload` until
//!   the task ends, when it passes to whoever holds the handle;
//! - atomics, for everybody: `token`, `word`, `references`, `link`; and `kind`, `site` and `epoch`, which only the owner writes.
//!
//! A task that has not started belongs to nobody yet: whoever takes it out of the queue it lies in owns it from then on.
//!
//! `payload` holds first the closure, then, after the end, the result or the panic. What does not fit goes to a box.

#[cfg(all(test, loom))]
mod model;
pub(crate) mod state;
pub(crate) mod token;
pub(crate) mod word;

// The one name from further right: a task is built by what spawns it.
pub use crate::spawn::Builder;

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::mem::{self, MaybeUninit};
use std::panic::Location;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU8, Ordering, fence};

use crate::atomic::plain::{AtomicPtr, AtomicU32, AtomicU64, Mutex, MutexGuard};
use crate::sanitize;
use crate::stack::{Class, Slot};
use token::Token;
use word::Word;

/// Identity of a coroutine, unique in the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Id(pub(crate) u64);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Ids a worker may give before it asks for more: one shared counter would be a locked operation a spawn.
pub(crate) const ID_BLOCK: u64 = 1 << 10;

/// First of a block of ids that nobody else has; the block ends at the next multiple of [`ID_BLOCK`].
pub(crate) fn id_block() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // Relaxed: the numbers only have to differ.
    NEXT.fetch_add(ID_BLOCK, Ordering::Relaxed)
}

/// What a joiner learns when a coroutine gave no value.
pub enum JoinError {
    /// It panicked, with this payload.
    Panic(Failed<Box<dyn Any + Send>>),
    /// It was cancelled, and unwound or never ran.
    Cancelled(Failed<()>),
    /// It never ran: there was no stack for it, for this reason, and no running coroutine to wait for one.
    NoStack(Failed<std::io::Error>),
}

/// A failure and the coroutine that had it.
pub struct Failed<E> {
    /// Its id.
    pub id: Id,
    /// Its name, if it had one.
    pub name: Option<String>,
    /// What happened.
    pub cause: E,
}

impl JoinError {
    /// The panic's payload; the error itself if it was no panic.
    pub fn into_panic(self) -> Result<Box<dyn Any + Send>, JoinError> {
        match self {
            JoinError::Panic(failed) => Ok(failed.cause),
            other => Err(other),
        }
    }

    /// Whether the coroutine was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, JoinError::Cancelled(_))
    }
}

struct Label<'a>(Id, Option<&'a str>);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "coroutine {}", self.0)?;
        self.1.map_or(Ok(()), |name| write!(f, " '{name}'"))
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Panic(failed) => {
                let cause = &failed.cause;
                let text = cause.downcast_ref::<&str>().copied();
                let text = text.or_else(|| cause.downcast_ref::<String>().map(String::as_str));
                let label = Label(failed.id, failed.name.as_deref());
                write!(f, "{label} panicked: {}", text.unwrap_or("(a payload that is no text)"))
            }
            JoinError::Cancelled(failed) => {
                write!(f, "{} was cancelled", Label(failed.id, failed.name.as_deref()))
            }
            JoinError::NoStack(failed) => {
                write!(f, "{} never ran: {}", Label(failed.id, failed.name.as_deref()), failed.cause)
            }
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl<E: fmt::Debug> fmt::Debug for Failed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", Label(self.id, self.name.as_deref()), self.cause)
    }
}

impl std::error::Error for JoinError {}

/// Words of the payload.
const PAYLOAD_WORDS: usize = 5;

/// What the payload holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Holds {
    Nothing,
    Closure,
    Value,
    Panic,
    Cancelled,
    NoStack,
}

/// What only the closure's and the result's type know how to do.
struct Body {
    /// Runs the closure and leaves the result.
    run: unsafe fn(&Task),
    drop_closure: unsafe fn(&Task),
    drop_value: unsafe fn(&Task),
}

/// What a suspended task waits for: names for reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    /// It does not wait.
    None,
    Park,
    Join,
    Sleep,
    Send,
    Recv,
    Select,
    Lock,
    Condvar,
    Semaphore,
    Barrier,
    Event,
    Once,
    WaitGroup,
    Scope,
    Read,
    Write,
    Blocking,
    Future,
}

/// Texts of the kinds, by their number.
pub(crate) const KINDS: [&str; Kind::ALL.len()] = {
    let mut texts = [""; Kind::ALL.len()];
    let mut index = 0;
    while index < texts.len() {
        let (kind, text) = Kind::ALL[index];
        texts[kind as usize] = text;
        index += 1;
    }
    texts
};

impl Kind {
    const ALL: [(Kind, &'static str); 19] = [
        (Kind::None, "runs or is ready"),
        (Kind::Park, "park"),
        (Kind::Join, "join"),
        (Kind::Sleep, "sleep"),
        (Kind::Send, "send on a channel"),
        (Kind::Recv, "receive from a channel"),
        (Kind::Select, "select"),
        (Kind::Lock, "lock"),
        (Kind::Condvar, "condition variable"),
        (Kind::Semaphore, "semaphore"),
        (Kind::Barrier, "barrier"),
        (Kind::Event, "event"),
        (Kind::Once, "initialisation of a once cell"),
        (Kind::WaitGroup, "wait group"),
        (Kind::Scope, "end of a scope"),
        (Kind::Read, "descriptor to be read"),
        (Kind::Write, "descriptor to be written"),
        (Kind::Blocking, "blocking call elsewhere"),
        (Kind::Future, "future"),
    ];
}

/// How far a wait is, seen from its worker. Whoever is neither RUNNABLE nor claimed twice is enqueued once: see `park`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Runs, or is in a queue.
    Runnable,
    /// Waits, until its waiter is claimed.
    Waits,
    /// Waits, until its waiter is claimed or its deadline comes.
    Masked,
    /// Waits, until its waiter is claimed, its deadline comes or the time of a `timeout` that began inside the mask.
    InMask,
    /// Waits, until its waiter is claimed, its deadline comes, the time of a `timeout`, or it is cancelled.
    Interruptible,
}

/// Why a wait ended without being claimed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interrupt {
    /// Its deadline came.
    Deadline,
    /// The task was cancelled.
    Cancel,
    /// A call of `timeout` is to be given up.
    Timeout,
}

impl Phase {
    /// Whether the wait may end for this reason.
    pub(crate) fn allows(self, why: Interrupt) -> bool {
        match self {
            Phase::Interruptible => true,
            Phase::InMask => why != Interrupt::Cancel,
            Phase::Masked => why == Interrupt::Deadline,
            Phase::Waits | Phase::Runnable => false,
        }
    }
}

impl WaitState {
    pub(crate) const NONE: WaitState = WaitState { phase: Phase::Runnable, woken: false, interrupt: None };
}

/// The state of a task's present wait; the owning thread's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitState {
    pub(crate) phase: Phase,
    /// The claim's wake-up has come.
    pub(crate) woken: bool,
    pub(crate) interrupt: Option<Interrupt>,
}

/// The record. See the module's head for who may touch what.
#[repr(C, align(128))]
pub(crate) struct Task {
    /// Saved context; null before the first run.
    pub(crate) sp: Cell<*mut u8>,
    /// The worker it belongs to; opaque here. Null while it belongs to nobody.
    pub(crate) worker: AtomicPtr<()>,
    pub(crate) token: Token,
    references: AtomicU32,
    pub(crate) word: Word,
    /// Next in a worker's inbox, or in a list of free records.
    pub(crate) link: AtomicPtr<Task>,
    /// The stack: its class from the start, its number from the first run to the end.
    number: Cell<u32>,
    class: Cell<Class>,
    holds: Cell<Holds>,
    /// Depth of `cancel::mask`.
    pub(crate) masks: Cell<u8>,
    /// [`DUE`], [`HAS_FRAMES`], [`THROWN`]. On the line of `word`, as each suspension point looks at both.
    pub(crate) asks: Cell<u8>,
    id: AtomicU64,
    body: Cell<Option<&'static Body>>,
    /// Written under [`NAMES`], so that reports may read it from any thread; while the task is one it does not change.
    ///
    /// Boxed twice: one word here, and most coroutines have no name.
    name: UnsafeCell<Option<Box<Box<str>>>>,
    pub(crate) wait: Cell<WaitState>,
    kind: AtomicU8,
    /// Counts the waits with a deadline, over all tasks that had this record: names one in the list of deadlines.
    pub(crate) epoch: AtomicU32,
    site: AtomicPtr<Location<'static>>,
    payload: UnsafeCell<[MaybeUninit<u64>; PAYLOAD_WORDS]>,
}

/// In `asks`: a call of `timeout` is to be given up.
pub(crate) const DUE: u8 = 1;
/// In `asks`: a call of `timeout` is under way.
pub(crate) const HAS_FRAMES: u8 = 1 << 1;
/// In `asks`: a cancellation was thrown before, and swallowed.
pub(crate) const THROWN: u8 = 1 << 2;

/// The payload by which a cancelled coroutine is unwound; names the coroutine, so that no other takes it for its own.
pub(crate) struct Cancellation(pub(crate) Id);

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task({})", Label(self.id(), self.name()))
    }
}

// A panic never leaves a record half changed: closures run outside of it.
impl panic::RefUnwindSafe for Task {}

#[cfg(not(all(test, any(loom, shuttle))))] // Theirs are larger.
const _: () = assert!(size_of::<Task>() == 128, "a record is two cache lines");

/// A pointer that is or was a record, as a reference.
#[inline]
pub(crate) fn from_ptr(task: *const Task) -> Option<&'static Task> {
    // SAFETY: only addresses of records are stored as such, and slabs of records are never freed.
    unsafe { task.as_ref() }
}

/// Where a task that is being spawned will live.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Home {
    /// With whoever takes it.
    Nowhere,
    /// With the worker this runs on.
    Here(*const ()),
    /// With another worker, through its inbox, into which the caller pushes it.
    There(*const ()),
}

/// A queued pointer, which always is a record's.
#[inline]
pub(crate) fn from_non_null(task: ptr::NonNull<Task>) -> &'static Task {
    // SAFETY: only addresses of records are queued, and slabs of records are never freed.
    unsafe { task.as_ref() }
}

const fn fits<V>() -> bool {
    size_of::<V>() <= PAYLOAD_WORDS * size_of::<u64>() && align_of::<V>() <= align_of::<u64>()
}

/// Where a debugger finds what it shows of a record.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Offsets {
    sp: usize,
    id: usize,
    name: usize,
    kind: usize,
    site: usize,
}

impl Task {
    pub(crate) const OFFSETS: Offsets = Offsets {
        sp: mem::offset_of!(Task, sp),
        id: mem::offset_of!(Task, id),
        name: mem::offset_of!(Task, name),
        kind: mem::offset_of!(Task, kind),
        site: mem::offset_of!(Task, site),
    };

    fn new() -> Task {
        Task {
            sp: Cell::new(ptr::null_mut()),
            worker: AtomicPtr::new(ptr::null_mut()),
            token: Token::new(),
            references: AtomicU32::new(0),
            word: Word::new(),
            link: AtomicPtr::new(ptr::null_mut()),
            id: AtomicU64::new(0),
            name: UnsafeCell::new(None),
            body: Cell::new(None),
            number: Cell::new(0),
            class: Cell::new(Class::ALL[0]),
            holds: Cell::new(Holds::Nothing),
            masks: Cell::new(0),
            asks: Cell::new(0),
            wait: Cell::new(WaitState::NONE),
            kind: AtomicU8::new(Kind::None as u8),
            epoch: AtomicU32::new(0),
            site: AtomicPtr::new(ptr::null_mut()),
            payload: UnsafeCell::new([MaybeUninit::uninit(); PAYLOAD_WORDS]),
        }
    }

    /// Fills a record that nobody else knows, with a reference for the runtime and one for the handle.
    ///
    /// # Safety
    /// What `closure` borrows outlives the task's end, and so does what its value borrows the taking of the value. `closure` is
    /// sent to the worker's thread, and the value to the joiner's, as their types allow.
    #[inline]
    pub(crate) unsafe fn fill<F, T>(
        &self,
        id: u64,
        name: Option<Box<str>>,
        class: Class,
        home: Home,
        closure: F,
    ) where
        F: FnOnce() -> T,
    {
        struct Of<F, T>(std::marker::PhantomData<(F, T)>);
        impl<F: FnOnce() -> T, T> Of<F, T> {
            const BODY: &'static Body = &Body {
                run: Task::run_as::<F, T>,
                drop_closure: Task::drop_as::<F>,
                drop_value: Task::drop_as::<T>,
            };
        }
        debug_assert_eq!(self.holds.get(), Holds::Nothing);
        self.sp.set(ptr::null_mut());
        let (worker, bits) = match home {
            Home::Nowhere => (ptr::null(), 0),
            Home::Here(worker) => (worker, state::ASSIGNED),
            Home::There(worker) => (worker, state::ASSIGNED | state::WAKE),
        };
        // Relaxed: as below.
        self.worker.store(worker.cast_mut(), Ordering::Relaxed);
        self.word.reset(bits);
        self.token.reset();
        // Relaxed, twice: the record is shared later, through a queue, an inbox or a handle, each of which publishes it.
        self.references.store(2, Ordering::Relaxed);
        self.waits_no_more();
        self.masks.set(0);
        self.asks.set(0);
        self.id.store(id, Ordering::Relaxed);
        if name.is_some() {
            let _names = names();
            // SAFETY: nobody else knows the record yet, but reports, which take the lock.
            unsafe { *self.name.get() = name.map(Box::new) };
        }
        self.body.set(Some(Of::<F, T>::BODY));
        self.class.set(class);
        // SAFETY: nobody else knows the record yet, and the payload is empty.
        unsafe { self.put(closure, Holds::Closure) };
    }

    pub(crate) fn id(&self) -> Id {
        // Relaxed: published with the record.
        Id(self.id.load(Ordering::Relaxed))
    }

    pub(crate) fn name(&self) -> Option<&str> {
        // SAFETY: written by `fill` and `recycle` alone, when nobody else knows the record.
        unsafe { (*self.name.get()).as_deref() }.map(|name| &**name)
    }

    /// # Safety
    /// The caller owns the payload, which is empty.
    #[inline(always)]
    unsafe fn put<V>(&self, value: V, as_: Holds) {
        self.holds.set(as_);
        if fits::<V>() {
            // SAFETY: it fits by size and alignment, and the payload is the caller's.
            unsafe { self.payload.get().cast::<V>().write(value) };
        } else {
            let boxed = Box::into_raw(Box::new(value));
            // SAFETY: as above; a pointer fits.
            unsafe { self.payload.get().cast::<*mut V>().write(boxed) };
        }
    }

    /// # Safety
    /// The caller owns the payload, which holds a `V`.
    #[inline(always)]
    unsafe fn take<V>(&self) -> V {
        self.holds.set(Holds::Nothing);
        if fits::<V>() {
            // SAFETY: `put` wrote it here, and it is read once.
            unsafe { self.payload.get().cast::<V>().read() }
        } else {
            // SAFETY: `put` wrote a pointer here.
            let boxed = unsafe { self.payload.get().cast::<*mut V>().read() };
            // SAFETY: it came from a box, and is taken once.
            *unsafe { Box::from_raw(boxed) }
        }
    }

    unsafe fn drop_as<V>(task: &Task) {
        // SAFETY: the caller's contract.
        drop(unsafe { task.take::<V>() });
    }

    unsafe fn run_as<F: FnOnce() -> T, T>(task: &Task) {
        // SAFETY: a task that was not run holds its closure.
        let closure = unsafe { task.take::<F>() };
        match panic::catch_unwind(AssertUnwindSafe(closure)) {
            // SAFETY: the task owns its payload until it ends, and taking the closure emptied it.
            Ok(value) => unsafe { task.put(value, Holds::Value) },
            // SAFETY: as above.
            Err(payload) => unsafe { task.put_failure(payload) },
        }
    }

    /// # Safety
    /// The caller owns the payload, which is empty.
    #[cold]
    unsafe fn put_failure(&self, payload: Box<dyn Any + Send>) {
        if payload.downcast_ref::<Cancellation>().is_some_and(|cancellation| cancellation.0 == self.id()) {
            self.holds.set(Holds::Cancelled);
        } else {
            // SAFETY: the caller's contract.
            unsafe { self.put(payload, Holds::Panic) };
        }
    }

    fn body(&self) -> &'static Body {
        self.body.get().expect("a record in use has a body")
    }

    /// Runs the closure, on the stack this is called on.
    ///
    /// # Safety
    /// Called once, by the owner.
    #[inline]
    pub(crate) unsafe fn run(&self) {
        debug_assert_eq!(self.holds.get(), Holds::Closure);
        // SAFETY: the body is the one the record was filled with.
        unsafe { (self.body().run)(self) };
    }

    /// Ends a task before its closure ran: for want of a stack, or cancelled if there is no error.
    ///
    /// # Safety
    /// Called by the owner, before the first run.
    #[cold]
    pub(crate) unsafe fn give_up(&self, reason: Option<std::io::Error>) {
        debug_assert_eq!(self.holds.get(), Holds::Closure);
        let drop_closure = self.body().drop_closure;
        // The closure's drop is user code; if it panics, the hook has said so, and the reason is what the joiner needs.
        // SAFETY: the payload holds the closure.
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| unsafe { drop_closure(self) })) {
            // Its drop is user code as well, and nobody is left here to catch that.
            mem::forget(payload);
        }
        match reason {
            // SAFETY: dropping the closure emptied the payload.
            Some(reason) => unsafe { self.put(reason, Holds::NoStack) },
            None => self.holds.set(Holds::Cancelled),
        }
    }

    /// Takes what the task left.
    ///
    /// # Safety
    /// The task has ended and the caller holds its handle; `T` is its result.
    #[inline]
    pub(crate) unsafe fn outcome<T>(&self) -> Result<T, JoinError> {
        match self.holds.get() {
            // SAFETY: it holds a value of this type.
            Holds::Value => Ok(unsafe { self.take::<T>() }),
            // SAFETY: it holds a panic's payload.
            Holds::Panic => Err(JoinError::Panic(self.failed(unsafe { self.take() }))),
            // SAFETY: it holds an error.
            Holds::NoStack => Err(JoinError::NoStack(self.failed(unsafe { self.take() }))),
            Holds::Cancelled => {
                self.holds.set(Holds::Nothing);
                Err(JoinError::Cancelled(self.failed(())))
            }
            Holds::Nothing | Holds::Closure => unreachable!("a task that has ended left an outcome"),
        }
    }

    #[cold]
    pub(crate) fn failed<E>(&self, cause: E) -> Failed<E> {
        Failed { id: self.id(), name: self.name().map(str::to_owned), cause }
    }

    /// Drops what the task left.
    ///
    /// # Safety
    /// The task has ended, and the caller is the one to whom the outcome passed.
    #[cold]
    pub(crate) unsafe fn drop_outcome(&self) {
        match self.holds.get() {
            // SAFETY: it holds a value, and the body knows its type.
            Holds::Value => unsafe { (self.body().drop_value)(self) },
            // SAFETY: it holds a panic's payload.
            Holds::Panic => drop(unsafe { self.take::<Box<dyn Any + Send>>() }),
            // SAFETY: it holds an error.
            Holds::NoStack => drop(unsafe { self.take::<std::io::Error>() }),
            Holds::Cancelled => self.holds.set(Holds::Nothing),
            Holds::Nothing | Holds::Closure => {}
        }
    }

    /// The class of its stack, also before it has one.
    #[inline(always)]
    pub(crate) fn class(&self) -> Class {
        self.class.get()
    }

    /// Its stack, from the first run to the end.
    #[inline(always)]
    pub(crate) fn slot(&self) -> Slot {
        Slot { class: self.class.get(), number: self.number.get() }
    }

    /// Binds a stack of its class.
    #[inline(always)]
    pub(crate) fn bind(&self, slot: Slot) {
        debug_assert_eq!(slot.class, self.class.get());
        self.number.set(slot.number);
    }

    /// Says what the task is about to wait for, and where.
    #[inline(always)]
    pub(crate) fn waits_for(&self, kind: Kind, site: &'static Location<'static>) {
        // Relaxed, twice: for reports, which are snapshots.
        self.kind.store(kind as u8, Ordering::Relaxed);
        self.site.store(ptr::from_ref(site).cast_mut(), Ordering::Relaxed);
    }

    /// Who it is; for whoever has a reference to it.
    pub(crate) fn label(&self) -> String {
        Label(self.id(), self.name()).to_string()
    }

    /// Who it is, what it waits for and where, in a line; from any thread, and a snapshot.
    pub(crate) fn describe(&self) -> String {
        // Relaxed, twice: as above.
        let kind = self.kind.load(Ordering::Relaxed);
        let text = KINDS.get(usize::from(kind)).copied().unwrap_or_default();
        // SAFETY: only addresses of constant locations are stored.
        let site = unsafe { self.site.load(Ordering::Relaxed).as_ref() };
        let label = {
            let _names = names();
            Label(self.id(), self.name()).to_string()
        };
        match site {
            Some(site) if kind != Kind::None as u8 => format!("{label} waits: {text}, at {site}"),
            _ => format!("{label} {text}"),
        }
    }

    /// The wait is over, for reports.
    #[inline(always)]
    pub(crate) fn waits_no_more(&self) {
        // Relaxed: as above.
        self.kind.store(Kind::None as u8, Ordering::Relaxed);
    }

    /// One more reference, for somebody who already has one.
    pub(crate) fn retain(&self) {
        // Relaxed: whoever makes a reference has one, so the count cannot reach 0 meanwhile.
        let before = self.references.fetch_add(1, Ordering::Relaxed);
        assert!(before < u32::MAX / 2, "too many references to one coroutine");
    }

    /// Gives a reference up; `true` for the last one, whose holder recycles the record.
    #[inline]
    #[must_use]
    pub(crate) fn release(&self) -> bool {
        // A sole reference can be given up without a locked operation: who could add one has none to add from.
        // Acquire: pairs with the Release below in those who gave theirs up before.
        if self.references.load(Ordering::Acquire) == 1 {
            return true;
        }
        // Release: what this holder did with the record comes before its reuse.
        if self.references.fetch_sub(1, sanitize::RELEASE_BEFORE_FENCE) != 1 {
            return false;
        }
        fence(Ordering::Acquire); // Pairs with the Release of all the others.
        true
    }
}

/// Records in a slab, and in a full chain. 64 of them are two pages.
const SLAB: usize = 64;

/// Records that nobody refers to, linked through `link`.
struct Chain {
    first: *const Task,
    len: usize,
}

// SAFETY: without references nobody else touches the records, and their payloads are empty.
unsafe impl Send for Chain {}

impl Chain {
    fn pop(&mut self) -> Option<&'static Task> {
        let task = from_ptr(self.first)?;
        // Relaxed: a free record is ours alone.
        self.first = task.link.load(Ordering::Relaxed);
        self.len -= 1;
        Some(task)
    }

    fn push(&mut self, task: &'static Task) {
        // Relaxed: as in `pop`.
        task.link.store(self.first.cast_mut(), Ordering::Relaxed);
        self.first = task;
        self.len += 1;
    }

    /// A slab of new records, which live for ever.
    #[cold]
    fn of_new() -> Chain {
        let slab: Box<[Task]> = (0..SLAB).map(|_| Task::new()).collect();
        let mut chain = Chain { first: ptr::null(), len: 0 };
        for task in Box::leak(slab).iter() {
            chain.push(task);
        }
        chain
    }
}

/// See [`Task`]'s `name`.
static NAMES: Mutex<()> = Mutex::new(());

fn names() -> MutexGuard<'static, ()> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Chains of at most [`SLAB`] records, none of them empty.
static DEPOT: Mutex<Vec<Chain>> = Mutex::new(Vec::new());

fn depot() -> MutexGuard<'static, Vec<Chain>> {
    DEPOT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A record that nobody refers to, for a thread without free records of its own.
#[cold]
pub(crate) fn take_record() -> &'static Task {
    let mut depot = depot();
    let mut chain = depot.pop().unwrap_or_else(Chain::of_new);
    let task = chain.pop().expect("no chain in the depot is empty");
    if chain.len > 0 {
        depot.push(chain);
    }
    task
}

/// Takes back a record that nobody refers to, from a thread without free records of its own.
#[cold]
pub(crate) fn recycle(task: &'static Task) {
    clean(task);
    let mut depot = depot();
    match depot.last_mut() {
        Some(chain) if chain.len < SLAB => chain.push(task),
        _ => {
            let mut chain = Chain { first: ptr::null(), len: 0 };
            chain.push(task);
            depot.push(chain);
        }
    }
}

#[inline]
fn clean(task: &Task) {
    debug_assert_eq!(task.holds.get(), Holds::Nothing, "a recycled record holds nothing");
    if task.name().is_some() {
        let _names = names();
        // SAFETY: the last reference is gone, so nobody borrows the name but reports, which take the lock.
        drop(unsafe { (*task.name.get()).take() });
    }
}

/// A worker's own free records: at most two chains, the rest is in the depot. Records wander: spawned here or outside, ended there; so
/// who only ever frees some must not keep them from those who only ever take some.
#[derive(Debug)]
pub(crate) struct Records {
    /// Of the chain in use.
    first: Cell<*const Task>,
    /// How many it may still grow by.
    room: Cell<usize>,
    /// A full chain or none, so that a worker on the border of two does not go to the depot each time.
    spare: Cell<*const Task>,
}

impl Records {
    pub(crate) const fn new() -> Records {
        Records { first: Cell::new(ptr::null()), room: Cell::new(SLAB), spare: Cell::new(ptr::null()) }
    }

    /// A record that nobody refers to.
    #[inline]
    pub(crate) fn take(&self) -> &'static Task {
        match from_ptr(self.first.get()) {
            Some(task) => {
                // Relaxed: a free record is ours alone.
                self.first.set(task.link.load(Ordering::Relaxed));
                self.room.set(self.room.get() + 1);
                task
            }
            None => self.refill(),
        }
    }

    #[cold]
    fn refill(&self) -> &'static Task {
        let chain = match self.spare.replace(ptr::null()) {
            first if first.is_null() => {
                let left = depot().pop();
                left.unwrap_or_else(Chain::of_new)
            }
            first => Chain { first, len: SLAB },
        };
        self.first.set(chain.first);
        self.room.set(SLAB - chain.len);
        self.take()
    }

    /// Takes back a record that nobody refers to.
    #[inline]
    pub(crate) fn give(&self, task: &'static Task) {
        clean(task);
        if self.room.get() == 0 {
            self.make_room();
        }
        // Relaxed: as in `take`.
        task.link.store(self.first.get().cast_mut(), Ordering::Relaxed);
        self.first.set(task);
        self.room.set(self.room.get() - 1);
    }

    #[cold]
    fn make_room(&self) {
        let spare = self.spare.replace(self.first.replace(ptr::null()));
        self.room.set(SLAB);
        if !spare.is_null() {
            depot().push(Chain { first: spare, len: SLAB });
        }
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        let own = [
            Chain { first: self.first.get(), len: SLAB - self.room.get() },
            Chain { first: self.spare.get(), len: SLAB },
        ];
        depot().extend(own.into_iter().filter(|chain| !chain.first.is_null()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn who_takes_records_gets_those_that_others_give() {
        let (taker, giver) = (Records::new(), Records::new());
        let mut seen = HashSet::new();
        for round in 0..20_000 {
            let task = if round % 2 == 0 { taker.take() } else { take_record() };
            seen.insert(ptr::from_ref(task));
            if round % 3 == 0 { recycle(task) } else { giver.give(task) }
        }
        // A few chains, and what other tests of this process left in the depot meanwhile.
        assert!(seen.len() < 20 * SLAB, "{} records", seen.len());
    }

    #[test]
    fn no_record_is_given_twice_and_none_is_lost() {
        let records = Records::new();
        let mut taken = HashSet::new();
        for count in [1, SLAB, SLAB + 1, 2 * SLAB, 5 * SLAB + 3, 1] {
            let mut held: Vec<_> = (0..count).map(|_| records.take()).collect();
            let distinct: HashSet<_> = held.iter().map(|&task| ptr::from_ref(task)).collect();
            assert_eq!(distinct.len(), count);
            taken.extend(distinct);
            held.drain(..).for_each(|task| records.give(task));
            assert!(records.room.get() <= SLAB);
        }
        assert!(taken.len() < 20 * SLAB, "{} records", taken.len());
    }
}
