//! tokio behind the models. Its tasks are futures and cannot run the blocking source that the others share, so
//! `models.rs` holds the same work once more, as async functions: the same counting, the same checks.
//!
//! One program, two contenders: `tokio` gives way by `tokio::task::yield_now`, `tokio-self-wake` by a future that
//! wakes itself. Everything else is the same, so the second runs `yield-ring` alone.

mod echo;
mod models;
mod units;

use models::{GiveWay, Opened, SelfWake, YieldNow};
use std::io;
use std::sync::Arc;
use switchmark_benches::serve_echo;
use switchmark_harness::protocol::{Identity, Prepare};
use switchmark_harness::worker::{self, Session};
use tokio::runtime::{Builder, Runtime};

/// Of the dependency in `Cargo.lock`.
const VERSION: &str = "1.54.1";

/// As the manifest of `tokio` has them.
const MODELS: [&str; 8] =
    ["yield-ring", "ping-pong", "spawn-join", "spawn-batch", "tree", "pump", "parked", "echo"];

fn main() -> io::Result<()> {
    match std::env::args().nth(1).as_deref() {
        None => serve::<YieldNow>("tokio", &MODELS),
        Some("--self-wake") => serve::<SelfWake>("tokio-self-wake", &MODELS[..1]),
        Some(other) => Err(io::Error::other(format!("`{other}`: this worker takes --self-wake or nothing"))),
    }
}

fn serve<G: GiveWay>(contender: &str, models: &[&str]) -> io::Result<()> {
    let names = models.iter().map(|m| (*m).to_owned()).collect();
    let identity = Identity { contender: contender.into(), version: VERSION.into(), models: names };
    worker::serve(identity, |prepare, session: Session| {
        if prepare.model == "echo" && models.contains(&"echo") {
            let runtime = runtime(prepare)?;
            // A task is memory alone: nothing but that and the descriptors bounds their number.
            return serve_echo(prepare, session, |_| Ok(()), move |door| echo::serve(&runtime, door));
        }
        let runtime = Arc::new(runtime(prepare)?);
        match open::<G>(prepare, runtime) {
            Ok(slices) => session.run(slices),
            Err(reason) => session.unsupported(reason),
        }
    })
}

/// What `#[tokio::main]` builds, for as many CPUs as the placement has: with the drivers of I/O and time, since a program
/// has them, though `echo` alone uses the one and no model the other.
fn runtime(prepare: &Prepare) -> io::Result<Runtime> {
    let alone = matches!(prepare.placement.as_str(), "same-core" | "one-core");
    units::count_switches(alone);
    if alone {
        Builder::new_current_thread().enable_all().build()
    } else {
        Builder::new_multi_thread().worker_threads(prepare.cpus.len()).enable_all().build()
    }
}

fn open<G: GiveWay>(prepare: &Prepare, runtime: Arc<Runtime>) -> Opened {
    match prepare.model.as_str() {
        "yield-ring" => models::yield_ring::<G>(prepare, runtime),
        "ping-pong" => models::ping_pong(runtime),
        "spawn-join" => models::spawn_join(prepare, runtime),
        "spawn-batch" => models::spawn_batch(prepare, runtime),
        "tree" => models::tree(prepare, runtime),
        "pump" => models::pump(prepare, runtime),
        "parked" => models::parked(prepare, runtime),
        other => Err(format!("this contender does not run the model {other}")),
    }
}
