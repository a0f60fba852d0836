//! A run of the soak: a warm-up, the same again for longer, the books, and the memory before and after.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use switchmark_runtime::chan::{self, Sender};
use switchmark_runtime::{Builder, Runtime, park, task, unparker};

use super::books::{BOOKS, Child, Me, Rng, add, count, install_hook, mistake, unit};
use super::{jobs, outside};

/// Jobs that run at one time.
const JOBS: usize = 48;
/// How deep jobs spawn jobs.
const DEPTH: u32 = 2;
/// Coroutines of each class that wait at one time at the end of a phase. They use what a free stack may keep, so that both phases leave the
/// pool as many stacks with as many pages; else those that were never deep yet would fill up slowly and look like a leak.
const CROWD: u64 = 500;
/// How often they come: how many of them fall to which worker is chance.
const CROWDS: usize = 4;
/// Bytes of a free stack that stay resident.
const KEPT: u64 = 8 << 10;
/// Without a job's end for so long, something is stuck.
const PATIENCE: Duration = Duration::from_secs(20);
/// Seconds that a run has to have, for a warm-up after which memory says something: in the first ones magazines and lists still fill.
const WARM: f64 = 30.0;
/// How much more memory than after the warm-up there may be in the end, in parts of a hundred.
const PERCENT: u64 = 5;

/// Runs for about `seconds`, a quarter of it before the base line is taken. Returns what is wrong.
pub(crate) fn run(seconds: f64, seed: u64) -> Vec<String> {
    install_hook();
    outside::start();
    let mut rng = Rng::new(seed);
    // SAFETY: nothing in the jobs suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
    let runtime = unsafe { Builder::new().workers(2).build() }.expect("two workers can be had");
    let mut wrong = Vec::new();
    let mut before = Memory::default();
    for (phase, share) in [0.25, 0.75].into_iter().enumerate() {
        load(&runtime, &mut rng, Duration::from_secs_f64(seconds * share));
        for _ in 0..CROWDS {
            crowd(&runtime, &mut rng);
            if let Err(stuck) = come_to_rest(&runtime) {
                wrong.push(stuck);
                return wrong; // Whoever is stuck would also keep the runtime from ending.
            }
        }
        let memory = Memory::at_rest(&runtime, &mut rng);
        println!("phase {phase}: {memory:?}");
        if phase == 0 {
            before = memory;
        } else if seconds >= WARM && memory.bytes() * 100 > before.bytes() * (100 + PERCENT) {
            wrong.push(format!("memory grew from {before:?} to {memory:?}, by more than {PERCENT} %"));
        }
        wrong.extend(BOOKS.balance(runtime.metrics()));
    }
    print!("{}", BOOKS.lines());
    println!("{:?}", runtime.metrics());
    // A coroutine counts as ended, and is joined, a moment before it leaves its stack.
    let end = Instant::now() + PATIENCE;
    while !runtime.handle().coroutines().is_empty() && Instant::now() < end {
        std::thread::yield_now();
    }
    if !runtime.handle().coroutines().is_empty() {
        wrong.push(format!("coroutines are left: {:#?}", runtime.handle().coroutines()));
    }
    if runtime.shutdown_timeout(Duration::from_secs(10)).is_err() {
        wrong.push("a runtime without coroutines does not end".into());
    }
    wrong
}

/// A coroutine from outside, and its line in the books.
fn submit(runtime: &Runtime, rng: &mut Rng, body: impl FnOnce(&mut Me) + Send + 'static) -> Child {
    let (body, expected) = unit(rng, DEPTH, body);
    Child { handle: runtime.spawn(body), expected }
}

