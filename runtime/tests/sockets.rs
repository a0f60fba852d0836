//! Datagrams, sockets of this machine, pipes, halves and names: what `net.rs` shows of TCP, for the others, and what they have of their own.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use switchmark_runtime::net::{
    PipeReader, PipeWriter, TcpListener, TcpStream, ToAddresses, UdpSocket, UnixListener, UnixStream, pipe,
};
use switchmark_runtime::{Builder, Runtime, chan, sleep, spawn, spawn_local, yield_now};

fn local<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
    unsafe { Builder::new().run_local(f) }.unwrap()
}

fn several(workers: usize) -> Runtime {
    // SAFETY: as above.
    unsafe { Builder::new().workers(workers).build() }.unwrap()
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = spawn(move || TcpStream::connect(address).unwrap());
    let server = listener.accept().unwrap().0;
    (client.join().unwrap(), server)
}

/// Bytes that name their connection and place.
fn pattern(who: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| ((who * 31 + at * 7 + at / 251) % 256).try_into().unwrap()).collect()
}

/// Answers with what comes, until the peer ends.
fn echo(mut stream: impl Read + Write) -> u64 {
    let mut buffer = [0; 700];
    let mut all = 0;
    loop {
        let read = stream.read(&mut buffer).unwrap();
        if read == 0 {
            return all;
        }
        all += read as u64;
        stream.write_all(&buffer[..read]).unwrap();
    }
}

#[test]
fn a_look_at_what_comes_does_not_hide_it_from_the_next_read() {
    const ROUNDS: usize = 20;
    local(|| {
        let (mut client, mut server) = pair();
        let (asks, asked) = chan::unbounded();
        let unit = spawn_local(move || {
            let mut buffer = [0; 64];
            for _ in 0..ROUNDS {
                // A short read that waited: from here on it is known that there is nothing.
                asks.send("aaa").unwrap();
                assert_eq!(server.read(&mut buffer).unwrap(), 3);
                // This one waits too, is told of the next bytes, and leaves them.
                asks.send("bb").unwrap();
                assert_eq!((server.peek(&mut buffer[..1]).unwrap(), buffer[0]), (1, b'b'));
                assert_eq!(server.read(&mut buffer).unwrap(), 2);
                // By reference: takes one of three.
                asks.send("ccc").unwrap();
                assert_eq!(((&server).read(&mut buffer[..1]).unwrap(), buffer[0]), (1, b'c'));
                assert_eq!(server.read(&mut buffer).unwrap(), 2);
            }
        });
        for text in asked {
            sleep(Duration::from_micros(300)); // It waits by then, most likely.
            client.write_all(text.as_bytes()).unwrap();
        }
        unit.join().unwrap();
    });
}

#[test]
fn halves_are_read_and_written_by_one_coroutine_each_and_make_the_stream_again() {
    const BYTES: usize = 4 << 20;
    let (tcp, unix) = several(2).block_on(|| {
        let (client, server) = pair();
        let (one, other) = UnixStream::pair().unwrap();
        let answered = [spawn(move || echo(server)), spawn(move || echo(other))];
        let (mut reads, mut writes) = client.split();
        let sending = spawn(move || {
            writes.write_all(&pattern(1, BYTES)).unwrap();
            writes
        });
        let mut back = vec![0; BYTES];
        reads.read_exact(&mut back).unwrap();
        assert!(back == pattern(1, BYTES));
        let client = reads.unsplit(sending.join().unwrap()).unwrap();
        // The half that writes is dropped here, so the peer's reads end, and so do ours.
        let (mut reads, writes) = client.split();
        drop(writes);
        assert_eq!(reads.read(&mut [0; 8]).unwrap(), 0);

        let (mut reads, mut writes) = one.split();
        let sending = spawn(move || writes.write_all(&pattern(2, BYTES)).unwrap());
        back.clear();
        reads.read_to_end(&mut back).unwrap();
        assert!(back == pattern(2, BYTES));
        sending.join().unwrap();
        let [tcp, unix] = answered.map(|unit| unit.join().unwrap());
        (tcp, unix)
    });
    assert_eq!([tcp, unix], [BYTES as u64; 2]);
}

#[test]
fn halves_of_two_streams_are_given_back() {
    local(|| {
        let (one, other) = UnixStream::pair().unwrap();
        let (one_reads, one_writes) = one.split();
        let (other_reads, other_writes) = other.split();
        let (one_reads, other_writes) = one_reads.unsplit(other_writes).unwrap_err();
        let mut one = one_reads.unsplit(one_writes).unwrap();
        let mut other = other_reads.unsplit(other_writes).unwrap();
        one.write_all(b"still open").unwrap();
        drop(one);
        let mut text = String::new();
        other.read_to_string(&mut text).unwrap();
        assert_eq!(text, "still open");
    });
}

