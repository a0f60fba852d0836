//! Sockets and other descriptors: calls that look as if they blocked, and suspend the coroutine instead of its OS thread.
//!
//! ```
//! use std::io::{Read, Write};
//! use switchmark_runtime::net::{TcpListener, TcpStream};
//! use switchmark_runtime::{Builder, spawn};
//!
//! // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
//! let answer = unsafe {
//!     Builder::new().run_local(|| {
//!         let listener = TcpListener::bind("127.0.0.1:0")?;
//!         let address = listener.local_addr()?;
//!         let server = spawn(move || {
//!             let (mut stream, _) = listener.accept()?;
//!             let mut word = String::new();
//!             stream.read_to_string(&mut word)?;
//!             stream.write_all(word.to_uppercase().as_bytes())
//!         });
//!         let mut stream = TcpStream::connect(address)?;
//!         stream.write_all(b"hello")?;
//!         stream.shutdown(std::net::Shutdown::Write)?;
//!         let mut answer = String::new();
//!         stream.read_to_string(&mut answer)?;
//!         server.join().unwrap()?;
//!         Ok::<_, std::io::Error>(answer)
//!     })??
//! };
//! assert_eq!(answer, "HELLO");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! **Try first.** Every call is made at once, on a descriptor that does not block. Only when the kernel has nothing to give does the
//! coroutine wait, until the descriptor changes, and then it tries again. So a change too many costs a call and is no error; a change too few
//! would be a hang, and `source.rs` says why there is none. On an OS thread that is no worker the same calls wait in `poll`.
//!
//! **Where it is watched.** By the first worker that has to wait for it, in that worker's epoll instance, for both directions and as long as
//! it is open; no other worker asks for it. A coroutine of another worker that waits for it is woken through its inbox, and hears of it as late as that worker looks. When the
//! worker leaves, whoever waits registers with another.
//!
//! **Calls** are suspension points: they unwind if the coroutine is cancelled. One that need not wait lets others run only if it is asked to,
//! as a [`checkpoint`](crate::checkpoint()) does. One that waits ends with [`std::io::ErrorKind::TimedOut`] after the time set by
//! `set_read_timeout` or `set_write_timeout`.
//!
//! **Names** are looked up on a thread of the [`blocking()`](crate::blocking()) pool: see [`ToAddresses`].
//!
//! **One descriptor, several coroutines.** Everything here may be used by reference from several at once: one reads while another writes, two
//! accept, many send datagrams. Several readers of one stream get each byte once, in pieces that nobody foresees.

mod address;
mod pipe;
mod source;
mod split;
mod stream;
mod tcp;
mod udp;
mod unix;
mod watched;

pub use address::ToAddresses;
pub use pipe::{PipeReader, PipeWriter, pipe};
pub use split::{Duplex, ReadHalf, WriteHalf};
pub use tcp::{TcpListener, TcpStream};
pub use udp::UdpSocket;
pub use unix::{UnixListener, UnixStream};
pub use watched::Pollable;
