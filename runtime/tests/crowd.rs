//! A crowd of suspended coroutines, each with a guarded stack, on default sysctls: what it costs, that every guard holds, and that the
//! memory comes back.
//!
//! 200,000 of them, or as many as `SWITCHMARK_CROWD` says; the long check takes 1,000,000, in a release build. One test, since the counts
//! are of the whole process.

use std::sync::Mutex;

use switchmark_runtime::{Builder, Unparker, park, task, unparker, yield_now};

const STACK: usize = 64 << 10;
const PAGE: usize = 4096;

/// What the kernel books for this process, in bytes and lines.
#[derive(Clone, Copy, Debug)]
struct Ledger {
    anonymous: usize,
    page_tables: usize,
    mappings: usize,
}

impl Ledger {
    fn read() -> Ledger {
        let file = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap();
        let kib = |text: &str, field: &str| {
            let line = text.lines().find(|line| line.starts_with(field)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
        };
        Ledger {
            anonymous: kib(&file("smaps_rollup"), "Anonymous:"),
            page_tables: kib(&file("status"), "VmPTE:"),
            mappings: file("maps").lines().count(),
        }
    }

    fn all_told(self) -> usize {
        self.anonymous + self.page_tables
    }
}

/// Those who wait, and an address in the frame of each.
static PARKED: Mutex<Vec<(Unparker, usize)>> = Mutex::new(Vec::new());

fn grow_to(count: usize) {
    let missing = count - PARKED.lock().unwrap().len();
    for _ in 0..missing {
        let parked = task::Builder::new().stack_size(STACK).spawn(|| {
            let local = std::hint::black_box(0_u8);
            PARKED.lock().unwrap().push((unparker(), std::ptr::from_ref(&local).addr()));
            park();
        });
        drop(parked.unwrap());
    }
    while PARKED.lock().unwrap().len() < count {
        yield_now();
    }
}

fn disperse() {
    let parked = std::mem::take(&mut *PARKED.lock().unwrap());
    for (parked, _) in parked {
        parked.unpark();
    }
    yield_now();
}

/// Reads memory by the kernel's hand, which gets an error where the program would get a fault.
struct Probe([i32; 2]);

impl Probe {
    fn new() -> Probe {
        let mut ends = [0; 2];
        // SAFETY: fills two descriptors.
        assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK) }, 0);
        Probe(ends)
    }

    fn reads(&self, addr: usize) -> bool {
        let Probe([read, write]) = *self;
        let (at, mut byte) = (std::ptr::with_exposed_provenance::<libc::c_void>(addr), 0_u8);
        // SAFETY: the kernel checks the address; that is the point.
        let result = unsafe { libc::write(write, at, 1) };
        if result == 1 {
            // SAFETY: the kernel writes one byte.
            unsafe { libc::read(read, (&raw mut byte).cast(), 1) };
            return true;
        }
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EFAULT));
        false
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        for end in self.0 {
            // SAFETY: ours, and used no more.
            unsafe { libc::close(end) };
        }
    }
}

/// Address of the highest byte of the guard below a stack, given an address in its first frames. The guard holds in each of its pages.
fn guard_below(probe: &Probe, frame: usize) -> Result<usize, String> {
    let page = frame & !(PAGE - 1);
    let usable = (0..=STACK / PAGE).take_while(|below| probe.reads(page - below * PAGE)).count();
    let guard = page - usable * PAGE;
    let guarded = (0..16).take_while(|below| !probe.reads(guard - below * PAGE)).count();
    if usable > STACK / PAGE || guarded < 16 {
        return Err(format!("{usable} pages below {frame:#x} can be read, and {guarded} below them cannot"));
    }
    Ok(guard + PAGE - 1)
}

/// How a child ends that writes to an address, and what it says on standard error.
fn death_by_writing_to(addr: usize) -> (Option<i32>, String) {
    use std::io::Read as _;
    use std::os::fd::{FromRawFd as _, OwnedFd};
    let mut ends = [0; 2];
    // SAFETY: fills two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    let [read, write] = ends;
    // SAFETY: the child does nothing but what a signal handler may do.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: no core file of gigabytes.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const core) };
        // SAFETY: both are open.
        unsafe { libc::dup2(write, 2) };
        // SAFETY: it is not; this child is to die.
        unsafe { std::ptr::with_exposed_provenance_mut::<u8>(addr).write_volatile(1) };
        // SAFETY: does not return.
        unsafe { libc::_exit(0) };
    }
    assert!(child > 0, "{}", std::io::Error::last_os_error());
    // SAFETY: ours, and used no more.
    unsafe { libc::close(write) };
    let mut said = String::new();
    // SAFETY: ours, and owned by nobody else.
    let mut from_child = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(read) });
    from_child.read_to_string(&mut said).unwrap();
    let mut status = 0;
    // SAFETY: waits for our child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    (libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)), said)
}

