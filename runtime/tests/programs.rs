//! The example programs, used as somebody from outside would: the server as a process of its own, the crawler on a site of ordinary threads.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

#[path = "../examples/crawler/crawl.rs"]
mod crawler;
#[path = "../examples/http_server/server.rs"]
mod http_server;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use switchmark_runtime::Builder;

/// The server, as a process: this test binary once more, which then is it.
struct Server {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    address: SocketAddr,
}

const CHILD: &str = "PROGRAMS_CHILD";

/// The server as a child, unless this process is it, which then is `None` and has served.
fn server(test: &str) -> Option<Server> {
    if std::env::var_os(CHILD).is_some() {
        http_server::run("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        return None;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, "1").stdout(Stdio::piped());
    // The test runner has a thread from before the server blocks the signal, which would take it and end the process.
    // SAFETY: only makes system calls.
    unsafe { command.pre_exec(block_sigterm) };
    let mut child = command.spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    let address = loop {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "the server ended");
        if let Some((_, address)) = line.trim().split_once("listening on http://") {
            break address.parse().unwrap();
        }
    };
    Some(Server { child, output, address })
}

fn block_sigterm() -> std::io::Result<()> {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: initialises the set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised above.
    unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM) };
    // SAFETY: reads the set.
    let done = unsafe { libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

impl Server {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// What comes back for `request`, up to the end of the connection.
    fn ask(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Asks it to end, and checks that it did in order.
    fn stop(mut self) -> String {
        // SAFETY: sends a signal to a child of ours that has not been waited for.
        let killed = unsafe { libc::kill(self.child.id().try_into().unwrap(), libc::SIGTERM) };
        assert_eq!(killed, 0);
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {rest}");
        assert!(rest.contains("stopping"), "{rest}");
        rest
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // After a failed assertion; else it has gone.
    }
}

/// The next answer of a connection that is kept alive: its head and its body.
fn next_answer(stream: &mut BufReader<TcpStream>) -> (String, Vec<u8>) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).unwrap() > 0, "it ended after {head:?}");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

#[test]
fn the_server_keeps_connections_takes_pipelined_requests_and_gives_bodies_back() {
    let Some(server) = server("the_server_keeps_connections_takes_pipelined_requests_and_gives_bodies_back")
    else {
        return;
    };
    let mut stream = BufReader::new(server.connect());
    // Many in one segment, answered in their order.
    let names: Vec<_> = (0..50).map(|n| format!("number{n}")).collect();
    let requests: Vec<_> =
        names.iter().map(|name| format!("GET /hello/{name} HTTP/1.1\r\nHost: here\r\n\r\n")).collect();
    let requests = requests.concat();
    stream.get_mut().write_all(requests.as_bytes()).unwrap();
    for name in &names {
        let (head, body) = next_answer(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("keep-alive"), "{head}");
        assert_eq!(String::from_utf8(body).unwrap(), format!("Hello, {name}\n"));
    }
    // One byte at a time, with a body of every byte there is.
    let body: Vec<u8> = (0..=255).collect();
    let mut request = b"POST /echo HTTP/1.1\r\nhost: here\r\ncontent-length: 256\r\n\r\n".to_vec();
    request.extend_from_slice(&body);
    for byte in &request {
        stream.get_mut().write_all(&[*byte]).unwrap();
    }
    assert_eq!(next_answer(&mut stream).1, body);
    // A large one, for which the client waits to be told.
    let large = vec![b'x'; 1 << 20];
    let head = "POST /echo HTTP/1.1\r\nHost: here\r\nContent-Length: 1048576\r\nExpect: 100-continue\r\n\r\n";
    stream.get_mut().write_all(head.as_bytes()).unwrap();
    assert_eq!(next_answer(&mut stream).0, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.get_mut().write_all(&large).unwrap();
    assert!(next_answer(&mut stream).1 == large);
    // HEAD has no body, so what follows is the next answer.
    stream.get_mut().write_all(b"HEAD / HTTP/1.1\r\nHost: here\r\n\r\nGET / HTTP/1.0\r\n\r\n").unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    let answers: Vec<_> = rest.split("\r\n\r\n").collect();
    assert_eq!(answers.len(), 3, "{rest}");
    assert!(answers[0].contains("keep-alive") && answers[1].contains("close"), "{rest}");
    assert_eq!(answers[2], "Hello from a coroutine\n", "1.0 ends where the connection does");
    server.stop();
}

#[test]
fn the_server_says_what_is_wrong_with_a_request_and_serves_others() {
    let Some(server) = server("the_server_says_what_is_wrong_with_a_request_and_serves_others") else {
        return;
    };
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(9000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(70));
    for (request, status, why) in [
        ("rubbish\r\n\r\n", "400", "not a request"),
        ("GET / HTTP/1.1\r\n\r\n", "400", "Host"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400", "Host"),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: many\r\n\r\n", "400", "one number"),
        (
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "400",
            "one number",
        ),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", "413", "1048576"),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "501", "Content-Length"),
        (long.as_str(), "431", "8192"),
        (many.as_str(), "431", "64"),
    ] {
        let answer = server.ask(request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.60}: {answer}");
        assert!(answer.contains(why) && answer.contains("Connection: close"), "{request:.60}: {answer}");
    }
    let answer = server.ask(
        b"PUT /nothing HTTP/1.1\r\nHost: a\r\n\r\nDELETE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("HTTP/1.1 405 "), "{answer}");
    server.stop();
}

#[test]
fn the_server_serves_many_at_once_and_ends_with_idle_connections_open() {
    const CLIENTS: usize = 40;
    let Some(server) = server("the_server_serves_many_at_once_and_ends_with_idle_connections_open") else {
        return;
    };
    let server = Arc::new(server);
    let all_are_open = Arc::new(Barrier::new(CLIENTS));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|who| {
            let (server, all_are_open) = (Arc::clone(&server), Arc::clone(&all_are_open));
            thread::spawn(move || {
                let mut stream = BufReader::new(server.connect());
                all_are_open.wait();
                for round in 0..50 {
                    let request = format!("GET /hello/{who}-{round} HTTP/1.1\r\nHost: a\r\n\r\n");
                    stream.get_mut().write_all(request.as_bytes()).unwrap();
                    let (_, body) = next_answer(&mut stream);
                    assert_eq!(body, format!("Hello, {who}-{round}\n").into_bytes());
                }
                stream
            })
        })
        .collect();
    let open: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    Arc::into_inner(server).unwrap().stop();
    for mut stream in open {
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0, "an idle connection is closed in order");
    }
}

