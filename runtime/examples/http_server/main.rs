//! An HTTP/1.1 server: `http_server [address] [workers]`, by default `127.0.0.1:8080` and one worker a CPU.
//!
//! A coroutine a connection, in ordinary blocking code. Connections are kept alive, requests may be pipelined, mistakes are answered with what
//! is wrong. `GET /` greets, `GET /hello/NAME` by name, `POST /echo` gives the body back. SIGINT or SIGTERM ends it in order: idle connections
//! are closed at once, the others when their answers are out, as an answer is written under `cancel::mask`.

mod server;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    let workers = arguments.next().map_or(Ok(cpus()), |text| text.parse());
    let (Ok(address), Ok(workers)) = (address.parse(), workers) else {
        eprintln!("usage: http_server [address:port] [workers]");
        return ExitCode::from(2);
    };
    if let Err(error) = server::run(address, workers) {
        eprintln!("http_server: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
