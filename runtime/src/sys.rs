#![allow(unsafe_code, reason = "system calls")]
//! Every system call of the runtime, thin: one function a call, `io::Error` out, errno taken before anything else runs.
//!
//! No policy lives here. In unit tests a call can be told to fail (`inject`), so that each fallback is walked on a kernel that
//! would never need it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::sync::atomic::AtomicPtr;
use std::time::Duration;

/// Size of a page. Fixed by the architecture; what the kernel may vary on others, it does not on this one.
pub(crate) const PAGE: usize = 4096;

/// `MADV_GUARD_INSTALL` of Linux 6.13.
const MADV_GUARD_INSTALL: libc::c_int = 102;
/// `MADV_GUARD_REMOVE` of Linux 6.13.
const MADV_GUARD_REMOVE: libc::c_int = 103;
/// `PIDFD_SELF_THREAD_GROUP` of Linux 6.14: names the calling process without a descriptor.
const PIDFD_SELF: libc::c_int = -10_001;

#[cfg(test)]
macro_rules! injected {
    ($call:ident) => {
        inject::check(inject::Call::$call)?
    };
}
#[cfg(not(test))]
macro_rules! injected {
    ($call:ident) => {};
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reserves address space that is readable and writable but costs nothing until it is touched, also in a program that locks its memory.
///
/// After `mlockall(MCL_FUTURE)` a mapping is filled with pages as soon as it may be accessed, and locked memory refuses guards. So it begins
/// without access and is unlocked first, which does nothing where nothing is locked.
pub(crate) fn reserve(bytes: usize) -> io::Result<*mut u8> {
    injected!(Reserve);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice disturbs nothing.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: only says whether pages may be swapped, and there are none yet.
    let unlocked = done(unsafe { libc::munlock(at, bytes) });
    // SAFETY: the mapping is ours and new.
    let accessible = || done(unsafe { libc::mprotect(at, bytes, libc::PROT_READ | libc::PROT_WRITE) });
    unlocked.and_then(|()| accessible()).inspect_err(|_| {
        // SAFETY: nobody knows the mapping.
        unsafe { unmap(at.cast(), bytes) };
    })?;
    Ok(at.cast())
}

/// Gives a mapping back.
///
/// # Safety
/// The range came from [`reserve`] and nothing points into it any more.
pub(crate) unsafe fn unmap(at: *mut u8, bytes: usize) {
    // SAFETY: the caller gives the range up.
    let result = unsafe { libc::munmap(at.cast(), bytes) };
    debug_assert_eq!(result, 0, "munmap refuses only ranges that were never mapped");
}

/// Keeps the kernel from backing the range with huge pages: one touched byte would cost 2 MiB.
pub(crate) fn no_huge_pages(at: *mut u8, bytes: usize) -> io::Result<()> {
    // SAFETY: the advice changes how pages are provided, never their contents.
    done(unsafe { libc::madvise(at.cast(), bytes, libc::MADV_NOHUGEPAGE) })
}

/// Makes the range fault on every access, in the page table, without splitting its mapping.
///
/// # Safety
/// Nobody uses the contents of the range, which are lost.
pub(crate) unsafe fn guard(at: *mut u8, bytes: usize) -> io::Result<()> {
    injected!(Guard);
    // SAFETY: the caller gives the contents up.
    done(unsafe { libc::madvise(at.cast(), bytes, MADV_GUARD_INSTALL) })
}

/// Takes the guards of [`guard`] out of the range, whose other pages stay as they are.
///
/// # Safety
/// Nobody relies on them.
pub(crate) unsafe fn unguard(at: *mut u8, bytes: usize) -> io::Result<()> {
    injected!(Unguard);
    // SAFETY: the caller needs no guard there.
    done(unsafe { libc::madvise(at.cast(), bytes, MADV_GUARD_REMOVE) })
}

/// [`guard`] for many ranges in one call; `Ok` says how many bytes were done, from the front.
///
/// # Safety
/// As for [`guard`], for each range.
pub(crate) unsafe fn guard_batch(ranges: &[Range]) -> io::Result<usize> {
    injected!(GuardBatch);
    // SAFETY: the caller gives the contents up.
    unsafe { advise_own(ranges, MADV_GUARD_INSTALL) }
}

/// [`discard`] for many ranges in one call; `Ok` says how many bytes were done, from the front.
///
/// # Safety
/// As for [`discard`], for each range.
pub(crate) unsafe fn discard_batch(ranges: &[Range]) -> io::Result<usize> {
    injected!(DiscardBatch);
    // SAFETY: the caller gives the contents up.
    unsafe { advise_own(ranges, libc::MADV_DONTNEED) }
}

/// A part of memory, laid out as the kernel reads it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Range(libc::iovec);

impl Range {
    pub(crate) const EMPTY: Range = Range(libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 });

    pub(crate) const fn new(at: *mut u8, bytes: usize) -> Range {
        Range(libc::iovec { iov_base: at.cast(), iov_len: bytes })
    }

    pub(crate) const fn at(self) -> *mut u8 {
        self.0.iov_base.cast()
    }

    pub(crate) const fn bytes(self) -> usize {
        self.0.iov_len
    }
}

