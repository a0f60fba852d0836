//! Panic messages that name the coroutine.
//!
//! The standard hook names the OS thread, which says little where thousands of coroutines share it. The runtime installs no hook by itself:
//! there is one for the process, and it is the program's.

use std::panic;
use std::sync::Once;

use crate::sched::worker;
use crate::sys;

/// Has panic messages in coroutines preceded by a line that names the coroutine; for the whole process, once.
///
/// The hook that is set when this is called goes on to print what it printed before. A hook must not suspend: see the crate's documentation.
///
/// ```text
/// in coroutine 7 'reader':
/// thread 'main' (4711) panicked at src/main.rs:12:9:
/// ..
/// ```
pub fn name_in_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if let Some(task) = worker::current() {
                sys::write_stderr(format!("in {}:\n", task.label()).as_bytes());
            }
            print(info);
        }));
    });
}
