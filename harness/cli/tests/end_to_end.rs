//! The binary as its users meet it: what it prints, where it writes, how it ends.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use switchmark_schema::{CounterState, GateDocument, ResultDocument, Status, Verdict};
use tempfile::TempDir;

/// A folder of its own for each test, so that nothing of one is seen by another; and the machine for itself, since
/// two that measure at once would measure each other.
struct Bench {
    folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Bench {
    fn new() -> Bench {
        // A test that failed under the lock left nothing behind that it guards.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Bench { folder: tempfile::tempdir().expect("a temporary folder"), _alone: alone }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchmark"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary starts")
    }

    /// Measures with controls, which a noisy machine may fail: 4 is as good as 0 where they are not the subject.
    fn measures(&self, arguments: &[&str]) {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(0 | 4)), "{arguments:?}: {said}");
    }

    /// Runs, expects the exit code, and returns what was said on standard error.
    fn expect(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }

    fn result(&self, folder: &str) -> ResultDocument {
        let text = fs::read_to_string(self.path(folder).join("result.json")).expect("a result");
        switchmark_schema::read(&text).expect("a valid result")
    }
}

fn document(output: &Output) -> ResultDocument {
    let text = std::str::from_utf8(&output.stdout).expect("UTF-8");
    switchmark_schema::read(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// The instrument tried by itself; noise may refute it, a broken estimator may not pass.
#[test]
fn a_selftest_counts_its_runs_and_catches_broken_estimators() {
    let bench = Bench::new();
    let output = bench.run(&["selftest", "controls", "--seed", "7", "--json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    let value: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    let proofs = value["proofs"].as_array().expect("proofs");
    let caught = |proof: &serde_json::Value| (proof["of"].as_u64(), proof["passed"].as_bool());
    assert_eq!(proofs.iter().map(caught).skip(1).collect::<Vec<_>>(), [(Some(1), Some(true)); 2], "{value}");
    let passed = proofs.iter().all(|proof| proof["passed"] == true);
    assert_eq!((output.status.code(), &value["passed"]), (Some(if passed { 0 } else { 4 }), &passed.into()));
    assert_eq!((&value["seed"], proofs.len()), (&7.into(), 3));
    let refused = bench.run(&["selftest", "everything"]);
    assert_eq!(refused.status.code(), Some(2), "what it cannot prove is a mistake of usage");
}

/// Waits until something is so; a minute is a hang.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_mins(1);
    while Instant::now() < deadline {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{what} did not happen within a minute");
}

/// Blocks of cells in `blocks.jsonl`.
fn blocks_done(folder: &Path) -> usize {
    let text = fs::read_to_string(folder.join("blocks.jsonl")).unwrap_or_default();
    text.lines().filter(|line| line.starts_with(r#"{"kind":"cell""#)).count()
}

fn children(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let listed = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    listed.flat_map(|list| list.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()).collect()
}

fn signal(name: &str, pid: u32) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().expect("sh");
    assert!(sent.success());
}

fn ended(mut child: Child) -> i32 {
    wait_for("its end", || child.try_wait().expect("waitable")).code().expect("an exit code")
}

#[test]
fn a_smoke_run_of_everything_is_one_valid_document_whose_books_agree() {
    let bench = Bench::new();
    let output = bench.run(&["run", ".", "--profile", "smoke", "--json", "--out", "out"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let result = document(&output);

    let schema = bench.run(&["schema", "result"]);
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).expect("a JSON Schema");
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a usable schema");
    let faults: Vec<String> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
    assert!(faults.is_empty(), "{faults:?}");

    assert!(!result.doctor.is_empty(), "a result says how fit its machine was");
    assert_eq!(result, bench.result("out"), "what is printed is what is stored");
    assert!(result.census.measured > 0 && result.census.failed == 0, "{:?}", result.census);
    for cell in &result.cells {
        assert!(cell.status == Status::Measured || cell.reason.is_some(), "{}", cell.id);
        for metric in cell.metrics.values() {
            assert!(
                metric.estimate.is_none() && metric.ratios.is_empty(),
                "{}: one block is no estimate",
                cell.id
            );
        }
        let Some(switches) = cell.ledger.as_ref().and_then(|l| l.switches.as_ref()) else {
            continue;
        };
        if let (Status::Measured, Some(expected)) = (cell.status, switches.expected) {
            let off = switches.observed.abs_diff(expected) as f64;
            assert!(off <= 0.01 * expected as f64, "{}: {switches:?}", cell.id);
        }
    }
    let served = result.cells.iter().filter(|c| c.workload == "io.echo" && c.status == Status::Measured);
    for cell in served.clone() {
        let known: Vec<&str> = cell.metrics.keys().map(String::as_str).collect();
        // Others only where there are ten latencies beyond them, which a slice of 20 ms may not have.
        for metric in ["rate", "p50", "max"] {
            assert!(known.contains(&metric), "{}: {known:?}", cell.id);
        }
        assert_eq!(cell.primary, "rate");
    }
    assert!(served.count() >= 3, "thread, coroutine and epoll serve");
    let only = |cell: &switchmark_schema::Cell, metric: &str| cell.metrics[metric].samples[0].value;
    let of = |workload: &'static str| result.cells.iter().filter(move |c| c.workload == workload);
    for cell in of("stack.limit") {
        assert!((only(cell, "count") - 500.0).abs() < 0.5, "{}", cell.id);
        let limit = cell.reason.as_deref().expect("a limit has a name");
        assert!(limit.contains("the 500 units that were asked for"), "{}: {limit}", cell.id);
    }
    for cell in of("stack.depth") {
        assert!(
            only(cell, "trimmed") <= only(cell, "kept") && only(cell, "second") < only(cell, "time"),
            "{}",
            cell.id
        );
    }
    for cell in of("policy.blocking") {
        let sent_away = cell.contender == "coroutine" && cell.id.contains("mechanism=blocking/");
        assert_eq!(only(cell, "threads") > 0.0, sent_away, "{}", cell.id);
    }
    assert!(["stack.limit", "stack.depth", "policy.blocking"].iter().all(|id| of(id).count() >= 2));
    for file in ["blocks.jsonl", "report.html", "charts/headline.svg", "charts/headline.png"] {
        assert!(fs::metadata(bench.path("out").join(file)).is_ok_and(|m| m.len() > 0), "{file}");
    }
}

#[test]
fn every_counter_has_a_value_or_a_reason() {
    let bench = Bench::new();
    let arguments = ["run", r"^switch\.yield/tasks=2/", "--profile", "smoke", "--json", "--out", "out"];
    let result = document(&bench.run(&arguments));
    let counters: Vec<_> = result.cells.iter().flat_map(|c| &c.counters).collect();
    assert!(
        counters.iter().any(|(name, _)| *name == "cycles:u"),
        "a counter that cannot be read is still listed"
    );
    for (name, counter) in counters {
        let counts = matches!(counter.state, CounterState::Counted | CounterState::Scaled);
        assert_eq!(counts, counter.value.is_some(), "{name}: {counter:?}");
        assert_eq!(counts, counter.reason.is_none(), "{name}: {counter:?}");
    }
    let none = [
        "run",
        r"^switch\.yield/tasks=2/",
        "--profile",
        "smoke",
        "--json",
        "--counters",
        "none",
        "--out",
        "2",
    ];
    assert!(document(&bench.run(&none)).cells.iter().all(|c| c.counters.is_empty()));
}

#[test]
fn valgrind_counts_instructions_exactly_or_is_named_as_missing() {
    const NAME: &str = "instructions:valgrind";
    let bench = Bench::new();
    let arguments =
        ["run", r"^switch\.raw/coroutines=1/", "--profile", "smoke", "--json", "--counters", NAME];
    let of = |output: &Output| document(output).cells;
    let without = bench.command(&arguments).env("PATH", "/nowhere").args(["--out", "1"]).output();
    let cells = of(&without.expect("it starts"));
    let measured = cells.iter().filter(|cell| cell.status == Status::Measured);
    assert_eq!(measured.clone().count(), 2, "call and coroutine");
    for counter in measured.map(|cell| &cell.counters[NAME]) {
        assert_eq!(counter.state, CounterState::Unsupported);
        assert!(counter.reason.as_ref().is_some_and(|why| why.contains("apt-get install valgrind")));
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: valgrind is not installed");
        return;
    }
    let found = of(&bench.command(&arguments).args(["--out", "2"]).output().expect("it starts"));
    let per_op = |contender: &str| {
        let cell = found.iter().find(|cell| cell.contender == contender).expect("measured");
        cell.counters[NAME].per_op.unwrap_or_else(|| panic!("{:?}", cell.counters[NAME]))
    };
    // A call and its return are two of them, a switch and one back some more.
    let (call, switch) = (per_op("call"), per_op("coroutine"));
    assert!(2.0 < call && call < switch && switch < 20.0 * call, "{call} and {switch} instructions");
}

#[test]
fn a_user_without_privileges_measures_and_is_told_what_was_refused() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    let bench = Bench::new();
    if fs::metadata("/proc/self").expect("procfs").uid() != 0 {
        println!("skipped: whoever is not root runs every test as such a user");
        return;
    }
    // A folder of the user's own, with the program in it: the checkout may be nobody's business.
    let program = bench.path("switchmark");
    fs::copy(env!("CARGO_BIN_EXE_switchmark"), &program).expect("a copy");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("its own file");
    std::os::unix::fs::chown(bench.folder.path(), Some(NOBODY), Some(NOBODY)).expect("root may");
    let output = Command::new(&program)
        .args(["run", r"^switch\.yield/tasks=2/", "--profile", "smoke", "--json", "--out", "out"])
        .current_dir(bench.folder.path())
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let result = document(&output);
    assert!(result.census.measured >= 2, "{:?}", result.census);
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    let refuses_the_kernel = paranoid.trim().parse::<i32>().is_ok_and(|level| level >= 2);
    for (name, counter) in result.cells.iter().flat_map(|cell| &cell.counters) {
        assert_eq!(counter.value.is_some(), counter.reason.is_none(), "{name}: {counter:?}");
        if refuses_the_kernel && name == "context-switches" {
            assert_eq!(counter.state, CounterState::Denied);
            assert!(counter.reason.as_ref().is_some_and(|why| why.contains("kernel.perf_event_paranoid=1")));
        }
    }
}

#[test]
fn a_mistake_on_the_command_line_is_named_with_exit_2() {
    let bench = Bench::new();
    let mistakes: [(&[&str], &str); 10] = [
        (&["run", "--cpus", "1024"], "cannot pin to cpu 1024"),
        (&["run", "--cpus", "4095"], "cannot pin to cpu 4095"),
        (&["run", "--cpus", "all"], "--cpus `all`"),
        (&["run", "no such cell"], "matches no cell"),
        (&["run", "("], "FILTER `(`"),
        (&["run", "--contenders", "thread,gosched"], "unknown contender `gosched`"),
        (&["run", "--profile", "leisurely"], "unknown profile `leisurely`"),
        (&["run", "--counters", "luck"], "unknown counter `luck`"),
        (&["run", "--contender", "nowhere/contender.toml"], "nowhere/contender.toml"),
        (&["frobnicate"], "frobnicate"),
    ];
    for (arguments, named) in mistakes {
        let said = bench.expect(2, arguments);
        assert!(said.contains(named), "{arguments:?} said: {said}");
    }
    assert!(!bench.path("target").exists(), "a refused run leaves nothing behind");
}

#[test]
fn an_unwritable_folder_is_named_with_exit_5_before_anything_is_measured() {
    let bench = Bench::new();
    fs::write(bench.path("file"), "in the way").unwrap();
    let said = bench.expect(5, &["run", "--profile", "smoke", "--out", "file/out"]);
    assert!(said.contains("file/out") && said.contains("--out"), "{said}");
}

#[test]
fn a_folder_that_holds_a_run_is_not_overwritten() {
    let bench = Bench::new();
    let arguments = ["run", r"^switch\.yield/.*/coroutine$", "--profile", "smoke", "--out", "out"];
    bench.expect(0, &arguments);
    let before = bench.result("out");
    assert!(bench.expect(2, &arguments).contains("holds a run already"));
    assert_eq!(bench.result("out"), before);
}

#[test]
fn a_document_that_is_not_one_is_refused_with_the_place_of_the_fault_and_exit_5() {
    let bench = Bench::new();
    let sample = include_str!("../../schema/samples/result-smoke.json");
    let documents = [
        ("truncated.json", sample[..sample.len() / 2].to_owned(), "line"),
        ("foreign.json", r#"{"schema": "criterion/1"}"#.to_owned(), "criterion/1"),
        ("unnamed.json", "{}".to_owned(), "no schema name"),
        (
            "newer.json",
            sample.replacen("switchmark.result/1", "switchmark.result/2", 1),
            "switchmark.result/2",
        ),
        ("wrong.json", sample.replacen("\"cells\": [", "\"cells\": [7, ", 1), "cells[0]"),
        ("empty.json", String::new(), "line 1"),
    ];
    for (name, text, place) in documents {
        fs::write(bench.path(name), text).unwrap();
        let said = bench.expect(5, &["report", name]);
        assert!(said.contains(name) && said.contains(place), "{name}: {said}");
    }
    assert!(bench.expect(5, &["report", "absent.json"]).contains("absent.json"));
    assert!(!bench.path("report.html").exists());
}

#[test]
fn a_stored_result_is_rendered_again() {
    let bench = Bench::new();
    for name in ["smoke", "quick"] {
        let sample =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../schema/samples/result-{name}.json"));
        fs::copy(sample, bench.path(&format!("{name}.json"))).unwrap();
    }
    bench
        .expect(0, &["report", "quick.json", "smoke.json", "-o", "both.html", "--charts", "charts", "--png"]);
    // The template engine escapes the slashes of an id too.
    let page = fs::read_to_string(bench.path("both.html")).unwrap().replace("&#x2f;", "/");
    let result: ResultDocument =
        switchmark_schema::read(&fs::read_to_string(bench.path("quick.json")).unwrap()).unwrap();
    for cell in &result.cells {
        assert!(page.contains(&cell.id), "{} is absent from the page", cell.id);
    }
    assert!(fs::read_dir(bench.path("charts")).unwrap().count() >= 4);
}

#[test]
fn a_worker_killed_in_mid_run_fails_its_cell_and_nothing_else() {
    let bench = Bench::new();
    let arguments = [
        "run",
        r"^switch\.(yield/tasks=2|handoff/idle_policy=default/same)",
        "--profile",
        "quick",
        "--out",
        "out",
    ];
    let child = bench.command(&arguments).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let out = bench.path("out");
    wait_for("the first blocks", || (blocks_done(&out) >= 2).then_some(()));
    // Beside a thread: a control holds three of a kind.
    let victim = wait_for("a coroutine worker", || {
        let workers = children(child.id());
        let line = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let is = |contender: &'static str| move |pid: &u32| line(pid).ends_with(&format!("\0{contender}\0"));
        workers.iter().copied().find(is("thread")).and(workers.iter().copied().find(is("coroutine")))
    });
    signal("KILL", victim);
    assert_eq!(ended(child), 3);
    let result = bench.result("out");
    let failed: Vec<_> = result.cells.iter().filter(|c| c.status == Status::Failed).collect();
    assert_eq!(failed.len(), 1, "{:?}", result.census);
    assert!(failed[0].reason.as_ref().unwrap().contains("signal 9"), "{:?}", failed[0].reason);
    assert!(!failed[0].metrics["time"].samples.is_empty(), "what was measured before is kept");
    let rest = result.cells.iter().filter(|c| c.contender == "thread");
    assert!(rest.clone().all(|c| c.status != Status::Failed) && rest.count() == 2);
}

#[test]
fn ctrl_c_saves_what_was_measured_and_leaves_no_worker() {
    let bench = Bench::new();
    let arguments = ["run", r"^switch\.yield/tasks=2/", "--profile", "full", "--out", "out"];
    let child = bench.command(&arguments).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let out = bench.path("out");
    wait_for("the first blocks", || (blocks_done(&out) >= 2).then_some(()));
    let workers = wait_for("workers", || Some(children(child.id())).filter(|c| !c.is_empty()));
    signal("INT", child.id());
    assert_eq!(ended(child), 130);
    let result = bench.result("out");
    let cell = result.cells.iter().find(|c| c.contender == "coroutine").unwrap();
    assert!(cell.metrics["time"].samples.len() >= 2);
    assert!(result.warnings.iter().any(|w| w.contains("interrupted")), "{:?}", result.warnings);
    assert!(fs::metadata(out.join("report.html")).is_ok());
    for worker in workers {
        let line = fs::read_to_string(format!("/proc/{worker}/cmdline")).unwrap_or_default();
        assert!(!line.contains("worker"), "worker {worker} outlived the run");
    }
}

#[test]
fn a_run_killed_again_and_again_ends_as_one_that_was_not() {
    // Blocks of some hundred milliseconds: two groups, and the first look, which is reached whatever it takes.
    const CELLS: &str = r"^switch\.(handoff/idle_policy=default/same-core|raw/coroutines=1/same-core)/(thread|coroutine|call)$";
    fn first(out: &str) -> [&str; 8] {
        ["run", CELLS, "--budget", "0s", "--seed", "7", "--out", out]
    }
    fn again(out: &str) -> [&str; 7] {
        ["run", CELLS, "--budget", "0s", "--resume", "--out", out]
    }
    let bench = Bench::new();
    bench.measures(&first("whole"));
    let whole = bench.result("whole");
    let kills: u64 = std::env::var("SWITCHMARK_KILLS").map_or(3, |n| n.parse().expect("a number of kills"));
    let mut moment = fastrand::Rng::with_seed(kills);
    let mut killed = 0;
    while killed < kills {
        let out = &format!("out-{killed}");
        let path = bench.path(out).join("blocks.jsonl");
        let mut kept = String::new();
        for attempt in 0.. {
            let mut command =
                if attempt == 0 { bench.command(&first(out)) } else { bench.command(&again(out)) };
            let mut child = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
            let begun = wait_for("the file of blocks", || path.exists().then(Instant::now));
            let life = Duration::from_millis(moment.u64(0..1200));
            let ended = loop {
                match child.try_wait().expect("waitable") {
                    Some(status) => break Some(status),
                    None if begun.elapsed() >= life && killed < kills => break None,
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            };
            if ended.is_none() {
                child.kill().expect("its end");
                killed += 1;
            }
            child.wait().expect("its end");
            let text = fs::read_to_string(&path).unwrap();
            let now = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
            assert!(now.starts_with(&kept), "what was kept stays as it was");
            now.clone_into(&mut kept);
            if let Some(status) = ended {
                assert!(matches!(status.code(), Some(0 | 4)), "attempt {attempt} of {out}: {status}");
                break;
            }
        }
        let taken: Vec<switchmark_schema::BlockRecord> =
            kept.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut ids: Vec<(&str, u32)> = taken.iter().map(|b| (b.cell.as_str(), b.block)).collect();
        ids.sort_unstable();
        let cells = [
            ("switch.handoff/idle_policy=default/same-core", 6),
            ("switch.handoff/idle_policy=default/same-core/thread", 12),
            ("switch.raw/coroutines=1/same-core", 6),
            ("switch.yield/tasks=2/same-core/coroutine", 12),
        ];
        let expected: Vec<(&str, u32)> =
            cells.into_iter().flat_map(|(cell, blocks)| (1..=blocks).map(move |n| (cell, n))).collect();
        assert_eq!(ids, expected, "no block lost, none doubled");
        let result = bench.result(out);
        assert_eq!(result.census, whole.census);
        assert_eq!(result.controls.len(), 4, "two answers of each of two");
        // Whole as it is, there is nothing left to measure: the same blocks give the same numbers.
        bench.measures(&again(out));
        assert_eq!(bench.result(out).cells, result.cells);
        assert_eq!(fs::read_to_string(&path).unwrap(), kept);
    }
    // Another seed, another plan: another run.
    let other = ["run", CELLS, "--budget", "0s", "--seed", "8", "--out", "whole", "--resume"];
    assert!(bench.expect(2, &other).contains("seed 7, not 8"));
    let other = ["run", r"^switch\.yield/tasks=2/", "--budget", "0s", "--out", "whole", "--resume"];
    assert!(bench.expect(2, &other).contains("another plan"));
    assert!(bench.expect(2, &["run", "--resume", "--out", "absent"]).contains("absent"));
}

/// A contender outside the tree: a shell script that speaks the protocol, more or less.
fn script_contender(bench: &Bench, name: &str, on_slice: &str) -> String {
    let script = format!(
        "#!/bin/sh\nwhile read verb rest; do case $verb in\n\
         hello) echo hello contender={name} version=1 models=yield-ring;;\n\
         prepare) echo ready;;\n\
         slice) n=${{rest#iterations=}}; {on_slice};;\n\
         finish) echo done; exit 0;;\nesac; done\n"
    );
    contender_folder(bench, name, "yield-ring", &script)
}

/// A contender outside the tree with one model; its manifest's path.
fn contender_folder(bench: &Bench, name: &str, model: &str, script: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let folder = bench.path(name);
    fs::create_dir(&folder).unwrap();
    let manifest = format!("name = '{name}'\nkind = 'stackless'\nmodels = ['{model}']\nrun = ['./worker']\n");
    fs::write(folder.join("contender.toml"), manifest).unwrap();
    let path = folder.join("worker");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    folder.join("contender.toml").to_string_lossy().into_owned()
}

/// A sample of `$n` iterations, timed by the shell.
const HONEST: &str = "a=$(date +%s%N); sleep 0.003; b=$(date +%s%N); \
    echo sample iterations=$n elapsed_ns=$((b-a)) units=2 peak_live=2 switches=$((2*n)) check=$((2*n))";

#[test]
fn a_contender_in_any_language_is_one_folder_and_a_bad_one_fails_alone() {
    let bench = Bench::new();
    let faults = [
        ("honest", HONEST.to_owned(), None),
        ("liar", HONEST.replace("switches=$((2*n))", "switches=$((3*n))"), Some("switches")),
        ("wrong", HONEST.replace("check=$((2*n))", "check=7"), Some("answer")),
        ("chatty", format!("echo warming up; {HONEST}"), Some("protocol")),
        ("twice", format!("{HONEST}; {}", HONEST.replace("sleep 0.003", ":")), Some("`sample ")),
        ("dying", "echo out of memory >&2; exit 9".to_owned(), Some("code 9")),
        ("other", HONEST.replace("iterations=$n", "iterations=1$n"), Some("iterations")),
    ];
    let mut arguments: Vec<String> =
        ["run", r"^switch\.yield/tasks=2/", "--profile", "smoke", "--json", "--out", "out"]
            .map(str::to_owned)
            .to_vec();
    for (name, on_slice, _) in &faults {
        arguments.extend(["--contender".to_owned(), script_contender(&bench, name, on_slice)]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = bench.run(&arguments);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let result = document(&output);
    for (name, _, reason) in faults {
        let cell = result.cells.iter().find(|c| c.contender == name).unwrap();
        match reason {
            None => assert_eq!(cell.status, Status::Measured, "{name}: {:?}", cell.reason),
            Some(reason) => {
                assert_ne!(cell.status, Status::Measured, "{name}");
                let given = cell.reason.as_deref().unwrap_or_default();
                assert!(given.contains(reason), "{name}: {given}");
            }
        }
    }
    assert!(result.cells.iter().all(|c| c.contender != "coroutine" || c.status == Status::Measured));
}

/// Answers the connections of one load as `answer` says; the port. `answer` gets how many requests came before this one.
fn echo_server(answer: impl Fn(u64, &[u8]) -> Option<Vec<u8>> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let (answer, requests) = (Arc::new(answer), Arc::new(AtomicU64::new(0)));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (answer, requests) = (Arc::clone(&answer), Arc::clone(&requests));
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    let Some(reply) = answer(requests.fetch_add(1, Ordering::Relaxed), &buffer[..length])
                    else {
                        return;
                    };
                    if stream.write_all(&reply).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// A server outside the tree: a shell script speaks to the parent, and this process answers the load.
fn served_by(bench: &Bench, name: &str, on_prepare: &str, on_finish: &str) -> String {
    let script = format!(
        "#!/bin/sh\nwhile read verb rest; do case $verb in\n\
         hello) echo hello contender={name} version=1 models=echo;;\n\
         prepare) {on_prepare};;\n\
         finish) echo {on_finish}; exit 0;;\nesac; done\n"
    );
    contender_folder(bench, name, "echo", &script)
}

#[test]
fn a_server_that_dies_stalls_or_answers_wrongly_fails_alone_and_says_why() {
    let bench = Bench::new();
    let same = |_: u64, request: &[u8]| Some(request.to_vec());
    let killed = bench.path("killed.pid");
    let kill = move |requests: u64, request: &[u8]| {
        // The greetings of ten connections, and some of the first slice.
        if requests < 15 {
            return Some(request.to_vec());
        }
        let pid = fs::read_to_string(&killed).expect("the script has left its number");
        let _ = Command::new("kill").args(["-KILL", pid.trim()]).stderr(Stdio::null()).status();
        None
    };
    let flip = |requests: u64, request: &[u8]| {
        let mut reply = request.to_vec();
        reply[63] ^= u8::from(requests == 15);
        Some(reply)
    };
    let stall = |requests: u64, request: &[u8]| {
        if requests >= 15 {
            std::thread::sleep(Duration::from_mins(1));
        }
        Some(request.to_vec())
    };
    let serves = |port: u16| format!("echo ready address=127.0.0.1:{port}");
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let pid = format!("echo $$ > {}; {}", bench.path("killed.pid").display(), serves(echo_server(kill)));
    let dies = format!("{}; sleep 0.1; echo out of memory >&2; exit 9", serves(echo_server(same)));
    let faults = [
        ("killed", pid, "done", Status::Failed, "killed by signal 9 while it served"),
        ("dies", dies, "done", Status::Failed, "code 9 in `finish`: out of memory"),
        ("wrong", serves(echo_server(flip)), "done", Status::Failed, "wrong answer: byte 63"),
        (
            "stalls",
            serves(echo_server(stall)),
            "done",
            Status::Failed,
            "the server stalls: no answer for 5 s",
        ),
        ("nowhere", serves(nowhere), "done", Status::Failed, "cannot make connection 0"),
        ("mute", "echo ready".to_owned(), "done", Status::Failed, "without the address"),
        ("silent", serves(echo_server(same)), "done", Status::Failed, "without saying how many"),
        (
            "miscounts",
            serves(echo_server(same)),
            "done accepted=10 answered=1",
            Status::Invalid,
            "accepted 10 and answered 1",
        ),
        (
            "limited",
            "echo unsupported reason=no%20descriptors".to_owned(),
            "done",
            Status::Unsupported,
            "no descriptors",
        ),
    ];
    let mut arguments: Vec<String> = [
        "run",
        r"^io\.echo/.*/same-core/",
        "--profile",
        "smoke",
        "--counters",
        "none",
        "--json",
        "--out",
        "out",
    ]
    .map(str::to_owned)
    .to_vec();
    for (name, on_prepare, on_finish, ..) in &faults {
        arguments.extend(["--contender".to_owned(), served_by(&bench, name, on_prepare, on_finish)]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = bench.run(&arguments);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let result = document(&output);
    for (name, .., status, reason) in faults {
        let cell = result.cells.iter().find(|c| c.contender == name).unwrap();
        let given = cell.reason.as_deref().unwrap_or_default();
        assert!(cell.status == status && given.contains(reason), "{name}: {:?}: {given}", cell.status);
    }
    for contender in ["thread", "coroutine", "epoll"] {
        let cell = result.cells.iter().find(|c| c.contender == contender).unwrap();
        assert_eq!(cell.status, Status::Measured, "{contender}: {:?}", cell.reason);
    }
}

#[test]
fn what_the_machine_has_too_little_of_for_a_server_and_its_load_is_named() {
    let bench = Bench::new();
    let filter = r"^io\.echo/connections=10/.*/one-core";
    let allowed = fs::read_to_string("/proc/self/status").unwrap();
    let allowed = allowed.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).unwrap();
    let one = allowed.trim().split(['-', ',']).next().unwrap();
    bench.expect(0, &["run", filter, "--profile", "smoke", "--cpus", one, "--out", "one"]);
    let needs_two = format!("one-core needs a CPU for the server and one for the load; allowed: {one}");

    let few = Command::new("sh")
        .args(["-c", "ulimit -n 70 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_switchmark")])
        .args(["run", r"^io\.echo/.*/same-core", "--profile", "smoke", "--counters", "none", "--out", "few"])
        .current_dir(bench.folder.path())
        .output()
        .expect("sh");
    assert_eq!(few.status.code(), Some(0), "{}", String::from_utf8_lossy(&few.stderr));
    for (folder, named) in
        [("one", needs_two.as_str()), ("few", "RLIMIT_NOFILE (`ulimit -Hn`) leaves room for: 70")]
    {
        let cells = bench.result(folder).cells;
        assert!(cells.len() >= 3, "{folder}");
        for cell in cells {
            let reason = cell.reason.as_deref().unwrap_or_default();
            assert!(cell.status == Status::Unsupported && reason.contains(named), "{}: {reason}", cell.id);
        }
    }
}

#[test]
fn a_gate_names_the_cell_that_became_slower_and_passes_one_that_became_faster() {
    let bench = Bench::new();
    let filter = r"^switch\.handoff/idle_policy=default/same-core/";
    bench.measures(&["run", filter, "--out", "base"]);
    let stored = bench.result("base");
    // By more than any noise of a machine hides: the test is of the road, `ratio.rs` tests the judgement.
    for (factor, verdict, code) in [(1.0 / 3.0, Verdict::Regressed, 1), (3.0, Verdict::Improved, 0)] {
        let mut baseline = stored.clone();
        let coroutine = baseline.cells.iter_mut().find(|c| c.contender == "coroutine").unwrap();
        coroutine.metrics.get_mut("time").unwrap().samples.iter_mut().for_each(|s| s.value *= factor);
        let id = coroutine.id.clone();
        let name = format!("{verdict:?}");
        fs::write(bench.path("baseline.json"), serde_json::to_string(&baseline).unwrap()).unwrap();
        let output =
            bench.run(&["gate", "--baseline", "baseline.json", filter, "--out", &name, "--format", "json"]);
        let gate = verdicts(&output);
        assert_eq!(output.status.code(), Some(i32::from(gate.exit)), "{gate:?}");
        // A noisy machine may fail the controls, and then nothing else counts.
        assert!([code, 4].contains(&gate.exit), "{gate:?}");
        let judged: Vec<_> = gate.cells.iter().map(|c| (c.id.clone(), c.verdict)).collect();
        assert_eq!(judged, [(id, verdict)], "thread is the baseline and not judged");
        assert!(fs::metadata(bench.path(&name).join("gate.json")).is_ok());
    }
}

fn verdicts(output: &Output) -> GateDocument {
    let text = std::str::from_utf8(&output.stdout).expect("UTF-8");
    switchmark_schema::read(text)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn a_gate_that_could_never_fire_is_refused_with_the_arithmetic() {
    let bench = Bench::new();
    let smoke = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema/samples/result-smoke.json");
    fs::copy(smoke, bench.path("smoke.json")).unwrap();
    let said = bench.expect(2, &["gate", "--baseline", "smoke.json"]);
    assert!(said.contains("1 blocks") && said.contains("0.5^6"), "{said}");
    let quick = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema/samples/result-quick.json");
    fs::copy(quick, bench.path("quick.json")).unwrap();
    let said =
        bench.expect(2, &["gate", "--baseline", "quick.json", "--profile", "smoke", "--across-machines"]);
    assert!(said.contains("never fire"), "{said}");
    let said = bench.expect(2, &["gate", "--baseline", "quick.json"]);
    assert!(said.contains("--across-machines"), "{said}");
}

#[test]
fn the_doctor_says_what_it_saw_and_strict_is_a_matter_of_what_is_bad() {
    let bench = Bench::new();
    let output = bench.run(&["doctor", "--json", "--strict"]);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let findings = said["doctor"].as_array().expect("findings");
    assert!(findings.len() > 25 && said["machine"]["key"].is_string(), "{said}");
    let bad = findings.iter().filter(|finding| finding["status"] == "bad").count();
    assert_eq!(output.status.code(), Some(if bad > 0 { 4 } else { 0 }), "{said}");
    let text = bench.run(&["doctor"]);
    assert_eq!(text.status.code(), Some(0));
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("CPU quota") && text.contains("/proc/"), "{text}");
}

#[test]
fn the_list_shows_every_workload_and_who_can_run_it() {
    let bench = Bench::new();
    let output = bench.run(&["list", "--json"]);
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let workloads = list["workloads"].as_array().unwrap();
    for id in ["switch.raw", "switch.yield", "switch.handoff", "switch.pipe", "spawn.serial", "stack.idle"] {
        assert!(workloads.iter().any(|w| w["id"] == id), "{id}");
    }
    let raw = workloads.iter().find(|w| w["id"] == "switch.raw").unwrap();
    let contenders = raw["placements"][0]["contenders"].as_array().unwrap();
    let thread = contenders.iter().find(|c| c["contender"] == "thread").unwrap();
    assert!(thread["runs"] == false && thread["reason"].as_str().unwrap().contains("bounce"), "{thread}");
}

#[test]
fn a_missing_toolchain_is_a_state_of_the_cell_with_its_remedy_and_no_failure() {
    let bench = Bench::new();
    let folder = bench.path("benches/contenders/absent");
    fs::create_dir_all(&folder).unwrap();
    let manifest = "name = 'absent'\nkind = 'stackful'\nmodels = ['yield-ring']\nbuild = [['no-such-compiler']]\n\
        run = ['out/worker']\n[[needs]]\nrun = ['no-such-compiler', '--version']\nmatch = '.'\n\
        hint = 'scripts/install-it brings it'";
    fs::write(folder.join("contender.toml"), manifest).unwrap();
    assert!(bench.expect(0, &["build"]).contains("absent: skipped: `no-such-compiler --version`"));
    let listed = String::from_utf8(bench.run(&["list", r"switch\.yield"]).stdout).unwrap();
    assert!(
        listed.contains("not absent: absent is not built: ") && listed.contains("install-it"),
        "{listed}"
    );
    bench.expect(
        0,
        &["run", r"^switch\.yield", "--profile", "smoke", "--contenders", "thread,absent", "--out", "run"],
    );
    let cells = bench.result("run").cells;
    let absent = cells.iter().find(|c| c.contender == "absent").expect("asked for, so it is in the result");
    assert_eq!(absent.status, Status::Skipped);
    assert!(absent.reason.as_ref().is_some_and(|why| why.contains("install-it")), "{:?}", absent.reason);
}

#[test]
fn under_taskset_a_run_keeps_to_its_mask_and_refuses_what_is_outside() {
    let bench = Bench::new();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let allowed = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    let of = |part: &str, end: usize| part.split(['-', ',']).nth(end).map(str::to_owned);
    let Some((first, other)) = of(allowed, 0).zip(of(allowed, 1)) else {
        println!("skipped: one CPU alone, {allowed}");
        return;
    };
    let under = |arguments: &[&str]| {
        let mut command = Command::new("taskset");
        command.args(["-c", &first, env!("CARGO_BIN_EXE_switchmark")]).args(arguments);
        command.current_dir(bench.folder.path()).output().expect("taskset, of util-linux")
    };
    let refused = under(&["run", "--cpus", &other]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("cannot pin to cpu {other}: not in the allowed set {first}")), "{said}");

    let filter = r"^(switch\.yield/tasks=2/|io\.echo/.*/same-core)";
    let run = under(&["run", filter, "--profile", "smoke", "--counters", "none", "--out", "out"]);
    assert_eq!(run.status.code(), Some(0), "{}", String::from_utf8_lossy(&run.stderr));
    let blocks = fs::read_to_string(bench.path("out/blocks.jsonl")).unwrap();
    let blocks = blocks.lines().skip(1).map(|line| serde_json::from_str(line).expect("a block"));
    let workers: Vec<serde_json::Value> =
        blocks.flat_map(|block: serde_json::Value| block["workers"].as_array().cloned().unwrap()).collect();
    assert!(workers.len() >= 4, "{workers:?}");
    for worker in workers {
        let seen = serde_json::json!([first.parse::<usize>().unwrap()]);
        assert_eq!(
            (&worker["placed"]["allowed"], &worker["placed"]["seen"]),
            (&first.as_str().into(), &seen),
            "{worker}"
        );
    }
}
