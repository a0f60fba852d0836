//! Sentences made from numbers: the answer, the findings that title the figures, the lecture's four aspects.
//!
//! Each says the result and its uncertainty, then stops. Where a document has no interval the sentence says that
//! instead; no sentence is made from a number alone. All of it is plain text: the template escapes.

use crate::anatomy;
use crate::view::{self, Advantage, Family, Group, Workload, cell_point};
use crate::words::{
    clean, digits, factor_interval, level, percent, quantity, quantity_interval, range, unit_parts,
};
use std::fmt::Write as _;
use switchmark_schema::{Better, Cell, FindingStatus, ResultDocument, Status};

/// The first thing a reader sees: three to five sentences.
pub(crate) fn answer(doc: &ResultDocument, families: &[Family]) -> Vec<String> {
    if doc.cells.is_empty() {
        return vec!["This result holds no cell: nothing was measured, so nothing can be said.".into()];
    }
    let mut out: Vec<String> = Vec::new();
    out.extend(
        quoted(families, "switch.yield").and_then(|g| compared("Giving way to the next in line takes", g)),
    );
    out.extend(
        quoted(families, "switch.handoff")
            .and_then(|g| compared("Waking a partner and waiting for its answer takes", g)),
    );
    out.extend(
        quoted(families, "spawn.serial").and_then(|g| compared("Starting one more and joining it takes", g)),
    );
    out.extend(quoted(families, "stack.idle").and_then(|g| compared("Keeping one that only waits takes", g)));
    out.extend(quoted(families, "io.echo").and_then(served));
    if let (Some(first), Some(machine)) = (out.first_mut(), Some("On this machine")) {
        let mut chars = first.chars();
        if let Some(c) = chars.next() {
            *first = format!("{machine}, {}{}", c.to_lowercase(), chars.as_str());
        }
    }
    out.extend(break_even(families));
    if !out.is_empty() {
        return out;
    }
    let census = &doc.census;
    if census.measured == 0 {
        let why = crate::terminal::reasons(doc).first().map_or_else(String::new, |(reason, status, n)| {
            format!(" The commonest state to look at is “{status}” ({n} of them): {reason}.")
        });
        return vec![format!(
            "None of the {} cells of this result has a number, so there is no answer here.{why}",
            census.total
        )];
    }
    if view::has_estimates(doc) {
        return vec![
            format!(
                "{} of {} cells have a number, but in none of the cells that the answer is made of do coroutine and \
                 thread stand beside each other, so there is no ratio to state.",
                census.measured, census.total
            ),
            "The figures below show what was measured.".into(),
        ];
    }
    let kind = if doc.run.profile == "smoke" {
        "This was a smoke run"
    } else {
        "No cell of this run has six blocks"
    };
    vec![
        format!(
            "{kind}: it proves that {} of {} cells run on this machine and that their books balance, and nothing else.",
            census.measured, census.total
        ),
        "Under six blocks there is no interval and hence no ratio; the dots below are single processes, not results."
            .into(),
        "For an answer, run switchmark without a profile, or with --profile quick.".into(),
    ]
}

fn quoted<'a, 'd>(families: &'a [Family<'d>], workload: &str) -> Option<&'a Group<'d>> {
    families.iter().flat_map(|f| &f.workloads).find(|w| w.id == workload)?.quoted()
}

/// `Giving way takes a coroutine 4.05 ns and a thread 690 ns: 168× (161–172), with tasks 2 · same-core.`
fn compared(opening: &str, group: &Group) -> Option<String> {
    let a = group.verdict()?;
    let (coroutine, thread) = (group.of("coroutine")?, group.of("thread")?);
    let unit = |c: &Cell| c.primary_metric().map_or(String::new(), |m| m.unit.clone());
    let (c, t) = (cell_point(coroutine)?, cell_point(thread)?);
    let per = unit_parts(group.unit()).1.map_or_else(String::new, |p| format!(" a {}", clean(p, 24)));
    Some(format!(
        "{opening} a coroutine {}{per} and a thread {}: {} ({}).",
        quantity(c.middle, &unit(coroutine)),
        quantity(t.middle, &unit(thread)),
        told(a),
        group.label,
    ))
}

