#![allow(unsafe_code, reason = "the slot table is shared memory indexed by stack addresses")]
//! The reservation all stacks come from, and the table that says who runs on each.
//!
//! One `MAP_NORESERVE` mapping, never given back, is cut into one range a size class, all ranges equally long:
//!
//! ```text
//!   base                                                              base + 3 ranges
//!   | 64 KiB class: slots of 136 KiB | 256 KiB class: 408 KiB | 1 MiB class: 1224 KiB |
//! ```
//!
//! All is counted in *granules* of 136 KiB, the smallest slot; a slot of the other classes has 3 and 9. The *slot table* has a word for
//! each granule, so that one division by a constant (a multiplication) and one load turn the stack pointer into the occupant
//! ([`occupant`]). A slot of a larger class has its word in each granule of its usable part. This is the runtime's substitute for a
//! thread-local. Headers inside the slots would do the same and were refused: all of them would lie in one set of the first-level cache.
//!
//! 136 KiB are 34 pages, and an odd multiple of them is the distance of any two neighbours. Powers of two, one shift instead of a
//! multiplication, were tried and cost far more than they saved: the busy pages of all stacks then compete for a few sets of the
//! second-level TLB. 1024 raw coroutines resumed in random order took 18.0 ns a switch, and take 6.7 so (AMD family 25, one pinned core
//! of a virtual machine, median of 60 slices); a chase over one word a stack in random order 20 ns a stack, and 6.
//!
//! An occupant word is 0 (free, or a stack nobody can be found on), the address of a task record, or, with the low bit set, the
//! address of a raw coroutine's link: its resumer's stack pointer, from which the look-up goes on.
//!
//! Where the kernel refuses a reservation (an address-space limit, strict overcommit) it is halved and asked again, and once one is
//! granted, half of that is taken: the other half is for the program, whose next allocation would otherwise find nothing and abort.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use super::{Class, Slot};
use crate::arch;
use crate::sys;

/// Low bit of an occupant word: the rest is the address of a raw link.
const RAW: usize = 1;

/// Distance of neighbours in the smallest class, in bytes.
pub(crate) const GRANULE: usize = 136 << 10;

/// A range holds whole slots of every class: this many granules, times a power of two.
const RANGE_UNIT: usize = Class::ALL[Class::COUNT - 1].granules();
/// First try: 1.2 TiB a class hold nine million of the small stacks, three million of the default ones.
/// The sanitizers have room for 19 GiB a class: they keep a shadow of all there is, in a place of their own.
const LARGEST_SHIFT: u32 = if cfg!(feature = "sanitize") { 14 } else { 20 };
/// Last try: 38 MiB a class, thirty-two of the large stacks.
const SMALLEST_SHIFT: u32 = 5;

/// What a look-up needs, as plain words. `LIMIT` is written last: while it is 0 no address lies in the arena.
pub(crate) static BASE: AtomicUsize = AtomicUsize::new(0);
pub(crate) static LIMIT: AtomicUsize = AtomicUsize::new(0);
pub(crate) static TABLE: AtomicPtr<AtomicUsize> = AtomicPtr::new(std::ptr::null_mut());

/// For the debugger: so many slots of each class, from the front, were ever handed out.
pub(crate) static USED: [AtomicU32; Class::COUNT] = [const { AtomicU32::new(0) }; Class::COUNT];

static ARENA: OnceLock<Result<Arena, (io::ErrorKind, String)>> = OnceLock::new();

/// The reservation.
#[derive(Debug)]
pub(crate) struct Arena {
    base: AtomicPtr<u8>,
    /// A range is `RANGE_UNIT << range_shift` granules.
    range_shift: u32,
    /// Slots handed out so far, from the front of each class.
    fresh: [AtomicU32; Class::COUNT],
}

/// The arena, reserved at the first call.
pub(crate) fn get() -> io::Result<&'static Arena> {
    abort_if_forked();
    ARENA
        .get_or_init(|| {
            let arena = Arena::reserve()
                .map_err(|error| refused("address space for stacks", reserved(SMALLEST_SHIFT), &error))?;
            arena.publish().map_err(|error| refused("the table of stacks", arena.table_bytes(), &error))?;
            Ok(arena)
        })
        .as_ref()
        .map_err(|(kind, text)| io::Error::new(*kind, text.clone()))
}

fn refused(what: &str, bytes: usize, error: &io::Error) -> (io::ErrorKind, String) {
    let text = format!(
        "cannot reserve {} KiB, the least that would do, of {what}: {error}; raise the address-space limit (RLIMIT_AS, ulimit -v) or, \
         under strict overcommit (vm.overcommit_memory = 2), vm.overcommit_ratio or, after mlockall, the limit of locked memory \
         (RLIMIT_MEMLOCK, ulimit -l)",
        bytes >> 10
    );
    (error.kind(), text)
}

