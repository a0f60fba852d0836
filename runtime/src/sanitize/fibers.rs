//! The calls themselves.
//!
//! **The address sanitizer** wants the bounds of the stack that is entered, and keeps the *fake stack* of the one that is left: frames whose
//! variables it moved to the heap to catch their use after return. We know the bounds of our slots. Those of other stacks it tells whoever
//! arrives next, who notes them in the fiber that was left last. A stack that begins anew is unpoisoned: the frames of the coroutine before,
//! left and never returned from, would seem to be out of bounds.
//!
//! **The thread sanitizer** keeps a clock and a call stack per fiber, and is told to go on with another's. It sees functions by calls at their
//! entry and exit; a function that changed the fiber and returned before the switch would have its two on different call stacks
//! (Tencent/flare#197). No attribute takes these calls away, so what changes the fiber is inlined into the function that switches, whose exit
//! comes when its stack goes on. A switch counts as synchronisation from the one who leaves to
//! the one who goes on, which it is, as both run on one thread. The fiber of a coroutine that has ended is kept until its stack is used
//! again, since it cannot be destroyed by itself.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;
use std::sync::OnceLock;

use crate::arch;
use crate::stack::{Class, Slot, arena};
use crate::sys;

/// What the sanitizers know of a stack. All zeros is one that is not known yet.
#[derive(Debug)]
pub(crate) struct Fiber {
    /// The fake stack, while this is not the running stack.
    fake: Cell<*mut c_void>,
    bottom: Cell<*const c_void>,
    bytes: Cell<usize>,
    /// The thread sanitizer's name for it.
    tsan: Cell<*mut c_void>,
    /// Who resumed the raw coroutine on it.
    resumer: Cell<*const Fiber>,
}

thread_local! {
    /// The fiber that was left last on this thread.
    static LEFT: Cell<*const Fiber> = const { Cell::new(ptr::null()) };
}

impl Fiber {
    pub(crate) const fn new() -> Fiber {
        Fiber {
            fake: Cell::new(ptr::null_mut()),
            bottom: Cell::new(ptr::null()),
            bytes: Cell::new(0),
            tsan: Cell::new(ptr::null_mut()),
            resumer: Cell::new(ptr::null()),
        }
    }
}

/// A table of fibers for each class, by the number of the slot.
struct Tables([*const Fiber; Class::COUNT]);

// SAFETY: addresses of memory that is never given back; a fiber is used by whoever owns its slot.
unsafe impl Send for Tables {}
// SAFETY: as above.
unsafe impl Sync for Tables {}

/// The fiber of a slot.
#[inline(never)]
fn of_slot(slot: Slot) -> &'static Fiber {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    let tables = TABLES.get_or_init(|| {
        let table = |class| {
            let slots = arena::get_ready().capacity(class) as usize;
            let at = sys::reserve(slots * size_of::<Fiber>())
                .expect("there is address space for a table of fibers");
            at.cast_const().cast()
        };
        Tables(Class::ALL.map(table))
    });
    let fiber = tables.0[slot.class.index()].wrapping_add(slot.number as usize);
    // SAFETY: the table has a place for each slot of the class, zeros are a fiber, and it is never unmapped.
    unsafe { &*fiber }
}

/// The fiber of a suspended stack of a task, whose own slot is `slot`. It may be suspended inside a raw coroutine, or on a stack that is not
/// ours: then of its own, as nobody told the sanitizers about the other.
pub(crate) fn of_context(context: *mut u8, slot: Slot) -> &'static Fiber {
    of_slot(arena::slot_of(context.addr()).unwrap_or(slot))
}

/// The fiber of the running stack, as [`of_context`].
#[inline(always)]
pub(crate) fn of_running(slot: Slot) -> &'static Fiber {
    of_context(std::ptr::without_provenance_mut(arch::stack_pointer()), slot)
}

fn of_link(link: *mut *mut u8) -> &'static Fiber {
    of_slot(arena::slot_of(link.addr()).expect("a link lies in a slot"))
}