/// Gives the kernel advice about many ranges of this process in one call, without allocating.
///
/// # Safety
/// What the advice does to the ranges is what their owner wants.
unsafe fn advise_own(ranges: &[Range], advice: libc::c_int) -> io::Result<usize> {
    // SAFETY: the callers' contract; this name of the process is a constant.
    match unsafe { advise(PIDFD_SELF, ranges, advice) } {
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => {}
        result => return result,
    }
    // Before Linux 6.14 a process had to open itself. Not kept open: after a fork it would name the parent.
    // SAFETY: asks for a number.
    let process = unsafe { libc::getpid() };
    // SAFETY: opens a descriptor that names this process.
    let own = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) };
    if own < 0 {
        return Err(io::Error::last_os_error());
    }
    let own = libc::c_int::try_from(own).expect("a descriptor fits c_int");
    // SAFETY: the callers' contract, and the descriptor names this process.
    let result = unsafe { advise(own, ranges, advice) };
    // SAFETY: the descriptor is ours and used no more.
    unsafe { libc::close(own) };
    result
}

/// # Safety
/// As for [`advise_own`]; `process` names this very process.
unsafe fn advise(process: libc::c_int, ranges: &[Range], advice: libc::c_int) -> io::Result<usize> {
    // SAFETY: the ranges outlive the call and are laid out as the kernel's vectors; the rest is the caller's contract.
    let done = unsafe {
        libc::syscall(libc::SYS_process_madvise, process, ranges.as_ptr(), ranges.len(), advice, 0)
    };
    usize::try_from(done).map_err(|_| io::Error::last_os_error())
}

/// Takes all access to the range away; this splits its mapping.
///
/// # Safety
/// Nobody uses the range.
pub(crate) unsafe fn protect(at: *mut u8, bytes: usize) -> io::Result<()> {
    injected!(Protect);
    // SAFETY: the caller does not use the range.
    done(unsafe { libc::mprotect(at.cast(), bytes, libc::PROT_NONE) })
}

/// Gives the pages of the range back; guards in it stay, everything else reads as zero.
///
/// # Safety
/// Nobody uses the contents of the range.
pub(crate) unsafe fn discard(at: *mut u8, bytes: usize) -> io::Result<()> {
    injected!(Discard);
    // SAFETY: the caller gives the contents up.
    done(unsafe { libc::madvise(at.cast(), bytes, libc::MADV_DONTNEED) })
}

/// Milliseconds of a clock that never goes back, some milliseconds coarse: two loads from memory the kernel shares.
pub(crate) fn coarse_ms() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes the time where it is told.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

/// Writes one byte a page: bit 0 says whether the page is resident.
pub(crate) fn residency(at: *mut u8, pages: &mut [u8]) -> io::Result<()> {
    // SAFETY: the kernel writes one byte for each page of the range, which is the length of the slice.
    done(unsafe { libc::mincore(at.cast(), pages.len() * PAGE, pages.as_mut_ptr()) })
}

/// Writes to standard error, ignoring failure; usable in a signal handler.
pub(crate) fn write_stderr(bytes: &[u8]) {
    // SAFETY: the kernel reads the slice.
    unsafe { libc::write(2, bytes.as_ptr().cast(), bytes.len()) };
}

