//! The worker protocol from outside: this program is its own worker, as `switchmark` is.
//!
//! It has a main of its own, since a test harness would write to the standard output that the protocol owns.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// A conversation, in the order of the protocol.
fn talk(contender: &str, requests: &[&str]) -> Output {
    let mut worker = Command::new(std::env::current_exe().expect("this program has a path"))
        .args(["serve", contender])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this program can start itself");
    let mut stdin = worker.stdin.take().expect("it is piped");
    for request in requests {
        writeln!(stdin, "{request}").expect("a worker reads all that it was sent");
    }
    drop(stdin);
    worker.wait_with_output().expect("a worker ends")
}

fn replies(output: &Output) -> Vec<&str> {
    str::from_utf8(&output.stdout).expect("the protocol is UTF-8").lines().collect()
}

const HELLO: &str = "hello protocol=switchmark.worker/1";
const YIELD: &str = "prepare workload=switch.yield model=yield-ring placement=same-core cpus=0 tasks=2";

fn a_worker_serves_its_slices_and_ends_with_success() {
    for contender in ["thread", "coroutine"] {
        let output =
            talk(contender, &[HELLO, YIELD, "slice iterations=10", "slice iterations=500", "finish"]);
        let said = replies(&output);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(said.len(), 5, "{said:?}");
        assert!(said[0].starts_with(&format!("hello contender={contender} ")), "{}", said[0]);
        assert_eq!(said[1], "ready");
        assert!(said[3].starts_with("sample iterations=500 elapsed_ns="), "{}", said[3]);
        assert_eq!(said[4], "done");
    }
}

fn parked_units_do_not_keep_a_worker_that_was_told_to_finish() {
    let idle = "prepare workload=stack.idle model=parked placement=same-core cpus=0 units=100 stack=default";
    for contender in ["thread", "coroutine"] {
        let output = talk(contender, &[HELLO, idle, "slice iterations=50", "slice iterations=100", "finish"]);
        let said = replies(&output);
        assert!(output.status.success(), "{output:?}");
        assert!(said[3].contains(" parked=100 ") && said[3].contains(" user_stack_bytes="), "{}", said[3]);
        assert_eq!(said.last(), Some(&"done"));
    }
}

fn a_fresh_worker_starts_threads_for_calls_that_are_sent_away_and_for_no_others() {
    for (contender, mechanism, threads) in [
        ("thread", "blocking", 0..=0),
        ("coroutine", "bare", 0..=0),
        ("coroutine", "block_in_place", 0..=0),
        // A second one where a call comes before the first is back from the last.
        ("coroutine", "blocking", 1..=2),
    ] {
        let stall = format!(
            "prepare workload=policy.blocking model=stall placement=same-core cpus=0 mechanism={mechanism} medium=sleep"
        );
        let output = talk(contender, &[HELLO, &stall, "slice iterations=30", "finish"]);
        let said = replies(&output);
        assert!(output.status.success(), "{output:?}");
        let counted = said[2].split(' ').find_map(|word| word.strip_prefix("threads=")?.parse().ok());
        assert!(counted.is_some_and(|n: u64| threads.contains(&n)), "{contender}, {mechanism}: {}", said[2]);
    }
}

fn the_limit_that_ends_a_search_for_the_most_units_is_named() {
    let search = "prepare workload=stack.limit model=limit placement=same-core cpus=0 guard=marker";
    for (contender, kib, named) in [
        ("thread", 500_000, "limit=RLIMIT_AS%20%3D%20512000000"),
        ("coroutine", 2_000_000, "address%20space"),
    ] {
        // The shell's limit is the worker's; this program's own would be every test's.
        let own = std::env::current_exe().expect("this program has a path");
        let words = [HELLO, search, "slice iterations=100000", "finish"].join("\n");
        let script = format!("ulimit -v {kib} && printf '%s\\n' \"$2\" | \"$0\" serve \"$1\"");
        let output = Command::new("sh").args(["-c", &script]).arg(own).args([contender, &words]).output();
        let output = output.expect("there is a shell");
        let said = replies(&output);
        assert!(output.status.success(), "{output:?}");
        assert!(said[2].contains(named), "{contender}: {}", said[2]);
        let of = |key: &str| said[2].split(' ').find_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
        let (units, check) = (of("units=").expect("a count"), of("check="));
        assert!((1..100_000).contains(&units) && check == Some(units), "{contender}: {}", said[2]);
    }
}

fn a_parent_that_goes_away_ends_the_worker_quietly() {
    for requests in [&[][..], &[HELLO], &[HELLO, YIELD], &[HELLO, YIELD, "slice iterations=10"]] {
        let output = talk("thread", requests);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
}

fn what_cannot_be_had_is_unsupported_and_the_worker_still_ends_with_success() {
    let prepare = YIELD.replace("tasks=2", "tasks=99999999999");
    let output = talk("thread", &[HELLO, &prepare, "finish"]);
    let said = replies(&output);
    assert!(output.status.success(), "{output:?}");
    assert!(said[1].starts_with("unsupported reason=") && said[1].contains("max_map_count"), "{}", said[1]);
    assert_eq!(said[2], "done");
}

fn an_unknown_contender_and_a_wrong_turn_are_errors() {
    let output = talk("fiber", &[]);
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("fiber") && words.contains("coroutine"), "{words}");

    let output = talk("thread", &[HELLO, "slice iterations=1"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("out of turn"));
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, verb, contender] = &*arguments
        && verb == "serve"
    {
        return switchmark_benches::serve(contender);
    }
    a_worker_serves_its_slices_and_ends_with_success();
    parked_units_do_not_keep_a_worker_that_was_told_to_finish();
    a_fresh_worker_starts_threads_for_calls_that_are_sent_away_and_for_no_others();
    the_limit_that_ends_a_search_for_the_most_units_is_named();
    a_parent_that_goes_away_ends_the_worker_quietly();
    what_cannot_be_had_is_unsupported_and_the_worker_still_ends_with_success();
    an_unknown_contender_and_a_wrong_turn_are_errors();
    println!("the worker protocol: 7 passed");
    Ok(())
}
