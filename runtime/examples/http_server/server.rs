//! The server: who accepts, what a connection does, and how a signal ends it.
#![allow(unsafe_code, reason = "entering a runtime is a promise, and signals come by system calls")]

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use switchmark_runtime::net::{Pollable, TcpListener, TcpStream};
use switchmark_runtime::{Builder, cancel, sleep, spawn, task};

/// Most bytes of a request's head, and of its body.
const MAX_HEAD: usize = 8 << 10;
const MAX_BODY: usize = 1 << 20;
/// How long the peer may be silent, or not take what it is sent.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves until a signal comes.
pub(crate) fn run(address: SocketAddr, workers: usize) -> io::Result<()> {
    let mut signals = signals()?;
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
    let runtime = unsafe { Builder::new().workers(workers).build()? };
    runtime.block_on(|| {
        let listener = TcpListener::bind(address)?;
        println!("listening on http://{}", listener.local_addr()?);
        drop(spawn(move || accept(&listener)));
        signals()
    })?;
    println!("stopping");
    runtime.shutdown_timeout(PATIENCE).map_err(io::Error::other)
}

fn accept(listener: &TcpListener) {
    for stream in listener.incoming() {
        let serving = stream.and_then(|stream| {
            // A connection waits most of its life, so its stack is of the smallest kind.
            task::Builder::new().stack_size(64 << 10).spawn(move || serve(stream)).map(drop)
        });
        if let Err(error) = serving {
            // Out of descriptors, most likely; some connection will end.
            eprintln!("cannot take a connection: {error}");
            sleep(Duration::from_millis(20));
        }
    }
}

/// One connection, to its end.
fn serve(mut stream: TcpStream) {
    // These fail if the peer has gone already, which the first read says again.
    let _ = stream.set_nodelay(true);
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.set_write_timeout(Some(PATIENCE));
    let (mut input, mut answers, mut told_to_continue) = (Vec::new(), Vec::new(), false);
    loop {
        // All that is here is answered in one write.
        let mut goes_on = true;
        let mut used = 0;
        while goes_on && used < input.len() {
            match Request::parse(&input[used..]) {
                Ok(Parsed::Whole(request, bytes)) => {
                    used += bytes;
                    told_to_continue = false;
                    goes_on = request.keep_alive;
                    request.answer(&mut answers);
                }
                Ok(Parsed::Part { expects_continue }) => {
                    if expects_continue && !told_to_continue {
                        answers.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                        told_to_continue = true;
                    }
                    break;
                }
                Err(refused) => {
                    goes_on = false;
                    respond(
                        &mut answers,
                        refused.status,
                        format!("{}\n", refused.why).as_bytes(),
                        true,
                        false,
                    );
                }
            }
        }
        input.drain(..used);
        if !answers.is_empty() && cancel::mask(|| stream.write_all(&answers)).is_err() {
            return; // The peer has gone, or takes nothing: there is nobody to tell.
        }
        answers.clear();
        if !goes_on {
            // What the peer still sends is read away: closing on unread bytes resets, and could cost it the answer.
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
            let _ = io::copy(&mut stream.take(MAX_BODY as u64), &mut io::sink());
            return;
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => input.extend_from_slice(&buffer[..read]),
            Err(error) => {
                if error.kind() == io::ErrorKind::TimedOut && !input.is_empty() {
                    respond(
                        &mut answers,
                        "408 Request Timeout",
                        b"the request did not come to its end\n",
                        true,
                        false,
                    );
                    let _ = stream.write_all(&answers);
                }
                return;
            }
        }
    }
}

struct Request<'a> {
    method: &'a str,
    path: &'a str,
    body: &'a [u8],
    keep_alive: bool,
}

enum Parsed<'a> {
    /// A request, and how many bytes it has.
    Whole(Request<'a>, usize),
    /// More has to come.
    Part { expects_continue: bool },
}

struct Refused {
    status: &'static str,
    why: String,
}

fn refuse<T>(status: &'static str, why: impl Into<String>) -> Result<T, Refused> {
    Err(Refused { status, why: why.into() })
}

