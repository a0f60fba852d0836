//! Everything at once, for as long as you like, with books that must balance: `scripts/soak [seconds] [seed]`.
//!
//! Two workers and two OS threads spawn, join, cancel, park, send, receive, select, wait with deadlines, panic and unwind at random.
//! Every value is counted from its making to its drop, every coroutine from its spawn to its outcome; at the end all counts
//! balance, nobody is left, and memory is what it was after the warm-up. It ends with an error if not, and with a list of those who are
//! stuck if nothing moves for a minute. The seed repeats the jobs, though not how threads meet.
#![allow(unsafe_code, reason = "entering a runtime is a program's one promise")]

mod books;
mod jobs;
mod locks;
mod outside;
mod run;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(60.0, |text| text.parse().expect("seconds, a number"));
    let seed = arguments.next().map_or_else(time_as_seed, |text| text.parse().expect("a seed, a number"));
    println!("seed {seed}: {seconds} s");
    let wrong = run::run(seconds, seed);
    if wrong.is_empty() {
        println!("seed {seed}: everything balances");
        return ExitCode::SUCCESS;
    }
    for what in wrong {
        println!("WRONG: {what}");
    }
    println!("seed {seed}: FAILED");
    ExitCode::FAILURE
}

fn time_as_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    now.as_secs()
}
