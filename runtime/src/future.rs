//! Futures, driven from ordinary code.
//!
//! A [`Signal`] stands between a future and the one who drives it. Its word is
//!
//! | value | meaning | changed by |
//! |---|---|---|
//! | [`EMPTY`] | nobody called since the last poll began | a waker, to NOTIFIED; the driver, to its waiter |
//! | [`NOTIFIED`] | somebody did | the driver, to EMPTY, before it polls |
//! | a waiter | the driver waits | a waker, to NOTIFIED, which claims the waiter; the driver, interrupted, to EMPTY |
//!
//! **No call is lost.** A waker called after the driver's last look at the word leaves NOTIFIED, which the driver finds when it is about
//! to wait, or finds the waiter and wakes it. One called before that look did so before the poll that follows, which sees what it did.
//!
//! **Wakers may live as long as they like**: they own the signal and know the coroutine only as the waiter in it, which is there only while
//! the coroutine waits. A call too many is a poll too many.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Wake, Waker};

use crate::atomic::plain::AtomicUsize;
use crate::park::{Wait, Waiter, yield_now};
use crate::task::Kind;

/// Nobody called, nobody waits.
const EMPTY: usize = 0;
/// Somebody called. No waiter's word, as those are addresses and not null.
const NOTIFIED: usize = 1;

/// What the wakers of one `wait` share with it.
#[derive(Debug)]
struct Signal(AtomicUsize);

impl Signal {
    /// Forgets what was called so far; the poll that follows makes up for it.
    fn clear(&self) {
        // Acquire: pairs with the Release of `notify`; the poll sees what the waker did before it called.
        self.0.swap(EMPTY, Ordering::Acquire);
    }

    fn notify(&self) {
        // Release: pairs with the Acquire of `clear`. Acquire: pairs with the Release of `wait`, so that the waiter is in order.
        match self.0.swap(NOTIFIED, Ordering::AcqRel) {
            EMPTY | NOTIFIED => {}
            waiter => Waiter::from_word(waiter).wake(),
        }
    }

    /// Waits until somebody calls, unless somebody has since the last `clear`.
    #[track_caller]
    fn wait(&self) {
        let wait = Wait::begin(Kind::Future);
        let waiter = wait.waiter().word();
        // Release: pairs with the Acquire of `notify`, which uses the waiter. Relaxed: `clear` comes next.
        if self.0.compare_exchange(EMPTY, waiter, Ordering::Release, Ordering::Relaxed).is_ok() {
            // Relaxed, twice: whoever fails waits for the wake-up, and that orders.
            wait.wait_until(None, || {
                self.0.compare_exchange(waiter, EMPTY, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            });
        } else {
            // Called during the poll, most likely by the future itself, which thereby lets others run.
            yield_now();
        }
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Signal>) {
        self.notify();
    }

    fn wake_by_ref(self: &Arc<Signal>) {
        self.notify();
    }
}

/// Drives a future to its end, here, and returns what came of it.
///
/// Between polls the coroutine waits until a waker is called. Suspends, and unwinds if the coroutine is cancelled, which drops the future.
/// Outside a coroutine the OS thread waits. A future that needs a reactor or timers of another library needs that library to run them
/// on threads of its own.
///
/// ```
/// use std::sync::mpsc;
/// use std::task::Poll;
/// use switchmark_runtime::{Builder, wait};
///
/// // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
/// let answer = unsafe {
///     Builder::new().run_local(|| {
///         let (sender, receiver) = mpsc::channel();
///         let mut sender = Some(sender);
///         wait(async {
///             let part = std::future::poll_fn(|context| {
///                 // The first poll asks a thread, which calls the waker.
///                 if let Some(sender) = sender.take() {
///                     let waker = context.waker().clone();
///                     std::thread::spawn(move || {
///                         sender.send(6).unwrap();
///                         waker.wake();
///                     });
///                 }
///                 receiver.try_recv().map_or(Poll::Pending, Poll::Ready)
///             });
///             part.await * 7
///         })
///     })?
/// };
/// assert_eq!(answer, 42);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Panics
/// With what the future panics with.
#[track_caller]
pub fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let signal = Arc::new(Signal(AtomicUsize::new(EMPTY)));
    let waker = Waker::from(Arc::clone(&signal));
    let mut context = Context::from_waker(&waker);
    loop {
        signal.clear();
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        signal.wait();
    }
}