#[test]
fn a_clone_of_a_stream_waits_on_its_own() {
    local(|| {
        let (client, mut server) = pair();
        // Both wait for the same bytes; each byte goes to one of them.
        let readers: Vec<_> = [client.try_clone().unwrap(), client.try_clone().unwrap()]
            .into_iter()
            .map(|mut reader| {
                spawn_local(move || {
                    let mut all = Vec::new();
                    reader.read_to_end(&mut all).unwrap();
                    all
                })
            })
            .collect();
        yield_now();
        for byte in 0..100 {
            server.write_all(&[byte]).unwrap();
            yield_now();
        }
        drop(client); // Not the end: others have the connection.
        server.shutdown(Shutdown::Write).unwrap();
        let mut got: Vec<_> = readers.into_iter().flat_map(|unit| unit.join().unwrap()).collect();
        got.sort_unstable();
        assert_eq!(got, (0..100).collect::<Vec<_>>());
        let copy = server.try_clone().unwrap();
        server.set_read_timeout(Some(Duration::from_millis(3))).unwrap();
        assert_eq!(server.try_clone().unwrap().read(&mut [0]).unwrap_or(0), 0, "a clone waits as long");
        drop(copy);
    });
}

#[test]
fn datagrams_arrive_whole_each_once_and_from_whom_they_say() {
    const CLIENTS: usize = 20;
    const EACH: usize = 50;
    for workers in [1, 2] {
        several(workers).block_on(|| {
            let server = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
            let address = server.local_addr().unwrap();
            // Two coroutines share the socket.
            let serving: Vec<_> = (0..2)
                .map(|_| {
                    let server = Arc::clone(&server);
                    spawn(move || {
                        let mut buffer = [0; 2000];
                        loop {
                            let (bytes, from) = server.recv_from(&mut buffer).unwrap();
                            assert_eq!(server.send_to(&buffer[..bytes], from).unwrap(), bytes);
                        }
                    })
                })
                .collect();
            let clients: Vec<_> = (0..CLIENTS)
                .map(|who| {
                    spawn(move || {
                        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
                        client.connect(address).unwrap();
                        assert_eq!(client.peer_addr().unwrap(), address);
                        for round in 0..EACH {
                            let sent = pattern(who, 1 + round * 29);
                            client.send(&sent).unwrap();
                            let mut back = [0; 2000];
                            assert_eq!(client.peek(&mut back).unwrap(), sent.len());
                            let bytes = client.recv(&mut back).unwrap();
                            assert_eq!(back[..bytes], sent[..], "client {who}");
                        }
                    })
                })
                .collect();
            for unit in clients {
                unit.join().unwrap();
            }
            for unit in serving {
                unit.cancel().unwrap();
                assert!(unit.join().unwrap_err().is_cancelled());
            }
        });
    }
}