/// `A server of coroutines answers 104 000 requests/s and one of threads 70 000 requests/s: 1.5× (1.4–1.6) (connections 1000 · …).`
fn served(group: &Group) -> Option<String> {
    let a = group.verdict()?;
    let of = |contender| {
        let cell = group.of(contender)?;
        Some(quantity(cell_point(cell)?.middle, &cell.primary_metric()?.unit))
    };
    let (coroutines, threads) = (of("coroutine")?, of("thread")?);
    Some(format!(
        "A server of coroutines answers {coroutines} and one of threads {threads}: {} ({}).",
        told(a),
        group.label
    ))
}

fn told(a: Advantage) -> String {
    let factor = factor_interval(a.median, a.low, a.high);
    if a.told() { factor } else { format!("{factor}, which leaves open which of them is ahead") }
}

/// When it does not matter: what four switches cost a handler of 50 µs.
fn break_even(families: &[Family]) -> Option<String> {
    const HANDLER_NS: f64 = 50_000.0;
    const SWITCHES: f64 = 4.0;
    // Half a hand-off is a switch with its wake-up, which is what a handler pays; a yield is the next best.
    let (group, share, of) = [("switch.handoff", 0.5, "half a hand-off"), ("switch.yield", 1.0, "a yield")]
        .into_iter()
        .find_map(|(id, share, of)| {
            let group = quoted(families, id)?;
            (group.verdict().is_some() && unit_parts(group.unit()).0 == "ns").then_some((group, share, of))
        })?;
    let spent = |contender: &str| {
        let p = cell_point(group.of(contender)?)?;
        let i = p.interval?;
        let part = |ns: f64| SWITCHES * share * ns / (HANDLER_NS + SWITCHES * share * ns);
        Some((part(p.middle), part(i.low), part(i.high)))
    };
    let show = |(middle, low, high): (f64, f64, f64)| {
        let bare = |x: f64| percent(x).replace("\u{a0}%", "");
        format!("{} ({}–{})", percent(middle), bare(low), bare(high))
    };
    Some(format!(
        "When it does not matter: a handler of 50 µs that switches 4 times spends {} of its time switching threads \
         here, or {} switching coroutines, a switch taken as {of}.",
        show(spent("thread")?),
        show(spent("coroutine")?)
    ))
}

/// Title of the headline chart.
pub(crate) fn headline(families: &[Family]) -> String {
    let mut told: Vec<(String, Advantage)> = families
        .iter()
        .flat_map(|f| &f.workloads)
        .filter(|w| unit_parts(w.unit()).0 == "ns" && !w.is_of_parts())
        .filter_map(|w| Some((w.name.clone(), w.quoted()?.verdict()?)))
        .collect();
    told.sort_by(|a, b| a.1.median.total_cmp(&b.1.median));
    match (told.first(), told.last()) {
        (Some((_, a)), Some(_)) if told.len() == 1 => {
            format!("A coroutine against a thread: {}", factor_interval(a.median, a.low, a.high))
        }
        (Some((least, a)), Some((most, b))) => format!(
            "A coroutine’s advantage over a thread runs from {}× ({}) to {}× ({})",
            digits(a.median),
            lower_first(least),
            digits(b.median),
            lower_first(most)
        ),
        _ => "What one operation takes; no ratio to a thread can be stated".into(),
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| format!("{}{}", c.to_lowercase(), chars.as_str()))
}

