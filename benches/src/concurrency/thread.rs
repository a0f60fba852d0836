//! OS threads: `std::thread` with the stack asked for, a futex word to park on, blocking descriptors.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the side of the trait where threads are spawned and give way"
)]

use super::{Blocks, Concurrency, Descriptors, Own, Rung, Rungs, Timed, UnitOptions};
use crate::sys::{self, Parker};
use std::fs;
use std::hint::black_box;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::thread;
use std::time::Duration;

/// The contender `thread`.
#[derive(Debug, Clone, Copy)]
pub struct Thread;

/// Wakes a thread.
#[derive(Debug, Clone)]
pub struct Unparker(Arc<Parker>);

thread_local! {
    /// The futex word of this thread. std's own parker is not used: the wait must be one that can be read here.
    static PARKER: Arc<Parker> = Arc::new(Parker::new());
}

impl Concurrency for Thread {
    type Handle<T: Send + 'static> = thread::JoinHandle<T>;
    type Unparker = Unparker;
    type Channel = Own;

    const BLOCKS_ALONE: bool = true;

    fn spawn<T: Send + 'static>(
        options: UnitOptions,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<thread::JoinHandle<T>> {
        let mut builder = thread::Builder::new();
        if let Some(bytes) = options.stack {
            builder = builder.stack_size(bytes);
        }
        // Two closures, so that a unit that is not pinned does not carry the question.
        match options.cpu {
            None => builder.spawn(body),
            Some(cpu) => builder.spawn(move || {
                // The parent has checked the number; a refusal here is a machine that changed under the run.
                let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: cpu });
                assert!(pinned, "cannot pin a unit to cpu {cpu}: it has left the allowed set");
                body()
            }),
        }
    }

    fn join<T: Send + 'static>(unit: thread::JoinHandle<T>) -> T {
        unit.join().expect("a unit panicked; its message is above")
    }

    fn yield_now() {
        thread::yield_now();
    }

    fn park() {
        PARKER.with(|p| p.park());
    }

    fn unparker() -> Unparker {
        Unparker(PARKER.with(Arc::clone))
    }

    fn unpark(unit: &Unparker) {
        unit.0.unpark();
    }

    fn switches() -> Option<u64> {
        Some(sys::context_switches())
    }

    fn stack() -> Option<Range<usize>> {
        sys::thread_stack().ok()
    }

    fn room_for(units: u64) -> Result<(), String> {
        // The system's own threads, and this process's, need some of each.
        const OTHERS: u64 = 200;
        // The stack and its guard, the alternate signal stack of std and its guard.
        const MAPPINGS: u64 = 4;
        let mappings = setting("vm/max_map_count").map(|n| n / MAPPINGS);
        let limits = [
            ("vm.max_map_count", mappings, ", at four mappings a thread"),
            ("kernel.pid_max", setting("kernel/pid_max"), ""),
            ("kernel.threads-max", setting("kernel/threads-max"), ""),
            ("pids.max of the control group", group_limit(), ""),
            ("RLIMIT_NPROC (`ulimit -u`)", sys::process_limit(), ""),
        ];
        for (name, room, what) in limits {
            let Some(room) = room.map(|n| n.saturating_sub(OTHERS)) else {
                continue;
            };
            if units > room {
                return Err(format!(
                    "{units} threads are more than {name} leaves room for: about {room} here{what}"
                ));
            }
        }
        Ok(())
    }
}

impl Timed for Thread {
    fn sleep_until(at_ns: u64) {
        thread::sleep(Duration::from_nanos(at_ns.saturating_sub(Self::stamp())));
    }

    // The kernel asks nobody.
    fn checkpoint() {}

    // A thread that blocks is what the other ways imitate.
    fn block(_how: Blocks, call: impl FnOnce() + Send + 'static) {
        call();
    }
}

impl Rungs for Thread {
    const RUNGS: &'static [(&'static str, Rung)] = &[
        ("loop", Rung::Alone(|times| repeated(times, || true))),
        ("syscall", Rung::Alone(parents)),
        ("yield_alone", Rung::Alone(|times| repeated(times, sys::gave_way))),
        ("futex_wake", Rung::Alone(wakes_of_nobody)),
        ("futex_wait", Rung::Alone(waits_for_what_is_past)),
        ("yield", Rung::GivingWay),
    ];
}

/// How many of so many calls came out as they must: the loop of every rung, and the rung `loop` where the call is empty.
fn repeated(times: u64, call: impl Fn() -> bool) -> u64 {
    // Neither the number nor an outcome is the compiler's to know, or it would do without the loop.
    (0..black_box(times)).map(|_| u64::from(black_box(call()))).sum()
}

/// `getppid`, which asks the kernel and does nothing there.
fn parents(times: u64) -> u64 {
    let parent = std::os::unix::process::parent_id();
    repeated(times, || sys::asks_for_the_parent() == parent)
}

/// Wakes whoever waits for a word that nobody waits for.
fn wakes_of_nobody(times: u64) -> u64 {
    let word = AtomicU32::new(0);
    repeated(times, || sys::futex_wake(&word) == 0)
}

/// Waits while a word holds what it does not hold: the kernel looks, and says so.
fn waits_for_what_is_past(times: u64) -> u64 {
    let word = AtomicU32::new(0);
    repeated(times, || !sys::futex_wait(&word, 1))
}

impl Descriptors for Thread {
    type Reader = PipeReader;
    type Writer = PipeWriter;

    fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
        io::pipe()
    }

    fn read(from: &mut PipeReader, buffer: &mut [u8]) -> io::Result<usize> {
        from.read(buffer)
    }

    fn write(to: &mut PipeWriter, bytes: &[u8]) -> io::Result<usize> {
        to.write(bytes)
    }
}

crate::net_as_in_std!(Thread, TcpListener, TcpStream);

/// A number from `/proc/sys`; `None` where the kernel has no such setting.
fn setting(path: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/{path}")).ok()?.trim().parse().ok()
}

/// The least `pids.max` from this process's control group up to the root; `None` where nobody set one.
fn group_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    // The line of the unified hierarchy: `0::/path`.
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let limits = Path::new(own).ancestors().filter_map(|group| {
        let file = Path::new("/sys/fs/cgroup").join(group).join("pids.max");
        // A group without a limit says `max`.
        fs::read_to_string(file).ok()?.trim().parse().ok()
    });
    limits.min()
}
