//! `switchmark load`: the instrument's own load on an echo server, one thread over epoll, the same for every contender.
//!
//! A *closed* loop, here: each connection has one request outstanding, and sends the next when the answer is there. So a server
//! that stalls is asked less while it does, and its stalls show as the latency of one request for each connection, not of those
//! that an open world would have sent meanwhile. That world is the *open* loop, in `load/open.rs`.
//!
//! Every request differs from the one before it, and from those of other connections, in every byte; each byte that comes
//! back is compared. A connection is greeted with one request when it is made, 64 at a time: so all are accepted, and
//! whatever a server starts for each is there, before the first slice; and no queue of the kernel overflows.
//!
//! Latencies are raw: all of a slice, or where there are more than [`KEPT`] a uniform sample of so many (algorithm R), with the
//! longest among them in any case. A latency runs from just before the write, in an open loop from the intended begin, to just after the
//! read that completed the answer; waiting in this thread's own queue is part of it, as it is part of what a client of many connections sees.

mod open;

pub use open::Gaps;

use crate::epoll::Epoll;
use crate::protocol::{Identity, Prepare, Sample, Served};
use crate::{sys, worker};
use fastrand::Rng;
use open::World;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::ops::Range;
use std::time::{Duration, Instant};

/// What the load calls itself in the protocol.
pub const ID: &str = "load";

/// Latencies that a sample holds at most.
pub const KEPT: usize = 1 << 16;

/// Bytes of a request at most: it leaves in one write, and an answer fits into one read.
pub const LARGEST_REQUEST: usize = 4096;

/// A server that answers nobody for so long has stalled.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often that is looked at.
const GLANCE: Duration = Duration::from_millis(100);

/// Connections that are made before they are greeted: half of what a listener keeps waiting by std's default.
const AT_ONCE: usize = 64;

/// Connections from one source address, of some 28 000 ports that it has.
const OF_ONE_ADDRESS: usize = 10_000;

/// Connections that the source addresses suffice for; descriptors end long before.
const MOST_CONNECTIONS: usize = OF_ONE_ADDRESS * 200;

/// Descriptors of a process beside its connections.
const SPARE: u64 = 64;

/// Serves one cell on standard input and output.
pub fn serve() -> io::Result<()> {
    let identity = Identity {
        contender: ID.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        models: vec!["echo".into()],
    };
    worker::serve(identity, |prepare, session| match Load::open(prepare) {
        Ok(mut load) => session.drive(&mut load, Load::slice, |load| Some(load.served())),
        Err(Refusal::Unsupported(reason)) => session.unsupported(reason),
        Err(Refusal::Failed(error)) => Err(error),
    })
}

/// Why there is no load.
#[derive(Debug)]
pub enum Refusal {
    /// The machine, or the load, cannot do this.
    Unsupported(String),
    /// The server did not do its part.
    Failed(io::Error),
}

/// What a cell of the model `echo` asks of its load, and so of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Connections: `connections`, or `idle` and `active` together.
    pub connections: usize,
    /// Those that send requests: all, or `active`.
    pub active: usize,
    /// Bytes of a request and of its answer: `bytes`, or 64.
    pub bytes: usize,
}

impl Asked {
    /// Reads the parameters of a cell. The error names the one that is missing or no number.
    pub fn of(prepare: &Prepare) -> Result<Asked, String> {
        let number = |name: &str| {
            let number = prepare.number(name)?;
            usize::try_from(number).map_err(|e| format!("{name}={number}: {e}"))
        };
        let bytes = if prepare.param("bytes").is_some() { number("bytes")? } else { 64 };
        if prepare.param("idle").is_none() {
            let connections = number("connections")?;
            return Ok(Asked { connections, active: connections, bytes });
        }
        let (idle, active) = (number("idle")?, number("active")?);
        Ok(Asked { connections: idle.saturating_add(active), active, bytes })
    }
}

