//! `errno` belongs to the OS thread: a switch does not change it, another coroutine may, and nothing keeps it over a suspension.

use std::io::Error;

use switchmark_runtime::raw::{Coroutine, Stack, State, Yielder};
use switchmark_runtime::{Builder, park, spawn, unparker, yield_now};

fn run(f: impl FnOnce()) {
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
    unsafe { Builder::new().run_local(f) }.unwrap();
}

fn set_errno(value: i32) {
    // SAFETY: the address of this thread's errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above, written by this thread.
    unsafe { errno.write(value) };
}

fn errno() -> i32 {
    Error::last_os_error().raw_os_error().unwrap()
}

#[test]
fn switches_alone_leave_errno_as_it_is() {
    run(|| {
        let other = || {
            for _ in 0..1000 {
                yield_now();
            }
        };
        let others = [spawn(other), spawn(other)];
        // SAFETY: the body touches no thread-local.
        let mut raw: Coroutine<(), (), ()> = unsafe {
            Coroutine::new(Stack::new(64 << 10).unwrap(), |yielder: &Yielder<(), ()>, ()| {
                loop {
                    yielder.suspend(());
                }
            })
        };
        yield_now(); // All have started, with whatever system calls that took.
        let me = unparker();
        assert_eq!(raw.resume(()), State::Yielded(()));
        for value in [libc::EXDEV, libc::EDOM, 0] {
            set_errno(value);
            for _ in 0..100 {
                yield_now();
                me.unpark();
                park();
                assert_eq!(raw.resume(()), State::Yielded(()));
                assert_eq!(errno(), value);
            }
        }
        for other in others {
            other.join().unwrap();
        }
    });
}

#[test]
fn another_coroutine_changes_errno_and_an_error_taken_at_once_is_ones_own() {
    run(|| {
        let fails = |descriptor: i32, path: &'static std::ffi::CStr| {
            move || {
                for round in 0..100 {
                    let (result, expected) = if path.is_empty() {
                        // SAFETY: closes nothing.
                        (unsafe { libc::close(descriptor) }, libc::EBADF)
                    } else {
                        // SAFETY: opens nothing.
                        (unsafe { libc::open(path.as_ptr(), 0) }, libc::ENOENT)
                    };
                    assert_eq!(result, -1);
                    let taken = Error::last_os_error();
                    yield_now();
                    assert_eq!(taken.raw_os_error(), Some(expected));
                    // The one that comes to its end first fails no more.
                    assert!(errno() != expected || round == 99, "the other one failed in between");
                }
            }
        };
        let units = [spawn(fails(-1, c"")), spawn(fails(-1, c"/nowhere/at/all"))];
        for unit in units {
            unit.join().unwrap();
        }
    });
}
