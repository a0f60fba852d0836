//! Two coroutines that wait for each other, and what the runtime says about it a second later.
//!
//! ```text
//! deadlock: 3 coroutines wait, and nothing is left that could wake one
//!   coroutine 1 'main' waits: join, at runtime/examples/deadlock.rs:27:15
//!   coroutine 2 'left' waits: receive from a channel, at runtime/examples/deadlock.rs:20:49
//!   ..
//! ```
//!
//! It does not end by itself: press Ctrl-C.
#![allow(unsafe_code, reason = "entering a runtime is a program's one promise")]

use switchmark_runtime::{Builder, chan, task};

fn main() -> std::io::Result<()> {
    let body = || -> std::io::Result<()> {
        let (to_left, left_in) = chan::rendezvous::<u8>();
        let (to_right, right_in) = chan::rendezvous::<u8>();
        let left = task::Builder::new().name("left").spawn(move || {
            let value = left_in.recv().expect("the other lives");
            to_right.send(value).expect("the other lives");
        })?;
        task::Builder::new().name("right").spawn(move || {
            let value = right_in.recv().expect("the other lives");
            to_left.send(value).expect("the other lives");
        })?;
        left.join().expect("it never ends");
        Ok(())
    };
    // With a number of workers as the argument they run on threads of their own, else on this one.
    match std::env::args().nth(1).map(|workers| workers.parse().expect("a number of workers")) {
        // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
        None => unsafe { Builder::new().run_local(body)? },
        // SAFETY: as above.
        Some(workers) => unsafe { Builder::new().workers(workers).build()? }.block_on(body),
    }
}
