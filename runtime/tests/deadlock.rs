//! Coroutines that wait for ever are reported, with what they wait for. A program of its own, as the test runner's threads might wake somebody
//! for all the runtime knows.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

use std::process::{Command, Stdio};
use std::time::Duration;

use switchmark_runtime::{Builder, blocking, chan, park, task, unparker};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, child, what, how] = &arguments[..]
        && child == "child"
    {
        return enter(
            how,
            match what.as_str() {
                "deadlock" => each_waits_for_the_other,
                "thread" => a_thread_will_wake_it,
                "call" => a_call_will_return,
                _ => unreachable!("asked for by `main` below"),
            },
        );
    }
    if cfg!(feature = "sanitize") {
        println!(
            "skipped: a sanitizer has a thread of its own, which might wake somebody for all the runtime knows"
        );
        return;
    }
    for how in ["local", "1", "2"] {
        let error = said("deadlock", how, Duration::from_millis(2500));
        assert_eq!(error.matches("deadlock: 2 coroutines wait").count(), 1, "{how}: {error}");
        assert!(
            error.contains("'waits' waits: receive from a channel, at runtime/tests/deadlock.rs:"),
            "{error}"
        );
        assert!(error.contains("'main' waits: receive from a channel, at"), "{error}");
    }
    println!("test coroutines_that_wait_for_each_other_are_reported ... ok");
    for how in ["local", "2"] {
        let error = said("thread", how, Duration::from_millis(1500));
        assert!(!error.contains("deadlock"), "{how}: {error}");
    }
    println!("test a_thread_that_may_wake_somebody_keeps_the_report_away ... ok");
    for how in ["local", "2"] {
        let error = said("call", how, Duration::from_millis(1500));
        assert!(!error.contains("deadlock"), "{how}: {error}");
    }
    println!("test a_blocking_call_keeps_the_report_away ... ok");
}

/// What a child says on standard error in so long a time.
fn said(what: &str, how: &str, time: Duration) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", what, how])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(time);
    child.kill().unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap()
}

/// With a number of workers, or locally.
fn enter(how: &str, f: fn()) {
    match how.parse() {
        // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
        Ok(workers) => unsafe { Builder::new().workers(workers).build() }.unwrap().block_on(f),
        // SAFETY: as above.
        Err(_) => unsafe { Builder::new().run_local(f) }.unwrap(),
    }
}

fn each_waits_for_the_other() {
    blocking(|| ()); // Leaves an idle thread in the pool, which will wake nobody.
    let (to_main, from_unit) = chan::rendezvous::<u8>();
    let (_to_unit, from_main) = chan::rendezvous::<u8>();
    let body = move || {
        from_main.recv().unwrap();
        to_main.send(1).unwrap();
    };
    let _unit = task::Builder::new().name("waits").spawn(body).unwrap();
    from_unit.recv().unwrap();
}

fn a_thread_will_wake_it() {
    let me = unparker();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_mins(1));
        me.unpark();
    });
    park();
}

fn a_call_will_return() {
    blocking(|| std::thread::sleep(Duration::from_mins(1)));
}