/// Title of a workload's figure: what it found.
pub(crate) fn finding(workload: &Workload) -> String {
    let name = &workload.name;
    if workload.groups.iter().flat_map(|g| &g.cells).any(|c| c.primary == "count" && cell_point(c).is_some())
    {
        return limit(workload);
    }
    if let Some(left) = left_over(workload) {
        return format!("{name}: {left}");
    }
    let verdicts: Vec<Advantage> = workload.groups.iter().filter_map(Group::verdict).collect();
    let least = verdicts.iter().map(|a| a.low).fold(f64::INFINITY, f64::min);
    let most = verdicts.iter().map(|a| a.high).fold(0.0, f64::max);
    let wording = |factor: &str| factor_in_words(workload, factor);
    match verdicts.as_slice() {
        [] => {}
        [a] if !a.told() => {
            return format!(
                "{name}: no difference between coroutine and thread can be told ({})",
                factor_interval(a.median, a.low, a.high)
            );
        }
        [a] if a.median < 1.0 => {
            return format!(
                "{name}: here the thread is ahead, by {}× ({})",
                digits(1.0 / a.median),
                range(1.0 / a.high, 1.0 / a.low)
            );
        }
        [a] => return format!("{name}: {}", wording(&factor_interval(a.median, a.low, a.high))),
        many => {
            let factor = format!("between {}× and {}×", digits(least), digits(most));
            let unsure = many.iter().filter(|a| !a.told()).count();
            let tail = if unsure > 0 {
                format!("; {unsure} of {} comparisons are undecided", many.len())
            } else {
                format!(", over {} comparisons", many.len())
            };
            return format!("{name}: {}{tail}", wording(&factor));
        }
    }
    let cells = || workload.groups.iter().flat_map(|g| g.cells.iter());
    let leader = workload.quoted().and_then(|g| {
        let measured = |c: &&&Cell| cell_point(c).is_some_and(|p| p.interval.is_some());
        let cell =
            g.of("coroutine").filter(|c| measured(&c)).or_else(|| g.cells.iter().find(measured).copied())?;
        Some((cell, cell_point(cell)?, g))
    });
    if let Some((cell, p, group)) = leader
        && let (Some(i), Some(m)) = (p.interval, cell.primary_metric())
    {
        let verb = match m.better {
            Better::Higher => "does",
            Better::Lower => "takes",
        };
        return format!(
            "{name}: {} {verb} {} ({})",
            clean(&cell.contender, 40),
            quantity_interval(p.middle, i.low, i.high, &m.unit),
            group.label
        );
    }
    if cells().any(|c| c.status == Status::Measured) {
        return format!("{name}: it runs; fewer than six blocks, so no interval and no ratio");
    }
    match cells().next() {
        Some(c) => format!(
            "{name}: no number here, {}: {}",
            view::status_word(c.status),
            clean(c.reason.as_deref().unwrap_or("no reason given"), 120)
        ),
        None => name.clone(),
    }
}

