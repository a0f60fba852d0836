//! The models as async functions. What each one's work, ledger and check are stands at the head of the file of the
//! same name in `benches/src/models/`; the comments here say where tokio makes a difference.
//!
//! Every slice runs in a task of the scheduler, as a program's work does. (The future that `block_on` polls itself
//! lives beside the queue, and outside the workers of the multi-thread scheduler.) Between slices nothing runs.

use crate::units::{counted, since, switches};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use switchmark_benches::concurrency::{Concurrency, Thread};
use switchmark_benches::layout::{self, Layout};
use switchmark_harness::protocol::{Prepare, Sample};
use switchmark_schema::ParamValue;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

/// A cell that answers slices, or the reason why it cannot be had.
pub(crate) type Opened = Result<Box<dyn FnMut(u64) -> Sample>, String>;

/// How a task lets others run.
pub(crate) trait GiveWay: 'static {
    /// Ready when the task's turn comes again.
    fn give_way() -> impl Future<Output = ()> + Send;
}

/// `tokio::task::yield_now`: the task is put aside and queued after the next turn of the driver.
pub(crate) struct YieldNow;

impl GiveWay for YieldNow {
    fn give_way() -> impl Future<Output = ()> + Send {
        tokio::task::yield_now()
    }
}

/// A future that wakes its own task: straight into the run queue.
pub(crate) struct SelfWake;

impl GiveWay for SelfWake {
    fn give_way() -> impl Future<Output = ()> + Send {
        SelfWoken { woken: false }
    }
}

struct SelfWoken {
    woken: bool,
}

