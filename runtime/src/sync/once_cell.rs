#![allow(unsafe_code, reason = "hands out references to what was initialised")]
//! A cell that is filled once, by an initialiser that may suspend.
//!
//! The first who finds it empty runs its initialiser, others wait. Should that panic or be cancelled, the cell is empty again and the first
//! of those who wait tries in its turn. Standard `OnceLock` would let the others' worker hang instead, with whoever initialises on it.

use std::cell::UnsafeCell;
use std::convert::Infallible;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

#[cfg(all(test, shuttle))]
use shuttle::thread::{self, ThreadId};
#[cfg(not(all(test, shuttle)))]
use std::thread::{self, ThreadId};

use crate::atomic::{AtomicU32, Ordering, const_unless_loom};
use crate::park::Wait;
use crate::sched::worker;
use crate::task::Kind;
use crate::wait_list::{Batch, Line, Place};

/// Nobody has filled it, nor tries.
const EMPTY: u32 = 0;
/// Somebody runs its initialiser.
const BUSY: u32 = 1;
/// It has its value, for good.
const FULL: u32 = 2;

/// Who runs an initialiser: the id of a coroutine or a thread's number. To tell one who waits for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Coroutine(u64),
    Thread(ThreadId),
}

impl Who {
    fn is_here() -> Who {
        worker::current().map_or_else(|| Who::Thread(thread::current().id()), |me| Who::Coroutine(me.id().0))
    }
}

/// A value that is made when it is first asked for, by coroutines or OS threads, once.
///
/// ```
/// use std::time::Duration;
/// use switchmark_runtime::{Builder, sleep, spawn, sync::OnceCell};
///
/// static CONFIG: OnceCell<String> = OnceCell::new();
///
/// fn config() -> &'static str {
///     CONFIG.get_or_init(|| {
///         sleep(Duration::from_millis(1)); // Others run, and wait if they want it too.
///         "loaded once".to_string()
///     })
/// }
///
/// // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
/// unsafe {
///     Builder::new().run_local(|| {
///         let units = [spawn(config), spawn(config)];
///         for unit in units {
///             assert_eq!(unit.join().unwrap(), "loaded once");
///         }
///     })?
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct OnceCell<T> {
    /// Written under the line's lock.
    word: AtomicU32,
    line: Line<Option<Who>, ()>,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: whoever shares the cell may make the value, take a reference to it, and drop it.
unsafe impl<T: Send + Sync> Sync for OnceCell<T> {}

impl<T: UnwindSafe> UnwindSafe for OnceCell<T> {}
impl<T: RefUnwindSafe + UnwindSafe> RefUnwindSafe for OnceCell<T> {}

/// One who runs its initialiser, which may unwind.
struct Attempt<'a, T> {
    cell: &'a OnceCell<T>,
}

impl<T> Drop for Attempt<'_, T> {
    fn drop(&mut self) {
        let mut line = self.cell.line.lock();
        *line = None;
        // Relaxed: nothing is published.
        self.cell.word.store(EMPTY, Ordering::Relaxed);
        let next = line.pop();
        drop(line);
        if let Some(next) = next {
            next.wake(); // It tries, or finds that another does.
        }
    }
}

impl<T> OnceCell<T> {
    const_unless_loom! {
        /// An empty cell.
        pub fn new() -> OnceCell<T> {
            OnceCell { word: AtomicU32::new(EMPTY), line: Line::new(None), value: UnsafeCell::new(None) }
        }
    }

