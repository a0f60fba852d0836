#![allow(unsafe_code, reason = "values whose type only their key knows, behind a word of the stack")]
//! Values of which each coroutine has its own: [`coroutine_local!`](crate::coroutine_local!).
//!
//! A thread-local is shared by the coroutines of its thread, and one with a lazy initialiser must not be initialised by code that suspends:
//! a second coroutine would initialise it again, and the first value be dropped under those who use it. Here a value belongs to its
//! coroutine, in a box of its own. No other initialises it, nothing moves or replaces it, and it is dropped when no frame of the
//! coroutine is left but the root: so the address is stable, and an initialiser that suspends, or asks for the same value, is sound.
//!
//! **Where.** The boxes are a list, a few at most, whose head is the highest word of the coroutine's stack. No frame reaches that word: the
//! first one begins 16 bytes below the top, or further below where tops are staggered. It is null in fresh memory and whenever a stack
//! is free, because [`end`] leaves it so; nobody has to write it at the start. The end looks at it only in a program that uses such values.
//!
//! **Outside coroutines** each OS thread has a list of its own, which its exit drops.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sched::worker;
use crate::task::Task;

/// The key of a value that each coroutine has its own of. Made by [`coroutine_local!`](crate::coroutine_local!).
pub struct LocalKey<T: 'static> {
    init: fn() -> T,
}

/// The value has been dropped: this is the destructor of another one, at the end of the coroutine or thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AccessError;

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot access a coroutine-local value that has been dropped: its coroutine is ending")
    }
}

impl std::error::Error for AccessError {}

/// A box, seen without its type.
#[repr(C)]
struct Entry {
    next: Cell<*const Entry>,
    /// Address of the `LocalKey`, which is never another's: keys are `'static`.
    key: *const (),
    /// The value is there.
    live: Cell<bool>,
    drop_value: unsafe fn(*const Entry),
    free: unsafe fn(*const Entry),
}

#[repr(C)]
struct EntryOf<T> {
    entry: Entry,
    value: mem::ManuallyDrop<T>,
}

type Head = Cell<*const Entry>;

/// Whether any coroutine ever had such a value.
static USED: AtomicBool = AtomicBool::new(false);

struct OfThread(Head);

impl Drop for OfThread {
    fn drop(&mut self) {
        drop_all(&self.0);
    }
}

thread_local! {
    static OF_THREAD: OfThread = const { OfThread(Cell::new(ptr::null())) };
}

fn head_of(task: &Task) -> *const Head {
    task.slot().top().wrapping_sub(size_of::<Head>()).cast() // Aligned, as the top is to a page.
}

/// The list of whoever runs here. Valid as long as that one is.
fn head() -> Result<*const Head, AccessError> {
    match worker::current() {
        Some(task) => {
            // Relaxed: whoever asks at the end of the task does so on this thread.
            USED.store(true, Ordering::Relaxed);
            Ok(head_of(task))
        }
        // Nothing of the user's runs in here, and no initialiser either.
        None => OF_THREAD.try_with(|of_thread| ptr::from_ref(&of_thread.0)).map_err(|_| AccessError),
    }
}

/// The entry of a key.
///
/// # Safety
/// The list's owner is the one who calls, and has not ended.
unsafe fn find(head: *const Head, key: *const ()) -> Option<*const Entry> {
    // SAFETY: the head lies in a stack of the arena or in a thread-local, which stand as long as their owner.
    let mut at = unsafe { &*head }.get();
    // SAFETY: entries are freed when the list is.
    while let Some(entry) = unsafe { at.as_ref() } {
        if entry.key == key {
            return Some(at);
        }
        at = entry.next.get();
    }
    None
}

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    pub const fn new(init: fn() -> T) -> LocalKey<T> {
        LocalKey { init }
    }

    /// Calls `f` with this coroutine's value, which is made first if it has none. Outside a coroutine with the OS thread's.
    ///
    /// Suspends if the initialiser or `f` does. Should the initialiser ask for the value itself, the one that is made inside stays and
    /// the outer one is dropped.
    ///
    /// # Panics
    /// If the value has been dropped: this is the destructor of another one, at the end of the coroutine or thread.
    #[track_caller]
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        match self.try_with(f) {
            Ok(result) => result,
            Err(error) => panic!("{error}"),
        }
    }

    /// Calls `f` as [`LocalKey::with`] does.
    ///
    /// # Errors
    /// If the value has been dropped.
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let head = head()?;
        let key = ptr::from_ref(self).cast();
        // SAFETY: it is ours, and we run.
        let found = unsafe { find(head, key) };
        let entry = found.unwrap_or_else(|| self.make(head));
        // SAFETY: entries are freed at the end of their owner only.
        if !unsafe { &*entry }.live.get() {
            return Err(AccessError);
        }
        // SAFETY: `make` alone makes entries with this key, of this type. The value is live, and dropped when no frame of ours is left
        // but the one that drops it.
        Ok(f(unsafe { &(*entry.cast::<EntryOf<T>>()).value }))
    }

    #[cold]
    fn make(&'static self, head: *const Head) -> *const Entry {
        let key = ptr::from_ref(self).cast();
        let value = (self.init)(); // It may do anything: suspend, panic, ask for this very value.
        // SAFETY: as in `try_with`; whoever suspends comes back on the same stack.
        if let Some(entry) = unsafe { find(head, key) } {
            return entry;
        }
        // SAFETY: as in `find`.
        let head = unsafe { &*head };
        let entry = Entry {
            next: Cell::new(head.get()),
            key,
            live: Cell::new(true),
            drop_value: drop_value::<T>,
            free: free::<T>,
        };
        let entry = Box::into_raw(Box::new(EntryOf { entry, value: mem::ManuallyDrop::new(value) }));
        head.set(entry.cast());
        entry.cast()
    }
}

