//! Locks of the standard library over a suspension: never unsound, but whoever else wants one stops its worker, and with it the holder.
//!
//! There is no monitor yet that would name who is stuck, so that the last test shows the hang itself, in a child with an alarm.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::{Mutex, OnceLock, TryLockError};

use switchmark_runtime::{Builder, spawn, sync, yield_now};

const CHILD: &str = "HELD_LOCK_CHILD";

fn run(f: impl FnOnce()) {
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
    unsafe { Builder::new().run_local(f) }.unwrap();
}

#[test]
fn a_std_mutex_held_over_a_suspension_excludes_coroutines_of_the_same_thread() {
    static LOCK: Mutex<u32> = Mutex::new(0);
    run(|| {
        let holder = spawn(|| {
            let mut held = LOCK.lock().unwrap();
            yield_now();
            yield_now();
            *held += 1;
        });
        yield_now();
        assert!(matches!(LOCK.try_lock(), Err(TryLockError::WouldBlock)));
        holder.join().unwrap();
        assert_eq!(*LOCK.lock().unwrap(), 1);
    });
}

#[test]
fn standard_output_held_over_a_suspension_belongs_to_the_thread() {
    run(|| {
        let holder = spawn(|| {
            let held = std::io::stdout().lock();
            yield_now();
            drop(held);
        });
        yield_now();
        println!("a coroutine of the same thread is not kept out");
        holder.join().unwrap();
    });
}

#[test]
fn our_own_mutex_and_once_cell_let_the_holder_go_on() {
    static LOCK: sync::Mutex<u32> = sync::Mutex::new(0);
    static CELL: sync::OnceCell<u32> = sync::OnceCell::new();
    run(|| {
        let body = || {
            let mut held = LOCK.lock().unwrap();
            yield_now();
            *held += CELL.get_or_init(|| {
                yield_now();
                1
            });
        };
        let units = [(); 5].map(|()| spawn(body));
        for unit in units {
            unit.join().unwrap();
        }
        assert_eq!(*LOCK.lock().unwrap(), 5);
    });
}

#[test]
fn waiting_for_a_std_lock_whose_holder_is_suspended_stops_the_worker() {
    static LOCK: Mutex<()> = Mutex::new(());
    static CELL: OnceLock<()> = OnceLock::new();
    let hold: fn() = match std::env::var(CHILD).as_deref() {
        Ok("mutex") => || {
            let _held = LOCK.lock().unwrap();
            yield_now();
        },
        Ok(_) => || *CELL.get_or_init(yield_now),
        Err(_) => {
            for what in ["mutex", "once lock"] {
                let name = "waiting_for_a_std_lock_whose_holder_is_suspended_stops_the_worker";
                let mut again = Command::new(std::env::current_exe().unwrap());
                let output = again.args([name, "--exact", "--nocapture"]).env(CHILD, what).output().unwrap();
                assert_eq!(output.status.signal(), Some(libc::SIGALRM), "{what}: it hangs until the alarm");
                let said = String::from_utf8_lossy(&output.stdout);
                assert!(said.contains("both run") && !said.contains("both have ended"), "{said}");
            }
            return;
        }
    };
    // SAFETY: its signal ends this child.
    unsafe { libc::alarm(1) };
    run(move || {
        println!("both run");
        let units = [spawn(hold), spawn(hold)];
        for unit in units {
            unit.join().unwrap();
        }
        println!("both have ended");
    });
}
