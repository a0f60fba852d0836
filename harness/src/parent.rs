//! One worker process as its parent sees it: started in its place, spoken to, watched, ended.

use crate::contender::Contender;
use crate::counters::{Attached, Event};
use crate::environment;
use crate::pin::{Pinned, format_list, parse_list};
use crate::protocol::{Identity, Prepare, Reply, Request, Sample, Served};
use crate::sys;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use switchmark_schema::{Placed, Status};

/// Why a worker gave no number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `failed`, `invalid` or `unsupported`.
    pub status: Status,
    /// For the reader of the result.
    pub reason: String,
}

impl Fault {
    /// The worker crashed, hung or answered wrongly.
    pub fn failed(reason: impl Into<String>) -> Fault {
        Fault { status: Status::Failed, reason: reason.into() }
    }

    /// The worker's own books refute its number.
    pub fn invalid(reason: impl Into<String>) -> Fault {
        Fault { status: Status::Invalid, reason: reason.into() }
    }
}

/// How workers are started and how long they are waited for.
#[derive(Debug, Clone, Copy)]
pub struct Host<'a> {
    /// This program: it serves the contenders in the tree, and is the shim before those outside.
    pub executable: &'a Path,
    /// A reply that takes longer is a hang.
    pub timeout: Duration,
    /// Set when the user wants to stop.
    pub interrupted: &'a AtomicBool,
}

/// What a slice took, seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outside {
    /// Time between request and reply.
    pub wall: Duration,
    /// CPU time that the worker used in it, all its threads together.
    pub cpu: Duration,
}

/// A longer line is a worker gone wild.
const LONGEST_LINE: usize = 16 << 20;

/// How often a waiting parent looks whether it should stop.
const GLANCE: Duration = Duration::from_millis(50);

/// A running worker; dropping it ends the process.
#[derive(Debug)]
pub struct Worker<'a> {
    host: Host<'a>,
    child: Child,
    requests: ChildStdin,
    replies: ChildStdout,
    /// Read, but not yet a whole line.
    pending: Vec<u8>,
    errors: File,
    /// Where it was put.
    cpus: Vec<usize>,
    /// Where it was found after its slices.
    seen: BTreeSet<usize>,
}

impl<'a> Worker<'a> {
    /// Starts a worker on `cpus` and exchanges hellos. `sets` of events are attached before it has a second
    /// thread, so that all it starts inherits them.
    pub fn start(
        host: Host<'a>,
        contender: &Contender,
        cpus: &[usize],
        sets: &[Vec<Event>],
    ) -> Result<(Worker<'a>, Vec<Attached>), Fault> {
        let mut command = Command::new(host.executable);
        command.arg("worker");
        let shim = contender.folder.is_some();
        match contender.command() {
            None => {
                command.args(["--contender", contender.id()]);
            }
            Some((program, arguments)) => {
                command.arg("--exec").arg(program).args(arguments);
                if let Some(folder) = &contender.folder {
                    command.current_dir(folder);
                }
            }
        }
        Worker::spawn(host, command, contender.id(), shim, cpus, sets)
    }