/// `of a thread’s hand-off its parts leave 8.2 % (7.1–9.0) unexplained, of a coroutine’s 12 % (10–13)`, where that is known.
fn left_over(workload: &Workload) -> Option<String> {
    let sides = anatomy::of(workload);
    let told = sides.iter().enumerate().map(|(n, side)| {
        let noun = if n == 0 { " hand-off its parts leave" } else { "" };
        let share = |v: f64| digits(v * 100.0);
        let interval = side.share.interval.map_or_else(
            || " (no interval)".to_owned(),
            |i| format!(" ({})", range(i.low * 100.0, i.high * 100.0)),
        );
        format!("of a {}’s{noun} {}\u{a0}%{interval}", side.contender, share(side.share.middle))
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| format!("{} unexplained", told.join(", ")))
}

/// Title of the figure of a server under load: rate and tail where there are most connections, as both are worst there.
pub(crate) fn loaded(workload: &Workload) -> String {
    let judged = workload.groups.iter().rev().find_map(|group| {
        let metrics = &group.of("coroutine").filter(|c| c.status == Status::Measured)?.metrics;
        let advantage = |metric| view::metric_advantage(metrics.get(metric)?, "thread");
        let (rate, tail) = (advantage("rate")?, advantage("p99")?);
        Some((group, rate, tail))
    });
    let Some((group, rate, tail)) = judged else {
        return format!("{}: requests answered, and how long the slowest waited", workload.name);
    };
    let words = |a: Advantage| factor_interval(a.median, a.low, a.high);
    format!(
        "{}: a coroutine’s server answers {} as much as a thread’s, whose p99 is {} as long ({})",
        workload.name,
        words(rate),
        words(tail),
        group.label
    )
}

/// Title of the figure of a tail: what was found, where the tail is the answer.
pub(crate) fn waited(workload: &Workload) -> String {
    if unit_parts(workload.unit()).0 == "µs" {
        return finding(workload);
    }
    format!("{}: how long requests waited, from the median to the worst", workload.name)
}

/// What the figure of a tail shows, and of which loop.
pub(crate) fn what_waits(workload: &Workload) -> String {
    if workload.unit().ends_with(" late") {
        return "late by".into();
    }
    let cells = workload.groups.iter().flat_map(|group| &group.cells);
    let load = cells.filter_map(|cell| cell.latency.as_ref()).map(|latency| clean(&latency.load, 12)).next();
    load.map_or_else(|| "latency".into(), |load| format!("latency in {} {load} loop", article(&load)))
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" }
}

/// Title of the figure of what a connection weighs.
pub(crate) fn connection(workload: &Workload) -> String {
    let judged = workload.groups.iter().find_map(|group| {
        let cell = group.of("coroutine").filter(|c| c.status == Status::Measured)?;
        view::metric_advantage(cell.metrics.get("bytes")?, "thread")
    });
    match judged {
        Some(a) => format!(
            "{}: a connection adds {} as much to a thread’s server as to a coroutine’s",
            workload.name,
            factor_interval(a.median, a.low, a.high)
        ),
        None => format!("{}: what a connection adds to the server’s memory", workload.name),
    }
}

/// Title of the figure of limits: how many of either lived at once where both were tried first.
fn limit(workload: &Workload) -> String {
    let lived = |group: &Group, contender: &str| {
        let p = cell_point(group.of(contender)?)?;
        Some(digits(p.middle))
    };
    let both = |g: &Group| Some((lived(g, "thread")?, lived(g, "coroutine")?));
    match workload.groups.iter().find_map(both) {
        Some((threads, coroutines)) => {
            format!("{}: {threads} threads or {coroutines} coroutines, each with its limit", workload.name)
        }
        None => format!("{}: how many lived, and what ended them", workload.name),
    }
}

/// Title of the figure of what is left of a depth, at the greatest: there it matters most.
pub(crate) fn depth(workload: &Workload) -> String {
    let left = |group: &Group, contender: &str| {
        let metric = group.of(contender).filter(|c| c.status == Status::Measured)?.metrics.get("trimmed")?;
        Some(quantity(view::point(metric)?.middle, "bytes"))
    };
    let deepest = |g: &Group| Some((left(g, "thread")?, left(g, "coroutine")?, g.label.clone()));
    match workload.groups.iter().rev().find_map(deepest) {
        Some((thread, coroutine, depth)) => format!(
            "{}: for good a thread’s stack keeps {thread} and a coroutine’s {coroutine} ({depth})",
            workload.name
        ),
        None => format!("{}: what a stack keeps when its unit has ended", workload.name),
    }
}

/// How many times better a coroutine is, said of what a workload measures.
fn factor_in_words(workload: &Workload, factor: &str) -> String {
    let cell = workload.groups.iter().flat_map(|g| &g.cells).find(|c| c.primary_metric().is_some());
    let better = workload.groups.first().map_or(Better::Lower, Group::better);
    match (better, unit_parts(workload.unit()).0, cell.map_or("", |c| c.primary.as_str())) {
        (Better::Higher, ..) => format!("a coroutine does {factor} as much as a thread"),
        (_, "bytes", _) => format!("a thread weighs {factor} what a coroutine does"),
        (_, _, tail @ ("p50" | "p99" | "p99.9" | "max")) => {
            format!("a thread’s {tail} is {factor} a coroutine’s")
        }
        _ => format!("a thread pays {factor} what a coroutine pays"),
    }
}

/// One of the lecture's four aspects, where this result has something to say on it.
#[derive(Debug)]
pub(crate) struct Aspect {
    pub(crate) title: &'static str,
    pub(crate) text: String,
    /// Workload it is about: whose small chart stands beside it, and where the link goes.
    pub(crate) workload: String,
    /// Whether it is about where a unit runs.
    pub(crate) by_placement: bool,
}

/// Method, switch, policy, stack; those without any cell are left out.
pub(crate) fn aspects(families: &[Family]) -> Vec<Aspect> {
    let measured = |w: &Workload| w.groups.iter().flat_map(|g| &g.cells).any(|c| cell_point(c).is_some());
    let workload = |id: &str| families.iter().flat_map(|f| &f.workloads).find(|w| w.id == id && measured(w));
    let mut out = Vec::new();
    if let Some(w) = workload("switch.handoff") {
        let apart: Vec<String> = w
            .groups
            .iter()
            .filter(|g| g.id.contains("cross-core"))
            .flat_map(|g| &g.cells)
            .filter_map(|c| match (c.status, cell_point(c), c.primary_metric()) {
                (Status::Measured, Some(p), Some(m)) => Some(format!(
                    "across cores {} takes {}",
                    clean(&c.contender, 40),
                    quantity(p.middle, &m.unit)
                )),
                (Status::Measured, ..) => None,
                // The pair is what the sentence is about; a peer that is not there is in the figure.
                _ if !["thread", "coroutine"].contains(&c.contender.as_str()) => None,
                (Status::Failed, ..) => Some(format!("{} failed there", clean(&c.contender, 40))),
                _ => Some(format!("{} is {} there", clean(&c.contender, 40), view::status_word(c.status))),
            })
            .take(4)
            .collect();
        if !apart.is_empty() {
            out.push(Aspect {
                title: "Method: many units on few threads",
                text: format!(
                    "Coroutines are multiplexed onto OS threads, so the question is where a hand-off happens: {}.",
                    apart.join(", ")
                ),
                workload: w.id.into(),
 by_placement: true,
            });
        }
    }
    if let Some(w) = ["switch.yield", "switch.handoff", "switch.raw"].into_iter().find_map(workload) {
        out.push(Aspect {
            title: "Switch: leaving one stack for another",
            text: format!(
                "A coroutine saves a few registers and stays in user space; a thread enters the kernel and its scheduler. {}.",
                finding(w)
            ),
            workload: w.id.into(),
 by_placement: false,
        });
    }
    if let Some(w) =
        families.iter().filter(|f| f.id == "policy").flat_map(|f| &f.workloads).find(|w| measured(w))
    {
        out.push(Aspect {
            title: "Policy: who runs next",
            text: format!("The kernel interrupts, a coroutine gives way when it chooses to. {}.", finding(w)),
            workload: w.id.into(),
            by_placement: false,
        });
    }
    if let Some(w) = workload("stack.idle") {
        out.push(Aspect {
            title: "Stack: what a waiting unit keeps",
            text: format!(
                "A thread keeps a kernel stack and kernel objects beside its own pages; resident memory alone does not show them. {}.",
                finding(w)
            ),
            workload: w.id.into(),
 by_placement: false,
        });
    }
    out
}

/// What a workload measures, in plain words, for a reader who has not read the catalogue.
pub(crate) fn explanation(workload: &str) -> &'static str {
    match workload {
        "switch.raw" => {
            "A suspended coroutine is resumed and suspends again at once: two bare switches, no queue and nobody to \
             choose among. The function call is the floor below which nothing can go; with many coroutines in turn the \
             stacks no longer fit the nearest cache."
        }
        "switch.yield" => {
            "Runnable units stand in a ring and each gives way in turn. This is the price of a scheduler's pass: pick \
             the next, leave one stack, enter the other. Threads pay a system call and the kernel's choice on top."
        }
        "switch.handoff" => {
            "One unit wakes its partner and waits for the answer, the token being a word in memory. A round trip is two \
             switches with their wake-ups. On one core that is work; across cores it is mostly waking a core that sleeps."
        }
        "switch.pipe" => {
            "The same round trip with four bytes through two pipes. Both kinds of unit write and read them with the same four system \
             calls; a thread waits in its reads, coroutines in two further calls, in which their worker asks what became ready."
        }
        "switch.anatomy" => {
            "The parts of a hand-off, each measured alone and stacked up to half a round trip. A thread wakes its partner by one system \
             call, waits by another, and in between the kernel switches; a coroutine leaves a permit, takes one, and the switch is a dozen \
             instructions. What the parts do not explain is drawn as that: a thread that goes to sleep and is woken is more work for \
             the kernel than one that gives way, and code that runs alone in a loop is predicted better than in a program."
        }
        "switch.ring" => "One token goes round a ring of units; every hop is one switch.",
        "spawn.serial" => {
            "A unit that does nothing is started and joined, one after the other. For a thread that is a stack, a kernel \
             object and a wake-up; a coroutine takes a pooled stack and a place in a queue."
        }
        "spawn.batch" => {
            "Many units are started before the first is joined, so the pools that help a lone unit run dry."
        }
        "spawn.first" => {
            "From the call that starts a unit to the first instruction it runs: enqueued is not yet running."
        }
        "spawn.tree" => {
            "A ten-ary tree in which every node is a unit that really lives; both sides make the same number."
        }
        "stack.idle" => {
            "Units report once and park; the population grows, and the slope of all ledgers together, process and \
             kernel, is what one more unit weighs. Resident memory alone would show about a quarter of a thread."
        }
        "stack.limit" => {
            "Units are started, and all of them live, until one cannot be had. What ends them is a setting of the system more often than want \
             of memory, so its name stands beside the number. What other programs need is left alone: the search stops at half of the memory \
             that was available and at nine tenths of the threads that the kernel allows."
        }
        "stack.depth" => {
            "A unit descends into pages of its stack that are not there, and once more now that they are. The first descent is a page fault for \
             each page, and the kernel's work is the same for both sides; what differs is what is left of the depth when the unit has ended: \
             glibc's cache of stacks and the runtime's pool each keep some of it and give the rest back."
        }
        "sync.channel" => {
            "Numbers pass through one channel from those who put in to those who take out. With no capacity each is a \
             hand-over and a side waits for every one; with room for many a side runs until the buffer is full or empty. \
             Threads and coroutines use the same channel, and only the way they wait differs."
        }
        "io.echo" => {
            "A server echoes small requests; a load generator of one thread, the same for every server, keeps one request outstanding \
             on each connection: a closed loop, which asks less of a server that stalls. Beside it stands the loop over epoll that one would write by hand. The kernel's TCP is most of \
             the work and the same for all, so look at the tail and at what a connection weighs as much as at the rate."
        }
        "io.open" => {
            "Requests begin at random times that were fixed beforehand, at a share of what this server answered in a closed loop, and a \
             latency counts from there: a request that waits because the server stalls, or its connection is busy, is late for all of it."
        }
        "io.idle" => {
            "A mass of connections says nothing while a few are busy: what the mass costs the few is seen in their tail, in a closed loop, and what \
             it costs the server in the bytes that each connection adds."
        }
        "policy.hog" => {
            "One unit waits for a tick each millisecond, another computes and never waits. The kernel takes the core from a thread that \
             computes; a coroutine keeps it until it gives way, be it by itself (cooperative), at a checkpoint when a monitor has asked (flag), or never, \
             while what has not started yet moves to another thread (hand-off). Each tick counts, those that were missed as well."
        }
        "policy.timer" => {
            "Several units wait for a tick each millisecond and do some work then. A worker serves them in turn, so what is late is late for a \
             neighbour’s work or for the waking of the worker itself."
        }
        "policy.blocking" => {
            "One unit blocks in the kernel while another waits for its ticks. A thread blocks alone. A coroutine that blocks in place takes its \
             worker with it; handed to the pool for blocking calls, it waits there and the others go on, at the price of the threads that stand in \
             the table. A cold file is the same question asked of a disk."
        }
        "stack.guard" => "What it costs to make a stack's end notice that it was overrun.",
        _ => "",
    }
}

