#![allow(unsafe_code, reason = "moves values and control between stacks")]
//! Raw coroutines: resume and suspend, no scheduler.
//!
//! ```
//! use switchmark_runtime::raw::{Coroutine, Stack, State, Yielder};
//!
//! // SAFETY: the body suspends in no thread-local's initialiser or destructor and under no scoped thread-local, and is run to its end.
//! let mut squares = unsafe {
//!     Coroutine::new(Stack::new(64 << 10)?, |yielder: &Yielder<(), u32>, (): ()| {
//!         for n in 1..=3 {
//!             yielder.suspend(n * n);
//!         }
//!         "done"
//!     })
//! };
//! let mut seen = Vec::new();
//! let end = loop {
//!     match squares.resume(()) {
//!         State::Yielded(square) => seen.push(square),
//!         State::Returned(end) => break end,
//!     }
//! };
//! assert_eq!((seen, end), (vec![1, 4, 9], "done"));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The top of the stack holds the *link*, the resumer's stack pointer, and above it the closure, until the first resume moves
//! it into its frame. Whoever is resumed is a guest of the resumer: to the scheduler it is the resumer that runs, so a raw
//! coroutine inside a scheduled one may park, and parks both.
//!
//! Values of up to a register's size cross in a register, larger ones as the address of where they lie, from which the other side
//! moves them before it does anything else.
//!
//! A suspended coroutine that is dropped is unwound: its `suspend` panics with a payload of ours, without a message. A body that catches
//! that and suspends again is unwound from there again, and what it hands out is dropped; one that does so for ever keeps `drop` for
//! ever. A destructor that suspends while it runs *for* this unwinding aborts the process, unless it catches what comes out of
//! `suspend`: that is a second panic, out of a destructor during cleanup, which Rust answers so. If something of the user's panics on
//! the way, `drop` still goes on to the root, gives the stack back, and then panics with the first such payload.
//! Under `panic = "abort"` there is no unwinding: its stack is leaked instead, with all that lies on it.
//!
//! ```compile_fail,E0277
//! # use switchmark_runtime::raw::{Coroutine, Stack, Yielder};
//! // A suspended coroutine may hold anything, also what must not leave its thread: it is not `Send`.
//! let co = unsafe { Coroutine::new(Stack::new(4096).unwrap(), |_: &Yielder<(), ()>, ()| ()) };
//! std::thread::spawn(move || drop(co));
//! ```
//!
//! ```compile_fail,E0597
//! # use switchmark_runtime::raw::{Coroutine, Stack, Yielder};
//! // A coroutine can be forgotten while it is suspended, and its frames with it: it borrows nothing.
//! let mut co = {
//!     let local = String::from("short-lived");
//!     let borrowed = &local;
//!     unsafe { Coroutine::new(Stack::new(4096).unwrap(), move |_: &Yielder<(), ()>, ()| borrowed.len()) }
//! };
//! co.resume(());
//! ```
//!
//! ```compile_fail,E0521
//! # use switchmark_runtime::raw::{Coroutine, Stack, Yielder};
//! // A yielder stays in its own coroutine: suspending the outer one from inside the inner would leave the inner running.
//! let outer = unsafe {
//!     Coroutine::new(Stack::new(4096).unwrap(), |outer: &Yielder<(), ()>, ()| {
//!         let mut inner =
//!             Coroutine::new(Stack::new(4096).unwrap(), move |_: &Yielder<(), ()>, ()| outer.suspend(()));
//!         inner.resume(());
//!     })
//! };
//! ```

use std::any::Any;
use std::cell::UnsafeCell;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::panic::{self, AssertUnwindSafe};
use std::ptr;

use crate::arch::{self, Word};
use crate::sanitize;
use crate::stack::{Class, Slot, arena, overflow, pool};

/// Flag of a resume: go on.
const GO_ON: usize = 0;
/// Flag of a resume: unwind to the root.
const UNWIND: usize = 1;

/// A guarded stack, for one coroutine after the other.
#[derive(Debug)]
pub struct Stack {
    slot: Slot,
}

impl Stack {
    /// Takes a stack with at least `bytes` usable, of the smallest class that has them.
    pub fn new(bytes: usize) -> io::Result<Stack> {
        Ok(Stack { slot: pool::take(Class::for_bytes(bytes)?)? })
    }

    /// Usable bytes.
    pub fn size(&self) -> usize {
        self.slot.class.usable()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        arena::vacate(self.slot);
        pool::give(self.slot);
    }
}

/// What a resumed coroutine did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State<Out, Ret> {
    /// It suspended, handing this out.
    Yielded(Out),
    /// It ended with this.
    Returned(Ret),
}