    /// Starts a worker of this program on `cpus` under a tool, given with its arguments, and exchanges hellos.
    pub(crate) fn under(
        host: Host<'a>,
        tool: &[String],
        contender: &Contender,
        cpus: &[usize],
    ) -> Result<Worker<'a>, Fault> {
        let mut command = Command::new(&tool[0]);
        command.args(&tool[1..]).arg(host.executable).args(["worker", "--contender", contender.id()]);
        Worker::spawn(host, command, contender.id(), false, cpus, &[]).map(|(worker, _)| worker)
    }

    /// Starts the load generator on `cpus` and exchanges hellos.
    pub fn load(host: Host<'a>, cpus: &[usize]) -> Result<Worker<'a>, Fault> {
        let mut command = Command::new(host.executable);
        command.arg("load");
        Worker::spawn(host, command, crate::load::ID, false, cpus, &[]).map(|(worker, _)| worker)
    }

    fn spawn(
        host: Host<'a>,
        mut command: Command,
        id: &str,
        shim: bool,
        cpus: &[usize],
        sets: &[Vec<Event>],
    ) -> Result<(Worker<'a>, Vec<Attached>), Fault> {
        let cannot = |what: &str, e: io::Error| Fault::failed(format!("cannot {what} {id}: {e}"));
        let errors = tempfile::tempfile().map_err(|e| cannot("keep the standard error of", e))?;
        let kept = errors.try_clone().map_err(|e| cannot("keep the standard error of", e))?;
        // In a group of its own: Ctrl-C at the terminal is for the parent, which ends its workers itself.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(kept);
        let mut child = {
            let _pinned = Pinned::to(cpus).map_err(|e| cannot("pin", e))?;
            command.spawn().map_err(|e| cannot("start", e))?
        };
        let (requests, replies) = (child.stdin.take(), child.stdout.take());
        let (Some(requests), Some(replies)) = (requests, replies) else {
            return Err(Fault::failed("a worker without pipes"));
        };
        let mut worker = Worker {
            host,
            child,
            requests,
            replies,
            pending: Vec::new(),
            errors,
            cpus: cpus.to_vec(),
            seen: BTreeSet::new(),
        };
        let attach = |events: &Vec<Event>| Attached::to(worker.pid(), events);
        let attached = sets.iter().map(attach).collect::<io::Result<_>>().map_err(|e| cannot("count", e))?;
        if shim {
            // The shim waits for one byte, so that the counters are there before the contender is.
            worker.requests.write_all(b"\n").map_err(|e| cannot("start", e))?;
        }
        worker.hello(id)?;
        Ok((worker, attached))
    }

    fn hello(&mut self, id: &str) -> Result<(), Fault> {
        match self.ask(&Request::Hello)? {
            Reply::Hello(Identity { contender, .. }) if contender == id => Ok(()),
            Reply::Hello(Identity { contender, .. }) => {
                Err(Fault::failed(format!("the worker calls itself {contender}, its manifest {id}")))
            }
            other => Err(Fault::failed(format!("answered hello with `{other}`"))),
        }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time used so far.
    pub fn cpu_time(&self) -> Duration {
        // A worker that just died has no clock; its death is found when it is next spoken to.
        sys::process_cpu_time(self.pid()).unwrap_or_default()
    }

    /// Gets the worker ready for a cell, or learns why it cannot. A server says where it listens.
    pub fn prepare(&mut self, cell: Prepare) -> Result<Option<String>, Fault> {
        match self.ask(&Request::Prepare(cell))? {
            Reply::Ready { address } => Ok(address),
            Reply::Unsupported { reason } => Err(Fault { status: Status::Unsupported, reason }),
            other => Err(Fault::failed(format!("answered prepare with `{other}`"))),
        }
    }

    /// One slice, and what it took as seen from here.
    pub fn slice(&mut self, iterations: u64) -> Result<(Sample, Outside), Fault> {
        let (used, start) = (self.cpu_time(), Instant::now());
        let reply = self.ask(&Request::Slice { iterations })?;
        let outside = Outside { wall: start.elapsed(), cpu: self.cpu_time().saturating_sub(used) };
        self.seen.extend(last_cpu(self.pid()));
        match reply {
            Reply::Sample(sample) if sample.iterations == iterations => Ok((sample, outside)),
            Reply::Sample(sample) => {
                Err(Fault::failed(format!("asked for {iterations} iterations, did {}", sample.iterations)))
            }
            other => Err(Fault::failed(format!("answered a slice with `{other}`"))),
        }
    }

    /// How the worker ended, if it did while nobody spoke to it. Its connections close a little before its end can be seen.
    pub fn ended(&mut self) -> Option<Fault> {
        const BETWEEN: Duration = Duration::from_millis(200);
        let deadline = Instant::now() + BETWEEN;
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return Some(self.death("while it served"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }

    /// Where the kernel has had the worker, which must be where it was put; `None` where it has just died.
    pub fn placed(&self) -> Result<Option<Placed>, Fault> {
        let status = environment::read(&format!("/proc/{}/status", self.pid()));
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let (Some(allowed), Some(last)) = (allowed.map(str::trim), last_cpu(self.pid())) else {
            return Ok(None);
        };
        let seen: BTreeSet<usize> = self.seen.iter().copied().chain([last]).collect();
        let placed = Placed { allowed: allowed.to_owned(), seen: seen.into_iter().collect() };
        stray(&placed, &self.cpus).map_or(Ok(Some(placed)), Err)
    }

    /// Ends the worker in good order, and says where it was.
    pub fn leave(self) -> Result<Option<Placed>, Fault> {
        let placed = self.placed()?;
        self.finish()?;
        Ok(placed)
    }

    /// Ends the worker in good order; a server or a load says how much it served.
    pub fn finish(mut self) -> Result<Option<Served>, Fault> {
        let served = match self.ask(&Request::Finish)? {
            Reply::Done(served) => served,
            other => return Err(Fault::failed(format!("answered finish with `{other}`"))),
        };
        let deadline = Instant::now() + self.host.timeout;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(served),
                Ok(Some(status)) => {
                    return Err(Fault::failed(format!("said done, then ended with {status}")));
                }
                Ok(None) => std::thread::sleep(Duration::from_micros(200)),
                Err(e) => return Err(Fault::failed(format!("cannot wait for the worker: {e}"))),
            }
        }
        Err(Fault::failed("said done, but does not exit"))
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, Fault> {
        if !self.pending.is_empty() {
            let noise = String::from_utf8_lossy(&self.pending).trim_end().to_owned();
            return Err(Fault::failed(format!("spoke out of turn: `{}`", shortened(&noise))));
        }
        if self.requests.write_all(format!("{request}\n").as_bytes()).is_err() {
            return Err(self.death(&in_verb(request)));
        }
        let line = self.line(request)?;
        Reply::parse(&line).map_err(|e| {
            Fault::failed(format!(
                "does not speak the protocol: {e}; it said `{}`",
                shortened(line.trim_end())
            ))
        })
    }

    /// The next whole line.
    fn line(&mut self, request: &Request) -> Result<String, Fault> {
        let deadline = Instant::now() + self.host.timeout;
        let mut chunk = [0_u8; 4096];
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let rest = self.pending.split_off(end + 1);
                let line = std::mem::replace(&mut self.pending, rest);
                return String::from_utf8(line)
                    .map_err(|_| Fault::failed("said something that is not UTF-8"));
            }
            if self.pending.len() > LONGEST_LINE {
                return Err(Fault::failed(format!(
                    "floods standard output: {LONGEST_LINE} bytes without a line"
                )));
            }
            if self.host.interrupted.load(Ordering::Relaxed) {
                return Err(Fault::failed("interrupted"));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let seconds = self.host.timeout.as_secs_f64();
                return Err(Fault::failed(format!("hangs: no reply to `{request}` within {seconds} s")));
            }
            match sys::wait_readable(self.replies.as_fd(), left.min(GLANCE)) {
                Ok(false) => continue,
                Ok(true) => {}
                Err(e) => return Err(Fault::failed(format!("cannot wait for a reply: {e}"))),
            }
            match self.replies.read(&mut chunk) {
                Ok(0) => return Err(self.death(&in_verb(request))),
                Ok(n) => self.pending.extend_from_slice(&chunk[..n]),
                Err(e) => return Err(Fault::failed(format!("cannot read a reply: {e}"))),
            }
        }
    }

    /// How the worker died, with the end of what it said on standard error.
    fn death(&mut self, when: &str) -> Fault {
        let deadline = Instant::now() + Duration::from_secs(1);
        let status = loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
                other => break other.ok().flatten(),
            }
        };
        let how = match status {
            None => "closed its standard output".to_owned(),
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exited with code {code}"),
                (None, Some(signal)) => format!("was killed by signal {signal}"),
                (None, None) => "ended".to_owned(),
            },
        };
        let mut said = Vec::new();
        let _ = self.errors.seek(SeekFrom::Start(0));
        let _ = (&self.errors).take(1 << 20).read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        let said = shortened(said.trim());
        let what = if said.is_empty() { String::new() } else { format!(": {said}") };
        Fault::failed(format!("the worker {how} {when}{what}"))
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        // Ended in good order it is gone already, and killing what was waited for is a no-op.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU that the first thread of a process was last on: the 39th field of its `stat`, the second of which may hold anything in brackets.
fn last_cpu(pid: u32) -> Option<usize> {
    let stat = environment::read(&format!("/proc/{pid}/stat"));
    let (_, from_third) = stat.rsplit_once(')')?;
    from_third.split_ascii_whitespace().nth(39 - 3)?.parse().ok()
}