/// Connections to one server, all greeted.
#[derive(Debug)]
pub struct Load {
    epoll: Epoll,
    connections: Vec<Connection>,
    /// The first so many take part in slices; the others have nothing to say.
    active: usize,
    /// Answered in all, greetings included.
    answered: u64,
    /// Who begins the requests of a slice; nobody in a closed loop.
    world: Option<World>,
    rng: Rng,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    /// The outstanding request, which is the answer too; or the last one.
    request: Box<[u8]>,
    /// Bytes of the answer that have come; all of them where nothing is outstanding.
    come: usize,
    /// When that request began: was sent, or in an open loop was to be.
    begun: Instant,
}

/// What a round came to.
#[derive(Debug, Default)]
struct Round {
    sent: u64,
    answered: u64,
    bytes: u64,
    latencies: Latencies,
}

impl Round {
    /// An answer that was whole at `end`.
    fn take(&mut self, connection: &Connection, end: Instant, rng: &mut Rng) {
        self.latencies.add(nanos(end - connection.begun), rng);
        self.answered += 1;
        self.bytes += connection.request.len() as u64;
    }
}

/// A uniform sample of what it is given.
#[derive(Debug, Default)]
struct Latencies {
    kept: Vec<u64>,
    seen: u64,
    longest: u64,
}

impl Latencies {
    fn add(&mut self, latency_ns: u64, rng: &mut Rng) {
        self.seen += 1;
        self.longest = self.longest.max(latency_ns);
        if self.kept.len() < KEPT {
            self.kept.push(latency_ns);
        } else if let Some(place) =
            usize::try_from(rng.u64(..self.seen)).ok().and_then(|n| self.kept.get_mut(n))
        {
            *place = latency_ns;
        }
    }

    /// The sample, with the longest in it.
    fn all(mut self) -> Vec<u64> {
        if !self.kept.contains(&self.longest)
            && let Some(last) = self.kept.last_mut()
        {
            *last = self.longest;
        }
        self.kept
    }
}

impl Load {
    /// Makes the connections of a cell, and greets each.
    pub fn open(prepare: &Prepare) -> Result<Load, Refusal> {
        let Asked { connections, active, bytes } = Asked::of(prepare).map_err(Refusal::Unsupported)?;
        if !(1..=LARGEST_REQUEST).contains(&bytes) {
            return Err(Refusal::Unsupported(format!(
                "bytes={bytes}: the load sends 1 to {LARGEST_REQUEST} at a time"
            )));
        }
        let world = world(prepare, active).map_err(Refusal::Unsupported)?;
        let address = prepare.param("address").map(ToString::to_string).unwrap_or_default();
        let address: SocketAddrV4 = address
            .parse()
            .map_err(|_| Refusal::Failed(io::Error::other(format!("`{address}` is no address and port"))))?;
        if active == 0 || connections > MOST_CONNECTIONS {
            return Err(Refusal::Unsupported(format!(
                "{active} active of {connections} connections: the load keeps one active at least, and {MOST_CONNECTIONS} at most"
            )));
        }
        allow_descriptors(connections).map_err(Refusal::Unsupported)?;
        let mut epoll = Epoll::new().map_err(Refusal::Failed)?;
        if world.is_some() {
            epoll.wait_exactly(Duration::ZERO).map_err(|e| {
                Refusal::Unsupported(format!("an open loop needs epoll_pwait2, of Linux 5.11: {e}"))
            })?;
            sys::wake_in_time().map_err(Refusal::Failed)?;
        }
        let mut load = Load {
            epoll,
            connections: Vec::with_capacity(connections),
            active,
            answered: 0,
            world,
            rng: Rng::with_seed(1),
        };
        while load.connections.len() < connections {
            let first = load.connections.len();
            for index in first..connections.min(first + AT_ONCE) {
                load.connect(index, address, bytes)?;
            }
            let made = load.connections.len();
            load.round(first..made, (made - first) as u64).map_err(Refusal::Failed)?;
        }
        Ok(load)
    }

