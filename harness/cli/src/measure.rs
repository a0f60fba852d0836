//! From arguments to a result document on disk: what `run` and `gate --baseline` share.

use crate::progress::Progress;
use crate::world::{self, World};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use switchmark_harness::blocks::{self, Blocks};
use switchmark_harness::controls::NOT_TRUSTED;
use switchmark_harness::counters::{Choice, Probed};
use switchmark_harness::document::{Header, assemble, to_json, write_whole};
use switchmark_harness::parent::Host;
use switchmark_harness::pin::Cpus;
use switchmark_harness::plan::{Plan, Profile, Selection};
use switchmark_harness::run::{Event, Instrument, run};
use switchmark_harness::{Error, Result, doctor, environment};
use switchmark_reports::{PageOptions, charts, png, render_page};
use switchmark_schema::{BlockRecord, BlocksHead, Cell, ResultDocument, Run, Status, Tool};

/// What to measure and how.
#[derive(Debug, clap::Args)]
// clap calls a group by its type, and `run` has `Arguments` of its own around these.
#[group(id = "measure")]
pub(crate) struct Arguments {
    /// Regular expression searched in the cell id; without one, quick's default set.
    filter: Option<String>,
    /// How much: smoke, quick, standard or full.
    #[arg(long, default_value = "quick")]
    profile: String,
    /// These contenders and no others.
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    contenders: Option<Vec<String>>,
    /// A contender of one's own, by the path of its contender.toml; may be given more than once.
    #[arg(long, value_name = "PATH")]
    contender: Vec<PathBuf>,
    /// A folder of definitions of one's own.
    #[arg(long, value_name = "DIR")]
    definitions: Option<PathBuf>,
    /// This placement alone.
    #[arg(long)]
    placement: Option<String>,
    /// CPUs to use, as in 0,2-3; all that are allowed by default.
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
    /// auto, none, or a list of events.
    #[arg(long, default_value = "auto")]
    counters: String,
    /// Time for everything, as in 5m; the first six blocks are taken whatever they take.
    #[arg(long, value_parser = humantime::parse_duration)]
    budget: Option<Duration>,
    /// Fixes every random order.
    #[arg(long)]
    seed: Option<u64>,
    /// Where to write; a folder of its own in target/switchmark by default.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with a run that was cut short: that in --out, or the latest one. Give the other arguments as they were.
    #[arg(long)]
    resume: bool,
}

impl Default for Arguments {
    fn default() -> Self {
        Arguments {
            filter: None,
            profile: "quick".into(),
            contenders: None,
            contender: Vec::new(),
            definitions: None,
            placement: None,
            cpus: None,
            counters: "auto".into(),
            budget: None,
            seed: None,
            out: None,
            resume: false,
        }
    }
}

impl Arguments {
    /// Blocks a cell that the profile can take.
    pub(crate) fn blocks_at_most(&self) -> Result<usize> {
        Ok(Profile::named(&self.profile)?.cap() as usize)
    }

    /// Key of this machine.
    pub(crate) fn machine_key(&self) -> Result<String> {
        Ok(environment::machine(&Cpus::allowed(self.cpus.as_deref())?, false).key)
    }
}

/// A run on disk.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) document: ResultDocument,
    pub(crate) folder: PathBuf,
    pub(crate) interrupted: bool,
}

impl Measured {
    /// The run's own exit code: interrupted before all, then a worker that failed, then a control that did; an
    /// invalid cell counts as a worker that failed under `--strict`.
    pub(crate) fn exit_code(&self, strict: bool) -> u8 {
        let bad = |c: &Cell| c.status == Status::Failed || (strict && c.status == Status::Invalid);
        match self.interrupted {
            true => 130,
            false if self.document.cells.iter().any(bad) => 3,
            false if self.document.warnings.iter().any(|w| w.starts_with(NOT_TRUSTED)) => 4,
            false => 0,
        }
    }
}

/// A reply that takes longer is a hang. Ten thousand threads are grown in well under a second.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Set by Ctrl-C, and by the signal that ends a job in CI.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The program that serves its own workers.
pub(crate) fn this_program() -> Result<PathBuf> {
    std::env::current_exe()
        .map_err(|e| Error::worker(format!("cannot find this program, which serves its own workers: {e}")))
}