fn load(runtime: &Runtime, rng: &mut Rng, time: Duration) {
    let (places, taken) = chan::bounded(JOBS);
    let end = Instant::now() + time;
    while Instant::now() < end {
        if places.send_timeout((), PATIENCE).is_err() {
            return; // Then it does not come to rest either, and says who is stuck.
        }
        let place = Place(taken.clone()); // It goes with the closure, also if that never runs.
        let job = submit(runtime, rng, move |me| {
            jobs::job(me);
            drop(place);
        });
        match rng.below(8) {
            0 => outside::join(job),
            1 => outside::cancel(job, rng.once_in(2)),
            _ => drop(job),
        }
    }
}

/// Makes room for the next job, however this one ends.
struct Place(chan::Receiver<()>);

impl Drop for Place {
    fn drop(&mut self) {
        if self.0.try_recv().is_err() {
            mistake("a job had no place");
        }
    }
}

/// Many that wait at one time, of each class.
fn crowd(runtime: &Runtime, rng: &mut Rng) {
    let mut children = Vec::new();
    for bytes in [64 << 10, 256 << 10, 1 << 20] {
        let (ready, unparkers) = chan::unbounded();
        let spawner: Sender<_> = ready;
        let crowd = submit(runtime, rng, move |me| {
            for _ in 0..CROWD {
                let ready = spawner.clone();
                let (body, expected) = unit(&mut me.rng, 0, move |_: &mut Me| {
                    jobs::descend(KEPT);
                    ready.send(unparker()).expect("somebody counts the crowd");
                    drop(ready);
                    park();
                });
                let handle =
                    task::Builder::new().stack_size(bytes).spawn(body).expect("there is such a stack");
                drop(Child { handle, expected });
            }
        });
        children.push((crowd, unparkers));
    }
    let all: Vec<_> = children.iter().map(|(_, unparkers)| unparkers.iter().collect::<Vec<_>>()).collect();
    for unparker in all.into_iter().flatten() {
        unparker.unpark();
    }
    for (crowd, _) in children {
        crowd.join();
    }
}

/// Waits until everything has ended; else says who has not.
fn come_to_rest(runtime: &Runtime) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let metrics = runtime.metrics();
        // The outside first: it may be what a coroutine waits for.
        let rest = outside::pending() == 0
            && metrics.spawned == metrics.ended
            && count(&BOOKS.units) == metrics.spawned
            && runtime.metrics() == metrics;
        if rest {
            return Ok(());
        }
        if Instant::now() > end {
            let waiting = runtime.handle().coroutines();
            let outside = outside::pending();
            return Err(format!("hangs: {metrics:?}, {outside} tasks outside, {waiting:#?}"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What the kernel books for this process.
#[derive(Clone, Copy, Default)]
struct Memory {
    anonymous: u64,
    page_tables: u64,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Memory { anonymous, page_tables } = self;
        write!(f, "{} KiB resident, {} KiB of page tables", anonymous >> 10, page_tables >> 10)
    }
}

impl Memory {
    fn bytes(self) -> u64 {
        self.anonymous + self.page_tables
    }

    fn now() -> Memory {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).expect("this is Linux");
        let kib = |text: &str, field: &str| {
            let line = text.lines().find(|line| line.starts_with(field)).expect("the kernel books it");
            line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
        };
        Memory {
            anonymous: kib(&read("smaps_rollup"), "Anonymous:"),
            page_tables: kib(&read("status"), "VmPTE:"),
        }
    }

    /// After free stacks have been looked through: workers do that when they go to sleep, so they are woken now and then, and what was
    /// kept on evidence is given up after a second without use.
    fn at_rest(runtime: &Runtime, rng: &mut Rng) -> Memory {
        static WOKEN: AtomicU64 = AtomicU64::new(0);
        for _ in 0..12 {
            std::thread::sleep(Duration::from_millis(250));
            submit(runtime, rng, |_| {
                WOKEN.fetch_add(1, Ordering::Relaxed);
            })
            .join();
        }
        add(&BOOKS.jobs);
        // SAFETY: it takes a number and gives free memory of the allocator back.
        unsafe { libc::malloc_trim(0) };
        Memory::now()
    }
}
