//! An early probe: what an echo server of coroutines costs beside a plain loop over epoll, before there is any `net` in the runtime.
//!
//! Both servers have one thread, on the first CPU; the load comes from a process on the last one: 100 connections, 64 bytes, each sends when it
//! has its answer. Rounds alternate, since figures of a shared machine drift by more than what is asked here. It ends by itself, in some 16 s:
//!
//! ```sh
//! cargo run --release -p switchmark-runtime --example echo_probe
//! ```
//!
//! The rate is that of a closed loop: where the load is slower than the server it says little of the server, so the time on the CPU per
//! request, of the server alone, stands beside it.
#![allow(unsafe_code, reason = "entering a runtime is a program's one promise, and epoll is the kernel's")]

mod load;
mod servers;
mod sys;

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

const KINDS: [&str; 2] = ["coroutines", "epoll loop"];
const ROUNDS: usize = 10;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", kind] => servers::serve(kind == KINDS[0]),
        ["load", port] => load::run(port.parse().expect("a port")),
        _ => compare(),
    }
}

/// A child that is killed when it is not needed any more.
struct Server {
    child: Child,
    port: String,
}

impl Server {
    fn start(kind: &str) -> io::Result<Server> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.args(["serve", kind]).stdout(Stdio::piped()).spawn()?;
        let mut port = String::new();
        let output = child.stdout.take().expect("it was asked for");
        BufReader::new(output).read_line(&mut port)?;
        Ok(Server { child, port: port.trim().to_owned() })
    }

    /// Nanoseconds that its one thread has been on a CPU.
    fn cpu_ns(&self) -> io::Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.child.id()))?;
        Ok(text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(f64::NAN))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Requests a second, and nanoseconds of the server's CPU for each.
fn round(server: &Server) -> io::Result<[f64; 2]> {
    let before = server.cpu_ns()?;
    let mut load =
        Command::new(std::env::current_exe()?).args(["load", &server.port]).stdout(Stdio::piped()).spawn()?;
    let mut text = String::new();
    load.stdout.take().expect("it was asked for").read_to_string(&mut text)?;
    load.wait()?;
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let [requests, seconds] = numbers[..] else {
        return Err(io::Error::other(format!("the load said: {text}")));
    };
    Ok([requests / seconds, (server.cpu_ns()? - before) / requests])
}

fn compare() -> io::Result<()> {
    let servers = [Server::start(KINDS[0])?, Server::start(KINDS[1])?];
    let mut rounds: [Vec<[f64; 2]>; 2] = [Vec::new(), Vec::new()];
    for server in &servers {
        round(server)?; // To warm up.
    }
    for number in 0..ROUNDS {
        // Who comes first changes as well.
        for which in [number % 2, 1 - number % 2] {
            rounds[which].push(round(&servers[which])?);
        }
    }
    for (what, unit, scale) in [("requests a second", "k", 1e-3), ("server CPU a request", " ns", 1.0)] {
        let index = usize::from(unit != "k");
        for (kind, rounds) in KINDS.iter().zip(&rounds) {
            let figures = rounds.iter().map(|round| round[index] * scale);
            println!("{what}, {kind}: {}", spread(figures, unit));
        }
        let pairs = rounds[0].iter().zip(&rounds[1]);
        println!("{what}, ratio: {}", spread(pairs.map(|(ours, floor)| ours[index] / floor[index]), ""));
    }
    Ok(())
}

/// The median, with the least and the most.
fn spread(figures: impl Iterator<Item = f64>, unit: &str) -> String {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    let (least, most) = (figures[0], figures[figures.len() - 1]);
    let middle = figures.len() / 2;
    let median = f64::midpoint(figures[middle], figures[figures.len() - 1 - middle]);
    let digits = if median < 10.0 { 3 } else { 1 };
    format!("{median:.digits$}{unit} ({least:.digits$} to {most:.digits$}, {} rounds)", figures.len())
}
