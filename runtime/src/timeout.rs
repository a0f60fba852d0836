//! `timeout`: a call that is given up when its time is over.
//!
//! It is cancellation with a frame as its target instead of the root: see [`mod@cancel`] for how a coroutine is unwound, and [`crate::time`] for
//! how it is noticed that the time has come.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use crate::cancel::Expiry;
use crate::park;
use crate::sched::worker;
use crate::stack::arena;
use crate::time::Deadline;

#[cfg(doc)]
use crate::cancel;

/// Why [`timeout`] gave no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeoutError {
    /// The time was over, and what was called has been unwound.
    Elapsed,
    /// A call is given up by unwinding, and this program was built with `panic = "abort"`. Nothing was called.
    Unsupported,
}

impl fmt::Display for TimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimeoutError::Elapsed => "the call was given up, as its time was over",
            TimeoutError::Unsupported => {
                "cannot give up a call: that unwinds, and this program is built with panic=abort; use calls with a timeout of their own"
            }
        })
    }
}

impl std::error::Error for TimeoutError {}

/// Calls `f`, and gives it up if it waits when `duration` is over: `f` is unwound from where it waits, its destructors run, and the
/// coroutine goes on here.
///
/// ```
/// use std::time::Duration;
/// use switchmark_runtime::{Builder, TimeoutError, chan, timeout};
///
/// // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
/// unsafe {
///     Builder::new().run_local(|| {
///         let (_sender, receiver) = chan::unbounded::<u32>();
///         let nobody_sends = timeout(Duration::from_millis(1), || receiver.recv());
///         assert_eq!(nobody_sends, Err(TimeoutError::Elapsed));
///         assert_eq!(timeout(Duration::from_secs(60), || 7), Ok(7));
///     })?
/// };
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// **At suspension points only.** An `f` that computes when the time comes is given up at its next suspension point, a wait or a
/// [`yield_now`](crate::yield_now), as soon as the worker has noticed, which is as late as for any deadline. If it meets none any more,
/// its value is returned, however late. What it does on other threads or in other coroutines goes on; but a [`scope`](crate::scope()) in it cancels
/// its children and waits for them, which may take its time.
///
/// **Nested**, the one whose time comes first ends. Of two whose time has come the outer one does, and the inner call does not return.
/// A cancellation of the coroutine goes before both. A panic of `f` goes on here.
///
/// **Swallowed** by a `catch_unwind`, the unwinding begins again at the next suspension point, after others have run; what `f` returns all the
/// same is its value. **Deferred** inside [`cancel::mask`], unless the `timeout` began in there as well, and while destructors run for an unwinding.
/// As with a cancellation, a lock that `f` holds is poisoned, and unwinding cannot pass an `extern "C"` frame: the process aborts.
///
/// # Errors
/// [`TimeoutError::Elapsed`]; or, at once, [`TimeoutError::Unsupported`].
///
/// # Panics
/// Outside a coroutine, and inside a [`raw::Coroutine`](crate::raw::Coroutine), which could be suspended with the call in it.
#[track_caller]
pub fn timeout<T>(duration: Duration, f: impl FnOnce() -> T) -> Result<T, TimeoutError> {
    let Some(me) = worker::current() else { park::outside("timeout()") };
    assert!(
        !arena::is_in_raw(),
        "timeout() inside a raw coroutine could be suspended with it; call it around the resume, or outside"
    );
    if cfg!(panic = "abort") {
        return Err(TimeoutError::Unsupported);
    }
    let frame = worker::of(me).open_frame(me, Deadline::after(duration));
    let outcome = panic::catch_unwind(AssertUnwindSafe(f));
    worker::of(me).close_frame(frame);
    outcome.map_err(|payload| match payload.downcast::<Expiry>() {
        Ok(expiry) if expiry.is_of(me, frame) => TimeoutError::Elapsed,
        Ok(of_another) => panic::resume_unwind(of_another),
        Err(payload) => panic::resume_unwind(payload),
    })
}