/// A slot is about to be the stack of a new coroutine.
#[inline(never)]
pub(crate) fn prepare(slot: Slot) {
    let fiber = of_slot(slot);
    fiber.fake.set(ptr::null_mut());
    fiber.bottom.set(slot.bottom().cast_const().cast());
    fiber.bytes.set(slot.class.usable());
    calls::unpoison(fiber.bottom.get(), fiber.bytes.get());
    fiber.tsan.set(calls::renew_fiber(fiber.tsan.get()));
}

/// This stack is about to be left for another; it will go on with [`arrive`].
#[inline(always)]
pub(crate) fn leave(from: &Fiber, to: &Fiber) {
    note_left(from);
    calls::start_switch(from.fake.as_ptr(), to.bottom.get(), to.bytes.get());
    calls::switch_to_fiber(to.tsan.get());
}

/// This stack, that of a coroutine in the arena, is about to be left for another, and what is on it needed no more.
#[inline(always)]
pub(crate) fn leave_for_good(to: &Fiber) {
    // What the next one learns about the stack that was left goes nowhere: bounds of slots are known.
    note_left(ptr::null());
    calls::start_switch(ptr::null_mut(), to.bottom.get(), to.bytes.get());
    calls::switch_to_fiber(to.tsan.get());
}

#[inline(never)]
fn note_left(fiber: *const Fiber) {
    LEFT.set(fiber);
    // SAFETY: the caller's, or null.
    if let Some(fiber) = unsafe { fiber.as_ref() } {
        fiber.tsan.set(calls::current_fiber());
    }
}

/// This stack goes on, or begins.
#[inline(always)]
pub(crate) fn arrive(me: &Fiber) {
    let (mut bottom, mut bytes) = (ptr::null(), 0);
    calls::finish_switch(me.fake.get(), &mut bottom, &mut bytes);
    note_bounds(bottom, bytes);
}

#[inline(never)]
fn note_bounds(bottom: *const c_void, bytes: usize) {
    // SAFETY: it was left just now on this thread, by somebody who stands behind a switch and still has it, or was null.
    if let Some(left) = unsafe { LEFT.get().as_ref() } {
        left.bottom.set(bottom);
        left.bytes.set(bytes);
    }
}

/// A raw coroutine is about to be resumed, by whoever stands on the stack that `resumer`, a new fiber, is for.
#[inline(always)]
pub(crate) fn enter(link: *mut *mut u8, resumer: &Fiber) {
    let inner = of_link(link);
    inner.resumer.set(resumer);
    leave(resumer, inner);
}

fn resumer_of(fiber: &Fiber) -> &Fiber {
    // SAFETY: a raw coroutine that runs was entered, and its resumer stands behind that with its fiber.
    unsafe { &*fiber.resumer.get() }
}

/// A raw coroutine is about to suspend.
#[inline(always)]
pub(crate) fn leave_to_resumer(link: *mut *mut u8) {
    let inner = of_link(link);
    leave(inner, resumer_of(inner));
}

/// A raw coroutine is about to end.
#[inline(always)]
pub(crate) fn leave_to_resumer_for_good(link: *mut *mut u8) {
    leave_for_good(resumer_of(of_link(link)));
}

/// A raw coroutine goes on, or begins.
#[inline(always)]
pub(crate) fn arrive_inside(link: *mut *mut u8) {
    arrive(of_link(link));
}

/// What was done before a [`release`] with this name, by whatever thread, is seen from here on.
pub(crate) fn acquire(name: usize) {
    calls::acquire(name);
}

/// What was done before is seen by those who [`acquire`] this name later.
pub(crate) fn release(name: usize) {
    calls::release(name);
}

#[cfg(sanitize = "address")]
mod calls {
    use std::ffi::c_void;

    mod asan {
        use std::ffi::c_void;

        unsafe extern "C" {
            pub(super) fn __sanitizer_start_switch_fiber(
                fake: *mut *mut c_void,
                bottom: *const c_void,
                bytes: usize,
            );
            pub(super) fn __sanitizer_finish_switch_fiber(
                fake: *mut c_void,
                bottom: *mut *const c_void,
                bytes: *mut usize,
            );
            pub(super) fn __asan_unpoison_memory_region(at: *const c_void, bytes: usize);
        }
    }

