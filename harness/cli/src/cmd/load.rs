//! `switchmark load`: the load generator of the `io` family, which the parent starts beside a server.

use switchmark_harness::{Error, Result, load};

pub(crate) fn run() -> Result<u8> {
    load::serve().map(|()| 0).map_err(|e| Error::worker(e.to_string()))
}