/// The inner end: suspends the coroutine it was given to.
#[repr(transparent)]
pub struct Yielder<In, Out> {
    link: UnsafeCell<*mut u8>,
    marker: PhantomData<fn(Out) -> In>,
}

impl<In, Out> fmt::Debug for Yielder<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Yielder").finish_non_exhaustive()
    }
}

impl<In, Out> Yielder<In, Out> {
    /// Hands `value` to whoever resumed this coroutine and suspends; returns the value of the next resume.
    ///
    /// Unwinds, with a payload of the runtime's, when the coroutine is dropped instead; in a destructor that runs for that unwinding,
    /// this aborts the process.
    #[inline(always)]
    pub fn suspend(&self, value: Out) -> In {
        let value = ManuallyDrop::new(value);
        sanitize::leave_to_resumer(self.link.get());
        // SAFETY: a yielder is reachable only from the coroutine whose link it is (neither `Send` nor `'static`), and code of that
        // coroutine runs only while it is resumed. The other side moves `value` out before it resumes us or, to unwind us, drops it.
        let (input, flag, link) = unsafe { arch::suspend(encode(&value), self.link.get()) };
        sanitize::arrive_inside(link);
        if flag == UNWIND {
            unwind(link);
        }
        // SAFETY: a resume with GO_ON carries an encoded `In`.
        unsafe { decode(input) }
    }
}

/// The payload by which a dropped coroutine is unwound; names it by its link.
struct ForcedUnwind(*mut *mut u8);

// SAFETY: the pointer is a name; it is compared, never followed.
unsafe impl Send for ForcedUnwind {}

#[cold]
#[inline(never)]
fn unwind(link: *mut *mut u8) -> ! {
    // Not `panic!`: nothing went wrong, so no hook is to print.
    panic::resume_unwind(Box::new(ForcedUnwind(link)))
}

type Payload = Box<dyn Any + Send>;

/// A coroutine on a stack of its own, resumed by hand.
pub struct Coroutine<In, Out, Ret> {
    /// The suspended context; null once the body ended. Stale while the body runs, when nobody can look.
    context: *mut u8,
    link: *mut *mut u8,
    /// Drops the closure above the link, while it is still there.
    drop_closure: unsafe fn(*mut *mut u8),
    stack: ManuallyDrop<Stack>,
    /// Not `Send` and not `Sync`: suspended frames may hold anything.
    marker: PhantomData<NotSend<In, Out, Ret>>,
}

type NotSend<In, Out, Ret> = (*mut (), fn(In) -> State<Out, Ret>);

impl<In, Out, Ret> fmt::Debug for Coroutine<In, Out, Ret> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coroutine")
            .field("stack", &self.stack.slot)
            .field("done", &self.is_done())
            .finish_non_exhaustive()
    }
}

/// Offset of the closure above the link. Leaves the link aligned for a call.
const CLOSURE_OFFSET: usize = 16;

fn closure_of<F>(link: *mut *mut u8) -> *mut F {
    link.wrapping_byte_add(CLOSURE_OFFSET.next_multiple_of(align_of::<F>())).cast()
}