    #[inline(always)]
    pub(super) fn start_switch(fake: *mut *mut c_void, bottom: *const c_void, bytes: usize) {
        // SAFETY: the switch follows at once; null means that this stack is done with.
        unsafe { asan::__sanitizer_start_switch_fiber(fake, bottom, bytes) };
    }

    #[inline(always)]
    pub(super) fn finish_switch(fake: *mut c_void, bottom: &mut *const c_void, bytes: &mut usize) {
        // SAFETY: the fake stack is what `start_switch` kept for this stack, or null for a new one.
        unsafe { asan::__sanitizer_finish_switch_fiber(fake, bottom, bytes) };
    }

    #[inline(always)]
    pub(super) fn unpoison(at: *const c_void, bytes: usize) {
        // SAFETY: the range is a free stack.
        unsafe { asan::__asan_unpoison_memory_region(at, bytes) };
    }

    pub(super) use super::no_fibers::*;
}

#[cfg(sanitize = "thread")]
mod calls {
    use std::ffi::c_void;

    mod tsan {
        use std::ffi::{c_uint, c_void};

        unsafe extern "C" {
            pub(super) fn __tsan_get_current_fiber() -> *mut c_void;
            pub(super) fn __tsan_create_fiber(flags: c_uint) -> *mut c_void;
            pub(super) fn __tsan_destroy_fiber(fiber: *mut c_void);
            pub(super) fn __tsan_switch_to_fiber(fiber: *mut c_void, flags: c_uint);
            pub(super) fn __tsan_acquire(name: *mut c_void);
            pub(super) fn __tsan_release(name: *mut c_void);
        }
    }

    #[inline(always)]
    pub(super) fn current_fiber() -> *mut c_void {
        // SAFETY: asks for a name.
        unsafe { tsan::__tsan_get_current_fiber() }
    }

    #[inline(always)]
    pub(super) fn renew_fiber(old: *mut c_void) -> *mut c_void {
        if !old.is_null() {
            // SAFETY: the coroutine on that stack has ended or was never entered, so it is not the running fiber.
            unsafe { tsan::__tsan_destroy_fiber(old) };
        }
        // SAFETY: makes a new one; no flags exist.
        unsafe { tsan::__tsan_create_fiber(0) }
    }

    #[inline(always)]
    pub(super) fn switch_to_fiber(to: *mut c_void) {
        // SAFETY: the fiber of a suspended stack, to which the switch follows at once. 0: what was done before is seen after.
        unsafe { tsan::__tsan_switch_to_fiber(to, 0) };
    }

    #[inline(always)]
    pub(super) fn acquire(name: usize) {
        // SAFETY: the address is a name.
        unsafe { tsan::__tsan_acquire(std::ptr::without_provenance_mut(name)) };
    }

    #[inline(always)]
    pub(super) fn release(name: usize) {
        // SAFETY: as above.
        unsafe { tsan::__tsan_release(std::ptr::without_provenance_mut(name)) };
    }

    pub(super) use super::no_bounds::*;
}

#[cfg(not(any(sanitize = "address", sanitize = "thread")))]
mod calls {
    pub(super) use super::{no_bounds::*, no_fibers::*};
}

#[cfg(not(sanitize = "thread"))]
mod no_fibers {
    use std::ffi::c_void;
    use std::ptr;

    #[inline(always)]
    pub(super) fn current_fiber() -> *mut c_void {
        ptr::null_mut()
    }

    #[inline(always)]
    pub(super) fn renew_fiber(_: *mut c_void) -> *mut c_void {
        ptr::null_mut()
    }

    #[inline(always)]
    pub(super) fn switch_to_fiber(_: *mut c_void) {}

    #[inline(always)]
    pub(super) fn acquire(_: usize) {}

    #[inline(always)]
    pub(super) fn release(_: usize) {}
}

#[cfg(not(sanitize = "address"))]
mod no_bounds {
    use std::ffi::c_void;

    #[inline(always)]
    pub(super) fn start_switch(_: *mut *mut c_void, _: *const c_void, _: usize) {}

    #[inline(always)]
    pub(super) fn finish_switch(_: *mut c_void, _: &mut *const c_void, _: &mut usize) {}

    #[inline(always)]
    pub(super) fn unpoison(_: *const c_void, _: usize) {}
}
