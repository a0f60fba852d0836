//! A crawler for one site: `crawler http://127.0.0.1:8000/ [fetches at once]`.
//!
//! Follows the links of each page within the site, fetches up to 16 at a time, and prints each address once, with its status and bytes; at
//! the end the totals. Try it on `python3 -m http.server`. The client speaks HTTP/1.0, in which an answer ends where the connection does.
#![allow(unsafe_code, reason = "entering a runtime is a promise")]

mod crawl;

use std::io;
use std::process::ExitCode;

use crawl::{Site, crawl};
use switchmark_runtime::Builder;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let start = arguments.next().as_deref().and_then(Site::of);
    let at_once = arguments.next().map_or(Ok(16), |text| text.parse());
    let (Some((site, path)), Ok(at_once @ 1..)) = (start, at_once) else {
        eprintln!("usage: crawler http://host[:port]/path [fetches at once]");
        return ExitCode::from(2);
    };
    // SAFETY: nothing here suspends in a thread-local's initialiser or destructor, under a scoped thread-local, or an outer coroutine.
    let outcome = unsafe { Builder::new().run_local(|| crawl(site, path, at_once, &mut io::stdout())) };
    match outcome.and_then(|totals| totals) {
        Ok(totals) if totals.pages > totals.failed => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("crawler: {error}");
            ExitCode::FAILURE
        }
    }
}