impl<In: 'static, Out: 'static, Ret: 'static> Coroutine<In, Out, Ret> {
    /// Makes a coroutine that runs `body` when it is first resumed.
    ///
    /// # Panics
    /// If `body` itself, the closure and what it captured, takes with its alignment more than half of the stack; or if this thread has
    /// no alternate signal stack for the overflow report, and there is no memory for one.
    ///
    /// # Safety
    /// No code that runs in this coroutine suspends
    /// 1. inside a thread-local's initialiser or destructor (`process::exit` runs destructors on the stack it is called on), or
    /// 2. inside the extent of a scoped thread-local (set, run a closure, restore).
    ///
    /// And once it was started, the coroutine ends or is dropped before its OS thread begins to run thread-local destructors, so that it
    /// is not kept in a thread-local; or that thread never exits. Its frames may borrow from thread-locals and from what lies on the
    /// stacks of the thread, which are gone by then.
    pub unsafe fn new<F>(stack: Stack, body: F) -> Coroutine<In, Out, Ret>
    where
        F: FnOnce(&Yielder<In, Out>, In) -> Ret + 'static,
    {
        // A stack is `Send`: it may come from a thread that was prepared to one that was not.
        if !overflow::is_prepared() {
            prepare();
        }
        sanitize::prepare(stack.slot);
        let top = stack.slot.coloured_top();
        let align = align_of::<F>().max(arch::STACK_ALIGN);
        let room = size_of::<F>() + align;
        // Rounding the link down takes up to `align` once more.
        assert!(
            room + align <= stack.size() / 2,
            "the closure is too large for the stack: box what it captures"
        );
        // The link is aligned as the closure is, so that their distance is a constant.
        let link: *mut *mut u8 =
            top.wrapping_sub(CLOSURE_OFFSET + room).map_addr(|addr| addr & !(align - 1)).cast();
        // SAFETY: we own the stack, nobody runs on it, and the assertion leaves the room.
        unsafe { closure_of::<F>(link).write(body) };
        // SAFETY: the link is aligned, and all below it is free.
        let context = unsafe { arch::prepare_raw(link, root::<In, Out, Ret, F>) };
        arena::occupy_raw(stack.slot, link);
        Coroutine {
            context,
            link,
            drop_closure: drop_closure::<F>,
            stack: ManuallyDrop::new(stack),
            marker: PhantomData,
        }
    }

    /// Runs the coroutine until it suspends or ends; a panic of its body goes on here.
    ///
    /// # Panics
    /// If the coroutine has ended.
    #[inline(always)]
    pub fn resume(&mut self, value: In) -> State<Out, Ret> {
        if self.context.is_null() {
            ended();
        }
        let value = ManuallyDrop::new(value);
        // SAFETY: the word encodes an `In`, which the coroutine moves out at once.
        match unsafe { self.go(encode(&value), GO_ON) } {
            State::Yielded(out) => State::Yielded(out),
            State::Returned(Ok(ret)) => State::Returned(ret),
            State::Returned(Err(payload)) => panic::resume_unwind(payload),
        }
    }
}

impl<In, Out, Ret> Coroutine<In, Out, Ret> {
    /// # Safety
    /// The coroutine has not ended. With `GO_ON` the word encodes an `In`; with `UNWIND` it has been started.
    #[inline(always)]
    unsafe fn go(&mut self, word: Word, flag: usize) -> State<Out, Result<Ret, Payload>> {
        let resumer = sanitize::Fiber::new();
        sanitize::enter(self.link, &resumer);
        // SAFETY: a context that is not null was prepared by `new` or left by `suspend`, and is replaced by what comes back.
        let (word, left) = unsafe { arch::resume(word, flag, self.context, self.link) };
        sanitize::arrive(&resumer);
        self.context = left;
        if left.is_null() {
            // SAFETY: who finishes hands out an encoded result, still in its frame, which nobody reuses before we move it.
            State::Returned(unsafe { decode(word) })
        } else {
            // SAFETY: who suspends hands out an encoded `Out`.
            State::Yielded(unsafe { decode(word) })
        }
    }

    /// Whether the body has not begun: no suspension leaves a context as high as the first.
    fn is_unstarted(&self) -> bool {
        self.context == arch::first_context(self.link)
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.context.is_null()
    }

    /// Takes the stack of a coroutine that has ended; gives the coroutine back if it has not.
    pub fn into_stack(self) -> Result<Stack, Self> {
        if !self.is_done() {
            return Err(self);
        }
        let mut this = ManuallyDrop::new(self);
        arena::vacate(this.stack.slot);
        // SAFETY: `this` is never dropped, so the stack is taken once.
        Ok(unsafe { ManuallyDrop::take(&mut this.stack) })
    }

    /// Unwinds a started coroutine to its root. Returns the first thing that went wrong on the way.
    ///
    /// Nothing unwinds out of here before the root is reached. Frames left behind would lose their stack to the next coroutine while a
    /// scoped thread still borrows from them, as the destructors that wait for it would not have run.
    #[cold]
    fn unwind(&mut self) -> Option<Payload> {
        let mut first = None;
        while !self.is_done() {
            // SAFETY: it has not ended, and was started; UNWIND carries no value.
            match unsafe { self.go(MaybeUninit::uninit(), UNWIND) } {
                // Somebody suspends while being unwound. His value goes nowhere.
                State::Yielded(out) => keep_first(&mut first, drop_caught(out)),
                // The body swallowed the unwinding. Its value goes nowhere either.
                State::Returned(Ok(ret)) => keep_first(&mut first, drop_caught(ret)),
                State::Returned(Err(payload)) => match payload.downcast::<ForcedUnwind>() {
                    Ok(forced) if forced.0 == self.link => {}
                    Ok(forced) => keep_first(&mut first, Err(forced)),
                    Err(payload) => keep_first(&mut first, Err(payload)),
                },
            }
        }
        first
    }
}

/// Drops what is the user's, and hands a panic of its destructor out as a value.
fn drop_caught<T>(value: T) -> Result<(), Payload> {
    panic::catch_unwind(AssertUnwindSafe(|| drop(value)))
}