    fn connect(&mut self, index: usize, address: SocketAddrV4, bytes: usize) -> Result<(), Refusal> {
        let host = u8::try_from(1 + index / OF_ONE_ADDRESS).expect("the number of connections was looked at");
        let source = Ipv4Addr::new(127, 0, 0, host);
        let about = |e: io::Error| no_connection(&e, index, source, address);
        let stream = sys::connect_from(source, address).map_err(about)?;
        stream.set_nonblocking(true).map_err(about)?;
        stream.set_nodelay(true).map_err(about)?;
        self.epoll.add(&stream, index).map_err(about)?;
        let request: Box<[u8]> = (0..bytes).map(|_| self.rng.u8(..)).collect();
        self.connections.push(Connection { stream, request, come: bytes, begun: Instant::now() });
        Ok(())
    }

    /// What went over the connections so far, greetings included.
    pub fn served(&self) -> Served {
        Served { accepted: self.connections.len() as u64, answered: self.answered }
    }

    /// So many requests over all connections. The error is what the server did wrong.
    pub fn slice(&mut self, iterations: u64) -> io::Result<Sample> {
        let used = sys::process_cpu_time(std::process::id())?;
        let start = Instant::now();
        let round = match self.world.take() {
            None => self.round(0..self.active, iterations)?,
            Some(mut world) => {
                let round = self.open_round(&mut world, iterations);
                self.world = Some(world);
                round?
            }
        };
        let elapsed = start.elapsed();
        let cpu = sys::process_cpu_time(std::process::id())?.saturating_sub(used);
        let connections = self.connections.len() as u64;
        Ok(Sample {
            iterations,
            elapsed_ns: nanos(elapsed),
            units: connections,
            peak_live: connections,
            check: round.bytes,
            latencies_ns: round.latencies.all(),
            sent: Some(round.sent),
            answered: Some(round.answered),
            bytes: Some(round.bytes),
            cpu_ns: Some(nanos(cpu)),
            ..Sample::default()
        })
    }

    /// A closed loop over these connections, until so many requests are answered.
    fn round(&mut self, over: Range<usize>, requests: u64) -> io::Result<Round> {
        let mut round = Round::default();
        let loops = usize::try_from(requests).unwrap_or(usize::MAX);
        for index in over.take(loops) {
            self.connections[index].send(Instant::now()).map_err(|e| about(index, &e))?;
            round.sent += 1;
        }
        let mut buffer = [0; LARGEST_REQUEST];
        let mut last_answer = Instant::now();
        while round.answered < requests {
            let ready = self.epoll.wait(Some(GLANCE))?;
            if ready == 0 && last_answer.elapsed() >= PATIENCE {
                return Err(stalled(&round, requests));
            }
            for n in 0..ready {
                let index = self.epoll.token(n);
                let connection = &mut self.connections[index];
                if !connection.receive(&mut buffer).map_err(|e| about(index, &e))? {
                    continue;
                }
                // One reading of the clock ends this request and begins the next.
                last_answer = Instant::now();
                round.take(connection, last_answer, &mut self.rng);
                if round.sent < requests {
                    connection.send(last_answer).map_err(|e| about(index, &e))?;
                    round.sent += 1;
                }
            }
        }
        self.answered += round.answered;
        Ok(round)
    }
}

impl Connection {
    /// Whether a request is on its way.
    fn is_busy(&self) -> bool {
        self.come < self.request.len()
    }

    /// Sends a request that no answer to an earlier one could be taken for.
    fn send(&mut self, begun: Instant) -> io::Result<()> {
        for byte in &mut self.request {
            *byte = byte.wrapping_add(1);
        }
        (self.come, self.begun) = (0, begun);
        // What was sent before is answered, so the buffers of the kernel are empty: it takes this whole.
        match self.stream.write(&self.request)? {
            whole if whole == self.request.len() => Ok(()),
            part => Err(io::Error::other(format!("sent {part} of {} bytes", self.request.len()))),
        }
    }

