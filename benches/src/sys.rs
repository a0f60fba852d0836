//! What the benches need of the kernel: libc calls, thin, `io::Error` out. No policy.
#![allow(unsafe_code, reason = "libc calls; each block names the fact that makes it sound and its keeper")]

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

/// Nanoseconds of `CLOCK_MONOTONIC`, the clock that the parent reads, too.
pub(crate) fn monotonic_ns() -> u64 {
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `now` has the size and alignment of a timespec and lives over the call.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr()) };
    assert_eq!(status, 0, "CLOCK_MONOTONIC can be read");
    // SAFETY: the call succeeded, so the kernel filled `now`.
    let now = unsafe { now.assume_init() };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Voluntary and involuntary context switches of the process, ended threads included. `sched_yield` books the
/// involuntary kind, so both count.
pub(crate) fn context_switches() -> u64 {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: `usage` has the size and alignment of a rusage and lives over the call.
    let status = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    assert_eq!(status, 0, "the process can read its own usage");
    // SAFETY: the call succeeded, so the kernel filled `usage`.
    let usage = unsafe { usage.assume_init() };
    (usage.ru_nvcsw + usage.ru_nivcsw).cast_unsigned()
}

/// One permit on a futex word: `unpark` leaves it, `park` waits for it and takes it.
#[derive(Debug)]
pub(crate) struct Parker {
    word: AtomicU32,
}

/// Nobody waits and no permit is there.
const EMPTY: u32 = 0;
/// A permit is there.
const NOTIFIED: u32 = 1;
/// The owner waits, or is about to: one less than `EMPTY`.
const PARKED: u32 = u32::MAX;

impl Parker {
    pub(crate) fn new() -> Parker {
        Parker { word: AtomicU32::new(EMPTY) }
    }

    /// Waits for the permit. Called by the owner alone.
    pub(crate) fn park(&self) {
        // EMPTY becomes PARKED, NOTIFIED becomes EMPTY.
        // Acquire: pairs with the Release in `unpark`; what was written before it is seen after it.
        if self.word.fetch_sub(1, Ordering::Acquire) == NOTIFIED {
            return;
        }
        loop {
            futex_wait(&self.word, PARKED);
            // Acquire: pairs with the Release in `unpark`, as above. Relaxed on failure: a spurious wake.
            let taken = self.word.compare_exchange(NOTIFIED, EMPTY, Ordering::Acquire, Ordering::Relaxed);
            if taken.is_ok() {
                return;
            }
        }
    }

    /// Leaves the permit and wakes the owner, if it waits.
    pub(crate) fn unpark(&self) {
        // Release: pairs with the Acquires in `park`.
        if self.word.swap(NOTIFIED, Ordering::Release) == PARKED {
            futex_wake(&self.word);
        }
    }
}

/// Sleeps while the word holds `expected`; whether it slept and was woken. May return early; the caller looks again.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32) -> bool {
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let forever = ptr::null::<libc::timespec>();
    // SAFETY: `word` is borrowed over the call, and the kernel only reads it. EAGAIN and EINTR are early returns.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, expected, forever) == 0 }
}

/// Wakes one that sleeps on the word; how many there were.
pub(crate) fn futex_wake(word: &AtomicU32) -> libc::c_long {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the kernel uses the address as a key and does not access it for a private wake.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, 1) }
}

/// The kernel's answer to `getppid`. By number: some C libraries remember such answers.
pub(crate) fn asks_for_the_parent() -> u32 {
    // SAFETY: `getppid` takes nothing and touches no memory of ours.
    let parent = unsafe { libc::syscall(libc::SYS_getppid) };
    u32::try_from(parent).expect("a process has a parent or 0")
}

/// Gives way; whether the kernel agreed, as it always does.
pub(crate) fn gave_way() -> bool {
    // SAFETY: `sched_yield` takes nothing and touches no memory of ours.
    unsafe { libc::sched_yield() == 0 }
}

/// The kernel's number of the calling thread.
pub(crate) fn thread_id() -> u64 {
    // SAFETY: `gettid` takes nothing and cannot fail.
    let id = unsafe { libc::gettid() };
    u64::try_from(id).expect("a thread's number is positive")
}

/// Lets go of what the page cache holds of a file. Pages that wait to be written stay: synchronise first.
pub(crate) fn drop_cached(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `file` is borrowed; the call touches no memory of ours.
    check(unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) })
}