/// The arena, for those who hold a slot and so know that it exists.
pub(crate) fn get_ready() -> &'static Arena {
    ARENA.get().and_then(|arena| arena.as_ref().ok()).expect("a slot exists only after the arena")
}

/// Bytes of all ranges together.
fn reserved(range_shift: u32) -> usize {
    Class::COUNT * (RANGE_UNIT << range_shift) * GRANULE
}

impl Arena {
    fn reserve() -> io::Result<Arena> {
        let mut range_shift = LARGEST_SHIFT;
        let mut base = loop {
            match sys::reserve(reserved(range_shift)) {
                Ok(at) => break at,
                Err(_) if range_shift > SMALLEST_SHIFT => range_shift -= 1,
                Err(error) => return Err(error),
            }
        };
        if (SMALLEST_SHIFT + 1..LARGEST_SHIFT).contains(&range_shift) {
            // SAFETY: just mapped, and nobody knows it.
            unsafe { sys::unmap(base, reserved(range_shift)) };
            range_shift -= 1;
            base = sys::reserve(reserved(range_shift))?;
        }
        // A kernel built without huge pages refuses the advice, and needs none.
        let _ = sys::no_huge_pages(base, reserved(range_shift));
        Ok(Arena { base: AtomicPtr::new(base), range_shift, fresh: Default::default() })
    }

    fn table_bytes(&self) -> usize {
        reserved(self.range_shift) / GRANULE * size_of::<usize>()
    }

    fn publish(&self) -> io::Result<()> {
        let bytes = reserved(self.range_shift);
        let table = sys::reserve(self.table_bytes())?;
        // Before anything can be found here.
        sys::call_in_forked_children(forget_in_child)?;
        // Relaxed, twice: published by the Release of LIMIT below.
        BASE.store(self.base().expose_provenance(), Ordering::Relaxed);
        TABLE.store(table.cast(), Ordering::Relaxed);
        // Release: pairs with the Acquire in `entry`.
        LIMIT.store(bytes, Ordering::Release);
        Ok(())
    }

    pub(crate) fn base(&self) -> *mut u8 {
        // Relaxed: written before the arena was shared, and never again.
        self.base.load(Ordering::Relaxed)
    }

    /// How many slots a class has.
    pub(crate) fn capacity(&self, class: Class) -> u32 {
        let slots = (RANGE_UNIT << self.range_shift) / class.granules();
        u32::try_from(slots).expect("at most 2^24 slots a class")
    }

    /// How many slots of a class were ever handed out.
    pub(crate) fn used(&self, class: Class) -> u32 {
        // Relaxed: a count for scans and errors; who holds a slot learnt of it by other means.
        self.fresh[class.index()].load(Ordering::Relaxed)
    }

    pub(crate) fn slot_base(&self, slot: Slot) -> *mut u8 {
        let range = slot.class.index() * (RANGE_UNIT << self.range_shift);
        let granule = range + slot.number as usize * slot.class.granules();
        self.base().wrapping_add(granule * GRANULE)
    }

    /// Takes up to `count` slots that nobody had before; fewer at the end of the range, none behind it.
    pub(crate) fn take_fresh(&self, class: Class, count: usize) -> std::ops::Range<u32> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let capacity = self.capacity(class);
        // Relaxed: the numbers only have to differ; their memory is untouched.
        let taken = self.fresh[class.index()].fetch_update(Ordering::Relaxed, Ordering::Relaxed, |first| {
            (first < capacity).then(|| first.saturating_add(count).min(capacity))
        });
        let taken = taken.map_or(0..0, |first| first..first.saturating_add(count).min(capacity));
        // Relaxed: for a process that stands still.
        USED[class.index()].fetch_max(taken.end, Ordering::Relaxed);
        taken
    }
}

/// The slot that contains an address.
pub(crate) fn slot_of(addr: usize) -> Option<Slot> {
    let arena = ARENA.get()?.as_ref().ok()?;
    let granule = addr.wrapping_sub(arena.base().addr()) / GRANULE;
    let range = RANGE_UNIT << arena.range_shift;
    let class = *Class::ALL.get(granule / range)?;
    let number = granule % range / class.granules();
    Some(Slot { class, number: u32::try_from(number).ok()? })
}

/// The word of the granule that contains an address.
#[inline(always)]
fn entry(addr: usize) -> Option<&'static AtomicUsize> {
    // Acquire: pairs with the Release in `publish`, so the other two are seen.
    let limit = LIMIT.load(Ordering::Acquire);
    // Relaxed, twice: ordered by the Acquire above.
    let offset = addr.wrapping_sub(BASE.load(Ordering::Relaxed));
    if offset >= limit {
        return None;
    }
    let word = TABLE.load(Ordering::Relaxed).wrapping_add(offset / GRANULE);
    // SAFETY: the table has a word for each granule of the arena, is never unmapped, and zero pages are valid words.
    Some(unsafe { &*word })
}

