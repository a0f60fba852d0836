//! `echo` as async functions; what its work, ledger and check are stands in `benches/src/models/echo.rs`.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use switchmark_benches::models::echo::{BUFFER, Door, Tally};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// Serves until something fails that is no connection's own. Who accepts is a task, as a slice of other models is.
pub(crate) fn serve(runtime: &Runtime, door: Door) -> io::Result<()> {
    let accepting = runtime.spawn(accept(door));
    runtime.block_on(accepting)?
}

async fn accept(door: Door) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let tally = door.open(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tally.accepted();
        let counts = Arc::clone(&tally);
        // Nobody joins it: it ends with its connection.
        drop(tokio::spawn(async move {
            // A connection that was reset is as good as one that has ended.
            let _ = answer(stream, &counts).await;
        }));
    }
}

async fn answer(mut stream: TcpStream, tally: &Tally) -> io::Result<()> {
    let mut buffer = [0; BUFFER];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            length => {
                tally.answering(length);
                stream.write_all(&buffer[..length]).await?;
            }
        }
    }
}
