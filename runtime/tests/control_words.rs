//! A switch does not save how floating point rounds. A coroutine that changes that and suspends changes it for others, and debug builds say who
//! did.

use std::arch::asm;
use std::process::Command;

use switchmark_runtime::{Builder, current, spawn, task, yield_now};

const CHILD: &str = "CONTROL_WORDS_CHILD";
/// Rounds towards zero; all exceptions masked, as usual.
const TOWARDS_ZERO: u32 = 0x7f80;
const USUAL: u32 = 0x1f80;

fn set_mxcsr(word: u32) {
    // SAFETY: loads a valid word; what is calculated here does not depend on it.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack, readonly)) };
}

fn mxcsr() -> u32 {
    let mut word = 0_u32;
    // SAFETY: stores where it is told to.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack)) };
    word & !0x3f
}

fn child() {
    let coroutines = || {
        let careless = task::Builder::new().name("careless").spawn(|| {
            set_mxcsr(TOWARDS_ZERO);
            yield_now();
            yield_now();
            set_mxcsr(USUAL);
            current().id()
        });
        let careful = task::Builder::new().name("careful").spawn(|| {
            let given = mxcsr();
            assert_eq!(given, TOWARDS_ZERO, "what the other one left");
            set_mxcsr(USUAL);
            set_mxcsr(given);
            yield_now();
        });
        println!("id={}", careless.unwrap().join().unwrap());
        careful.unwrap().join().unwrap();
        assert_eq!(spawn(mxcsr).join().unwrap(), USUAL);
    };
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
    unsafe { Builder::new().run_local(coroutines) }.unwrap();
}

#[test]
fn who_hands_floating_point_settings_on_is_named_in_a_debug_build() {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    let name = "who_hands_floating_point_settings_on_is_named_in_a_debug_build";
    let output = again.args([name, "--exact", "--nocapture"]).env(CHILD, "1").output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{error}");
    let id = out.split("id=").nth(1).unwrap().split_whitespace().next().unwrap();
    let reports: Vec<&str> = error.lines().filter(|line| line.contains("floating-point settings")).collect();
    if !cfg!(debug_assertions) {
        assert!(reports.is_empty(), "a release build does not look: {reports:?}");
        return;
    }
    let [first, second] = reports[..] else { panic!("{error}") };
    for (report, words) in
        [(first, "MXCSR 0x7f80 instead of 0x1f80"), (second, "MXCSR 0x1f80 instead of 0x7f80")]
    {
        assert!(
            report.starts_with(&format!("coroutine {id} 'careless'")) && report.contains(words),
            "{error}"
        );
    }
}
