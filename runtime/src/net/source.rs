//! What is known of a descriptor's readiness, and who waits for it to change.
//!
//! Epoll reports changes, not states: each once, and to nobody in particular. So for each direction a *side* keeps what was reported and
//! nobody has used. Who finds nothing in the kernel
//!
//! - W1. registers the descriptor, if nobody did; both directions are reported at once if they are ready then;
//! - W2. under the side's lock takes the mark `changed`, if it is there, and tries again; else enters the side's list
//! - W3. and waits.
//!
//! On a change, under the same lock, all who wait are taken out and woken; if there are none, the mark is set.
//!
//! **No change is lost.** Let data come after somebody's call found none. The change is reported after that, as the descriptor is
//! registered before the wait begins (or by the registration itself). Its handling comes before W2: then the mark is found, unless
//! somebody else took it, who then tries after the data came. Or it comes after W2: then we are in the list and are woken. Whoever is woken
//! tries again, so it needs no mark.
//!
//! **Stale changes.** A change that was taken from the kernel may be handled after its descriptor was closed and the record belongs to
//! another. Records are never freed, a tag tells most of them apart, and one that slips through is a change too many.
//!
//! **The end of a worker.** Nobody reports the changes of what is registered with it any more, and others may wait for those: coroutines
//! of another runtime. So when it leaves, every record that is with it is taken from it, and then told of a change. Whoever waits tries again
//! and registers with its own worker; who was about to wait finds the mark; who looks later finds no home.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use crate::arch;
use crate::atomic::plain::{Mutex, MutexGuard};
use crate::park::Wait;
use crate::preempt::checkpoint;
use crate::sched::poller::{Epoll, Listener};
use crate::sched::worker;
use crate::sys;
use crate::task::Kind;
use crate::time::Deadline;
use crate::wait_list::{Batch, Line, Place};

/// A direction of a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    Read,
    Write,
}

/// Whether a change was reported that nobody has used.
#[derive(Debug, Default)]
struct Changed(bool);

/// Of one descriptor after the other.
#[derive(Debug)]
#[repr(align(128))] // Room for the tag in its address.
struct Record {
    read: Line<Changed, ()>,
    write: Line<Changed, ()>,
    /// Where it is registered, as long as that worker runs.
    home: Mutex<Option<Arc<Epoll>>>,
    /// The peer ended or the descriptor broke: what follows may never be reported as a change.
    ended: AtomicBool,
    /// Descriptors that had this record.
    tag: AtomicU8,
}

/// The bits of a token that are the tag.
const TAG: u64 = align_of::<Record>() as u64 - 1;

/// Records without a descriptor, and all that there are.
static RECORDS: Mutex<Records> = Mutex::new(Records { free: Vec::new(), all: Vec::new() });

struct Records {
    free: Vec<&'static Record>,
    all: Vec<&'static Record>,
}

fn records() -> MutexGuard<'static, Records> {
    RECORDS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Record {
    fn take() -> &'static Record {
        let mut records = records();
        records.free.pop().unwrap_or_else(|| {
            let record: &Record = Box::leak(Box::new(Record {
                read: Line::new(Changed::default()),
                write: Line::new(Changed::default()),
                home: Mutex::new(None),
                ended: AtomicBool::new(false),
                tag: AtomicU8::new(0),
            }));
            records.all.push(record);
            record
        })
    }

    /// The descriptor is about to be closed, and nobody waits for it.
    fn give(&'static self, fd: BorrowedFd<'_>) {
        if let Some(home) = self.home.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Fails if the program closed the descriptor behind our back; then there is nothing to remove.
            let _ = home.remove(fd);
        }
        // Relaxed, twice: the lock of the list publishes it to whoever takes the record.
        self.tag.fetch_add(1, Ordering::Relaxed);
        self.ended.store(false, Ordering::Relaxed);
        *self.read.lock() = Changed(false);
        *self.write.lock() = Changed(false);
        records().free.push(self);
    }

    fn token(&'static self) -> u64 {
        let address = std::ptr::from_ref(self).expose_provenance() as u64;
        // Relaxed: changed by whoever has the record for itself.
        address | u64::from(self.tag.load(Ordering::Relaxed)) & TAG
    }

    fn line(&self, direction: Direction) -> &Line<Changed, ()> {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    fn change(&self, direction: Direction) {
        let mut line = self.line(direction).lock();
        let all = if line.nobody_waits() {
            line.0 = true;
            return;
        } else {
            line.pop_all()
        };
        drop(line);
        all.wake();
    }

    /// Registers the descriptor with the worker of this thread, unless it is with one.
    fn settle(&'static self, fd: BorrowedFd<'_>, worker: &worker::Worker) -> io::Result<()> {
        let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        if home.is_some() {
            return Ok(());
        }
        let epoll = worker.epoll(Listener { change: on_change, end: on_end })?;
        epoll.add(fd, self.token())?;
        *home = Some(Arc::clone(epoll));
        Ok(())
    }
}