/// Where workers are started, and what stops them: Ctrl-C, from now on.
pub(crate) fn host(executable: &Path) -> Result<Host<'_>> {
    ctrlc::set_handler(|| {
        // Relaxed: the flag stands alone. A second Ctrl-C ends at once, whatever is in flight.
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .map_err(|e| Error::usage(format!("cannot handle Ctrl-C: {e}")))?;
    Ok(Host { executable, timeout: TIMEOUT, interrupted: &INTERRUPTED })
}

/// Measures, and writes the blocks as they are done, then the result, the page and the charts.
pub(crate) fn measure(arguments: &Arguments) -> Result<Measured> {
    let world = World::load(&arguments.contender, arguments.definitions.as_deref())?;
    let filter = world::filter(arguments.filter.as_deref())?;
    let profile = Profile::named(&arguments.profile)?;
    let choice: Choice = arguments.counters.parse()?;
    let cpus = Cpus::allowed(arguments.cpus.as_deref())?;
    let resumed = arguments.resume.then(|| take_up(arguments)).transpose()?;
    let seed = match &resumed {
        Some(resumed) => resumed.head.seed,
        None => arguments.seed.unwrap_or_else(|| fastrand::u64(..)),
    };
    let selection = Selection {
        definitions: &world.definitions,
        contenders: &world.contenders,
        named: arguments.contenders.as_deref(),
        filter: filter.as_ref(),
        placement: arguments.placement.as_deref(),
        cpus: &cpus,
        profile,
    };
    let plan = Plan::new(&selection, seed)?;
    let started = SystemTime::now();
    let id = run_id(started);
    let probed = Probed::probe(&choice);
    // Seconds a cell, so where there are minutes.
    let exact = choice == Choice::Auto && matches!(profile.name, "standard" | "full");
    let probed = if exact { probed.and_exact() } else { probed };
    let machine = environment::machine(&cpus, probed.pmu());
    // Before anything of ours runs.
    let findings = doctor::examine_this_one(&cpus, &probed, cfg!(debug_assertions));
    let head = BlocksHead {
        schema: BlocksHead::SCHEMA.into(),
        seed,
        plan: plan.fingerprint(),
        machine: machine.key.clone(),
        tool: format!("{} {}", env!("CARGO_PKG_VERSION"), env!("SWITCHMARK_GIT")),
    };
    let (folder, mut blocks, kept) = if let Some(resumed) = resumed {
        refuse_another_run(&resumed, &head)?;
        (resumed.folder, resumed.blocks, resumed.kept)
    } else {
        let folder = arguments.out.clone().unwrap_or_else(|| Path::new(RUNS).join(&id));
        let blocks = Blocks::create(&folder, &head)?;
        (folder, blocks, Vec::new())
    };
    say_how_to_add_peers(&world, arguments);

    let executable = this_program()?;
    let host = host(&executable)?;
    let instrument = Instrument { host, cpus: &cpus, probed: &probed, budget: arguments.budget };
    let mut progress = Progress::new();
    let resumed = (!kept.is_empty()).then(|| format!("resumed: {} blocks were taken before", kept.len()));
    let outcome = run(&plan, &instrument, kept, &mut |event| {
        progress.show(&event);
        match event {
            Event::Done(record) => blocks.keep(record),
            _ => Ok(()),
        }
    });
    progress.clear();
    let mut outcome = outcome?;
    outcome.warnings.extend(resumed);

    let arguments = std::env::args().skip(1).collect();
    let header = Header {
        tool: Tool {
            version: env!("CARGO_PKG_VERSION").into(),
            git: env!("SWITCHMARK_GIT").into(),
            rustc: env!("SWITCHMARK_RUSTC").into(),
        },
        run: Run {
            id,
            started: timestamp(started),
            finished: timestamp(SystemTime::now()),
            seed,
            profile: profile.name.into(),
            arguments,
        },
        machine,
        doctor: findings,
    };
    let document = assemble(header, &plan, &outcome);
    // The document first: whatever happens to the drawing, the numbers are safe.
    write_whole(&folder.join("result.json"), to_json(&document).as_bytes())?;
    write_page(std::slice::from_ref(&document), &folder.join("report.html"))?;
    write_charts(std::slice::from_ref(&document), &folder.join("charts"), true)?;
    Ok(Measured { document, folder, interrupted: outcome.interrupted })
}

/// Draws the page of some results.
pub(crate) fn write_page(documents: &[ResultDocument], path: &Path) -> Result<()> {
    let page = render_page(documents, &PageOptions { command: command_line() });
    let page = page.map_err(|e| Error::document(e.to_string()))?;
    write_whole(path, page.as_bytes())
}

/// This very call, as one would type it into a shell.
fn command_line() -> String {
    let quoted = |word: String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:".contains(c);
        if word.chars().all(plain) && !word.is_empty() {
            word
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    let words = std::env::args().skip(1).map(quoted);
    std::iter::once("switchmark".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// Draws the charts of some results beside each other, as SVG and if asked as PNG.
pub(crate) fn write_charts(documents: &[ResultDocument], folder: &Path, pictures: bool) -> Result<()> {
    let about =
        |e: &dyn std::fmt::Display| Error::document(format!("cannot draw into {}: {e}", folder.display()));
    fs::create_dir_all(folder).map_err(|e| about(&e))?;
    for document in documents {
        for chart in charts(document).map_err(|e| about(&e))? {
            let name = match documents {
                [_] => chart.name.clone(),
                _ => format!("{}-{}", document.run.id, chart.name),
            };
            write_whole(&folder.join(format!("{name}.svg")), chart.svg.as_bytes())?;
            if pictures {
                let picture = png(&chart.svg).map_err(|e| about(&e))?;
                write_whole(&folder.join(format!("{name}.png")), &picture)?;
            }
        }
    }
    Ok(())
}

/// Where runs have their folders.
const RUNS: &str = "target/switchmark";

/// A run that goes on.
struct Resumed {
    folder: PathBuf,
    blocks: Blocks,
    head: BlocksHead,
    kept: Vec<BlockRecord>,
}

fn take_up(arguments: &Arguments) -> Result<Resumed> {
    let folder = match &arguments.out {
        Some(folder) => folder.clone(),
        None => blocks::latest(Path::new(RUNS)).ok_or_else(|| {
            Error::usage(format!("{RUNS} holds no run to resume; name the folder of one with --out"))
        })?,
    };
    let (blocks, head, kept) = Blocks::resume(&folder)?;
    match arguments.seed {
        Some(seed) if seed != head.seed => Err(Error::usage(format!(
            "the run in {} has seed {}, not {seed}; leave --seed out",
            folder.display(),
            head.seed
        ))),
        _ => Ok(Resumed { folder, blocks, head, kept }),
    }
}

/// Blocks of two plans, machines or builds are no sample of anything.
fn refuse_another_run(resumed: &Resumed, now: &BlocksHead) -> Result<()> {
    let then = &resumed.head;
    let differs = [
        ("plan", &then.plan, &now.plan, "give the arguments of that run, with the contenders it had"),
        ("machine", &then.machine, &now.machine, "go on where it began"),
        ("build", &then.tool, &now.tool, "go on with the switchmark that began it"),
    ];
    match differs.into_iter().find(|(_, then, now, _)| then != now) {
        None => Ok(()),
        Some((what, then, now, remedy)) => Err(Error::usage(format!(
            "the run in {} is of another {what} ({then}, now {now}): {remedy}, or start anew without --resume",
            resumed.folder.display()
        ))),
    }
}

/// With no peer built, one line says how to add them.
fn say_how_to_add_peers(world: &World, arguments: &Arguments) {
    let mut outside = world.contenders.iter().filter(|c| c.folder.is_some()).peekable();
    let missing = outside.peek().is_some() && outside.all(|c| c.available().is_err());
    if missing && arguments.contenders.is_none() {
        eprintln!("no peer is built; `switchmark build` adds those whose toolchains are here");
    }
}

fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Sorts by time, and is a plain folder name.
fn run_id(time: SystemTime) -> String {
    let stamp: String = timestamp(time).chars().filter(|c| c.is_ascii_digit() || *c == 'T').collect();
    format!("{stamp}-{}", std::process::id())
}