/// A site of threads: pages with links to and fro, of every kind, and how often each was asked for.
fn site(pages: usize) -> (SocketAddr, Arc<Vec<AtomicUsize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new((0..pages).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>());
    let counts = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, counts) = (BufReader::new(stream.unwrap()), Arc::clone(&counts));
            thread::spawn(move || {
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    assert!(stream.read_line(&mut head).unwrap() > 0);
                }
                let path = head.split(' ').nth(1).unwrap().to_owned();
                let page = path.strip_prefix("/folder/page").and_then(|n| n.strip_suffix(".html"));
                let (status, kind, body) = match (path.as_str(), page.map(|n| n.parse::<usize>().unwrap())) {
                    ("/", _) => ("302 Found", "text/plain", String::new()),
                    (_, Some(n)) if n < counts.len() => {
                        counts[n].fetch_add(1, Ordering::Relaxed);
                        // Two children each, and back; relative, absolute, from above, with a fragment, elsewhere.
                        let body = format!(
                            "<a href=\"page{}.html\">one</a><a href='../folder/./page{}.html#end'>two</a>\
                             <a href=\"http://{address}/folder/page0.html\">up</a><a href=\"/folder/page{n}.html?x=1&amp;y=2\">\
                             again</a><a href=\"http://127.0.0.1:1/\">elsewhere</a><a href=\"mailto:a@b\">post</a>\
                             <a href=\"#here\">here</a><img src=\"/picture\">",
                            2 * n + 1,
                            2 * n + 2
                        );
                        ("200 OK", "text/html; charset=utf-8", body)
                    }
                    (_, Some(_)) => ("404 Not Found", "text/html", "<a href=/lost>".into()),
                    ("/picture", _) => ("200 OK", "image/png", "href=\"/no/link\"".repeat(1000)),
                    _ => ("200 OK", "text/html", String::new()),
                };
                let place = if path == "/" { "Location: /folder/page0.html\r\n" } else { "" };
                let head = format!(
                    "HTTP/1.0 {status}\r\nContent-Type: {kind}\r\n{place}Content-Length: {}\r\n\r\n",
                    body.len()
                );
                let _ = stream.get_mut().write_all((head + &body).as_bytes());
            });
        }
    });
    (address, asked)
}

#[test]
fn the_crawler_follows_every_link_within_the_site_once_and_keeps_to_its_bound() {
    const PAGES: usize = 100;
    for at_once in [1, 8] {
        let (address, asked) = site(PAGES);
        let (site, path) = crawler::Site::of(&format!("http://{address}")).unwrap();
        let mut out = Vec::new();
        // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
        let totals = unsafe { Builder::new().run_local(|| crawler::crawl(site, path, at_once, &mut out)) };
        let totals = totals.unwrap().unwrap();
        let out = String::from_utf8(out).unwrap();
        // The redirect, the pages, each once more with a query, the picture, and those that are linked to and missing.
        let missing = 2 * PAGES + 1 - PAGES;
        assert_eq!(totals.pages, 1 + 2 * PAGES + 1 + missing, "{out}");
        assert_eq!((totals.failed, totals.most_at_once), (missing, at_once), "{out}");
        assert!(asked.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{asked:?}");
        let mut lines: Vec<_> = out.lines().filter(|line| line.contains("http://")).collect();
        assert_eq!(lines.len(), totals.pages);
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), totals.pages, "each is printed once");
        assert!(out.contains(&format!("200 {:>9} http://{address}/picture", 15 * 1000)), "{out}");
    }
}

#[test]
fn the_crawler_says_which_page_it_could_not_get() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answers = thread::spawn(move || {
        // An end that is no answer, twice, as it tries once more; and then nobody.
        drop(listener.accept().unwrap());
        drop(listener.accept().unwrap());
    });
    for why in ["", "refused"] {
        let (site, path) = crawler::Site::of(&format!("http://{address}/a page")).unwrap();
        let mut out = Vec::new();
        // SAFETY: as above.
        let totals = unsafe { Builder::new().run_local(|| crawler::crawl(site, path, 2, &mut out)) };
        let out = String::from_utf8(out).unwrap();
        let totals = totals.unwrap().unwrap();
        assert_eq!((totals.pages, totals.failed), (1, 1), "{out}");
        assert!(out.starts_with("---") && out.contains(why), "{out}");
        while !answers.is_finished() {
            thread::yield_now();
        }
    }
}