#[test]
fn a_datagram_that_never_comes_is_a_timeout_and_one_nobody_wants_an_error() {
    local(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(3))).unwrap();
        assert_eq!(socket.recv(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap(); // Closed again.
        socket.connect(gone).unwrap();
        socket.send(b"anybody?").unwrap();
        assert_eq!(socket.recv(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn sockets_of_this_machine_connect_by_path_and_by_name_also_through_a_full_queue() {
    let folder = std::env::temp_dir().join(format!("switchmark-sockets-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("one");
    let name =
        std::os::unix::net::SocketAddr::from_abstract_name(path.as_os_str().as_encoded_bytes()).unwrap();
    local(|| {
        for by_name in [false, true] {
            let listener = if by_name {
                UnixListener::bind_addr(&name).unwrap()
            } else {
                UnixListener::bind(&path).unwrap()
            };
            // More than may wait in the kernel's queue, and nobody accepts before all have tried.
            let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
            let clients = most.trim().parse::<usize>().unwrap().min(128) + 20;
            let shrunk = listen_shortly(&listener);
            let units: Vec<_> = (0..clients)
                .map(|who| {
                    let (path, name) = (path.clone(), name.clone());
                    spawn(move || {
                        let mut client = if by_name {
                            UnixStream::connect_addr(&name).unwrap()
                        } else {
                            UnixStream::connect(path).unwrap()
                        };
                        client.write_all(&pattern(who, 50)).unwrap();
                        client.shutdown(Shutdown::Write).unwrap();
                        let mut back = Vec::new();
                        client.read_to_end(&mut back).unwrap();
                        assert_eq!(back, pattern(who, 50));
                    })
                })
                .collect();
            yield_now();
            let serving: Vec<_> = listener
                .incoming()
                .take(clients)
                .map(|stream| stream.unwrap())
                .map(|stream| spawn(move || echo(stream)))
                .collect();
            for unit in units {
                unit.join().unwrap();
            }
            assert_eq!(
                serving.into_iter().map(|unit| unit.join().unwrap()).sum::<u64>(),
                50 * clients as u64
            );
            assert_eq!(shrunk, 0);
        }
    });
    assert_eq!(UnixStream::connect("/nowhere/at/all").unwrap_err().kind(), io::ErrorKind::NotFound);
    std::fs::remove_dir_all(folder).unwrap();
}

/// Has at most two connections wait to be accepted.
fn listen_shortly(listener: &UnixListener) -> i32 {
    // SAFETY: takes numbers.
    unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(listener), 2) }
}

#[test]
fn a_pipe_carries_more_than_it_holds_and_ends() {
    const BYTES: usize = 2 << 20;
    for workers in [1, 2] {
        several(workers).block_on(|| {
            let (mut reader, mut writer) = pipe().unwrap();
            let unit = spawn(move || {
                for part in pattern(3, BYTES).chunks(70_001) {
                    writer.write_all(part).unwrap();
                }
            });
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            assert!(all == pattern(3, BYTES));
            unit.join().unwrap();
        });
    }
}

#[test]
fn a_pipe_that_nobody_reads_fills_up_and_then_breaks() {
    local(|| {
        let (reader, mut writer) = pipe().unwrap();
        writer.set_write_timeout(Some(Duration::from_millis(3))).unwrap();
        let full = loop {
            if let Err(error) = writer.write(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::TimedOut);
        writer.set_write_timeout(None).unwrap();
        let unit = spawn_local(move || writer.write(&[0; 4096]).unwrap_err().kind());
        yield_now();
        drop(reader);
        assert_eq!(unit.join().unwrap(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn the_pipes_of_a_child_process_are_read_and_written_beside_others() {
    local(|| {
        let turns = Rc::new(std::cell::Cell::new(0_u64));
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cat is everywhere");
        let mut input = PipeWriter::from_fd(child.stdin.take().unwrap()).unwrap();
        let mut output = PipeReader::from_fd(child.stdout.take().unwrap()).unwrap();
        let counted = Rc::clone(&turns);
        let other = spawn_local(move || {
            while counted.get() < 1000 {
                counted.set(counted.get() + 1);
                yield_now();
            }
        });
        let unit = spawn_local(move || input.write_all(&pattern(4, 300_000)));
        let mut back = Vec::new();
        output.read_to_end(&mut back).unwrap();
        assert!(back == pattern(4, 300_000));
        unit.join().unwrap().unwrap();
        other.join().unwrap();
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn names_are_looked_up_elsewhere_and_addresses_need_none() {
    local(|| {
        let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
        assert_eq!(address.to_addresses().unwrap(), [address]);
        assert_eq!("127.0.0.1:80".to_addresses().unwrap(), [address]);
        assert_eq!(("127.0.0.1", 80).to_addresses().unwrap(), [address]);
        assert_eq!((Ipv4Addr::LOCALHOST, 80).to_addresses().unwrap(), [address]);
        assert_eq!([address, address][..].to_addresses().unwrap(), [address, address]);
        assert_eq!("[::1]:7".to_addresses().unwrap(), ["[::1]:7".parse().unwrap()]);
        for wrong in ["127.0.0.1", "no port", ":", "127.0.0.1:99999"] {
            assert!(wrong.to_addresses().is_err(), "{wrong}");
        }
        // The smallest stack: the look-up is not on it.
        let unit = switchmark_runtime::task::Builder::new().stack_size(64 << 10).spawn(|| {
            let listener = TcpListener::bind("localhost:0")?;
            let port = listener.local_addr()?.port();
            // Whichever family the listener got, the one that answers is found.
            TcpStream::connect(("localhost", port))?;
            listener.accept().map(drop)
        });
        unit.unwrap().join().unwrap().unwrap();
        let none: [SocketAddr; 0] = [];
        assert_eq!(TcpStream::connect(&none[..]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    });
    // An OS thread looks up where it is.
    assert!(!"localhost:1".to_addresses().unwrap().is_empty());
}
