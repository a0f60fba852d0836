//! A runtime with nothing to do is silent.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

use std::fs;
use std::time::Duration;

use switchmark_runtime::{Builder, park, spawn};

/// Voluntary switches of each of this process's threads with a name that begins so.
fn switches(prefix: &str) -> Vec<u64> {
    let read = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name));
        field("Name:\t")?.starts_with(prefix).then(|| field("voluntary_ctxt_switches:\t")?.parse().ok())?
    };
    fs::read_dir("/proc/self/task").unwrap().filter_map(|task| read(task.unwrap())).collect()
}

#[test]
fn an_idle_runtime_makes_no_wake_up_in_five_seconds() {
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor or under a scoped thread-local.
    let runtime = unsafe { Builder::new().workers(2).build() }.unwrap();
    runtime.block_on(|| (0..100).for_each(|_| spawn(|| ()).join().unwrap()));
    let waits: Vec<_> = (0..10).map(|_| runtime.spawn(park)).collect();
    // What it does when it comes to rest, the look for a deadlock among it, takes it a second.
    std::thread::sleep(Duration::from_millis(2500));
    let before = switches("switchmark-");
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(before.len(), 2);
    assert_eq!(switches("switchmark-"), before);
    drop(waits);
}
