//! Every libc call of the harness, thin: errors as [`io::Error`], no policy. The only unsafe code here.
#![allow(unsafe_code, reason = "libc")]

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// CPUs this thread may run on, ascending.
pub(crate) fn affinity() -> io::Result<Vec<usize>> {
    // SAFETY: an all-zero `cpu_set_t` is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the size is that of the set behind the pointer, which lives through the call.
    let done = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    let limit = usize::try_from(libc::CPU_SETSIZE).expect("a positive constant");
    // SAFETY: every index is below CPU_SETSIZE.
    Ok((0..limit).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// Lets this thread run on these CPUs only. Each must be below `CPU_SETSIZE`, as those of [`affinity`] are.
pub(crate) fn set_affinity(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: an all-zero `cpu_set_t` is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &cpu in cpus {
        // SAFETY: libc's CPU_SET indexes a fixed array with a bounds check, and panics beyond it.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: the size is that of the set behind the pointer, which lives through the call.
    let done = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes this thread run only where nothing else wants to.
pub(crate) fn become_idle_priority() -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameter lives through the call; SCHED_IDLE takes priority 0.
    let done = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameter) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits until `fd` can be read or is closed by the other side; `false` when the time is up or a signal came.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one pollfd, which lives through the call.
    match unsafe { libc::poll(&raw mut poll, 1, millis) } {
        -1 => match io::Error::last_os_error() {
            e if e.kind() == io::ErrorKind::Interrupted => Ok(false),
            e => Err(e),
        },
        ready => Ok(ready > 0),
    }
}

/// CPU time that a process has used, all its threads together.
pub(crate) fn process_cpu_time(pid: u32) -> io::Result<Duration> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let mut clock: libc::clockid_t = 0;
    // SAFETY: the clock id lives through the call.
    let error = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the timespec lives through the call.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let seconds = u64::try_from(time.tv_sec).map_err(io::Error::other)?;
    Ok(Duration::new(seconds, u32::try_from(time.tv_nsec).map_err(io::Error::other)?))
}

/// An epoll set without members.
pub(crate) fn epoll_create() -> io::Result<OwnedFd> {
    // SAFETY: it takes a flag.
    let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Adds a member that is reported, by `token`, while it can be read.
pub(crate) fn epoll_add(epoll: BorrowedFd<'_>, member: BorrowedFd<'_>, token: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: token };
    let (epoll, member) = (epoll.as_raw_fd(), member.as_raw_fd());
    // SAFETY: the event lives through the call.
    let done = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, member, &raw mut event) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits for members that can be read; how many of `events` are filled, none when the time is up or a signal came.
/// Without a timeout it waits for ever.
pub(crate) fn epoll_wait(
    epoll: BorrowedFd<'_>,
    events: &mut [libc::epoll_event],
    timeout: Option<Duration>,
) -> io::Result<usize> {
    let millis = timeout.map_or(-1, |t| i32::try_from(t.as_millis()).unwrap_or(i32::MAX));
    let room = i32::try_from(events.len()).unwrap_or(i32::MAX);
    // SAFETY: `events` has room for so many, and lives through the call.
    let ready = unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), room, millis) };
    usize::try_from(ready).or_else(|_| match io::Error::last_os_error() {
        e if e.kind() == io::ErrorKind::Interrupted => Ok(0),
        e => Err(e),
    })
}

/// As [`epoll_wait`], with a timeout that is kept to the nanosecond as far as the kernel can; `ENOSYS` before Linux 5.11.
pub(crate) fn epoll_wait_exactly(
    epoll: BorrowedFd<'_>,
    events: &mut [libc::epoll_event],
    timeout: Duration,
) -> io::Result<usize> {
    let seconds = libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX);
    let exact = libc::timespec { tv_sec: seconds, tv_nsec: timeout.subsec_nanos().into() };
    let no_mask = std::ptr::null::<libc::sigset_t>();
    let (fd, at, room) = (epoll.as_raw_fd(), events.as_mut_ptr(), events.len());
    // SAFETY: `events` has room for so many, it and the timeout live through the call; without a mask its size says nothing.
    let ready =
        unsafe { libc::syscall(libc::SYS_epoll_pwait2, fd, at, room, &raw const exact, no_mask, 0_usize) };
    usize::try_from(ready).or_else(|_| match io::Error::last_os_error() {
        e if e.kind() == io::ErrorKind::Interrupted => Ok(0),
        e => Err(e),
    })
}

