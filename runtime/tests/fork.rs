//! A child that was forked from a process with coroutines may exec or exit; whatever else it does with the runtime aborts, and says why.
//!
//! Each scenario forks in a child of this test binary, whose standard error is read.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Output};

use switchmark_runtime::{Builder, chan, spawn, yield_now};

const SCENARIO: &str = "FORK_SCENARIO";

/// Runs one test of this file again, as a child in a scenario.
fn child(test: &str, scenario: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(SCENARIO, scenario)
        .output()
        .unwrap()
}

fn run<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
    unsafe { Builder::new().run_local(f) }.unwrap()
}

fn leave() {
    // SAFETY: ends this process, and runs nothing of it.
    unsafe { libc::_exit(0) };
}

/// Forks; the child does this and then leaves. Returns its wait status.
fn in_a_fork(f: impl FnOnce()) -> i32 {
    // SAFETY: the child does what the test is about.
    let process = unsafe { libc::fork() };
    if process == 0 {
        f();
        leave();
    }
    let mut status = 0;
    // SAFETY: waits for the child above.
    assert_eq!(unsafe { libc::waitpid(process, &raw mut status, 0) }, process);
    status
}

fn aborts(f: impl FnOnce()) {
    let status = in_a_fork(f);
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT, "status {status}");
}

#[test]
fn every_use_of_the_runtime_in_a_forked_child_aborts_and_says_why() {
    if let Ok(scenario) = std::env::var(SCENARIO) {
        let other = |body: fn()| run(move || spawn(body).join().unwrap());
        match scenario.as_str() {
            "yield" => other(|| aborts(yield_now)),
            "spawn" => other(|| aborts(|| drop(spawn(|| ())))),
            "receive" => other(|| aborts(|| drop(chan::rendezvous::<String>().1.recv()))),
            "return from the coroutine" => run(|| {
                // SAFETY: the child goes on, and is to die of that.
                let process = spawn(|| unsafe { libc::fork() }).join().unwrap();
                let mut status = 0;
                // SAFETY: waits for the child above; the child itself does not come here.
                unsafe { libc::waitpid(process, &raw mut status, 0) };
                assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT, "{status}");
            }),
            "a new runtime" => {
                run(|| ());
                aborts(|| run(|| ()));
            }
            _ => unreachable!("{scenario}"),
        }
        println!("the parent lives");
        return;
    }
    for scenario in ["yield", "spawn", "receive", "return from the coroutine", "a new runtime"] {
        let output = child("every_use_of_the_runtime_in_a_forked_child_aborts_and_says_why", scenario);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{scenario}: {}\n{said}", output.status);
        assert!(String::from_utf8_lossy(&output.stdout).contains("the parent lives"), "{scenario}");
        assert!(said.contains("coroutines do not survive a fork"), "{scenario}: {said}");
    }
}

#[test]
fn fork_and_exec_and_fork_and_exit_are_fine() {
    run(|| {
        spawn(|| {
            // With something to do before `exec` the standard library has to fork.
            let mut program = Command::new("/bin/true");
            // SAFETY: it does nothing.
            unsafe { program.pre_exec(|| Ok(())) };
            assert!(program.status().unwrap().success());
            assert_eq!(in_a_fork(|| ()), 0);
            // And the parent goes on.
            yield_now();
            assert_eq!(spawn(|| 7).join().unwrap(), 7);
        })
        .join()
        .unwrap();
    });
}

#[test]
fn a_fork_before_the_first_runtime_concerns_nobody() {
    if std::env::var_os(SCENARIO).is_some() {
        let status = in_a_fork(|| assert_eq!(run(|| spawn(|| 7).join().unwrap()), 7));
        assert_eq!(status, 0);
        return;
    }
    let output = child("a_fork_before_the_first_runtime_concerns_nobody", "before");
    assert_eq!(output.status.signal(), None);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
