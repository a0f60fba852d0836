//! The crawl: pages by a queue, fetches in a set of coroutines that is no larger than asked for.

use std::collections::{HashSet, VecDeque};
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use switchmark_runtime::net::TcpStream;
use switchmark_runtime::{JoinSet, sleep, timeout};

/// How long one fetch may take, and how much it may bring.
const PATIENCE: Duration = Duration::from_secs(20);
const MAX_BYTES: u64 = 64 << 20;

/// What a crawl came to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Totals {
    pub(crate) pages: usize,
    /// No answer, or one that says so.
    pub(crate) failed: usize,
    pub(crate) bytes: usize,
    pub(crate) most_at_once: usize,
}

/// Fetches `path` and whatever it leads to, each once; in a coroutine.
pub(crate) fn crawl(site: Site, path: String, at_once: usize, out: &mut dyn Write) -> io::Result<Totals> {
    let begun = Instant::now();
    let site = Arc::new(site);
    let mut totals = Totals::default();
    let mut seen = HashSet::from([path.clone()]);
    let mut queue = VecDeque::from([path]);
    let mut fetches = JoinSet::new();
    loop {
        while fetches.len() < at_once
            && let Some(path) = queue.pop_front()
        {
            let site = Arc::clone(&site);
            fetches.spawn(move || {
                let page = timeout(PATIENCE, || {
                    // Once more, later: a small server resets whom it has no place for.
                    site.fetch(&path).or_else(|_| {
                        sleep(Duration::from_millis(100));
                        site.fetch(&path)
                    })
                });
                (page.unwrap_or_else(|late| Err(io::Error::other(late))), path)
            });
        }
        totals.most_at_once = totals.most_at_once.max(fetches.len());
        let Some(outcome) = fetches.join_next() else { break };
        let (page, path) = outcome.map_err(|error| io::Error::other(error.to_string()))?;
        totals.pages += 1;
        match page {
            Ok(page) => {
                writeln!(out, "{} {:>9} {site}{path}", page.status, page.bytes)?;
                totals.bytes += page.bytes;
                totals.failed += usize::from(page.status >= 400);
                queue.extend(page.links.into_iter().filter(|link| seen.insert(link.clone())));
            }
            Err(error) => {
                writeln!(out, "--- {:>9} {site}{path}: {error}", "-")?;
                totals.failed += 1;
            }
        }
    }
    let Totals { pages, failed, bytes, most_at_once } = totals;
    let time = begun.elapsed().as_secs_f64();
    writeln!(out, "{pages} pages, {failed} failed, {bytes} bytes in {time:.2} s, {most_at_once} at once")?;
    Ok(totals)
}

/// Whose pages are followed.
#[derive(Debug)]
pub(crate) struct Site {
    host: String,
    port: u16,
}

impl std::fmt::Display for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

struct Page {
    status: u16,
    bytes: usize,
    /// Paths within the site.
    links: Vec<String>,
}

impl Site {
    /// The site of an address, and the path in it.
    pub(crate) fn of(url: &str) -> Option<(Site, String)> {
        let rest = url.strip_prefix("http://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (authority, 80),
        };
        let path = path.split('#').next()?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        (!host.is_empty()).then(|| (Site { host: host.to_owned(), port }, path))
    }

    fn fetch(&self, path: &str) -> io::Result<Page> {
        let mut stream = TcpStream::connect((self.host.as_str(), self.port))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}:{}\r\nAccept: */*\r\n\r\n", self.host, self.port)?;
        let mut answer = Vec::new();
        stream.take(MAX_BYTES).read_to_end(&mut answer)?;
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let ends = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let ends = ends.ok_or_else(|| invalid("the answer has no end of its head"))?;
        let head = String::from_utf8_lossy(&answer[..ends]);
        let body = &answer[ends + 4..];
        let mut fields = head.lines();
        let status = fields.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.ok_or_else(|| invalid("the answer has no status"))?;
        let field = |name: &str| {
            let mut named = fields.clone().filter_map(|line| line.split_once(':'));
            named.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
        };
        if field("content-length").is_some_and(|length| length.parse() != Ok(body.len())) {
            return Err(invalid("the answer has another length than it says"));
        }
        let mut links = Vec::new();
        if (300..400).contains(&status) {
            links.extend(field("location").and_then(|link| self.path_of(path, link)));
        } else if field("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
            links.extend(
                references(&String::from_utf8_lossy(body)).filter_map(|link| self.path_of(path, &link)),
            );
        }
        Ok(Page { status, bytes: body.len(), links })
    }

    /// Where a link on the page `base` leads, if it is in this site.
    fn path_of(&self, base: &str, link: &str) -> Option<String> {
        let link = link.split('#').next()?.trim();
        if let Some((site, path)) = Site::of(link) {
            return (site.host == self.host && site.port == self.port).then_some(path);
        }
        let base = base.split('?').next()?;
        let folder = &base[..=base.rfind('/')?];
        let (place, query) = link.split_at(link.find('?').unwrap_or(link.len()));
        if link.is_empty() || link.starts_with("//") || place.split('/').next()?.contains(':') {
            return None; // To itself, to another host, or no page: `mailto:` and its kin.
        }
        let whole = match place {
            "" => base.to_owned(),
            _ if place.starts_with('/') => place.to_owned(),
            _ => format!("{folder}{place}"),
        };
        let mut parts = Vec::new();
        for part in whole.split('/').skip(1) {
            match part {
                "." => {}
                ".." => _ = parts.pop(),
                part => parts.push(part),
            }
        }
        // A path that ends in a dot segment is that of a folder.
        let folder = if whole.ends_with("/.") || whole.ends_with("/..") { "/" } else { "" };
        let path = format!("/{}{folder}{query}", parts.join("/")).replace(' ', "%20");
        Some(if path.starts_with("//") { path[1..].to_owned() } else { path })
    }
}

/// What a page refers to.
fn references(html: &str) -> impl Iterator<Item = String> + '_ {
    let after = ["href=", "src="]
        .into_iter()
        .flat_map(move |name| html.match_indices(name).map(move |(at, _)| &html[at + name.len()..]));
    after.filter_map(|rest| {
        let quote = rest.chars().next().filter(|first| matches!(first, '"' | '\''))?;
        let value = rest[1..].split(quote).next()?;
        Some(value.replace("&amp;", "&"))
    })
}