/// Ends the process by SIGABRT; usable in a signal handler.
pub(crate) fn abort() -> ! {
    // SAFETY: does not return.
    unsafe { libc::abort() }
}

/// Has `child` called in each child of a `fork`, before `fork` returns there. It may do what a signal handler may.
pub(crate) fn call_in_forked_children(child: extern "C" fn()) -> io::Result<()> {
    // SAFETY: registers a function that lives as long as the process.
    match unsafe { libc::pthread_atfork(None, None, Some(child)) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Sleeps while the first four bytes of `word` read `expected`; returns at a wake, a signal, when `timeout` is over, or at once if they
/// differ.
pub(crate) fn futex_wait<T>(word: &AtomicPtr<T>, expected: u32, timeout: Option<Duration>) {
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let timeout = timeout.map(timespec);
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the word and the timeout outlive the call; the kernel only reads them. A pointer's low half comes first on this
    // architecture.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, expected, timeout) };
}

/// CPUs that the calling thread may run on.
pub(crate) fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: all zeros is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes into the set, whose size it is told.
    done(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) })?;
    let limit = usize::try_from(libc::CPU_SETSIZE).expect("a small positive number");
    // SAFETY: the number is below the size of the set.
    Ok((0..limit).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// Lets the calling thread run on this CPU only.
pub(crate) fn pin_to(cpu: usize) -> io::Result<()> {
    // SAFETY: all zeros is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the number came out of a set of this size.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: reads the set, whose size it is told.
    done(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) })
}

/// How many threads the process has, where that can be learnt.
pub(crate) fn threads() -> Option<usize> {
    std::fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

/// What limits the number of threads, each with its value where that can be learnt.
pub(crate) fn thread_limits() -> String {
    let value = |resource| match limit(resource) {
        Some(value) => value.to_string(),
        None => "unlimited".to_owned(),
    };
    let all = std::fs::read_to_string("/proc/sys/kernel/threads-max");
    format!(
        "RLIMIT_NPROC = {} (threads of the user, ulimit -u), RLIMIT_AS = {} (address space, ulimit -v), pids.max of the cgroup, \
         kernel.threads-max = {}",
        value(libc::RLIMIT_NPROC),
        value(libc::RLIMIT_AS),
        all.as_deref().map_or("unknown", str::trim),
    )
}

/// A limit of this process, if it has one.
fn limit(resource: libc::__rlimit_resource_t) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the kernel writes the limits to a variable of ours.
    unsafe { libc::getrlimit(resource, &raw mut limit) };
    (limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// Nanoseconds of a clock that only goes forward: no step of the wall clock moves it, and the timeouts below run by the same clock.
pub(crate) fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the time to a variable of ours; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Wakes one sleeper on `word`, which may be gone: the kernel then finds nobody.
pub(crate) fn futex_wake<T>(word: *const T) {
    // SAFETY: the kernel uses the address as a key and does not write to it.
    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) };
}

/// What the kernel says about a descriptor, with the number that it was registered under.
pub(crate) type PollEvent = libc::epoll_event;

/// It can be read, or its peer has something to say by other means.
pub(crate) const READABLE: u32 = (libc::EPOLLIN | libc::EPOLLPRI | libc::EPOLLRDHUP).cast_unsigned();
/// It can be written.
pub(crate) const WRITABLE: u32 = libc::EPOLLOUT.cast_unsigned();
/// It failed, or both directions are closed: reads and writes return at once.
pub(crate) const BROKEN: u32 = (libc::EPOLLERR | libc::EPOLLHUP).cast_unsigned();
/// The peer writes no more.
pub(crate) const PEER_ENDED: u32 = (libc::EPOLLRDHUP).cast_unsigned();

