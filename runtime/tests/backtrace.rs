//! A panic that prints its backtrace, symbols and all, on the smallest stack there is.
//!
//! The standard library does that on the stack of whoever panics: it reads debug information and, where that is compressed, inflates it.
//! That it fits 64 KiB is no promise of theirs, so it is watched here: it took 20 KiB with Rust 1.95, and 24 where `objcopy` had compressed the
//! debug information with zlib.

use std::process::Command;

use switchmark_runtime::{Builder, current, task};

const CHILD: &str = "BACKTRACE_CHILD";

#[inline(never)]
fn a_function_whose_name_is_in_the_backtrace() {
    panic!("on a small stack");
}

#[test]
fn a_panic_with_a_backtrace_fits_the_smallest_stack() {
    if std::env::var_os(CHILD).is_some() {
        // SAFETY: nothing here suspends in a thread-local's initialiser or under a scoped thread-local.
        unsafe {
            Builder::new().run_local(|| {
                let unit = task::Builder::new().name("small").stack_size(1).spawn(|| {
                    assert_eq!(current().stack_size(), 64 << 10);
                    let panic = std::panic::catch_unwind(a_function_whose_name_is_in_the_backtrace);
                    (panic.is_err(), current().stack_high_water().unwrap())
                });
                let (panicked, used) = unit.unwrap().join().unwrap();
                assert!(panicked);
                println!("used={used}");
            })
        }
        .unwrap();
        return;
    }
    for style in ["1", "full"] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["a_panic_with_a_backtrace_fits_the_smallest_stack", "--exact", "--nocapture"])
            .env("RUST_BACKTRACE", style)
            .env(CHILD, "1")
            .output()
            .unwrap();
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{out}\n{error}");
        assert!(error.contains("on a small stack"), "{error}");
        assert!(error.contains("a_function_whose_name_is_in_the_backtrace"), "{error}");
        assert!(error.contains("backtrace.rs:"), "the line is known: {error}");
        let used = out.split("used=").nth(1).unwrap().split_whitespace().next().unwrap();
        println!("RUST_BACKTRACE={style}: {used} bytes of stack");
    }
}