/// Keeps the first payload. A further one is forgotten: its drop is user code, which could panic as well.
fn keep_first(first: &mut Option<Payload>, result: Result<(), Payload>) {
    match result {
        Err(payload) if first.is_none() => *first = Some(payload),
        Err(payload) => mem::forget(payload),
        Ok(()) => {}
    }
}

#[cold]
#[inline(never)]
fn prepare() {
    overflow::prepare_thread().expect("there is memory for an alternate signal stack");
}

#[cold]
#[inline(never)]
fn ended() -> ! {
    panic!("resumed a coroutine that has ended or panicked")
}

impl<In, Out, Ret> Drop for Coroutine<In, Out, Ret> {
    #[inline]
    fn drop(&mut self) {
        if self.is_unstarted() {
            // Taken first, so that it is given back also if the closure's destructor panics.
            // SAFETY: `self` goes away, so the stack is taken once.
            let _stack = unsafe { ManuallyDrop::take(&mut self.stack) };
            // SAFETY: the closure lies above the link until the first resume, and the stack is still ours.
            unsafe { (self.drop_closure)(self.link) };
            return;
        }
        let mut failure = None;
        if !self.is_done() {
            if cfg!(panic = "abort") {
                return;
            }
            failure = self.unwind();
        }
        // SAFETY: nobody is left on the stack, and `self` goes away.
        unsafe { ManuallyDrop::drop(&mut self.stack) };
        if let Some(payload) = failure {
            panic::resume_unwind(payload);
        }
    }
}

unsafe fn drop_closure<F>(link: *mut *mut u8) {
    // SAFETY: the caller says that the closure is still there.
    unsafe { closure_of::<F>(link).drop_in_place() };
}

/// First frame of a raw coroutine. A panic cannot leave it: the ABI does not unwind, and all is caught.
///
/// Not instrumented, so that the result lies on this very stack: the fake one is gone when the resumer reads it.
#[cfg_attr(feature = "sanitize", sanitize(address = "off"))]
unsafe extern "sysv64" fn root<In, Out, Ret, F>(word: Word, link: *mut *mut u8, _flag: usize) -> !
where
    F: FnOnce(&Yielder<In, Out>, In) -> Ret,
{
    sanitize::arrive_inside(link);
    let result = ManuallyDrop::new(run::<In, Out, Ret, F>(word, link));
    sanitize::leave_to_resumer_for_good(link);
    // SAFETY: this is the stack whose link it is; the resumer moves the result out of this frame.
    unsafe { arch::finish(encode(&result), link) }
}

#[inline(always)]
fn run<In, Out, Ret, F>(word: Word, link: *mut *mut u8) -> Result<Ret, Payload>
where
    F: FnOnce(&Yielder<In, Out>, In) -> Ret,
{
    // SAFETY: the first resume found the closure where `new` put it, and forgot it.
    let body = unsafe { closure_of::<F>(link).read() };
    // SAFETY: a coroutine is never unwound before its first resume, so the word encodes an `In`.
    let input = unsafe { decode(word) };
    // SAFETY: a yielder is the link by another name; it lives as long as the stack is in use.
    let yielder = unsafe { &*link.cast::<Yielder<In, Out>>() };
    panic::catch_unwind(AssertUnwindSafe(|| body(yielder, input)))
}

/// The register image of a small value, or the address of a large one.
#[inline(always)]
fn encode<T>(value: &ManuallyDrop<T>) -> Word {
    let mut word = Word::uninit();
    if size_of::<T>() <= size_of::<Word>() {
        let from = ptr::from_ref(value).cast::<MaybeUninit<u8>>();
        // SAFETY: the word is at least as long as the value; `MaybeUninit` keeps any bytes, also padding.
        unsafe { ptr::copy_nonoverlapping(from, word.as_mut_ptr().cast(), size_of::<T>()) };
    } else {
        word.write(ptr::from_ref(value).expose_provenance());
    }
    word
}

/// Moves an encoded value out.
///
/// # Safety
/// The word encodes a `T` that is still in place, and is decoded once.
#[inline(always)]
unsafe fn decode<T>(word: Word) -> T {
    if size_of::<T>() <= size_of::<Word>() {
        // SAFETY: the word begins with the bytes of a `T`; unaligned because its own alignment may be smaller.
        unsafe { word.as_ptr().cast::<T>().read_unaligned() }
    } else {
        // SAFETY: a large value is encoded as its address.
        let at = unsafe { word.assume_init() };
        let at: *const T = ptr::with_exposed_provenance(at);
        // SAFETY: the caller's contract.
        unsafe { at.read() }
    }
}