impl Future for SelfWoken {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.woken {
            return Poll::Ready(());
        }
        self.woken = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Runs the slices of a cell, each as a task.
///
/// A task keeps nothing on a stack between polls, so what can be entered at random depths is the scheduler, once a slice.
fn slices<F>(runtime: Arc<Runtime>, mut slice: impl FnMut(u64) -> F + 'static) -> Opened
where
    F: Future<Output = Sample> + Send + 'static,
{
    let mut layout = Layout::of_unit(0);
    Ok(Box::new(move |iterations| {
        let mut work = Some(slice(iterations));
        let mut sample = None;
        layout.enter(|| {
            let task = runtime.spawn(work.take().expect("entered once"));
            sample = Some(runtime.block_on(answer(task)));
        });
        sample.expect("entered once")
    }))
}

async fn answer<T>(unit: JoinHandle<T>) -> T {
    unit.await.expect("a unit panicked; its message is above")
}

/// The clock of every contender.
fn stamp() -> u64 {
    Thread::stamp()
}

fn number(prepare: &Prepare, name: &str) -> Result<usize, String> {
    usize::try_from(prepare.number(name)?)
        .map_err(|_| format!("parameter {name} is more than this machine can count"))
}

/// Those who wait for each other before the work begins.
#[derive(Default)]
struct Start {
    arrived: AtomicUsize,
    started: AtomicBool,
}

impl Start {
    /// Of the first unit: until all have arrived.
    async fn gather<G: GiveWay>(&self, units: usize) {
        // Acquire: pairs with the Release in `follow`.
        while self.arrived.load(Ordering::Acquire) + 1 < units {
            G::give_way().await;
        }
    }

    /// Of the first unit: the work begins.
    fn begin(&self) {
        // Release: pairs with the Acquire in `follow`.
        self.started.store(true, Ordering::Release);
    }

    /// Of the others: until the work begins.
    async fn follow<G: GiveWay>(&self) {
        // Release: pairs with the Acquire in `gather`.
        self.arrived.fetch_add(1, Ordering::Release);
        // Acquire: pairs with the Release in `begin`.
        while !self.started.load(Ordering::Acquire) {
            G::give_way().await;
        }
    }
}

/// What the first unit measured.
struct Timed {
    elapsed_ns: u64,
    switches: Option<u64>,
    answer: u64,
}

/// Times the work of the first unit.
async fn timed(work: impl Future<Output = u64>) -> Timed {
    let (before, start) = (switches(), stamp());
    let answer = work.await;
    let elapsed_ns = stamp() - start;
    Timed { elapsed_ns, switches: since(before), answer }
}

/// The ring is made anew for each slice: a task is cheap to start, and what that takes is reported as `base_ns`.
pub(crate) fn yield_ring<G: GiveWay>(prepare: &Prepare, runtime: Arc<Runtime>) -> Opened {
    let tasks = number(prepare, "tasks")?;
    slices(runtime, move |iterations| async move {
        let begin = stamp();
        let (start, over) = (Arc::new(Start::default()), Arc::new(AtomicBool::new(false)));
        let (gathering, flag) = (Arc::clone(&start), Arc::clone(&over));
        let leader = tokio::spawn(counted(0, async move {
            gathering.gather::<G>(tasks).await;
            timed(async {
                gathering.begin();
                for _ in 0..iterations {
                    G::give_way().await;
                }
                // Relaxed, here and where it is read: it orders nothing but itself.
                flag.store(true, Ordering::Relaxed);
                iterations
            })
            .await
        }));
        let followers: Vec<JoinHandle<u64>> = (1..tasks)
            .map(|ordinal| {
                let (start, over) = (Arc::clone(&start), Arc::clone(&over));
                tokio::spawn(counted(ordinal, async move {
                    start.follow::<G>().await;
                    let mut yields = 0;
                    while !over.load(Ordering::Relaxed) {
                        G::give_way().await;
                        yields += 1;
                    }
                    yields
                }))
            })
            .collect();
        let lead = answer(leader).await;
        let mut check = lead.answer;
        for follower in followers {
            check += answer(follower).await;
        }
        Sample {
            iterations,
            elapsed_ns: lead.elapsed_ns,
            base_ns: Some(stamp() - begin - lead.elapsed_ns),
            units: tasks as u64,
            peak_live: tasks as u64,
            switches: lead.switches,
            check,
            ..Sample::default()
        }
    })
}

/// tokio has no park. A program that hands over a token in memory waits on a `Notify` of each side, which keeps one
/// permit as a parked unit does.
#[derive(Default)]
struct Table {
    /// Even: the first unit's turn. Odd: the second's.
    token: AtomicU64,
    sides: [Notify; 2],
}

impl Table {
    fn pass(&self, token: u64, to: usize) {
        // Release: pairs with the Acquire in `wait_for`. Only the side whose turn it is writes.
        self.token.store(token, Ordering::Release);
        self.sides[to].notify_one();
    }

    async fn wait_for(&self, token: u64, side: usize) {
        // Acquire: pairs with the Release in `pass`.
        while self.token.load(Ordering::Acquire) != token {
            self.sides[side].notified().await;
        }
    }
}

pub(crate) fn ping_pong(runtime: Arc<Runtime>) -> Opened {
    slices(runtime, |iterations| async move {
        let begin = stamp();
        let (start, table) = (Arc::new(Start::default()), Arc::new(Table::default()));
        let (gathering, first) = (Arc::clone(&start), Arc::clone(&table));
        let server = tokio::spawn(counted(0, async move {
            gathering.gather::<YieldNow>(2).await;
            timed(async {
                gathering.begin();
                let mut token = 0;
                for _ in 0..iterations {
                    first.pass(token + 1, 1);
                    token += 2;
                    first.wait_for(token, 0).await;
                }
                token
            })
            .await
        }));
        let second = Arc::clone(&table);
        let partner = tokio::spawn(counted(1, async move {
            start.follow::<YieldNow>().await;
            let mut token = 1;
            for _ in 0..iterations {
                second.wait_for(token, 1).await;
                second.pass(token + 1, 0);
                token += 2;
            }
        }));
        let serve = answer(server).await;
        answer(partner).await;
        Sample {
            iterations,
            elapsed_ns: serve.elapsed_ns,
            base_ns: Some(stamp() - begin - serve.elapsed_ns),
            units: 2,
            peak_live: 2,
            switches: serve.switches,
            // Relaxed: both units have ended, and were waited for.
            check: table.token.load(Ordering::Relaxed),
            ..Sample::default()
        }
    })
}

/// A task has no stack of its own: `stack` does not apply, and what it touches is the worker's.
pub(crate) fn spawn_join(prepare: &Prepare, runtime: Arc<Runtime>) -> Opened {
    let touched = number(prepare, "touched")?;
    slices(runtime, move |iterations| async move {
        let (mut started, mut sum) = (0, 0);
        let start = stamp();
        for _ in 0..iterations {
            started += 1;
            let value = 2 * started;
            let unit = tokio::spawn(async move {
                layout::touch(touched);
                value
            });
            sum += answer(unit).await;
        }
        let elapsed_ns = stamp() - start;
        Sample { iterations, elapsed_ns, units: started, peak_live: 1, check: sum, ..Sample::default() }
    })
}

pub(crate) fn spawn_batch(prepare: &Prepare, runtime: Arc<Runtime>) -> Opened {
    let batch = number(prepare, "batch")?;
    if batch == 0 {
        return Err("parameter batch is 0: there is nobody to start".into());
    }
    let ended: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(0)));
    slices(runtime, move |iterations| async move {
        // Relaxed, here and below: a count, read to know how many, not to see what they did.
        ended.store(0, Ordering::Relaxed);
        let mut units = Vec::with_capacity(batch);
        let (mut started, mut peak, mut sum) = (0, 0, 0);
        let start = stamp();
        for _ in 0..iterations {
            for _ in 0..batch {
                started += 1;
                let value = 2 * started;
                units.push(tokio::spawn(async move {
                    ended.fetch_add(1, Ordering::Relaxed);
                    value
                }));
                peak = peak.max(started - ended.load(Ordering::Relaxed));
            }
            for unit in units.drain(..) {
                sum += answer(unit).await;
            }
        }
        let elapsed_ns = stamp() - start;
        Sample { iterations, elapsed_ns, units: started, peak_live: peak, check: sum, ..Sample::default() }
    })
}