/// Told by the worker in whose epoll instance the descriptor is registered.
fn on_change(token: u64, events: u32) {
    let Some(record) = find(token) else { return };
    if events & (sys::PEER_ENDED | sys::BROKEN) != 0 {
        // Relaxed: read after the lock of the line, which this thread takes next.
        record.ended.store(true, Ordering::Relaxed);
    }
    if events & (sys::READABLE | sys::BROKEN) != 0 {
        record.change(Direction::Read);
    }
    if events & (sys::WRITABLE | sys::BROKEN) != 0 {
        record.change(Direction::Write);
    }
}

/// Told by the worker of this epoll instance, which leaves and has no coroutine any more.
fn on_end(epoll: &Epoll) {
    // A copy, as whoever is woken may take the lock. Whoever comes in later registers elsewhere.
    let all = records().all.clone();
    for record in all {
        let mut home = record.home.lock().unwrap_or_else(PoisonError::into_inner);
        if home.as_ref().is_some_and(|home| std::ptr::eq(&raw const **home, epoll)) {
            // Its descriptor stays in the instance, which goes with the scheduler at the latest, and which nobody asks.
            *home = None;
            drop(home);
            record.change(Direction::Read);
            record.change(Direction::Write);
        }
    }
}

/// The record of a token, unless it has another descriptor by now.
#[allow(unsafe_code, reason = "a token is the address of a record")]
fn find(token: u64) -> Option<&'static Record> {
    let address = usize::try_from(token & !TAG).expect("an address fits");
    let record = std::ptr::with_exposed_provenance::<Record>(address);
    // SAFETY: only tokens made of records are registered, and records are leaked: they live for ever.
    let record = unsafe { record.as_ref() }?;
    (record.token() == token).then_some(record)
}

/// The readiness of one open descriptor. Costs nothing until somebody has to wait.
#[derive(Debug, Default)]
pub(super) struct Source {
    record: OnceLock<&'static Record>,
}

impl Source {
    /// Calls `operation` until it does not say `WouldBlock` or `Interrupted`, and waits between two calls until the descriptor has
    /// changed; for `timeout` at most, which then is the error `TimedOut`.
    #[track_caller]
    pub(super) fn run<T>(
        &self,
        fd: BorrowedFd<'_>,
        direction: Direction,
        timeout: Option<Duration>,
        mut operation: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        checkpoint(); // A peer that is always ready must not keep the others from running.
        self.foresee();
        let mut deadline = None;
        loop {
            match operation() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let deadline = timeout.map(|time| *deadline.get_or_insert_with(|| Deadline::after(time)));
                    self.wait(fd, direction, deadline)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Before a call into the kernel: has fetched what will be wanted behind it.
    #[inline]
    fn foresee(&self) {
        if let Some(me) = worker::current() {
            worker::of(me).foresee();
        }
        if let Some(record) = self.record.get() {
            arch::prefetch(std::ptr::from_ref(*record), size_of::<Record>());
        }
    }

    /// Waits until the descriptor may have changed in this direction since the caller's last call on it.
    #[track_caller]
    pub(super) fn wait(
        &self,
        fd: BorrowedFd<'_>,
        direction: Direction,
        deadline: Option<Deadline>,
    ) -> io::Result<()> {
        let wait = Wait::begin(match direction {
            Direction::Read => Kind::Read,
            Direction::Write => Kind::Write,
        });
        let changed = match &wait {
            Wait::Thread(_) => {
                sys::wait_for_fd(fd, direction == Direction::Write, deadline.map(Deadline::left))?
            }
            Wait::Task(me) => {
                let worker = worker::of(me);
                let record = *self.record.get_or_init(Record::take);
                record.settle(fd, worker)?;
                let mut line = record.line(direction).lock();
                std::mem::take(&mut line.0)
                    || worker.watch(|| line.wait(&wait, Place::Back, (), deadline, |_| Batch::new()).0)
            }
        };
        if changed { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
    }

    /// Whether a change that comes from now on is sure to be noted. Not if nobody has ever waited, nor behind the peer's end.
    pub(super) fn notes_changes(&self) -> bool {
        // Relaxed: whoever misses an end reported meanwhile finds the mark of that change at its wait.
        self.record.get().is_some_and(|record| !record.ended.load(Ordering::Relaxed))
    }

    /// Before the descriptor is closed.
    pub(super) fn end(&mut self, fd: BorrowedFd<'_>) {
        if let Some(record) = self.record.take() {
            record.give(fd);
        }
    }
}
