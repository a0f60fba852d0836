//! The bundled runtime: its own spawn, join, park and yield, and its raw switch.
#![allow(
    unsafe_code,
    reason = "entering the runtime is a program's one promise, and making a raw coroutine asks for the same"
)]

use super::{
    Blocks, Call, Concurrency, Descriptors, Inside, Own, Raw, Rung, Rungs, Timed, Turn, UnitOptions,
};
use crate::models::bounce;
use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::time::Duration;
use switchmark_harness::protocol::Prepare;
use switchmark_runtime::net::{self, PipeReader, PipeWriter, TcpListener, TcpStream};
use switchmark_runtime::raw::{self, Stack, Yielder};
use switchmark_runtime::stack::{Guard, StackConfig};
use switchmark_runtime::{Builder, Handle, JoinHandle, Preemption, Runtime, stack, task};
use switchmark_schema::ParamValue;

/// The contender `coroutine`.
#[derive(Debug, Clone, Copy)]
pub struct Coroutine;

/// Usable bytes of a raw coroutine's stack: what the peers give theirs.
const RAW_STACK: usize = 64 << 10;

/// Runs `visit` as the first coroutine of a runtime, with the calling thread as its only worker; returns when all
/// coroutines have ended.
pub(crate) fn enter<T>(visit: impl FnOnce() -> T) -> io::Result<T> {
    enter_guarded(Guard::Auto, visit)
}

/// As [`enter`], with the guards that the cell asks for.
pub(crate) fn enter_guarded<T>(guard: Guard, visit: impl FnOnce() -> T) -> io::Result<T> {
    let builder = Builder::new().stack(StackConfig::default().guard(guard));
    // SAFETY: the contract is that nothing suspends inside a thread-local's initialiser or destructor, under a scoped
    // thread-local, or out of a coroutine entered before. What suspends here are the models, through the calls of
    // `Concurrency` alone; none of them sits in a closure that a thread-local runs, and a cell is entered from the
    // thread's own stack. The models are the keepers. The worker's loop and the tests around them read and write
    // between slices, outside the calls that suspend.
    unsafe { builder.run_local(visit) }
}

/// A runtime with a worker for each CPU of the placement, bound to it unless the placement is free.
pub(crate) fn several(prepare: &Prepare) -> io::Result<Runtime> {
    let builder = Builder::new().workers(prepare.cpus.len()).pin_cores(prepare.placement != "free");
    // SAFETY: as in `enter`.
    unsafe { builder.build() }
}

/// A runtime of one worker with the preemption that the cell asks for, on threads of its own.
pub(crate) fn dialled(prepare: &Prepare) -> io::Result<Result<Runtime, String>> {
    let preemption = match prepare.param("dial") {
        None => Preemption::Cooperative,
        Some(ParamValue::Word(word)) if word == "cooperative" => Preemption::Cooperative,
        Some(ParamValue::Word(word)) if word == "flag" => Preemption::Flag,
        Some(ParamValue::Word(word)) if word == "handoff" => Preemption::Handoff,
        Some(other) => return Ok(Err(format!("the dial has no position {other:?}"))),
    };
    let mut builder = Builder::new().workers(1).preemption(preemption);
    if let Ok(quantum) = prepare.number("quantum_us") {
        builder = builder.time_slice(Duration::from_micros(quantum));
    }
    // SAFETY: as in `enter`.
    unsafe { builder.build() }.map(Ok)
}

/// The guard that the cell asks for; a marker where the kernel has it unless it says otherwise.
pub(crate) fn guard(prepare: &Prepare) -> Result<Guard, String> {
    match prepare.param("guard") {
        None => Ok(Guard::Auto),
        Some(ParamValue::Word(word)) if word == "marker" => Ok(Guard::Auto),
        Some(ParamValue::Word(word)) if word == "mprotect" => Ok(Guard::Protect),
        Some(other) => Err(format!("parameter guard is {other}: it is marker or mprotect")),
    }
}

/// The worker of this runtime that is bound to a CPU.
fn worker_on(cpu: usize) -> io::Result<usize> {
    let cpus = Handle::try_current().map(|runtime| runtime.cpus()).unwrap_or_default();
    cpus.iter().position(|&bound| bound == Some(cpu)).ok_or_else(|| {
        io::Error::other(format!("no worker on cpu {cpu}: this runtime's are bound to {cpus:?}"))
    })
}

impl Concurrency for Coroutine {
    type Handle<T: Send + 'static> = JoinHandle<T>;
    type Unparker = switchmark_runtime::Unparker;
    type Channel = Own;