/// Why a worker was not where it was put, if it was not. It may have narrowed its own mask.
fn stray(placed: &Placed, put: &[usize]) -> Option<Fault> {
    let allowed = parse_list(&placed.allowed).unwrap_or_default();
    let outside = |cpus: &[usize]| cpus.is_empty() || cpus.iter().any(|cpu| !put.contains(cpu));
    (outside(&allowed) || outside(&placed.seen)).then(|| {
        let mut put = put.to_vec();
        put.sort_unstable();
        Fault::invalid(format!(
            "put on CPUs {}, but allowed {} and seen on {}",
            format_list(&put),
            placed.allowed,
            format_list(&placed.seen)
        ))
    })
}

/// Which request a worker did not survive.
fn in_verb(request: &Request) -> String {
    let line = request.to_string();
    format!("in `{}`", line.split(' ').next().unwrap_or_default())
}

/// The end of a text, where the reason usually is.
fn shortened(text: &str) -> String {
    const KEPT: usize = 400;
    match text.char_indices().rev().nth(KEPT) {
        None => text.to_owned(),
        Some((at, _)) => format!("…{}", &text[at..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(allowed: &str, seen: &[usize]) -> Placed {
        Placed { allowed: allowed.into(), seen: seen.to_vec() }
    }

    #[test]
    fn a_worker_that_is_not_where_it_was_put_has_no_number() {
        for (allowed, seen) in [("1,3", [1, 3].as_slice()), ("3", &[3]), ("1,3", &[1])] {
            assert_eq!(stray(&placed(allowed, seen), &[3, 1]), None, "{allowed} {seen:?}");
        }
        for (allowed, seen) in [("0-3", [1].as_slice()), ("3", &[0, 3]), ("", &[3]), ("3", &[])] {
            let fault = stray(&placed(allowed, seen), &[3, 1]).expect("astray");
            assert!(
                fault.status == Status::Invalid && fault.reason.starts_with("put on CPUs 1,3, but"),
                "{fault:?}"
            );
        }
    }

    #[test]
    fn the_kernel_says_where_a_process_was_whatever_it_calls_itself() {
        let allowed = crate::pin::Cpus::allowed(None).unwrap();
        let last = last_cpu(std::process::id()).expect("this process");
        assert!(allowed.as_slice().contains(&last), "{last} of {allowed:?}");
        assert_eq!(last_cpu(u32::MAX), None);
    }
}
