//! The load: connections in a closed loop, from one thread over epoll. Says how many requests were answered, and in how many seconds.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::sys::{self, Epoll, Events};

const CONNECTIONS: usize = 100;
const BYTES: usize = 64;
const TIME: Duration = Duration::from_millis(700);

struct Connection {
    stream: TcpStream,
    sent: [u8; BYTES],
    read: usize,
}

pub(crate) fn run(port: u16) -> io::Result<()> {
    sys::stay_on(false)?;
    sys::end_after(Duration::from_secs(10));
    let (epoll, mut events) = (Epoll::new()?, Events::new());
    let mut connections = Vec::new();
    for number in 0..CONNECTIONS {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        epoll.add(&stream, number, false)?;
        let sent = [u8::try_from(number).expect("few"); BYTES];
        connections.push(Connection { stream, sent, read: 0 });
    }
    for connection in &mut connections {
        connection.stream.write_all(&connection.sent)?;
    }
    let start = Instant::now();
    let mut answers = 0_u64;
    let mut buffer = [0; BYTES];
    while start.elapsed() < TIME {
        for number in epoll.wait(&mut events, true)? {
            let Connection { stream, sent, read } = &mut connections[number];
            let length = match stream.read(&mut buffer[*read..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            if buffer[*read..*read + length] != sent[*read..*read + length] {
                return Err(io::Error::other("the echo of another connection came back"));
            }
            *read = (*read + length) % BYTES;
            if *read == 0 {
                answers += 1;
                sent[0] = sent[0].wrapping_add(1); // So that an old answer is none.
                stream.write_all(sent)?;
            }
        }
    }
    println!("{answers} {}", start.elapsed().as_secs_f64());
    Ok(())
}
