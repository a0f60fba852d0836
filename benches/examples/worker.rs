//! Serves one cell of a contender in the tree on standard input and output, as `switchmark worker` does.
//!
//! ```text
//! $ cargo run --release -p switchmark-benches --example worker thread
//! hello protocol=switchmark.worker/1
//! hello contender=thread version=… models=yield-ring,…
//! prepare workload=switch.yield model=yield-ring placement=same-core cpus=1 tasks=2
//! ready
//! slice iterations=10000
//! sample iterations=10000 elapsed_ns=… units=2 peak_live=2 switches=20000 check=20000
//! finish
//! done
//! ```

fn main() -> std::io::Result<()> {
    let contender = std::env::args()
        .nth(1)
        .ok_or_else(|| std::io::Error::other("which contender?"))?;
    switchmark_benches::serve(&contender)
}