impl<'a> Request<'a> {
    fn parse(input: &'a [u8]) -> Result<Parsed<'a>, Refused> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Request::new(&mut headers);
        let head_bytes = match head.parse(input) {
            Ok(httparse::Status::Complete(bytes)) if bytes <= MAX_HEAD => bytes,
            Ok(httparse::Status::Partial) if input.len() <= MAX_HEAD => {
                return Ok(Parsed::Part { expects_continue: false });
            }
            Err(httparse::Error::TooManyHeaders) => {
                return refuse("431 Request Header Fields Too Large", "more than 64 headers");
            }
            Ok(_) => {
                return refuse(
                    "431 Request Header Fields Too Large",
                    format!("a head of more than {MAX_HEAD} bytes"),
                );
            }
            Err(error) => return refuse("400 Bad Request", format!("not a request: {error}")),
        };
        let values = |name: &'static str| {
            let named = head.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
            named.map(|header| str::from_utf8(header.value).unwrap_or("").trim())
        };
        let says = |name, word: &str| {
            values(name).flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
        };
        let is_new = head.version == Some(1);
        if is_new && values("host").count() != 1 {
            return refuse("400 Bad Request", "HTTP/1.1 asks for one Host header");
        }
        if values("transfer-encoding").next().is_some() {
            return refuse("501 Not Implemented", "a body with a Content-Length is understood, and no other");
        }
        let mut lengths = values("content-length");
        let body_bytes = match (lengths.next(), lengths.next()) {
            (None, _) => 0,
            (Some(digits), None)
                if digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.is_empty() =>
            {
                digits.parse().unwrap_or(usize::MAX)
            }
            _ => return refuse("400 Bad Request", "Content-Length is one number"),
        };
        if body_bytes > MAX_BODY {
            return refuse("413 Content Too Large", format!("a body of more than {MAX_BODY} bytes"));
        }
        let Some(body) = input[head_bytes..].get(..body_bytes) else {
            return Ok(Parsed::Part { expects_continue: is_new && says("expect", "100-continue") });
        };
        let keep_alive = if is_new { !says("connection", "close") } else { says("connection", "keep-alive") };
        let request = Request {
            method: head.method.unwrap_or_default(),
            path: head.path.unwrap_or_default(),
            body,
            keep_alive,
        };
        Ok(Parsed::Whole(request, head_bytes + body_bytes))
    }

    fn answer(&self, out: &mut Vec<u8>) {
        let path = self.path.split('?').next().unwrap_or_default();
        let with_body = self.method != "HEAD";
        let mut say = |status, body: &[u8]| respond(out, status, body, with_body, self.keep_alive);
        match (self.method, path) {
            ("GET" | "HEAD", "/") => say("200 OK", b"Hello from a coroutine\n"),
            ("GET" | "HEAD", _) if path.starts_with("/hello/") => {
                say("200 OK", format!("Hello, {}\n", &path["/hello/".len()..]).as_bytes());
            }
            ("POST", "/echo") => say("200 OK", self.body),
            (_, "/" | "/echo") => {
                say("405 Method Not Allowed", format!("{} is not for {path}\n", self.method).as_bytes());
            }
            _ => say("404 Not Found", format!("nothing is at {path}\n").as_bytes()),
        }
    }
}

fn respond(out: &mut Vec<u8>, status: &str, body: &[u8], with_body: bool, keep_alive: bool) {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let length = body.len();
    write!(
        out,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         Connection: {connection}\r\n\r\n"
    )
    .expect("memory takes it");
    if with_body {
        out.extend_from_slice(body);
    }
}

/// Has SIGINT and SIGTERM come through a descriptor, to all threads that are started later; the function returned waits for one.
fn signals() -> io::Result<impl FnMut() -> io::Result<()>> {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: initialises the set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the set is initialised, and the signal is one.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    }
    // SAFETY: initialised above.
    let set = unsafe { set.assume_init() };
    // SAFETY: reads the set.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    // SAFETY: makes a descriptor, or says -1.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is new, and nobody else's.
    let signals = Pollable::new(unsafe { OwnedFd::from_raw_fd(fd) })?;
    Ok(move || {
        signals.read_with(|fd| {
            let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
            // SAFETY: the kernel writes at most so many bytes of ours.
            let read = unsafe { libc::read(fd.as_raw_fd(), info.as_mut_ptr().cast(), info.len()) };
            if read < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        })
    })
}