    /// Reads what is there; whether the answer is whole, and right, now.
    fn receive(&mut self, buffer: &mut [u8; LARGEST_REQUEST]) -> io::Result<bool> {
        let length = match self.stream.read(buffer) {
            Ok(0) => return Err(io::Error::other("the server closed it")),
            Ok(length) => length,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(e) => return Err(e),
        };
        let due = &self.request[self.come..];
        if length > due.len() {
            return Err(io::Error::other(format!("{length} bytes came back where {} were due", due.len())));
        }
        if let Some(wrong) = (0..length).find(|&at| buffer[at] != due[at]) {
            return Err(io::Error::other(format!("wrong answer: byte {} is another", self.come + wrong)));
        }
        self.come += length;
        Ok(!self.is_busy())
    }
}

/// The world of an open loop, where one is asked for; the error is the reason of an `unsupported`.
fn world(prepare: &Prepare, active: usize) -> Result<Option<World>, String> {
    match prepare.param("loop").map(ToString::to_string).as_deref() {
        None | Some("closed") => Ok(None),
        Some("open") => match (prepare.number("rate")?, prepare.number("seed")?) {
            (0, _) => Err("rate=0: an open loop that asks nothing".into()),
            (rate, seed) => Ok(Some(World::new(rate, seed, active))),
        },
        Some(other) => Err(format!("loop={other}: the load keeps closed and open loops")),
    }
}

fn stalled(round: &Round, requests: u64) -> io::Error {
    io::Error::other(format!(
        "the server stalls: no answer for {} s, {} of {requests} requests answered",
        PATIENCE.as_secs(),
        round.answered
    ))
}

/// Why a connection cannot be made: the server's fault, or a limit of the machine.
fn no_connection(error: &io::Error, index: usize, source: Ipv4Addr, to: SocketAddrV4) -> Refusal {
    if error.kind() == io::ErrorKind::AddrNotAvailable {
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        return Refusal::Unsupported(format!(
            "no port is left of {source} for connection {index}: net.ipv4.ip_local_port_range is {}",
            range.split_ascii_whitespace().collect::<Vec<_>>().join("-")
        ));
    }
    Refusal::Failed(io::Error::other(format!("cannot make connection {index} to {to}: {error}")))
}