unsafe fn drop_value<T>(entry: *const Entry) {
    let entry = entry.cast::<EntryOf<T>>().cast_mut();
    // SAFETY: the caller says that the type is right and nobody uses the value.
    let value = unsafe { &mut (*entry).value };
    // SAFETY: the caller does this once.
    unsafe { mem::ManuallyDrop::drop(value) };
}

unsafe fn free<T>(entry: *const Entry) {
    // SAFETY: it came from a box of this type, and the caller has taken it out of the list. The value is dropped already.
    drop(unsafe { Box::from_raw(entry.cast::<EntryOf<T>>().cast_mut()) });
}

/// Drops what a task has, on its own stack, when its closure is gone: called for each task that ends, and again if it ran more code.
#[inline]
pub(crate) fn end(task: &'static Task) {
    // Relaxed: set on this thread if this task has any.
    if USED.load(Ordering::Relaxed) {
        end_of(task);
    }
}

#[cold]
fn end_of(task: &'static Task) {
    // SAFETY: the word lies in the task's stack, where no frame reaches.
    let head = unsafe { &*head_of(task) };
    if !head.get().is_null() {
        // Destructors may wait, but no cancellation cuts them short.
        task.masks.set(MASKED);
        drop_all(head);
    }
}

/// Enough that no user's mask ends it, and leaves room for theirs.
const MASKED: u8 = u8::MAX / 2;

/// Drops all values, the one made last first, and those that their destructors make; a value dropped is not there for the others.
fn drop_all(head: &Head) {
    loop {
        let mut at = head.get();
        // SAFETY: entries are freed below only.
        while let Some(entry) = unsafe { at.as_ref() }
            && !entry.live.get()
        {
            at = entry.next.get();
        }
        // SAFETY: as above.
        let Some(entry) = (unsafe { at.as_ref() }) else { break };
        entry.live.set(false);
        // SAFETY: the entry's own function; no frame is left that uses the value, and it is called once.
        let dropped = panic::catch_unwind(AssertUnwindSafe(|| unsafe { (entry.drop_value)(at) }));
        // The hook has said that it panicked, and there is nobody to catch what the payload's own drop might do.
        mem::forget(dropped);
    }
    let mut at = head.replace(ptr::null());
    // SAFETY: nothing of the user's runs any more, so nobody else has the entries.
    while let Some(entry) = unsafe { at.as_ref() } {
        let (next, free) = (entry.next.get(), entry.free);
        // SAFETY: the entry's own function, once.
        unsafe { free(at) };
        at = next;
    }
}

impl<T: 'static> LocalKey<Cell<T>> {
    /// Sets the value.
    ///
    /// # Panics
    /// As [`LocalKey::with`] does.
    #[track_caller]
    pub fn set(&'static self, value: T) {
        self.with(|cell| cell.set(value));
    }

    /// A copy of the value.
    ///
    /// # Panics
    /// As [`LocalKey::with`] does.
    #[track_caller]
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// Sets the value and returns what it was.
    ///
    /// # Panics
    /// As [`LocalKey::with`] does.
    #[track_caller]
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> LocalKey<RefCell<T>> {
    /// Calls `f` with a borrow.
    ///
    /// # Panics
    /// As [`LocalKey::with`] does, and if it is mutably borrowed.
    #[track_caller]
    pub fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.with(|cell| f(&cell.borrow()))
    }

    /// Calls `f` with a mutable borrow.
    ///
    /// # Panics
    /// As [`LocalKey::with`] does, and if it is borrowed.
    #[track_caller]
    pub fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with(|cell| f(&mut cell.borrow_mut()))
    }
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}

/// Declares values of which each coroutine has its own.
///
/// A value is made when its coroutine first asks for it and dropped when the coroutine ends, in the reverse order, on its own stack, before
/// its end is seen by whoever joins it. Outside a coroutine each OS thread has one, as with `thread_local!`. Initialisers and
/// destructors may suspend.
///
/// ```
/// use std::cell::Cell;
/// use switchmark_runtime::{Builder, coroutine_local, spawn, yield_now};
///
/// coroutine_local! {
///     /// How deep this coroutine is in its work.
///     static DEPTH: Cell<u32> = Cell::new(0);
/// }
///
/// // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
/// unsafe {
///     Builder::new().run_local(|| {
///         let units: Vec<_> = (1..=3)
///             .map(|depth| {
///                 spawn(move || {
///                     for _ in 0..depth {
///                         DEPTH.set(DEPTH.get() + 1);
///                         yield_now(); // The others count for themselves.
///                     }
///                     assert_eq!(DEPTH.get(), depth);
///                 })
///             })
///             .collect();
///         assert!(units.into_iter().all(|unit| unit.join().is_ok()));
///         assert_eq!(DEPTH.get(), 0);
///     })?
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[macro_export]
macro_rules! coroutine_local {
    ($($(#[$attribute:meta])* $visible:vis static $name:ident: $type:ty = $init:expr);* $(;)?) => {
        $(
            $(#[$attribute])*
            $visible static $name: $crate::LocalKey<$type> = {
                fn init() -> $type {
                    $init
                }
                $crate::LocalKey::new(init)
            };
        )*
    };
}