/// Takes a descriptor that the kernel has just made.
fn own(fd: libc::c_int) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A new epoll instance.
pub(crate) fn epoll() -> io::Result<OwnedFd> {
    // SAFETY: takes a flag.
    own(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
}

/// A new counter that a thread in `epoll_wait` can be woken by.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: takes a number and flags.
    own(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
}

/// Adds one to an eventfd. Fails only if it is full, and then it is awake.
pub(crate) fn ring(eventfd: BorrowedFd<'_>) {
    let one = 1_u64;
    // SAFETY: the kernel reads eight bytes of ours.
    unsafe { libc::write(eventfd.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
}

/// Has changes of `fd` reported, in both directions, each once, under `token`.
pub(crate) fn epoll_add(epoll: BorrowedFd<'_>, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
    let events = READABLE | WRITABLE | libc::EPOLLET.cast_unsigned();
    let mut event = libc::epoll_event { events, u64: token };
    // SAFETY: the event lives through the call.
    done(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event) })
}

/// Has nothing of `fd` reported any more.
pub(crate) fn epoll_remove(epoll: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> io::Result<()> {
    let none = std::ptr::null_mut();
    // SAFETY: this operation reads no event.
    done(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd.as_raw_fd(), none) })
}

/// Fills `events` with what has changed and returns how many; waits for the first if there is none, for `timeout` at most.
///
/// A signal ends the wait with none. Waits for whole milliseconds, rounded up, where the kernel is older than 5.11.
pub(crate) fn epoll_wait(
    epoll: BorrowedFd<'_>,
    events: &mut [PollEvent],
    timeout: Option<Duration>,
) -> io::Result<usize> {
    let room = libc::c_int::try_from(events.len()).expect("a small number");
    let exact = timeout.map(timespec);
    let exact = exact.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let (fd, at, mask) = (epoll.as_raw_fd(), events.as_mut_ptr(), std::ptr::null::<libc::sigset_t>());
    // SAFETY: there is room for so many events, and the time outlives the call.
    let mut found = unsafe { libc::syscall(libc::SYS_epoll_pwait2, fd, at, room, exact, mask, 0_usize) };
    if found < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
        let coarse = timeout.map_or(-1, |left| {
            libc::c_int::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
        });
        // SAFETY: as above.
        found = unsafe { libc::epoll_wait(fd, at, room, coarse) }.into();
    }
    usize::try_from(found).or_else(|_| {
        let error = io::Error::last_os_error();
        if error.kind() == io::ErrorKind::Interrupted { Ok(0) } else { Err(error) }
    })
}

/// Blocks this thread until `fd` can be read, or written; `false` if `timeout` is over before.
pub(crate) fn wait_for_fd(fd: BorrowedFd<'_>, write: bool, timeout: Option<Duration>) -> io::Result<bool> {
    let events = if write { libc::POLLOUT } else { libc::POLLIN | libc::POLLRDHUP };
    let mut one = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    let timeout = timeout.map(timespec);
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: one descriptor's record and the time, both of which outlive the call.
    let found = unsafe { libc::ppoll(&raw mut one, 1, timeout, std::ptr::null()) };
    if found < 0 {
        let error = io::Error::last_os_error();
        // The caller tries its operation and comes back, as after every wait.
        return if error.kind() == io::ErrorKind::Interrupted { Ok(true) } else { Err(error) };
    }
    Ok(found > 0)
}

/// Has calls on the descriptor, by all who have it, say `WouldBlock` where they would block.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut on: libc::c_int = 1;
    // SAFETY: the kernel reads a number of ours.
    done(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONBIO, &raw mut on) })
}

/// A stream socket of this address's family that does not block, connecting to it. `true`: it is connected already.
pub(crate) fn connect(to: &SocketAddr) -> io::Result<(OwnedFd, bool)> {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes numbers.
    let socket = own(unsafe { libc::socket(family, kind, 0) })?;
    let result = match to {
        SocketAddr::V4(to) => {
            let address = libc::sockaddr_in {
                sin_family: family_number(libc::AF_INET),
                sin_port: to.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(to.ip().octets()) },
                sin_zero: [0; 8],
            };
            connect_to(&socket, &address)
        }
        SocketAddr::V6(to) => {
            let address = libc::sockaddr_in6 {
                sin6_family: family_number(libc::AF_INET6),
                sin6_port: to.port().to_be(),
                sin6_flowinfo: to.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: to.ip().octets() },
                sin6_scope_id: to.scope_id(),
            };
            connect_to(&socket, &address)
        }
    };
    match result {
        Ok(()) => Ok((socket, true)),
        // Interrupted, it goes on as well.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => {
            Ok((socket, false))
        }
        Err(error) => Err(error),
    }
}