struct Observed {
    flags: String,
    ledgers: Vec<(usize, Ledger)>,
    unguarded: Vec<String>,
    deaths: Vec<(Option<i32>, String)>,
}

/// The guards of about so many of those parked, and what was wrong with others.
fn guards(samples: usize) -> (Vec<usize>, Vec<String>) {
    let probe = Probe::new();
    let frames: Vec<usize> = PARKED.lock().unwrap().iter().map(|&(_, frame)| frame).collect();
    let (mut guards, mut unguarded) = (Vec::new(), Vec::new());
    for &frame in frames.iter().step_by((frames.len() / samples).max(1)) {
        match guard_below(&probe, frame) {
            Ok(guard) => guards.push(guard),
            Err(text) => unguarded.push(text),
        }
    }
    (guards, unguarded)
}

/// What the kernel has been told about the mapping that contains an address, in its two-letter flags.
fn flags_of_mapping(addr: usize) -> String {
    let mut inside = false;
    for line in std::fs::read_to_string("/proc/self/smaps").unwrap().lines() {
        if let Some(flags) = line.strip_prefix("VmFlags: ") {
            if inside {
                return flags.to_owned();
            }
        } else if let Some((first, last)) = line.split(' ').next().and_then(|range| range.split_once('-')) {
            let [first, last] = [first, last].map(|end| usize::from_str_radix(end, 16).unwrap());
            inside = (first..last).contains(&addr);
        }
    }
    String::new()
}

/// Nothing is asserted here: a failure would leave coroutines parked, and the runtime waits for them.
fn observe(count: usize) -> Observed {
    // Few, as each child copies the page tables of all.
    grow_to(count / 20);
    let flags = flags_of_mapping(PARKED.lock().unwrap()[0].1);
    let deaths = guards(10).0.into_iter().take(10).map(death_by_writing_to).collect();
    let mut ledgers = Vec::new();
    for part in [count / 4, count / 2, count] {
        grow_to(part);
        ledgers.push((part, Ledger::read()));
    }
    Observed { flags, ledgers, unguarded: guards(1000).1, deaths }
}

#[test]
fn a_crowd_of_guarded_stacks_is_cheap_guarded_and_given_back() {
    if cfg!(feature = "sanitize") {
        println!(
            "skipped: a sanitizer keeps memory of its own for each stack, which is what this test counts"
        );
        return;
    }
    let count = std::env::var("SWITCHMARK_CROWD").map_or(200_000, |count| count.parse().unwrap());
    // SAFETY: nothing here suspends in a thread-local's initialiser or under a scoped thread-local.
    let (before, observed, after) = unsafe {
        Builder::new().run_local(|| {
            grow_to(1000);
            disperse();
            let before = Ledger::read();
            let observed = observe(count);
            disperse();
            (before, observed, Ledger::read())
        })
    }
    .unwrap();
    let (first, last) = (observed.ledgers[0], *observed.ledgers.last().unwrap());
    assert!(last.1.mappings < 200, "{last:?}");
    let each = |of: fn(Ledger) -> usize| (of(last.1) - of(first.1)) as f64 / (last.0 - first.0) as f64;
    let (all_told, tables) = (each(Ledger::all_told), each(|ledger| ledger.page_tables));
    println!(
        "{count} coroutines: {all_told:.0} bytes each, {tables:.0} of them page tables; {before:?}, {last:?}, {after:?}"
    );
    // Unoptimised frames are larger; the promise is for release builds.
    let limit = if cfg!(debug_assertions) { 3.0 * 4096.0 } else { 4.6 * 1024.0 };
    assert!((4096.0..=limit).contains(&all_told), "{all_told} bytes each");
    assert!(observed.flags.split(' ').any(|flag| flag == "nh"), "no huge pages: {}", observed.flags);
    assert!(observed.unguarded.is_empty(), "{:?}", observed.unguarded);
    assert_eq!(observed.deaths.len(), 10);
    for (signal, said) in observed.deaths {
        assert_eq!(signal, Some(libc::SIGABRT), "{said}");
        // The handler of the guard's fault asks whose stack it is, which a forked child is told it cannot know; `overflow.rs` has the names.
        assert!(said.contains("coroutines do not survive a fork"), "{said}");
    }
    // What stays are the records, for the next crowd, and the free stacks that are kept.
    let grown = last.1.all_told() - before.all_told();
    let left = after.all_told().saturating_sub(before.all_told());
    assert!(left * 20 <= grown, "{left} bytes are left of {grown}");
}
