//! Coordinated omission: a server that stalls once, under an open loop and under a closed one.
//!
//! The server measures its own stall, and the schedule of the open loop is known: so arithmetic says which requests were to be late and by how
//! much, and the load must have seen those. The closed loop sees one for each connection, which is why it is labelled.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};
use switchmark_harness::epoll::Epoll;
use switchmark_harness::load::{Gaps, Load};
use switchmark_harness::protocol::Prepare;
use switchmark_schema::ParamValue;

const STALL: Duration = Duration::from_millis(200);
const RATE: u64 = 1000;
const SEED: u64 = 42;

/// From when to when the server stood still.
type Stall = (Instant, Instant);

/// An echo server of one thread for so many connections, which stands still for [`STALL`] before its answer to the `n`-th request, and tells.
fn stalling_server(connections: u64, n: u64) -> (String, Receiver<Stall>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut epoll = Epoll::new().unwrap();
        let mut streams: Vec<TcpStream> = Vec::new();
        epoll.add(&listener, usize::MAX).unwrap();
        let (mut buffer, mut answered) = ([0; 4096], 0);
        loop {
            for event in 0..epoll.wait(None).unwrap() {
                if epoll.token(event) == usize::MAX {
                    let (stream, _) = listener.accept().unwrap();
                    stream.set_nodelay(true).unwrap();
                    epoll.add(&stream, streams.len()).unwrap();
                    streams.push(stream);
                    continue;
                }
                let mut stream = &streams[epoll.token(event)];
                let length = stream.read(&mut buffer).unwrap();
                if length == 0 {
                    return;
                }
                answered += 1;
                if answered == connections + n {
                    let from = Instant::now();
                    thread::sleep(STALL);
                    tell.send((from, Instant::now())).unwrap();
                }
                stream.write_all(&buffer[..length]).unwrap();
            }
        }
    });
    (address, told)
}

fn load(connections: u64, address: &str, kind: &str) -> Load {
    let number = |name: &str, n| (name.to_owned(), ParamValue::Number(n));
    let word = |name: &str, w: &str| (name.to_owned(), ParamValue::Word(w.into()));
    let params = vec![
        number("connections", connections),
        number("bytes", 64),
        word("loop", kind),
        number("rate", RATE),
        number("seed", SEED),
        word("address", address),
    ];
    let (workload, model, placement) = ("io.open".into(), "echo".into(), "one-core".into());
    Load::open(&Prepare { workload, model, placement, cpus: vec![0], params }).unwrap()
}

/// The least value that such a share does not exceed.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil();
    sorted[(0..sorted.len()).find(|n| *n as f64 + 1.0 >= rank).unwrap()]
}

/// One run at an open loop: what the load saw, and what it must have seen, in seconds and sorted; and how long the stall was.
fn open_loop() -> (Vec<f64>, Vec<f64>, f64) {
    const REQUESTS: usize = 1000;
    const CONNECTIONS: u64 = 100;
    let (address, stalled) = stalling_server(CONNECTIONS, REQUESTS as u64 / 2);
    let mut load = load(CONNECTIONS, &address, "open");
    let start = Instant::now();
    let sample = load.slice(REQUESTS as u64).unwrap();
    let (from, to) = stalled.recv().expect("the server has stalled");
    // What was due while the server stood still waits until it goes on; the rest is answered at once.
    let begins = Gaps::new(RATE, SEED).scan(start, |begin, gap| {
        *begin += gap;
        Some(*begin)
    });
    let wait =
        |begin: Instant| if begin < from { Duration::ZERO } else { to.saturating_duration_since(begin) };
    let sorted = |waits: &mut dyn Iterator<Item = Duration>| {
        let mut seconds: Vec<f64> = waits.map(|wait| wait.as_secs_f64()).collect();
        seconds.sort_by(f64::total_cmp);
        seconds
    };
    let promised = sorted(&mut begins.take(REQUESTS).map(wait));
    let seen = sorted(&mut sample.latencies_ns.iter().map(|ns| Duration::from_nanos(*ns)));
    assert_eq!(seen.len(), promised.len());
    (seen, promised, (to - from).as_secs_f64())
}

#[test]
fn a_stall_in_an_open_loop_is_all_the_requests_that_were_due_in_it_and_their_percentiles() {
    // Where the machine is busy with others, some requests are late that did not wait for the stall; none that did is ever in time.
    const ATTEMPTS: usize = 10;
    let attempt = || {
        let (seen, promised, stall) = open_loop();
        let late = |latencies: &[f64]| latencies.iter().filter(|s| **s > stall / 10.0).count();
        let (late_seen, late_promised) = (late(&seen), late(&promised));
        assert!((150..=210).contains(&late_promised), "nine tenths of some 200: {late_promised}");
        assert!(
            late_seen * 20 >= late_promised * 19,
            "only {late_seen} late; {late_promised} were due in the stall"
        );
        if late_seen * 20 > late_promised * 21 {
            return Err(format!("{late_seen} late; {late_promised} were due in the stall"));
        }
        // A fifth of all were due in the stall, evenly: p90 is its middle, p99 nineteen parts of twenty.
        for (share, of_stall) in [(0.5, 0.0), (0.9, 0.5), (0.99, 0.95), (1.0, 1.0)] {
            let (seen, promised) = (quantile(&seen, share) / stall, quantile(&promised, share) / stall);
            assert!((promised - of_stall).abs() < 0.1, "p{}: {promised} of the stall", share * 100.0);
            if (seen - promised).abs() > 0.05 {
                return Err(format!("p{}: {seen} of the stall, not {promised}", share * 100.0));
            }
        }
        Ok(())
    };
    let refuted: Vec<String> = (0..ATTEMPTS).map_while(|_| attempt().err()).collect();
    assert!(refuted.len() < ATTEMPTS, "{refuted:?}");
}

#[test]
fn the_same_stall_in_a_closed_loop_is_one_late_request_for_each_connection() {
    const REQUESTS: usize = 4000;
    const CONNECTIONS: usize = 10;
    let (address, stalled) = stalling_server(CONNECTIONS as u64, REQUESTS as u64 / 2);
    let sample = load(CONNECTIONS as u64, &address, "closed").slice(REQUESTS as u64).unwrap();
    let (from, to) = stalled.recv().expect("the server has stalled");
    let half = (to - from).as_nanos() / 2;
    let late = sample.latencies_ns.iter().filter(|ns| u128::from(**ns) > half).count();
    assert_eq!((sample.latencies_ns.len(), late), (REQUESTS, CONNECTIONS));
}
