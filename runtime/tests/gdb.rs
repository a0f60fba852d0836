//! `scripts/gdb_coroutines.py`, on a live child with coroutines in every state.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use switchmark_runtime::raw::{Coroutine, Stack, Yielder};
use switchmark_runtime::{Builder, chan, current, park, task};

const CHILD: &str = "GDB_CHILD";

#[inline(never)]
fn where_it_parks(depth: u32) {
    if depth == 0 {
        park();
    } else {
        where_it_parks(depth - 1);
    }
    std::hint::black_box(depth);
}

#[inline(never)]
fn where_it_receives(receiver: &chan::Receiver<u8>) {
    receiver.recv().unwrap();
    std::hint::black_box(receiver);
}

#[inline(never)]
fn where_it_parks_in_a_raw_coroutine() {
    // SAFETY: the body touches no thread-local, and it ends with its process.
    let mut raw: Coroutine<(), (), ()> =
        unsafe { Coroutine::new(Stack::new(64 << 10).unwrap(), |_: &Yielder<(), ()>, ()| park()) };
    std::hint::black_box(raw.resume(()));
}

#[inline(never)]
fn where_it_stands_still() {
    println!();
    std::io::stdin().read_line(&mut String::new()).unwrap();
    std::hint::black_box(());
}

/// Writes a line with the id of each, then one that is empty, and goes on when it may read one.
fn child() {
    // SAFETY: lets anybody debug this process, where else only ancestors of it may.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY) };
    let coroutines = || {
        let small = || task::Builder::new().stack_size(64 << 10);
        let units = [
            small().name("parks").spawn(|| where_it_parks(3)).unwrap(),
            small().name("receives").spawn(|| where_it_receives(&chan::bounded(1).1)).unwrap(),
            small().name("in raw").spawn(where_it_parks_in_a_raw_coroutine).unwrap(),
            task::Builder::new().stack_size(1 << 20).spawn(park).unwrap(),
        ];
        let last = task::Builder::new().name("stands still").spawn(where_it_stands_still).unwrap();
        for unit in units.iter().chain([&last]) {
            println!("{}", unit.id());
        }
        println!("{}", current().id());
        last.join().unwrap();
        for unit in units {
            unit.cancel().unwrap();
            drop(unit.join());
        }
    };
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
    unsafe { Builder::new().run_local(coroutines) }.unwrap();
}

#[test]
fn gdb_lists_coroutines_and_walks_their_stacks() {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    let python = Command::new("gdb").args(["-nx", "-batch", "-ex", "python print(1 + 1)"]).output();
    if !python.is_ok_and(|output| output.stdout.starts_with(b"2")) {
        println!("skipped: no gdb with Python here");
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["gdb_lists_coroutines_and_walks_their_stacks", "--exact", "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let is_no_id = |line: &String| line.parse::<u64>().is_err();
    let ids: Vec<String> = lines.by_ref().skip_while(is_no_id).take_while(|line| !line.is_empty()).collect();
    let [parks, receives, in_raw, nameless, stands_still, main] = &ids[..] else { panic!("{ids:?}") };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/gdb_coroutines.py");
    let pid = child.id().to_string();
    let in_each = ids.iter().map(|id| format!("coroutine {id} bt"));
    let mut gdb = Command::new("gdb");
    gdb.args([
        "-nx",
        "-batch",
        "-iex",
        "set debuginfod enabled off",
        "-p",
        &pid,
        "-x",
        script,
        "-ex",
        "coroutines",
    ]);
    gdb.args(in_each.flat_map(|command| {
        ["-ex".to_owned(), format!("echo \\n== {command}\\n"), "-ex".to_owned(), command]
    }));
    let output = gdb.output().unwrap();
    // Closes its standard input, on which the child goes on.
    drop(child.stdin.take());
    let rest: Vec<String> = lines.collect();
    let status = child.wait().unwrap();
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if complained.contains("ptrace: Operation not permitted") {
        println!("skipped: this system lets nobody attach to a process");
        return;
    }
    let all = format!("{said}\n{complained}");
    for line in [
        format!("{parks} 'parks' waits: park, at runtime/tests/gdb.rs:"),
        format!("{receives} 'receives' waits: receive from a channel, at runtime/tests/gdb.rs:"),
        format!("{in_raw} 'in raw' waits: park, at runtime/tests/gdb.rs:"),
        format!("{nameless} waits: park, at "),
        format!("{stands_still} 'stands still' runs on thread "),
        format!("{main} 'main' waits: join, at runtime/tests/gdb.rs:"),
        "6 coroutines".to_owned(),
    ] {
        assert!(all.lines().any(|said| said.starts_with(&line)), "{line}\n{all}");
    }
    let section = |id: &str| {
        let part = said.split("\n== ").find(|part| part.starts_with(&format!("coroutine {id} bt\n")));
        part.unwrap_or_else(|| panic!("no backtrace of {id}\n{all}")).to_owned()
    };
    for (id, function, times) in [
        (parks, "where_it_parks", 4),
        (receives, "where_it_receives", 1),
        (in_raw, "where_it_parks_in_a_raw_coroutine", 1),
        (stands_still, "where_it_stands_still", 1),
        (main, "child", 1),
    ] {
        let trace = section(id);
        assert!(trace.matches(function).count() >= times, "{function}: {trace}\n{complained}");
        assert!(trace.contains("sched::worker::root"), "it ends at the root: {trace}\n{complained}");
    }
    assert!(status.success(), "the process goes on as if nothing had been: {status}, {rest:?}\n{all}");
}
