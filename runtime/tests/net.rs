//! Sockets: every byte arrives, every wait ends, and nothing is left behind.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use switchmark_runtime::net::{Pollable, TcpListener, TcpStream, UnixStream};
use switchmark_runtime::{
    Builder, Handle, JoinHandle, Runtime, cancel, park, sleep, spawn, spawn_local, yield_now,
};

fn local<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
    unsafe { Builder::new().run_local(f) }.unwrap()
}

fn several(workers: usize) -> Runtime {
    // SAFETY: as above.
    unsafe { Builder::new().workers(workers).build() }.unwrap()
}

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(any()).unwrap();
    let address = listener.local_addr().unwrap();
    let client = spawn(move || TcpStream::connect(address).unwrap());
    let server = listener.accept().unwrap().0;
    (client.join().unwrap(), server)
}

/// Whether this is a process for this test alone: descriptors and their limit are the process's. If not, it has run there.
fn alone(name: &str) -> bool {
    const CHILD: &str = "NET_CHILD";
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let output = child.args([name, "--exact", "--test-threads=1"]).env(CHILD, "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    false
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Answers with what comes, until the peer ends.
fn echo(mut stream: TcpStream) -> u64 {
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

/// Bytes that name their connection and place.
fn pattern(who: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| ((who * 31 + at * 7 + at / 251) % 256).try_into().unwrap()).collect()
}

#[test]
fn many_connections_get_their_own_bytes_back_whatever_the_lengths() {
    const CONNECTIONS: usize = 200;
    for workers in [1, 2] {
        let runtime = several(workers);
        let answered = runtime.block_on(|| {
            let listener = TcpListener::bind(any()).unwrap();
            let address = listener.local_addr().unwrap();
            let server = spawn(move || {
                let serving: Vec<_> = (0..CONNECTIONS)
                    .map(|_| listener.accept().unwrap().0)
                    .map(|stream| spawn(move || echo(stream)))
                    .collect();
                serving.into_iter().map(|unit| unit.join().unwrap()).sum::<u64>()
            });
            let clients: Vec<_> = (0..CONNECTIONS)
                .map(|who| {
                    spawn(move || {
                        let mut stream = TcpStream::connect(address).unwrap();
                        // Around the server's buffer, and beyond what the kernel buffers at once for small windows.
                        for bytes in [1, 64, 699, 700, 701, 5000] {
                            let sent = pattern(who, bytes);
                            stream.write_all(&sent).unwrap();
                            let mut back = vec![0; bytes];
                            stream.read_exact(&mut back).unwrap();
                            assert_eq!(sent, back, "connection {who}, {bytes} bytes");
                        }
                        stream.shutdown(Shutdown::Write).unwrap();
                        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
                    })
                })
                .collect();
            for unit in clients {
                unit.join().unwrap();
            }
            server.join().unwrap()
        });
        assert_eq!(answered, CONNECTIONS as u64 * (1 + 64 + 699 + 700 + 701 + 5000));
    }
}

#[test]
fn a_stream_is_read_and_written_at_once_beyond_every_buffer() {
    const BYTES: usize = 8 << 20;
    local(|| {
        let (client, server) = pair();
        let server = spawn(move || echo(server));
        let client = Arc::new(client);
        let writes = spawn({
            let client = Arc::clone(&client);
            move || {
                (&*client).write_all(&pattern(1, BYTES)).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
            }
        });
        let mut back = Vec::new();
        (&*client).read_to_end(&mut back).unwrap();
        assert!(back == pattern(1, BYTES));
        writes.join().unwrap();
        assert_eq!(server.join().unwrap(), BYTES as u64);
    });
}

#[test]
fn an_end_that_comes_with_the_last_bytes_is_seen() {
    local(|| {
        for _ in 0..200 {
            let (mut client, mut server) = pair();
            // The server waits, so that it is registered; then bytes and end come together, before it runs again.
            let unit = spawn_local(move || {
                let mut got = Vec::new();
                let mut buffer = [0; 64];
                loop {
                    match server.read(&mut buffer).unwrap() {
                        0 => return got,
                        read => got.extend_from_slice(&buffer[..read]),
                    }
                }
            });
            yield_now();
            client.write_all(b"one").unwrap();
            yield_now();
            client.write_all(b"two").unwrap();
            drop(client);
            assert_eq!(unit.join().unwrap(), b"onetwo");
        }
    });
}

#[test]
fn a_reset_ends_whoever_waits() {
    local(|| {
        let (client, mut server) = pair();
        let unit = spawn_local(move || server.read(&mut [0; 8]).unwrap_err().kind());
        yield_now();
        // Closing with unread bytes is a reset; so is the end of one that was told not to linger.
        let raw = socket_with_reset(client);
        drop(raw);
        assert_eq!(unit.join().unwrap(), io::ErrorKind::ConnectionReset);
    });
}

/// The peer has bytes for it that it has not read when it closes.
fn socket_with_reset(client: TcpStream) -> TcpStream {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option's value is of the size that is given.
    let set = unsafe {
        libc::setsockopt(
            std::os::fd::AsRawFd::as_raw_fd(&client),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>().try_into().unwrap(),
        )
    };
    assert_eq!(set, 0);
    client
}

#[test]
fn nobody_answers_and_the_error_says_so() {
    local(|| {
        let address = TcpListener::bind(any()).unwrap().local_addr().unwrap(); // Closed again.
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_read_with_a_timeout_ends_and_the_stream_stays_in_order() {
    local(|| {
        let (mut client, mut server) = pair();
        client.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        for round in 0..20 {
            assert_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::TimedOut);
            server.write_all(&[round]).unwrap();
            let mut one = [0; 8];
            assert_eq!((client.read(&mut one).unwrap(), one[0]), (1, round));
        }
        assert!(client.set_read_timeout(Some(Duration::ZERO)).is_err());
    });
}

#[test]
fn deadlines_bytes_and_closes_that_meet_end_every_wait() {
    if !alone("deadlines_bytes_and_closes_that_meet_end_every_wait") {
        return;
    }
    let before = descriptors();
    let runtime = several(2);
    let outcomes = Arc::new([const { AtomicUsize::new(0) }; 3]);
    runtime.block_on(|| {
        let listener = TcpListener::bind(any()).unwrap();
        let address = listener.local_addr().unwrap();
        for round in 0..600_u64 {
            let client = spawn(move || TcpStream::connect(address).unwrap());
            let mut server = listener.accept().unwrap().0;
            let mut client = client.join().unwrap();
            let outcomes = Arc::clone(&outcomes);
            let unit = spawn(move || {
                client.set_read_timeout(Some(Duration::from_micros(50 + round % 50))).unwrap();
                let outcome = match client.read(&mut [0; 8]) {
                    Ok(0) => 0,
                    Ok(_) => 1,
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                        2
                    }
                };
                outcomes[outcome].fetch_add(1, Ordering::Relaxed);
            });
            sleep(Duration::from_micros(30 + round % 70));
            if round % 2 == 0 {
                server.write_all(b"x").unwrap();
            }
            drop(server);
            unit.join().unwrap();
        }
    });
    assert_eq!(outcomes.iter().map(|n| n.load(Ordering::Relaxed)).sum::<usize>(), 600);
    drop(runtime);
    assert_eq!(descriptors(), before);
}

#[test]
fn a_coroutine_that_waits_for_a_descriptor_can_be_cancelled() {
    local(|| {
        let (client, mut server) = pair();
        let unit = spawn_local(move || server.read(&mut [0; 8]));
        yield_now();
        unit.cancel().unwrap();
        assert!(unit.join().unwrap_err().is_cancelled());
        assert_eq!((&client).read(&mut [0; 8]).unwrap(), 0, "its stream went with it");
    });
}

#[test]
fn a_cancelled_coroutine_unwinds_at_a_call_that_need_not_wait() {
    local(|| {
        let (mut client, mut server) = pair();
        client.write_all(b"here").unwrap();
        let unit = spawn_local(move || {
            cancel::mask(yield_now); // It is cancelled meanwhile.
            server.read_exact(&mut [0; 4]).unwrap();
        });
        yield_now();
        unit.cancel().unwrap();
        assert!(unit.join().unwrap_err().is_cancelled());
        drop(client);
    });
}

#[test]
fn numbers_of_descriptors_are_used_again_beside_changes_that_are_stale() {
    let runtime = several(2);
    runtime.block_on(|| {
        let listener = TcpListener::bind(any()).unwrap();
        let address = listener.local_addr().unwrap();
        // Each connection is closed while changes of it are on their way, and the next gets its number and its record.
        for round in 0..500 {
            let client = spawn(move || {
                let mut client = TcpStream::connect(address).unwrap();
                client.write_all(&pattern(round, 100)).unwrap();
                let mut back = [0; 100];
                client.read_exact(&mut back).unwrap();
                assert_eq!(back[..], pattern(round, 100)[..]);
                client.write_all(b"more that nobody reads").unwrap();
            });
            let mut server = listener.accept().unwrap().0;
            let mut buffer = [0; 100];
            server.read_exact(&mut buffer).unwrap();
            server.write_all(&buffer).unwrap();
            drop(server);
            client.join().unwrap();
        }
    });
}

#[test]
fn a_ready_socket_is_served_beside_coroutines_that_never_stop_yielding() {
    local(|| {
        let (mut client, server) = pair();
        let server = spawn_local(move || echo(server));
        let done = Arc::new(AtomicUsize::new(0));
        let turns = Arc::new(AtomicUsize::new(0));
        let hogs: Vec<_> = (0..1000)
            .map(|_| {
                let (done, turns) = (Arc::clone(&done), Arc::clone(&turns));
                spawn_local(move || {
                    while done.load(Ordering::Relaxed) == 0 {
                        turns.fetch_add(1, Ordering::Relaxed);
                        yield_now();
                    }
                })
            })
            .collect();
        yield_now();
        let mut most = 0;
        for round in 0..50 {
            client.write_all(&[round]).unwrap();
            let before = turns.load(Ordering::Relaxed);
            client.read_exact(&mut [0]).unwrap();
            most = most.max(turns.load(Ordering::Relaxed) - before);
        }
        done.store(1, Ordering::Relaxed);
        for unit in hogs {
            unit.join().unwrap();
        }
        drop(client);
        assert_eq!(server.join().unwrap(), 50);
        // A turn of a yield is some nanoseconds, and the poller is asked every 20 microseconds or at the next of 61 picks.
        assert!(most < 1_000_000, "{most} turns of others in one exchange");
    });
}

#[test]
fn os_threads_use_the_same_sockets() {
    let listener = TcpListener::bind(any()).unwrap();
    let address = listener.local_addr().unwrap();
    let runtime = several(1);
    let server = runtime.spawn(move || echo(listener.accept().unwrap().0));
    let mut client = TcpStream::connect(address).unwrap();
    for round in 0..100 {
        client.write_all(&pattern(round, 300)).unwrap();
        let mut back = [0; 300];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back[..], pattern(round, 300)[..]);
    }
    client.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
    assert_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::TimedOut);
    drop(client);
    assert_eq!(server.join().unwrap(), 30_000);
}

#[test]
fn a_stream_outlives_the_runtime_that_watched_it() {
    let (mut client, mut server) = local(|| {
        let (mut client, mut server) = pair();
        // Both have waited, so both are registered with a worker that is about to go.
        let unit = spawn_local(move || {
            server.read_exact(&mut [0]).unwrap();
            server
        });
        yield_now();
        client.write_all(b"x").unwrap();
        let mut server = unit.join().unwrap();
        let unit = spawn_local(move || {
            client.read_exact(&mut [0]).unwrap();
            client
        });
        yield_now();
        server.write_all(b"y").unwrap();
        (unit.join().unwrap(), server)
    });
    local(|| {
        let unit = spawn_local(move || {
            let mut two = [0; 2];
            server.read_exact(&mut two).unwrap();
            two
        });
        yield_now();
        client.write_all(b"o").unwrap();
        yield_now();
        client.write_all(b"k").unwrap();
        assert_eq!(&unit.join().unwrap(), b"ok");
    });
}

#[test]
fn a_handle_that_is_kept_keeps_no_stream_with_a_worker_that_has_gone() {
    let (mut stream, other, _handle) = local(|| {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let unit = spawn_local(move || {
            one.read_exact(&mut [0]).unwrap();
            one
        });
        yield_now();
        other.write_all(b"x").unwrap();
        (unit.join().unwrap(), other, Handle::try_current().unwrap())
    });
    local(|| {
        let unit = spawn(move || stream.read_exact(&mut [0]).unwrap());
        yield_now();
        (&other).write_all(b"y").unwrap();
        ends(unit);
    });
}

#[test]
fn who_waits_in_one_runtime_is_not_left_behind_by_the_end_of_another() {
    let first = several(1);
    let (one, other) = first.block_on(|| UnixStream::pair().unwrap());
    let one = Arc::new(one);
    let reads = |byte| {
        let one = Arc::clone(&one);
        move || {
            let mut got = [0];
            (&*one).read_exact(&mut got).unwrap();
            assert_eq!(got[0], byte);
        }
    };
    let unit = first.spawn(reads(b'x'));
    wait_until(|| first.handle().coroutines().len() == 1);
    first.block_on(|| (&other).write_all(b"x").unwrap());
    unit.join().unwrap();
    // It is with the worker of the first now. This one waits in the second, which nobody tells any more once the first has gone.
    let second = several(1);
    let unit = second.spawn(reads(b'y'));
    wait_until(|| second.handle().coroutines().iter().any(|line| line.contains("descriptor to be read")));
    drop(first);
    (&other).write_all(b"y").unwrap();
    ends(unit);
}

/// Joins one that ends soon; else cancels it, or its runtime would not end, and fails.
fn ends(unit: JoinHandle<()>) {
    match unit.join_timeout(Duration::from_secs(10)) {
        Ok(outcome) => outcome.unwrap(),
        Err(unit) => {
            unit.cancel().unwrap();
            panic!("nobody reported the change");
        }
    }
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_worker_that_waits_for_sockets_is_woken_by_other_threads_and_by_time() {
    let runtime = several(2);
    let listener = TcpListener::bind(any()).unwrap();
    let accepts = runtime.spawn(move || listener.accept().map(drop));
    let parked: Vec<_> = (0..4).map(|_| runtime.spawn(park)).collect();
    for _ in 0..50 {
        assert_eq!(runtime.spawn(|| 7).join().unwrap(), 7);
        runtime.spawn(|| sleep(Duration::from_micros(200))).join().unwrap();
    }
    accepts.cancel().unwrap();
    assert!(accepts.join().unwrap_err().is_cancelled());
    drop(parked);
}

#[test]
fn any_descriptor_can_be_waited_for_and_files_cannot() {
    local(|| {
        let (reader, mut writer) = io::pipe().unwrap();
        let reader = Pollable::new(reader).unwrap();
        let others = spawn(move || {
            for byte in 0..10 {
                yield_now();
                writer.write_all(&[byte]).unwrap();
            }
        });
        let mut got = Vec::new();
        while got.len() < 10 {
            let byte = reader.read_with(|fd| {
                let mut byte = 0_u8;
                // SAFETY: the kernel writes one byte of ours.
                match unsafe { libc::read(std::os::fd::AsRawFd::as_raw_fd(&fd), (&raw mut byte).cast(), 1) } {
                    1 => Ok(byte),
                    _ => Err(io::Error::last_os_error()),
                }
            });
            got.push(byte.unwrap());
        }
        others.join().unwrap();
        assert_eq!(got, (0..10).collect::<Vec<_>>());
        let file = Pollable::new(fs::File::open("/proc/self/exe").unwrap()).unwrap();
        let refused = file.read_with(|_| Err::<(), _>(io::ErrorKind::WouldBlock.into())).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    });
}

#[test]
fn accepting_goes_on_after_the_descriptors_ran_out() {
    if !alone("accepting_goes_on_after_the_descriptors_ran_out") {
        return;
    }
    local(|| {
        let listener = TcpListener::bind(any()).unwrap();
        let address = listener.local_addr().unwrap();
        // The worker has its poller before that.
        drop(pair());
        let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        let room = descriptors() as libc::rlim_t;
        let limit = libc::rlimit { rlim_cur: room, rlim_max: room };
        // SAFETY: the kernel reads the limits.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
        let mut kept = Vec::new();
        let error = loop {
            match listener.accept() {
                Ok((stream, _)) => kept.push(stream),
                Err(error) => break error,
            }
            assert!(kept.len() < 3, "the limit is met before all are accepted");
        };
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        drop(clients);
        kept.clear();
        // Now there is room, and no further connection has come to tell of itself.
        let (mut late, _) = listener.accept().unwrap();
        assert_eq!(late.read(&mut [0; 8]).unwrap(), 0);
    });
}
