//! Calls that block their OS thread: a pool of threads that takes them off the workers, and a way to make one where it is.
//!
//! A coroutine in such a call (a file, a lookup of names, a library that knows no coroutines) keeps its worker, and whoever waits there with
//! it. [`blocking`] ships the call to a thread of the pool and suspends; [`block_in_place`] makes it here, for what cannot be sent.
//!
//! The pool is the process's, since its threads know no runtime. It starts a thread when a call finds none idle, up to [`MAX_THREADS`],
//! as many as tokio allows; further calls queue. A thread without work ends after [`KEEP`].

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use crate::atomic::plain::{Condvar, Mutex, MutexGuard};
use crate::park::{self, Wait};
use crate::sched::worker;
use crate::task::Kind;
use crate::threads;
use crate::wait_list::{Batch, Line, Place};

/// Most threads of the pool.
const MAX_THREADS: usize = 512;

/// How long a thread of the pool waits for work.
const KEEP: Duration = Duration::from_secs(10);

/// Runs `f` on a thread of its own kind, and lets other coroutines run until it has returned. A panic of `f` goes on here.
///
/// Suspends, and unwinds if the coroutine is cancelled: then an `f` that has not begun is dropped, and one that has runs to its end, as
/// nothing could stop it, and what it returns is dropped. Outside a coroutine `f` just runs.
///
/// At most 512 such calls run at one time in the process; others wait for their turn. `f` runs outside any runtime: what it calls there
/// blocks its thread.
///
/// ```
/// use switchmark_runtime::{Builder, blocking};
///
/// // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
/// let length = unsafe { Builder::new().run_local(|| blocking(|| std::fs::read("/proc/self/status")))? }?.len();
/// assert!(length > 0);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Panics
/// If no thread can be started and none is there.
#[track_caller]
pub fn blocking<T, F>(f: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    if worker::current().is_none() {
        return f();
    }
    let wait = Wait::begin(Kind::Blocking); // First: it may unwind, and let others run.
    let answer = Arc::new(Line::<Option<thread::Result<T>>, ()>::new(None));
    let asked = Arc::clone(&answer);
    let job = move || {
        if Arc::strong_count(&asked) == 1 {
            return; // Nobody waits for it any more.
        }
        let result = catch_unwind(AssertUnwindSafe(f));
        let mut line = asked.lock();
        *line = Some(result);
        let waiter = line.pop_all();
        drop(line);
        waiter.wake();
    };
    if let Err(error) = POOL.submit(Box::new(job)) {
        panic!("blocking() has no thread to run on: {error}");
    }
    let mut line = answer.lock();
    if line.is_none() {
        line.wait(&wait, Place::Back, (), None, |_| Batch::new());
        line = answer.lock();
    }
    let result = line.take().expect("whoever wakes us has put it there");
    drop(line);
    result.unwrap_or_else(|payload| resume_unwind(payload))
}

/// Runs `f` here, on the worker's own OS thread, after waking somebody for the coroutines that may leave it: those that have not started.
/// Those that have are pinned, and wait until `f` has returned.
///
/// For calls that block and cannot be sent to [`blocking`]. A runtime of one worker has nobody who would take over, unless it
/// was built with [`Preemption::Handoff`](crate::Preemption::Handoff). Outside a coroutine `f` just runs.
pub fn block_in_place<T>(f: impl FnOnce() -> T) -> T {
    if let Some(task) = worker::current() {
        worker::of(task).give_away();
    }
    f()
}

type Job = Box<dyn FnOnce() + Send>;

static POOL: Pool =
    Pool { inside: Mutex::new(Inside { queue: VecDeque::new(), threads: 0, idle: 0 }), come: Condvar::new() };

struct Pool {
    inside: Mutex<Inside>,
    /// A job has come.
    come: Condvar,
}

struct Inside {
    /// Jobs that nobody has begun.
    queue: VecDeque<Job>,
    /// Threads that have started and not ended: each looks into the queue before it ends.
    threads: usize,
    /// Threads that wait for a job, those included that were told of one and are about to take it.
    idle: usize,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        // No code of users runs under it.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a thread run `job`. It fails if there is none and none can be started; then the job is dropped.
    ///
    /// A thread is started under the lock. So whoever is refused knows whether there is one: among several who try at once each would take
    /// the others' threads for one that comes, and none would.
    fn submit(&'static self, job: Job) -> io::Result<()> {
        let mut inside = self.lock();
        inside.queue.push_back(job);
        if inside.idle >= inside.queue.len() || inside.threads == MAX_THREADS {
            drop(inside);
            self.come.notify_one();
            return Ok(());
        }
        match threads::start("blocking".into(), "one", || self.serve()) {
            Ok(_) => inside.threads += 1,
            Err(_) if inside.threads > 0 => {} // It waits for one that is there.
            Err(error) => {
                let job = inside.queue.pop_back();
                drop(inside);
                drop(job); // The caller's code.
                return Err(error);
            }
        }
        Ok(())
    }

    /// What a thread of the pool does.
    fn serve(&self) {
        let mut inside = self.lock();
        loop {
            if let Some(job) = inside.queue.pop_front() {
                drop(inside);
                // It catches what the call itself does; this is about destructors of what nobody waits for.
                if let Err(payload) = catch_unwind(AssertUnwindSafe(job)) {
                    std::mem::forget(payload); // Whose destructor may panic again.
                }
                inside = self.lock();
                continue;
            }
            inside.idle += 1;
            let (back, timeout) = park::counted_waiting(|| {
                self.come.wait_timeout(inside, KEEP).unwrap_or_else(PoisonError::into_inner)
            });
            inside = back;
            inside.idle -= 1;
            if timeout.timed_out() && inside.queue.is_empty() {
                inside.threads -= 1;
                return;
            }
        }
    }
}
