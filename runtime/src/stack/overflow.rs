#![allow(unsafe_code, reason = "a signal handler")]
//! Stack overflow, reported: a SIGSEGV handler that knows our guards.
//!
//! It runs on the thread's alternate signal stack, finds the slot of the faulting address by a shift and its occupant in the slot
//! table, writes one line by `write(2)` and aborts. It takes no lock, allocates nothing and never returns to the overflown code.
//! Any other fault goes to the handler that was installed before, which in a Rust program is the standard library's; ours
//! is installed with the first stack, hence after it. A program that installs its own later has to pass faults on to us.
//!
//! The standard library gives an alternate stack to threads that it starts. A thread that came from elsewhere gets one here, before
//! it takes its first stack, and loses it when it ends.

use std::cell::RefCell;
use std::io;
use std::sync::OnceLock;

use super::{GUARD_BYTES, Slot, arena};
use crate::sys::{self, Disposition, SignalContext, SignalInfo};

/// Bytes of an alternate stack that we provide. The kernel saves some 2.7 KiB of vector state there, a previous handler may
/// want the rest.
const SIGNAL_STACK: usize = 64 << 10;

static PREVIOUS: OnceLock<Disposition> = OnceLock::new();

/// How the handler names a task, given the address of its record. Set by the scheduler, as this module knows no task.
static DESCRIBE: OnceLock<fn(*const (), &mut Line)> = OnceLock::new();

thread_local! {
    static SIGNAL_STACK_OF_THREAD: RefCell<Option<SignalStack>> = const { RefCell::new(None) };
    static PREPARED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// An alternate signal stack of our own, for as long as its thread lives.
struct SignalStack(*mut u8);

impl Drop for SignalStack {
    fn drop(&mut self) {
        sys::drop_signal_stack();
        // SAFETY: the kernel no longer uses it.
        unsafe { sys::unmap(self.0, SIGNAL_STACK) };
    }
}

/// Tells the handler how to name a task.
pub(crate) fn describe_tasks_with(describe: fn(*const (), &mut Line)) {
    DESCRIBE.get_or_init(|| describe);
}

/// Whether [`prepare_thread`] has nothing left to do.
#[inline]
pub(crate) fn is_prepared() -> bool {
    PREPARED.get()
}

/// Makes sure that an overflow on this thread will be reported. Cheap after the first time.
pub(crate) fn prepare_thread() -> io::Result<()> {
    if is_prepared() {
        return Ok(());
    }
    install()?;
    if !sys::has_signal_stack() {
        let at = sys::reserve(SIGNAL_STACK).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!(
                    "cannot map {} KiB for this thread's alternate signal stack: {error}; raise the address-space limit (RLIMIT_AS, \
                     ulimit -v) or vm.max_map_count",
                    SIGNAL_STACK >> 10
                ),
            )
        })?;
        let stack = SignalStack(at);
        // SAFETY: the mapping is new and kept until the thread ends.
        unsafe { sys::set_signal_stack(at, SIGNAL_STACK) }?;
        SIGNAL_STACK_OF_THREAD.set(Some(stack));
    }
    PREPARED.set(true);
    Ok(())
}

fn install() -> io::Result<()> {
    static INSTALLING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = INSTALLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if PREVIOUS.get().is_none() {
        // SAFETY: `on_fault` only reads plain memory, writes and aborts, or passes the signal on.
        let previous = unsafe { sys::handle_faults(on_fault) }?;
        PREVIOUS.get_or_init(|| previous);
    }
    Ok(())
}

extern "C" fn on_fault(signal: i32, info: *mut SignalInfo, context: *mut SignalContext) {
    // SAFETY: the kernel calls us with the facts of a SIGSEGV.
    let addr = unsafe { sys::fault_address(info) };
    if let Some(slot) = arena::slot_of(addr)
        && (slot.guard().addr()..slot.bottom().addr()).contains(&addr)
    {
        report(slot);
        sys::abort();
    }
    // A fault between installing us and noting the previous handler finds none: then the default action is right.
    // SAFETY: all zeros is the default disposition.
    let default = unsafe { std::mem::zeroed::<Disposition>() };
    // SAFETY: these are our own arguments.
    unsafe { sys::pass_fault_on(PREVIOUS.get().unwrap_or(&default), signal, info, context) };
}

fn report(slot: Slot) {
    let mut line = Line::new();
    let raw = arena::is_raw(slot);
    line.text(if raw { "a raw coroutine" } else { "a coroutine" });
    line.text(" overflowed its stack: ");
    if let arena::Occupant::Task(task) = arena::occupant_at(slot.top().addr() - 1)
        && let Some(describe) = DESCRIBE.get()
    {
        if raw {
            line.text("resumed in ");
        }
        describe(task, &mut line);
        line.text(", ");
    }
    line.text("stack of ");
    line.number(slot.class.usable() as u64);
    line.text(" bytes, guard of ");
    line.number(GUARD_BYTES as u64);
    line.text("\n");
    sys::write_stderr(line.bytes());
}

/// A line put together without allocating; what does not fit is cut off.
#[derive(Debug)]
pub(crate) struct Line {
    bytes: [u8; 256],
    length: usize,
}

impl Line {
    const fn new() -> Line {
        Line { bytes: [0; 256], length: 0 }
    }

    pub(crate) fn text(&mut self, text: &str) {
        for &byte in text.as_bytes() {
            if let Some(free) = self.bytes.get_mut(self.length) {
                *free = byte;
                self.length += 1;
            }
        }
    }

    pub(crate) fn number(&mut self, mut number: u64) {
        let mut digits = [0_u8; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            let digit = (number % 10) as u8;
            digits[first] = b'0' + digit;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.text(std::str::from_utf8(&digits[first..]).unwrap_or("?"));
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_put_together_and_cut_at_its_end() {
        let mut line = Line::new();
        line.number(0);
        line.text(" ");
        line.number(u64::MAX);
        assert_eq!(line.bytes(), b"0 18446744073709551615");
        line.text(&"x".repeat(300));
        assert_eq!(line.bytes().len(), 256);
    }
}