/// Takes the slack out of this thread's timeouts, by which the kernel lets wakings gather: 50 µs otherwise.
pub(crate) fn wake_in_time() -> io::Result<()> {
    const LEAST_NS: libc::c_ulong = 1;
    // SAFETY: it takes numbers.
    let done = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, LEAST_NS) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the kernel knows guard markers, by trying one on a page of our own.
pub(crate) fn has_guard_markers() -> bool {
    const MADV_GUARD_INSTALL: libc::c_int = 102;
    const PAGE: usize = 4096;
    // SAFETY: a new private mapping of no file, wherever the kernel likes.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            PAGE,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return false;
    }
    // SAFETY: the page is ours, and nobody reads it.
    let known = unsafe { libc::madvise(page, PAGE, MADV_GUARD_INSTALL) } == 0;
    // SAFETY: mapped above and used no more.
    unsafe { libc::munmap(page, PAGE) };
    known
}

/// Descriptors that this process may have open at once, now and if it asks.
pub(crate) fn descriptor_limits() -> io::Result<(u64, u64)> {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limits live through the call.
    let done = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limits) };
    if done == 0 { Ok((limits.rlim_cur, limits.rlim_max)) } else { Err(io::Error::last_os_error()) }
}

/// Asks for as many descriptors at once.
pub(crate) fn set_descriptor_limits(now: u64, most: u64) -> io::Result<()> {
    let limits = libc::rlimit { rlim_cur: now, rlim_max: most };
    // SAFETY: the limits live through the call.
    let done = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An address as the kernel takes it.
fn sockaddr(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::sa_family_t::try_from(libc::AF_INET).expect("a small constant"),
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
}

/// A connection from a source address; the kernel chooses its port when it knows where it leads, so that the ports of one
/// address serve each destination anew.
pub(crate) fn connect_from(source: Ipv4Addr, to: SocketAddrV4) -> io::Result<TcpStream> {
    let checked = |done: i32| if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done) };
    let size = libc::socklen_t::try_from(size_of::<libc::sockaddr_in>()).expect("a small constant");
    // SAFETY: it takes numbers.
    let fd = checked(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor is new, and nobody else's.
    let stream = unsafe { TcpStream::from_raw_fd(fd) };
    let yes: libc::c_int = 1;
    let option = (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
    let length = libc::socklen_t::try_from(size_of_val(&yes)).expect("a small constant");
    // SAFETY: the option is an int, of the length given, which lives through the call.
    checked(unsafe { libc::setsockopt(fd, option.0, option.1, (&raw const yes).cast(), length) })?;
    let from = sockaddr(SocketAddrV4::new(source, 0));
    // SAFETY: an address of the size given, which lives through the call.
    checked(unsafe { libc::bind(fd, (&raw const from).cast(), size) })?;
    let to = sockaddr(to);
    // SAFETY: as above.
    checked(unsafe { libc::connect(fd, (&raw const to).cast(), size) })?;
    Ok(stream)
}

/// What a hypervisor calls itself in the processor's identification, as in `KVMKVMKVM`.
pub(crate) fn hypervisor_signature() -> Option<String> {
    #[cfg(target_arch = "x86_64")]
    {
        /// First leaf of the range that processors leave to hypervisors; its registers spell the name.
        const SIGNATURE: u32 = 0x4000_0000;
        let leaf = std::arch::x86_64::__cpuid(SIGNATURE);
        let bytes = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes).concat();
        let name: String = bytes.iter().map(|b| char::from(*b)).filter(char::is_ascii_graphic).collect();
        (!name.is_empty()).then_some(name)
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}