/// A stream socket of this machine that does not block.
pub(crate) fn unix_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes numbers.
    own(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })
}

/// Connects such a socket; `WouldBlock` if too many wait there to be accepted.
pub(crate) fn connect_unix(socket: BorrowedFd<'_>, to: &UnixAddr) -> io::Result<()> {
    let refused = |text| io::Error::new(io::ErrorKind::InvalidInput, text);
    // A name outside of the file system begins with a zero, and ends where the address does.
    let (zero, name) = match (to.as_pathname(), to.as_abstract_name()) {
        (Some(path), _) => (0, path.as_os_str().as_bytes()),
        (None, Some(name)) => (1, name),
        (None, None) => return Err(refused("nobody can listen at an address without a name")),
    };
    let mut address = libc::sockaddr_un { sun_family: family_number(libc::AF_UNIX), sun_path: [0; SUN_PATH] };
    let place = address.sun_path.get_mut(zero..).and_then(|path| path.get_mut(..name.len()));
    let place = place.ok_or_else(|| refused("the path of a socket is too long"))?;
    for (to, from) in place.iter_mut().zip(name) {
        *to = from.cast_signed();
    }
    let ends_with_zero = usize::from(zero == 0 && name.len() < SUN_PATH);
    let size = std::mem::offset_of!(libc::sockaddr_un, sun_path) + zero + name.len() + ends_with_zero;
    let size = libc::socklen_t::try_from(size).expect("a small number");
    // SAFETY: the address is as the kernel lays it out, and at least of this size.
    done(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), size) })
}

/// Room for the path of a socket.
const SUN_PATH: usize = 108;

fn family_number(family: libc::c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(family).expect("a small number")
}

fn connect_to<A>(socket: &OwnedFd, address: &A) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<A>()).expect("a small number");
    // SAFETY: the callers pass an address as the kernel lays it out, of this size.
    done(unsafe { libc::connect(socket.as_raw_fd(), std::ptr::from_ref(address).cast(), size) })
}

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

/// A signal disposition as the kernel keeps it.
pub(crate) type Disposition = libc::sigaction;
/// What the kernel tells a handler about the signal.
pub(crate) type SignalInfo = libc::siginfo_t;
/// The interrupted registers, opaque here.
pub(crate) type SignalContext = libc::c_void;
/// A handler for a memory fault.
pub(crate) type FaultHandler = extern "C" fn(libc::c_int, *mut SignalInfo, *mut SignalContext);

/// Makes `handler` the SIGSEGV handler, on the alternate stack; returns what was there.
///
/// # Safety
/// `handler` does only what a signal handler may do.
pub(crate) unsafe fn handle_faults(handler: FaultHandler) -> io::Result<Disposition> {
    // SAFETY: all zeros is a disposition: the default one, with an empty mask.
    let mut new: Disposition = unsafe { std::mem::zeroed() };
    let mut old = new;
    new.sa_sigaction = handler as *const () as usize;
    new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: both point at dispositions of ours; the caller vouches for the handler.
    done(unsafe { libc::sigaction(libc::SIGSEGV, &raw const new, &raw mut old) })?;
    Ok(old)
}

/// Hands a fault to a disposition that was in force before ours.
///
/// # Safety
/// Called from a SIGSEGV handler with its own arguments.
pub(crate) unsafe fn pass_fault_on(
    to: &Disposition,
    signal: libc::c_int,
    info: *mut SignalInfo,
    context: *mut SignalContext,
) {
    match to.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {
            // The faulting instruction runs again and meets the default action, as it would have without us.
            // SAFETY: all zeros is the default disposition.
            let default: Disposition = unsafe { std::mem::zeroed() };
            // SAFETY: installs the default action.
            unsafe { libc::sigaction(signal, &raw const default, std::ptr::null_mut()) };
        }
        handler if to.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: the flag says that the handler takes three arguments.
            let handler = unsafe { std::mem::transmute::<usize, FaultHandler>(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: without the flag a handler takes the signal number alone.
            let handler = unsafe { std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(handler) };
            handler(signal);
        }
    }
}