fn about(connection: usize, error: &io::Error) -> io::Error {
    io::Error::other(format!("connection {connection}: {error}"))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Raises this process's limit of open descriptors for so many connections. The error is the reason of an `unsupported`, and names the limit.
pub fn allow_descriptors(connections: usize) -> Result<(), String> {
    let cannot = |e: io::Error| format!("cannot have more descriptors: {e}");
    let (now, most) = sys::descriptor_limits().map_err(cannot)?;
    let needed = (connections as u64).saturating_add(SPARE);
    if needed > most {
        return Err(format!(
            "{connections} connections are more than RLIMIT_NOFILE (`ulimit -Hn`) leaves room for: {most}"
        ));
    }
    if needed > now {
        sys::set_descriptor_limits(needed, most).map_err(cannot)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;
    use switchmark_schema::ParamValue;

    /// A server that answers each connection as `answer` says, until it returns.
    fn server(answer: impl Fn(&TcpStream) -> io::Result<()> + Copy + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                thread::spawn(move || answer(&stream));
            }
        });
        address
    }

    fn echo(mut stream: &TcpStream) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                // In two writes: an answer may come in pieces.
                n => {
                    stream.write_all(&buffer[..n / 2])?;
                    stream.write_all(&buffer[n / 2..n])?;
                }
            }
        }
    }

    fn prepare(connections: u64, bytes: u64, address: &str) -> Prepare {
        Prepare {
            workload: "io.echo".into(),
            model: "echo".into(),
            placement: "one-core".into(),
            cpus: vec![0],
            params: vec![
                ("connections".into(), ParamValue::Number(connections)),
                ("bytes".into(), ParamValue::Number(bytes)),
                ("loop".into(), ParamValue::Word("closed".into())),
                ("address".into(), ParamValue::Word(address.into())),
            ],
        }
    }

    fn unsupported(prepare: &Prepare) -> String {
        match Load::open(prepare) {
            Err(Refusal::Unsupported(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_request_is_sent_once_and_answered_once_and_every_byte_is_counted() {
        let address = server(echo);
        // More connections than are greeted at once; more and fewer requests than connections.
        let mut load = Load::open(&prepare(70, 33, &address)).unwrap();
        assert_eq!(load.served(), Served { accepted: 70, answered: 70 });
        for requests in [1, 69, 70, 1001] {
            let sample = load.slice(requests).unwrap();
            assert_eq!((sample.iterations, sample.units, sample.check), (requests, 70, 33 * requests));
            assert_eq!((sample.sent, sample.answered), (Some(requests), Some(requests)));
            assert_eq!(sample.latencies_ns.len() as u64, requests);
            assert!(sample.latencies_ns.iter().all(|ns| *ns <= sample.elapsed_ns));
        }
        assert_eq!(load.served(), Served { accepted: 70, answered: 70 + 1 + 69 + 70 + 1001 });
    }

    /// The same cell with an open loop.
    fn prepare_open(connections: u64, address: &str, rate: u64) -> Prepare {
        let mut cell = prepare(connections, 16, address);
        cell.params[2].1 = ParamValue::Word("open".into());
        cell.params
            .extend([("rate".into(), ParamValue::Number(rate)), ("seed".into(), ParamValue::Number(7))]);
        cell
    }

    #[test]
    fn an_open_loop_sends_what_is_due_and_no_more_than_one_at_a_time_on_a_connection() {
        // Takes a request apart from the next by its size alone: two at once would be an answer too long.
        let one_by_one = |mut stream: &TcpStream| loop {
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                16 => {
                    thread::sleep(Duration::from_millis(2));
                    stream.write_all(&buffer[..16])?;
                }
                other => return Err(io::Error::other(format!("{other} bytes at once"))),
            }
        };
        let address = server(one_by_one);
        // Two connections are busy all the time at this rate: most of what is due waits its turn.
        let mut load = Load::open(&prepare_open(2, &address, 4000)).unwrap();
        for requests in [1, 100] {
            let sample = load.slice(requests).unwrap();
            assert_eq!((sample.sent, sample.answered), (Some(requests), Some(requests)));
            assert_eq!(
                (sample.units, sample.check, sample.latencies_ns.len()),
                (2, 16 * requests, usize::try_from(requests).unwrap())
            );
        }
        assert_eq!(load.served(), Served { accepted: 2, answered: 2 + 1 + 100 });
    }

    #[test]
    fn an_open_loop_takes_the_time_of_its_schedule_however_fast_the_server_is() {
        let address = server(echo);
        let mut load = Load::open(&prepare_open(10, &address, 2000)).unwrap();
        let sample = load.slice(400).unwrap();
        let last_begin: Duration = Gaps::new(2000, 7).take(400).sum();
        assert!(Duration::from_nanos(sample.elapsed_ns) >= last_begin, "{sample:?}");
    }

    #[test]
    fn idle_connections_are_greeted_and_then_left_alone() {
        let address = server(echo);
        let mut cell = prepare(0, 64, &address);
        cell.params = vec![
            ("idle".into(), ParamValue::Number(90)),
            ("active".into(), ParamValue::Number(3)),
            ("address".into(), ParamValue::Word(address)),
        ];
        let mut load = Load::open(&cell).unwrap();
        assert_eq!(load.served(), Served { accepted: 93, answered: 93 });
        let before = load.connections.iter().map(|c| c.begun).collect::<Vec<_>>();
        let sample = load.slice(300).unwrap();
        assert_eq!((sample.units, sample.check, sample.answered), (93, 64 * 300, Some(300)));
        let spoke = load.connections.iter().zip(before).filter(|(c, before)| c.begun != *before).count();
        assert_eq!(spoke, 3);
    }

    #[test]
    fn a_server_that_answers_wrongly_or_too_much_or_goes_away_is_found_out() {
        type Answer = fn(&TcpStream) -> io::Result<()>;
        let faults: [(Answer, &str); 3] = [
            (
                |mut stream| loop {
                    let mut buffer = [0; 64];
                    let n = stream.read(&mut buffer)?;
                    buffer[n - 1] ^= 1;
                    stream.write_all(&buffer[..n])?;
                },
                "wrong answer: byte 15",
            ),
            (
                |mut stream| loop {
                    let mut buffer = [0; 64];
                    let n = stream.read(&mut buffer)?;
                    stream.write_all(&buffer[..=n])?;
                },
                "17 bytes came back where 16 were due",
            ),
            (|mut stream| stream.read_exact(&mut [0; 16]), "closed"),
        ];
        for (fault, named) in faults {
            let address = server(fault);
            match Load::open(&prepare(2, 16, &address)) {
                Err(Refusal::Failed(error)) => assert!(error.to_string().contains(named), "{error}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_the_load_cannot_do_is_unsupported_and_says_why() {
        assert!(unsupported(&prepare(1, 0, "127.0.0.1:1")).contains("bytes=0"));
        assert!(unsupported(&prepare(1, 5000, "127.0.0.1:1")).contains("4096"));
        assert!(unsupported(&prepare(0, 64, "127.0.0.1:1")).contains("0 active of 0"));
        let mut unasked = prepare(1, 64, "127.0.0.1:1");
        unasked.params.remove(0);
        assert!(unsupported(&unasked).contains("connections"));
        let mut open = prepare(1, 64, "127.0.0.1:1");
        open.params[2].1 = ParamValue::Word("open".into());
        assert!(unsupported(&open).contains("rate"), "of which rate?");
        open.params.extend([("rate".into(), ParamValue::Number(0)), ("seed".into(), ParamValue::Number(1))]);
        assert!(unsupported(&open).contains("rate=0"));
        open.params[2].1 = ParamValue::Word("half".into());
        assert!(unsupported(&open).contains("loop=half"));
        let (_, most) = sys::descriptor_limits().unwrap();
        let reason = allow_descriptors(usize::try_from(most).unwrap()).unwrap_err();
        assert!(reason.contains("RLIMIT_NOFILE") && reason.contains(&most.to_string()), "{reason}");
    }

    #[test]
    fn where_no_port_is_left_it_is_the_limit_that_is_named_and_not_the_server() {
        let (source, to) = (Ipv4Addr::LOCALHOST, SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80));
        let reason = match no_connection(&io::ErrorKind::AddrNotAvailable.into(), 7, source, to) {
            Refusal::Unsupported(reason) => reason,
            Refusal::Failed(error) => panic!("{error}"),
        };
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let lowest = range.split_ascii_whitespace().next().unwrap();
        assert!(
            reason.contains("connection 7") && reason.contains(&format!("ip_local_port_range is {lowest}-")),
            "{reason}"
        );
    }

    #[test]
    fn where_nobody_listens_there_is_no_load_and_the_address_is_named() {
        // A port that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        match Load::open(&prepare(1, 64, &address)) {
            Err(Refusal::Failed(error)) => assert!(error.to_string().contains(&address), "{error}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_sample_of_latencies_is_bounded_and_holds_the_longest() {
        let mut rng = Rng::with_seed(7);
        let mut latencies = Latencies::default();
        let given = KEPT as u64 * 3;
        for n in 0..given {
            latencies.add(if n == 5 { 1 << 40 } else { n }, &mut rng);
        }
        let kept = latencies.all();
        assert_eq!(kept.len(), KEPT);
        assert!(kept.contains(&(1 << 40)), "the longest");
        let late = kept.iter().filter(|n| **n >= given / 2).count();
        assert!((KEPT * 2 / 5..KEPT * 3 / 5).contains(&late), "half of them from the latter half: {late}");
    }
}