/// The word of a slot's uppermost granule.
fn top_entry(slot: Slot) -> &'static AtomicUsize {
    entry(slot.top().addr() - 1).unwrap_or_else(|| lost())
}

/// Where a slot is not found in the arena, although it lies there.
#[cold]
#[inline(never)]
fn lost() -> ! {
    abort_if_forked();
    unreachable!("a slot lies in the arena")
}

/// Whether this process was forked from one with coroutines.
static IS_FORKED: AtomicBool = AtomicBool::new(false);

/// In the child of a `fork` there is one thread of those that run the coroutines, and the locks and queues are as the others left them. So
/// nothing there goes on: the look-up of the current coroutine finds nothing any more, and whoever is asked next aborts. The child may
/// still replace itself by another program, or leave.
extern "C" fn forget_in_child() {
    // Relaxed, twice: the child has one thread, this.
    IS_FORKED.store(true, Ordering::Relaxed);
    LIMIT.store(0, Ordering::Relaxed);
}

/// Says that a forked child cannot use the runtime, and aborts, if this is one. On no path that a coroutine takes often.
#[inline]
pub(crate) fn abort_if_forked() {
    // Relaxed: set before anything ran in the child.
    if IS_FORKED.load(Ordering::Relaxed) {
        sys::write_stderr(
            b"coroutines do not survive a fork: this child has one thread of those that ran them. Call exec or _exit there, or fork \
              before the first runtime: aborting\n",
        );
        sys::abort();
    }
}

/// Names a task as the occupant of a slot.
///
/// Only the owner of the slot calls this, on the OS thread that runs it.
#[inline]
pub(crate) fn occupy(slot: Slot, task: *const ()) {
    set(slot, task.expose_provenance());
}

/// Names a raw coroutine, by its link, as the occupant of a slot.
#[inline]
pub(crate) fn occupy_raw(slot: Slot, link: *mut *mut u8) {
    set(slot, link.expose_provenance() | RAW);
}

/// Leaves a slot without occupant.
#[inline]
pub(crate) fn vacate(slot: Slot) {
    set(slot, 0);
}

#[inline]
fn set(slot: Slot, word: usize) {
    let top = slot.top().addr();
    for granule in 0..slot.class.usable().div_ceil(GRANULE) {
        let entry = entry(top - 1 - granule * GRANULE).unwrap_or_else(|| lost());
        // Relaxed: read by the same OS thread, or by a scan that only asks whether it is 0.
        entry.store(word, Ordering::Relaxed);
    }
}

/// Whether a slot has an occupant; a snapshot.
pub(crate) fn is_occupied(slot: Slot) -> bool {
    // Relaxed: a snapshot for statistics.
    top_entry(slot).load(Ordering::Relaxed) != 0
}

/// Whether the occupant of a slot is a raw coroutine.
pub(crate) fn is_raw(slot: Slot) -> bool {
    // Relaxed: asked by the fault handler, on the thread that runs on this stack.
    top_entry(slot).load(Ordering::Relaxed) & RAW != 0
}

/// Calls `each` with every scheduled coroutine that has a stack, of whatever runtime; a snapshot, in which one may have ended.
pub(crate) fn for_each_task(mut each: impl FnMut(*const ())) {
    let Ok(arena) = get() else { return };
    for class in Class::ALL {
        for number in 0..arena.used(class) {
            // Relaxed: a snapshot. What a record says about itself its caller has to check.
            let word = top_entry(Slot { class, number }).load(Ordering::Relaxed);
            if word != 0 && word & RAW == 0 {
                each(std::ptr::with_exposed_provenance(word));
            }
        }
    }
}

/// Who runs at a stack address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Occupant {
    /// The address is on no stack of ours, or on one without an occupant.
    None,
    /// A scheduled coroutine, by the address of its record.
    Task(*const ()),
}

/// Whether this code runs in a raw coroutine.
pub(crate) fn is_in_raw() -> bool {
    // Relaxed: whoever runs on a stack wrote its entry on the same OS thread.
    entry(arch::stack_pointer()).is_some_and(|entry| entry.load(Ordering::Relaxed) & RAW != 0)
}

/// The coroutine this code runs in, found from the stack pointer alone.
#[inline(always)]
pub(crate) fn occupant() -> Occupant {
    occupant_at(arch::stack_pointer())
}

/// The coroutine that runs at a stack address: raw coroutines answer with the one that resumed them.
///
/// # Panics
/// Never; usable in a signal handler.
#[inline(always)]
pub(crate) fn occupant_at(addr: usize) -> Occupant {
    let Some(entry) = entry(addr) else {
        return Occupant::None;
    };
    // Relaxed: whoever runs on a stack wrote its entry on the same OS thread.
    match entry.load(Ordering::Relaxed) {
        0 => Occupant::None,
        word if word & RAW == 0 => Occupant::Task(std::ptr::with_exposed_provenance(word)),
        word => through_links(word),
    }
}