/// Children of an inner node.
const FANOUT: usize = 10;

/// The same, where numbers are counted.
const TEN: u64 = FANOUT as u64;

/// What the nodes count. All accesses are Relaxed: counts alone, read when all units have been joined.
#[derive(Default)]
struct Census {
    started: AtomicU64,
    live: AtomicU64,
    peak: AtomicU64,
}

impl Census {
    fn start(&self, units: u64) {
        self.started.fetch_add(units, Ordering::Relaxed);
        let live = self.live.fetch_add(units, Ordering::Relaxed) + units;
        if live > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(live, Ordering::Relaxed);
        }
    }

    fn end(&self, units: u64) {
        self.live.fetch_sub(units, Ordering::Relaxed);
    }
}

pub(crate) fn tree(prepare: &Prepare, runtime: Arc<Runtime>) -> Opened {
    let depth = u32::try_from(number(prepare, "depth")?).ok().filter(|d| (1..=9).contains(d));
    let leaves = TEN.pow(depth.ok_or("parameter depth is not between 1 and 9")?);
    let census: &'static Census = Box::leak(Box::default());
    slices(runtime, move |iterations| async move {
        census.started.store(0, Ordering::Relaxed);
        census.peak.store(0, Ordering::Relaxed);
        let mut sum = 0;
        let start = stamp();
        for _ in 0..iterations {
            census.start(1);
            sum += answer(node(census, 0, leaves)).await;
            census.end(1);
        }
        let elapsed_ns = stamp() - start;
        Sample {
            iterations,
            elapsed_ns,
            units: census.started.load(Ordering::Relaxed),
            peak_live: census.peak.load(Ordering::Relaxed),
            check: sum,
            ..Sample::default()
        }
    })
}

/// Starts the node above the `leaves` that begin with `first`.
fn node(census: &'static Census, first: u64, leaves: u64) -> JoinHandle<u64> {
    tokio::spawn(async move {
        if leaves == 1 {
            return first;
        }
        let below = leaves / TEN;
        census.start(TEN);
        let children: [JoinHandle<u64>; FANOUT] =
            std::array::from_fn(|n| node(census, first + n as u64 * below, below));
        let mut sum = 0;
        for child in children {
            sum += answer(child).await;
        }
        census.end(TEN);
        sum
    })
}

/// tokio's bounded channel takes one message at least. A hand-over is a channel of one and a `Notify` by which the receiver
/// says that it took the message: it keeps one permit, and there is one sender.
#[derive(Clone)]
struct Sender {
    channel: mpsc::Sender<u64>,
    taken: Option<Arc<Notify>>,
}

impl Sender {
    async fn send(&self, message: u64) {
        self.channel.send(message).await.expect("the receiver lives as long as the slice");
        if let Some(taken) = &self.taken {
            taken.notified().await;
        }
    }
}

struct Receiver {
    channel: mpsc::Receiver<u64>,
    taken: Option<Arc<Notify>>,
}

impl Receiver {
    async fn receive(&mut self) -> u64 {
        let message = self.channel.recv().await.expect("the senders live as long as the slice");
        if let Some(taken) = &self.taken {
            taken.notify_one();
        }
        message
    }
}