/// The address whose access faulted.
///
/// # Safety
/// `info` is what the kernel gave a SIGSEGV handler.
pub(crate) unsafe fn fault_address(info: *const SignalInfo) -> usize {
    // SAFETY: the caller's contract.
    let info = unsafe { &*info };
    // SAFETY: for SIGSEGV the kernel fills the address in.
    unsafe { info.si_addr() }.addr()
}

/// Whether this thread has an alternate signal stack.
pub(crate) fn has_signal_stack() -> bool {
    let mut now = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: 0, ss_size: 0 };
    // SAFETY: a null new stack only reads the present one.
    let result = unsafe { libc::sigaltstack(std::ptr::null(), &raw mut now) };
    result == 0 && now.ss_flags & libc::SS_DISABLE == 0
}

/// Makes `bytes` at `at` this thread's alternate signal stack.
///
/// # Safety
/// The memory is used for nothing else until [`drop_signal_stack`].
pub(crate) unsafe fn set_signal_stack(at: *mut u8, bytes: usize) -> io::Result<()> {
    let new = libc::stack_t { ss_sp: at.cast(), ss_flags: 0, ss_size: bytes };
    // SAFETY: the caller gives the memory.
    done(unsafe { libc::sigaltstack(&raw const new, std::ptr::null_mut()) })
}

/// Leaves this thread without an alternate signal stack.
pub(crate) fn drop_signal_stack() {
    let none = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
    // SAFETY: takes the alternate stack away; it is not in use, as no handler of ours returns to a thread that ends.
    unsafe { libc::sigaltstack(&raw const none, std::ptr::null_mut()) };
}

/// Calls that unit tests make fail, on their own thread only.
#[cfg(test)]
pub(crate) mod inject {
    use std::cell::Cell;

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) enum Call {
        Reserve,
        GuardBatch,
        Guard,
        Unguard,
        Protect,
        Discard,
        DiscardBatch,
    }

    #[derive(Clone, Copy)]
    struct Plan {
        call: Call,
        succeed: u32,
        fail: u32,
        errno: i32,
    }

    thread_local! {
        static PLANS: Cell<[Option<Plan>; 2]> = const { Cell::new([None; 2]) };
        static CALLS: Cell<usize> = const { Cell::new(0) };
    }

    /// The next `times` uses of `call` fail with `errno`. Forgets what was planned before.
    pub(crate) fn fail(call: Call, times: u32, errno: i32) {
        fail_from(call, 1, times, errno);
    }

    /// From the `nth` use of `call` on, `times` of them fail with `errno`. Forgets what was planned before.
    pub(crate) fn fail_from(call: Call, nth: u32, times: u32, errno: i32) {
        PLANS.set([Some(Plan { call, succeed: nth - 1, fail: times, errno }), None]);
    }

    /// As [`fail_from`], in addition to what was planned last.
    pub(crate) fn fail_also(call: Call, nth: u32, times: u32, errno: i32) {
        let [first, _] = PLANS.get();
        PLANS.set([first, Some(Plan { call, succeed: nth - 1, fail: times, errno })]);
    }

    /// Whether every failure that was planned has happened; forgets the plan.
    pub(crate) fn all_happened() -> bool {
        PLANS.replace([None; 2]).iter().flatten().all(|plan| plan.fail == 0)
    }

    /// Calls of any of these kinds made by this thread so far.
    pub(crate) fn calls() -> usize {
        CALLS.get()
    }

    pub(super) fn check(call: Call) -> std::io::Result<()> {
        CALLS.set(CALLS.get() + 1);
        let mut plans = PLANS.get();
        let Some(plan) = plans.iter_mut().flatten().find(|plan| plan.call == call) else {
            return Ok(());
        };
        let errno = plan.errno;
        let refuse = plan.succeed == 0 && plan.fail > 0;
        if refuse {
            plan.fail -= 1;
        } else {
            plan.succeed = plan.succeed.saturating_sub(1);
        }
        PLANS.set(plans);
        if refuse { Err(std::io::Error::from_raw_os_error(errno)) } else { Ok(()) }
    }
}