#[cold]
fn through_links(mut word: usize) -> Occupant {
    loop {
        let link: *const *mut u8 = std::ptr::with_exposed_provenance(word & !RAW);
        // SAFETY: a raw entry holds the address of a link in a stack of the arena, which stays mapped for ever.
        let resumer = unsafe { link.read() };
        let Some(entry) = entry(resumer.addr()) else {
            return Occupant::None;
        };
        // Relaxed: as in `occupant_at`.
        match entry.load(Ordering::Relaxed) {
            0 => return Occupant::None,
            next if next & RAW == 0 => return Occupant::Task(std::ptr::with_exposed_provenance(next)),
            next => word = next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::inject::{self, Call};

    #[test]
    fn a_refused_reservation_is_halved_until_it_fits() {
        inject::fail(Call::Reserve, 3, libc::ENOMEM);
        let arena = Arena::reserve().unwrap();
        assert_eq!(
            arena.range_shift,
            LARGEST_SHIFT - 4,
            "and half of what was granted is left to the program"
        );
    }

    #[test]
    fn every_number_of_refused_reservations_ends_in_an_arena_or_a_typed_error() {
        let tries = LARGEST_SHIFT - SMALLEST_SHIFT + 1;
        for refusals in 0..=tries {
            inject::fail(Call::Reserve, refusals, libc::ENOMEM);
            let arena = Arena::reserve();
            assert!(inject::all_happened());
            match arena {
                Ok(arena) => {
                    assert!(refusals < tries);
                    // SAFETY: nobody else knows this arena.
                    unsafe { sys::unmap(arena.base(), reserved(arena.range_shift)) };
                }
                Err(error) => {
                    assert_eq!(refusals, tries);
                    let (kind, text) = refused("address space for stacks", reserved(SMALLEST_SHIFT), &error);
                    assert_eq!(kind, io::ErrorKind::OutOfMemory);
                    assert!(text.contains("RLIMIT_AS") && text.contains("vm.overcommit_memory"), "{text}");
                }
            }
        }
    }

    #[test]
    fn a_reservation_refused_at_every_size_is_an_error() {
        inject::fail(Call::Reserve, LARGEST_SHIFT - SMALLEST_SHIFT + 1, libc::ENOMEM);
        assert_eq!(Arena::reserve().unwrap_err().raw_os_error(), Some(libc::ENOMEM));
    }

    #[test]
    fn addresses_give_back_their_slot_in_every_class() {
        let arena = get().unwrap();
        for class in Class::ALL {
            for number in [0, 1, 17, arena.capacity(class) - 1] {
                let slot = Slot { class, number };
                assert_eq!(slot_of(slot.top().addr() - 1), Some(slot));
                assert_eq!(slot_of(slot.bottom().addr()), Some(slot));
                assert_eq!(slot_of(slot.guard().addr()), Some(slot));
                assert!(slot.guard() >= arena.slot_base(slot));
            }
        }
        assert_eq!(slot_of(arena.base().addr() - 1), None);
        assert_eq!(slot_of(arena.base().addr() + reserved(arena.range_shift)), None);
    }

    #[test]
    fn an_occupant_is_found_from_every_usable_byte_of_its_slot_and_no_other() {
        let task: *const () = std::ptr::without_provenance(0x1000);
        for class in Class::ALL {
            let number = get().unwrap().capacity(class) / 2;
            let slot = Slot { class, number };
            occupy(slot, task);
            for addr in (slot.bottom().addr()..slot.top().addr()).step_by(sys::PAGE) {
                assert_eq!(occupant_at(addr), Occupant::Task(task));
            }
            assert_eq!(occupant_at(slot.top().addr()), Occupant::None);
            let below = Slot { class, number: number - 1 };
            assert_eq!(occupant_at(below.top().addr() - 1), Occupant::None);
            vacate(slot);
            assert_eq!(occupant_at(slot.bottom().addr()), Occupant::None);
        }
    }

    #[test]
    fn a_class_at_its_end_hands_out_what_is_left_and_then_nothing() {
        inject::fail(Call::Reserve, LARGEST_SHIFT - SMALLEST_SHIFT, libc::ENOMEM);
        let arena = Arena::reserve().unwrap();
        assert_eq!(arena.range_shift, SMALLEST_SHIFT);
        let large = Class::ALL[2];
        let capacity = arena.capacity(large);
        assert_eq!(arena.take_fresh(large, capacity as usize - 1), 0..capacity - 1);
        assert_eq!(arena.take_fresh(large, 8), capacity - 1..capacity);
        assert_eq!(arena.take_fresh(large, 8), 0..0);
    }
}