/// Gives the kernel back so many bytes of the caller's own stack, from the first page on that nobody uses, and a page below; returns where
/// they end above.
///
/// The stack must reach as far, and a little further: the bytes are used first, so one that does not is met by its guard.
#[inline(never)]
pub(crate) fn cool_stack(bytes: usize) -> io::Result<usize> {
    // For the frame of the call below, and of a signal that comes just before or after it.
    const ROOM: usize = 1024;
    let local = 0_u8;
    let top = (std::hint::black_box(ptr::from_ref(&local)).addr() - ROOM) / PAGE * PAGE;
    crate::layout::touch(bytes + ROOM + 2 * PAGE); // Twice: for the page below, and for what rounding `top` took.
    let bytes = bytes + PAGE;
    let low = ptr::without_provenance_mut(top - bytes);
    // SAFETY: `touch` has just used all of these bytes as frames below this one, so they are this stack's; it has returned, so nothing
    // lives in them. What the call itself pushes fits in `ROOM`, above `top`.
    if unsafe { libc::madvise(low, bytes, libc::MADV_DONTNEED) } == 0 {
        Ok(top)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Addresses of the calling thread's stack.
pub(crate) fn thread_stack() -> io::Result<Range<usize>> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: `pthread_self` takes nothing and cannot fail.
    let own = unsafe { libc::pthread_self() };
    // SAFETY: `attributes` has the size and alignment of an attribute object; `own` runs, so it exists.
    check(unsafe { libc::pthread_getattr_np(own, attributes.as_mut_ptr()) })?;
    let (mut low, mut bytes) = (ptr::null_mut(), 0);
    // SAFETY: the call above succeeded, so `attributes` is initialised; the results live over the call.
    let status = unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut low, &raw mut bytes) };
    // SAFETY: `attributes` was initialised by this function and is not used after this.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    check(status)?;
    Ok(low.addr()..low.addr() + bytes)
}

/// Bytes of the range that are in memory.
///
/// A page of anonymous memory that nobody touched does not count: `mincore` reports a hole in the page table
/// of a mapping without a file as absent.
pub(crate) fn resident_bytes(range: &Range<usize>) -> io::Result<u64> {
    let page = page_size();
    let (low, high) = (range.start / page * page, range.end.next_multiple_of(page));
    let mut pages = vec![0_u8; (high - low) / page];
    // SAFETY: `pages` holds a byte for each page of the range. The range need not be mapped: the kernel answers
    // ENOMEM where it is not.
    let status = unsafe { libc::mincore(ptr::without_provenance_mut(low), high - low, pages.as_mut_ptr()) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    // Only the lowest bit of each byte has a meaning.
    let resident = pages.iter().filter(|p| **p & 1 == 1).count();
    Ok((resident * page) as u64)
}

/// Bytes of a page, on the machines that the runtime knows.
pub(crate) const PAGE: usize = 4096;

pub(crate) fn page_size() -> usize {
    // SAFETY: `sysconf` takes a name and touches no memory of ours.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).expect("a page has a size")
}

/// The soft limit on processes and threads of this user; `None` where there is none.
pub(crate) fn process_limit() -> Option<u64> {
    soft_limit(libc::RLIMIT_NPROC)
}

/// The soft limit on this process's address space, in bytes; `None` where there is none.
pub(crate) fn address_space_limit() -> Option<u64> {
    soft_limit(libc::RLIMIT_AS)
}

fn soft_limit(resource: libc::__rlimit_resource_t) -> Option<u64> {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: `limit` has the size and alignment of an rlimit and lives over the call.
    let status = unsafe { libc::getrlimit(resource, limit.as_mut_ptr()) };
    assert_eq!(status, 0, "the process can read its own limits");
    // SAFETY: the call succeeded, so the kernel filled `limit`.
    let soft = unsafe { limit.assume_init() }.rlim_cur;
    (soft != libc::RLIM_INFINITY).then_some(soft)
}

/// For the calls that return their error.
fn check(status: libc::c_int) -> io::Result<()> {
    if status == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(status)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_touched_pages_are_resident() {
        let (page, pages) = (page_size(), 64);
        let bytes = pages * page;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new private mapping at an address of the kernel's choice.
        let at = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        let range = at.addr()..at.addr() + bytes;
        assert_eq!(resident_bytes(&range).unwrap(), 0);
        for touched in [3, 17] {
            let byte = at.cast::<u8>().wrapping_add(touched * page);
            // SAFETY: the byte lies inside the mapping, which nobody else knows.
            unsafe { byte.write_volatile(1) };
        }
        assert_eq!(resident_bytes(&range).unwrap(), 2 * page as u64);
        // SAFETY: the mapping was made above and is not used after this.
        unsafe { libc::munmap(at, bytes) };
    }

    #[test]
    fn a_permit_left_before_the_wait_is_not_lost_and_is_one() {
        let parker = Parker::new();
        parker.unpark();
        parker.unpark();
        parker.park();
        assert_eq!(parker.word.load(Ordering::Relaxed), EMPTY, "Relaxed: one thread");
    }

    #[test]
    fn the_stack_of_a_thread_holds_its_locals() {
        let local = 0_u8;
        let stack = thread_stack().unwrap();
        assert!(stack.contains(&ptr::from_ref(&local).addr()));
        assert!(resident_bytes(&stack).unwrap() >= page_size() as u64);
    }
}