    /// The value, if the cell has it. Never suspends.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // Acquire: pairs with the Release in `fill`.
        if self.word.load(Ordering::Acquire) != FULL {
            return None;
        }
        // SAFETY: a full cell is not written again while it is shared.
        unsafe { &*self.value.get() }.as_ref()
    }

    /// The value, made by `init` if the cell is empty. If somebody else makes it already, it waits for that.
    ///
    /// Suspends if it has to wait, or if `init` does, and unwinds if the coroutine is cancelled then. If `init` unwinds the cell is empty
    /// as before, and one of those who wait runs its own.
    ///
    /// # Panics
    /// If `init` asks for the value of this cell itself; and as [`Mutex::lock`](super::Mutex::lock) does.
    #[inline]
    #[track_caller]
    pub fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        let Ok(value) = self.get_or_try_init(|| Ok::<T, Infallible>(init()));
        value
    }

    /// The value, made by `init` if the cell is empty, as in [`OnceCell::get_or_init`]. If `init` fails the cell is empty as before.
    ///
    /// # Errors
    /// What `init` says.
    ///
    /// # Panics
    /// As [`OnceCell::get_or_init`] does.
    #[inline]
    #[track_caller]
    pub fn get_or_try_init<E>(&self, init: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        match self.get() {
            Some(value) => Ok(value),
            None => self.init(init),
        }
    }

    #[cold]
    #[track_caller]
    fn init<E>(&self, init: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        let me = Who::is_here();
        loop {
            if let Some(value) = self.get() {
                return Ok(value);
            }
            let mut line = self.line.lock();
            // Relaxed, twice: the lock orders.
            match self.word.load(Ordering::Relaxed) {
                EMPTY => {
                    self.word.store(BUSY, Ordering::Relaxed);
                    *line = Some(me);
                    drop(line);
                    let attempt = Attempt { cell: self };
                    let value = init()?;
                    std::mem::forget(attempt);
                    return Ok(self.fill(value));
                }
                BUSY if *line == Some(me) => {
                    drop(line);
                    panic!("the initialiser of a OnceCell asks for the value it is making");
                }
                BUSY => {
                    drop(line);
                    self.wait();
                }
                _ => {}
            }
        }
    }

    /// Waits while somebody makes the value.
    #[track_caller]
    fn wait(&self) {
        let wait = Wait::begin(Kind::Once); // Before the lock: it may unwind, and let others run.
        let line = self.line.lock();
        // Relaxed: the lock orders.
        if self.word.load(Ordering::Relaxed) == BUSY {
            line.wait(&wait, Place::Back, (), None, |_| Batch::new());
        }
    }

    fn fill(&self, value: T) -> &T {
        // SAFETY: whoever has made the cell busy, and nobody else, writes; nobody reads before it is full. It is empty: nothing is dropped.
        unsafe { *self.value.get() = Some(value) };
        let mut line = self.line.lock();
        *line = None;
        // Release: pairs with the Acquire in `get`; publishes the value.
        self.word.store(FULL, Ordering::Release);
        let all = line.pop_all();
        drop(line);
        all.wake();
        self.get().expect("it was filled just now")
    }

    /// Fills the cell, if it is empty. If somebody makes a value already, it waits for that.
    ///
    /// Suspends if it has to wait, and unwinds if the coroutine is cancelled then.
    ///
    /// # Errors
    /// Gives `value` back if the cell has one.
    ///
    /// # Panics
    /// As [`OnceCell::get_or_init`] does.
    #[track_caller]
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.get_or_init(|| value.take().expect("called once"));
        value.map_or(Ok(()), Err)
    }

    /// The value, by an exclusive borrow.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut().as_mut()
    }

    /// The value; the cell is empty after that.
    pub fn take(&mut self) -> Option<T> {
        std::mem::take(self).into_inner()
    }

    /// The value.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }
}

impl<T> Default for OnceCell<T> {
    fn default() -> OnceCell<T> {
        OnceCell::new()
    }
}

impl<T> From<T> for OnceCell<T> {
    fn from(value: T) -> OnceCell<T> {
        let cell = OnceCell::new();
        cell.fill(value);
        cell
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Some(value) => f.debug_tuple("OnceCell").field(value).finish(),
            None => f.write_str("OnceCell(<empty>)"),
        }
    }
}