pub(crate) fn pump(prepare: &Prepare, runtime: Arc<Runtime>) -> Opened {
    let capacity = number(prepare, "capacity")?;
    let (producers, consumers) = (number(prepare, "producers")?, number(prepare, "consumers")?);
    match prepare.param("implementation") {
        Some(ParamValue::Word(word)) if word == "own" => {}
        _ => {
            return Err("tokio's tasks wait in tokio's own channel; another would block the OS thread".into());
        }
    }
    if consumers != 1 {
        return Err(format!("tokio's bounded channel has one receiver, not {consumers}"));
    }
    if producers == 0 {
        return Err("a pump takes one producer at least".into());
    }
    if capacity == 0 && producers > 1 {
        return Err("tokio's bounded channel holds one message at least; the hand-over made of it here has one sender".into());
    }
    slices(runtime, move |iterations| async move {
        let begin = stamp();
        let start = Arc::new(Start::default());
        let (to, from) = mpsc::channel(capacity.max(1));
        let taken = (capacity == 0).then(|| Arc::new(Notify::new()));
        let mut receiver = Receiver { channel: from, taken: taken.clone() };
        let gathering = Arc::clone(&start);
        let consumer = tokio::spawn(counted(0, async move {
            gathering.gather::<YieldNow>(1 + producers).await;
            // The last message ends the work: each has been put in by then.
            timed(async {
                gathering.begin();
                let mut sum = 0;
                for _ in 0..iterations {
                    sum += receiver.receive().await;
                }
                sum
            })
            .await
        }));
        let sender = Sender { channel: to, taken };
        let producing: Vec<JoinHandle<()>> = (0..producers as u64)
            .map(|ordinal| {
                let (start, sender) = (Arc::clone(&start), sender.clone());
                let unit = usize::try_from(ordinal).expect("it was one") + 1;
                tokio::spawn(counted(unit, async move {
                    start.follow::<YieldNow>().await;
                    let mut message = ordinal + 1;
                    while message <= iterations {
                        sender.send(2 * message).await;
                        message += producers as u64;
                    }
                }))
            })
            .collect();
        let consume = answer(consumer).await;
        for producer in producing {
            answer(producer).await;
        }
        Sample {
            iterations,
            elapsed_ns: consume.elapsed_ns,
            base_ns: Some(stamp() - begin - consume.elapsed_ns),
            units: 1 + producers as u64,
            peak_live: 1 + producers as u64,
            switches: consume.switches,
            check: consume.answer,
            ..Sample::default()
        }
    })
}

/// A population that outlives its slices.
struct Population {
    /// Population that the driver waits for.
    awaited: AtomicU64,
    reported: AtomicU64,
    driver: Notify,
    /// What would wake each unit: part of a unit's bill, as the unparkers of the others are.
    wakers: Vec<OnceLock<Arc<Notify>>>,
    units: std::sync::Mutex<Vec<JoinHandle<()>>>,
}

pub(crate) fn parked(prepare: &Prepare, runtime: Arc<Runtime>) -> Opened {
    let most = number(prepare, "units")?;
    let population = Arc::new(Population {
        awaited: AtomicU64::new(0),
        reported: AtomicU64::new(0),
        driver: Notify::new(),
        wakers: (0..most).map(|_| OnceLock::new()).collect(),
        units: std::sync::Mutex::default(),
    });
    slices(runtime, move |iterations| grown(Arc::clone(&population), iterations))
}

async fn grown(population: Arc<Population>, to: u64) -> Sample {
    let start = stamp();
    // Relaxed: spawning makes it visible to the units.
    population.awaited.store(to, Ordering::Relaxed);
    let parked = {
        let mut units = population.units.lock().expect("nobody panics with it");
        for ordinal in units.len()..usize::try_from(to).expect("no more than `units`") {
            units.push(tokio::spawn(live(ordinal, Arc::clone(&population))));
        }
        units.len() as u64
    };
    // Acquire: pairs with the AcqRel in `live`; shows what all units wrote.
    while population.reported.load(Ordering::Acquire) < to {
        population.driver.notified().await;
    }
    Sample {
        iterations: to,
        elapsed_ns: stamp() - start,
        units: parked,
        peak_live: parked,
        // Relaxed: acquired above.
        check: population.reported.load(Ordering::Relaxed),
        parked: Some(parked),
        ..Sample::default()
    }
}

/// The life of a unit: reports, then waits for what never comes. The runtime drops it where it waits.
async fn live(ordinal: usize, population: Arc<Population>) {
    let waker = Arc::new(Notify::new());
    let fresh = population.wakers[ordinal].set(Arc::clone(&waker)).is_ok();
    assert!(fresh, "each ordinal is one unit's");
    // AcqRel: releases this unit's writes to the driver's Acquire in `grown`, through the later reports.
    // Relaxed for `awaited`: it was written before this unit was spawned.
    if population.reported.fetch_add(1, Ordering::AcqRel) + 1 == population.awaited.load(Ordering::Relaxed) {
        population.driver.notify_one();
    }
    waker.notified().await;
}