/// Whether the numbers may be trusted: controls, findings, warnings.
pub(crate) fn trust(doc: &ResultDocument) -> Vec<String> {
    let mut out = Vec::new();
    let total = doc.controls.len();
    let failed: Vec<String> =
        doc.controls.iter().filter(|c| !c.passed).map(|c| clean(&c.cell, 80)).take(3).collect();
    if total == 0 {
        out.push("No controls were taken: nothing checked the instrument in this run.".into());
    } else if failed.is_empty() {
        out.push(format!("All {total} controls came out as they must."));
    } else {
        let n = doc.controls.iter().filter(|c| !c.passed).count();
        out.push(format!("{n} of {total} controls failed, so distrust this run: {}.", failed.join(", ")));
    }
    let of = |status| doc.doctor.iter().filter(|f| f.status == status).count();
    let (bad, warn) = (of(FindingStatus::Bad), of(FindingStatus::Warn));
    if doc.doctor.is_empty() {
        out.push("The doctor was not asked about the machine.".into());
    } else if bad + warn == 0 {
        out.push(format!("The doctor found nothing to object to in {} checks.", doc.doctor.len()));
    } else {
        out.push(format!("The doctor found {bad} bad and {warn} doubtful of {} things.", doc.doctor.len()));
    }
    out
}

/// `measured 38 of 41, 2 invalid, 1 unsupported`.
pub(crate) fn census(doc: &ResultDocument) -> String {
    let c = &doc.census;
    let mut out = format!("measured {} of {}", c.measured, c.total);
    for (n, what) in
        [(c.invalid, "invalid"), (c.unsupported, "unsupported"), (c.skipped, "skipped"), (c.failed, "failed")]
    {
        if n > 0 {
            let _ = write!(out, ", {n} {what}");
        }
    }
    out
}

/// `96.1 %` for a table's cell.
pub(crate) fn level_words(value: f64) -> String {
    if value.is_finite() { level(value) } else { "–".into() }
}
