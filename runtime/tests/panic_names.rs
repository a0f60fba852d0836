//! Panics and errors name the coroutine. A program of its own, since its panic hook is the process's.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

use std::process::Command;

use switchmark_runtime::{Builder, name_in_panics, task};

fn main() {
    if std::env::args().nth(1).as_deref() == Some("child") {
        name_in_panics();
        name_in_panics(); // Once is enough.
        let end = || {
            let unit = task::Builder::new().name("reader").spawn(|| panic!("on purpose")).unwrap();
            unit.join().unwrap_err().to_string()
        };
        // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
        println!("{}", unsafe { Builder::new().run_local(end) }.unwrap());
        let _ = std::panic::catch_unwind(|| panic!("of no coroutine"));
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap()).arg("child").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(error.matches("in coroutine ").count(), 1, "{error}");
    let (named, rest) = error.split_once(" 'reader':").expect("the message names it");
    assert!(
        named.contains("in coroutine ") && rest.contains("on purpose") && rest.contains("of no coroutine"),
        "{error}"
    );
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("'reader' panicked: on purpose"), "{told}");
    println!("test panics_and_their_errors_name_the_coroutine ... ok");
}