    fn spawn<T: Send + 'static>(
        options: UnitOptions,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        if options.stack.is_none() && options.cpu.is_none() {
            return Ok(switchmark_runtime::spawn(body));
        }
        let mut task = task::Builder::new();
        if let Some(bytes) = options.stack {
            task = task.stack_size(bytes);
        }
        if let Some(cpu) = options.cpu {
            task = task.worker(worker_on(cpu)?);
        }
        task.spawn(body)
    }

    fn join<T: Send + 'static>(unit: JoinHandle<T>) -> T {
        Self::try_join(unit).unwrap_or_else(|e| panic!("a unit has no answer: {e}"))
    }

    fn try_join<T: Send + 'static>(unit: JoinHandle<T>) -> Result<T, String> {
        unit.join().map_err(|e| e.to_string())
    }

    #[expect(
        clippy::inline_always,
        reason = "after a switch a return is predicted only if both sides wait at one site: none is left to make"
    )]
    #[inline(always)]
    fn yield_now() {
        switchmark_runtime::yield_now();
    }

    #[expect(
        clippy::inline_always,
        reason = "after a switch a return is predicted only if both sides wait at one site: none is left to make"
    )]
    #[inline(always)]
    fn park() {
        switchmark_runtime::park();
    }

    fn unparker() -> Self::Unparker {
        switchmark_runtime::unparker()
    }

    fn unpark(unit: &Self::Unparker) {
        unit.unpark();
    }

    fn switches() -> Option<u64> {
        let runtime = Handle::try_current().expect("models of coroutines run in a runtime");
        Some(runtime.metrics().switches)
    }

    fn resident_stacks() -> Option<u64> {
        stack::resident_bytes().ok().map(|bytes| bytes as u64)
    }

    // What bounds the population is address space and memory, and the runtime names either when it meets it.
    fn room_for(_units: u64) -> Result<(), String> {
        Ok(())
    }
}

impl Rungs for Coroutine {
    const RUNGS: &'static [(&'static str, Rung)] = &[
        ("call", Rung::Bounce(|| bounce::of::<Call>(1))),
        ("raw", Rung::Bounce(|| bounce::of::<Coroutine>(1))),
        ("yield", Rung::GivingWay),
        ("park", Rung::Alone(permits)),
    ];
}

/// Leaves itself a permit and takes it, so often: all of a wake and a wait but the switch.
fn permits(times: u64) -> u64 {
    let own = Coroutine::unparker();
    for _ in 0..times {
        Coroutine::unpark(&own);
        Coroutine::park();
    }
    times
}

impl Descriptors for Coroutine {
    type Reader = PipeReader;
    type Writer = PipeWriter;

    fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
        net::pipe()
    }

    fn read(from: &mut PipeReader, buffer: &mut [u8]) -> io::Result<usize> {
        from.read(buffer)
    }

    fn write(to: &mut PipeWriter, bytes: &[u8]) -> io::Result<usize> {
        to.write(bytes)
    }
}

crate::net_as_in_std!(Coroutine, TcpListener, TcpStream);

impl Timed for Coroutine {
    fn sleep_until(at_ns: u64) {
        switchmark_runtime::sleep(Duration::from_nanos(at_ns.saturating_sub(Self::stamp())));
    }

    fn checkpoint() {
        switchmark_runtime::checkpoint();
    }

    fn block(how: Blocks, call: impl FnOnce() + Send + 'static) {
        match how {
            Blocks::Bare => call(),
            Blocks::Elsewhere => switchmark_runtime::blocking(call),
            Blocks::InPlace => switchmark_runtime::block_in_place(call),
        }
    }
}

impl Raw for Coroutine {
    type Coroutine = raw::Coroutine<Turn, (), Infallible>;

    fn coroutine(inside: impl Inside) -> io::Result<Self::Coroutine> {
        let body = |suspender: &Yielder<Turn, ()>, first| inside.live(first, || suspender.suspend(()));
        let stack = Stack::new(RAW_STACK)?;
        // SAFETY: the same contract, kept by the same: the inside of `bounce` suspends in its own loop and nowhere
        // else. The coroutine lives in the cell, a local of the worker's loop: it is dropped with it, long before the
        // thread's destructors run, and forgotten by nobody.
        Ok(unsafe { raw::Coroutine::new(stack, body) })
    }

    #[expect(
        clippy::inline_always,
        reason = "a switch is predicted where it is inlined, and the peers' resumes are marked the same"
    )]
    #[inline(always)]
    fn resume(coroutine: &mut Self::Coroutine, turn: Turn) {
        coroutine.resume(turn);
    }
}
