//! The contenders in the tree: who they are and how a cell of theirs is entered.
//!
//! A contender of its own crate uses [`serve_raw`] or [`serve_units`]; its main is some forty lines.

use crate::concurrency::{Call, Coroutine, Net, Raw, Thread, coroutine};
use crate::models::{self, Opened, echo};
use crate::server::{self, Server};
use std::sync::mpsc;
use std::{fs, io};
use switchmark_harness::contender::Contender;
use switchmark_harness::protocol::{Identity, Prepare, Sample};
use switchmark_harness::worker::{self, Session};
use switchmark_runtime::Runtime;

/// Serves a contender in the tree on standard input and output.
pub fn serve(contender: &str) -> io::Result<()> {
    let identity = identity(contender)?;
    let name = identity.contender.clone();
    worker::serve(identity, move |prepare, session| match prepare.model.as_str() {
        "echo" => server::answer(Server::of(&name, prepare)?, session),
        _ => with_cell(&name, prepare, |cell| answer(cell, session))?,
    })
}

/// Serves a contender of its own crate that has only the raw switch.
pub fn serve_raw<R: Raw>(contender: &str, version: &str) -> io::Result<()> {
    let identity =
        Identity { contender: contender.into(), version: version.into(), models: vec!["bounce".into()] };
    worker::serve(identity, |prepare, session| answer(opened(&mut raw::<R>(prepare)), session))
}

/// Serves a contender of its own crate that has units and blocking calls: the models that need a scheduler, and `echo`.
///
/// `enter` is given the cell and what is to be run: it starts the contender's runtime as the placement demands, runs
/// that as one of its units, and returns when it has ended.
pub fn serve_units<C: Net>(
    contender: &str,
    version: &str,
    models: &[&str],
    enter: impl FnOnce(&Prepare, Work) -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    let identity = Identity {
        contender: contender.into(),
        version: version.into(),
        models: models.iter().map(|m| (*m).into()).collect(),
    };
    worker::serve(identity, |prepare, session| {
        let cell = prepare.clone();
        if prepare.model == "echo" {
            let server = move |door| enter(&cell, Box::new(move || echo::serve::<C>(door)));
            return server::serve_echo(prepare, session, C::room_for, server);
        }
        enter(prepare, Box::new(move || answer(opened(&mut models::scheduled::<C>(&cell)), session)))
    })
}

/// All slices of a cell, from opening it to its end; or a server's life.
pub type Work = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// A cell as it is handed to whoever takes slices: they, or the reason why it cannot be had here.
pub type Cell<'a> = Result<&'a mut (dyn FnMut(u64) -> Sample + 'static), String>;

/// Enters the contender's runtime, opens the cell in it and visits it from inside.
///
/// The parent process has no part in this: it is how the tests and the criterion fronts run the same models.
pub fn with_cell<T>(contender: &str, prepare: &Prepare, visit: impl FnOnce(Cell<'_>) -> T) -> io::Result<T> {
    match contender {
        "thread" => Ok(visit(opened(&mut blocking(prepare)))),
        // The raw switch needs no scheduler, and a cell of it is entered without one.
        "coroutine" if prepare.model == "bounce" => Ok(visit(opened(&mut raw::<Coroutine>(prepare)))),
        "coroutine" if TIMED.contains(&prepare.model.as_str()) => match coroutine::dialled(prepare)? {
            Ok(runtime) => with_distant_cell(&runtime, prepare, models::timed::<Coroutine>, visit),
            Err(reason) => Ok(visit(Err(reason))),
        },
        "coroutine" if ["cross-core", "all-cores", "free"].contains(&prepare.placement.as_str()) => {
            with_distant_cell(
                &coroutine::several(prepare)?,
                prepare,
                models::with_descriptors::<Coroutine>,
                visit,
            )
        }
        "coroutine" => match coroutine::guard(prepare) {
            Ok(guard) => coroutine::enter_guarded(guard, || {
                visit(opened(&mut models::with_descriptors::<Coroutine>(prepare)))
            }),
            Err(reason) => Ok(visit(Err(reason))),
        },
        "call" => Ok(visit(opened(&mut raw::<Call>(prepare)))),
        "epoll" => Ok(visit(Err(models::unknown(&prepare.model)))),
        unknown => Err(unknown_contender(unknown)),
    }
}

/// The models of the policy family.
const TIMED: [&str; 3] = ["hog-and-tick", "tickers", "stall"];

/// A cell in a runtime whose workers are other threads. The visitor stays here: a coroutine there opens the cell and takes the slices that
/// are asked for. Between slices it holds up its worker, on which nobody wants to run then.
fn with_distant_cell<T>(
    runtime: &Runtime,
    prepare: &Prepare,
    open: fn(&Prepare) -> Opened,
    visit: impl FnOnce(Cell<'_>) -> T,
) -> io::Result<T> {
    let (ask, asked) = mpsc::channel::<u64>();
    let (tell, told) = mpsc::channel::<Result<Sample, String>>();
    let there = prepare.clone();
    let unit = runtime.spawn(move || {
        // Nobody listens any more only if the visitor has gone; then nothing is asked either.
        match open(&there) {
            Err(reason) => drop(tell.send(Err(reason))),
            Ok(mut slices) => {
                let _ = tell.send(Ok(Sample::default()));
                for iterations in asked {
                    let _ = tell.send(Ok(slices(iterations)));
                }
            }
        }
    });
    let mut next =
        move || told.recv().unwrap_or_else(|_| Err("the unit that opened the cell panicked".into()));
    let visited = match next() {
        Err(reason) => visit(Err(reason)),
        Ok(_) => visit(Ok(&mut move |iterations| {
            ask.send(iterations).expect("the unit lives as long as it is asked");
            next().expect("a cell that is open answers")
        })),
    };
    unit.join().map_err(|error| io::Error::other(error.to_string()))?;
    Ok(visited)
}

fn answer(cell: Cell<'_>, session: Session) -> io::Result<()> {
    match cell {
        Ok(slices) => session.run(slices),
        Err(reason) => session.unsupported(reason),
    }
}

fn opened(cell: &mut Opened) -> Cell<'_> {
    cell.as_deref_mut().map_err(|reason| reason.clone())
}

/// Cells of OS threads: all models but the raw one.
fn blocking(prepare: &Prepare) -> Opened {
    match prepare.model.as_str() {
        model if TIMED.contains(&model) => models::timed::<Thread>(prepare),
        _ => models::with_descriptors::<Thread>(prepare),
    }
}

fn raw<R: Raw>(prepare: &Prepare) -> Opened {
    match prepare.model.as_str() {
        "bounce" => models::bounce::open::<R>(prepare),
        other => Err(models::unknown(other)),
    }
}

fn identity(contender: &str) -> io::Result<Identity> {
    let manifest = crate::manifests()
        .filter_map(|(path, text)| Contender::in_tree(text, path).ok())
        .find(|c| c.id() == contender)
        .ok_or_else(|| unknown_contender(contender))?;
    Ok(Identity {
        contender: contender.into(),
        version: version(contender),
        models: manifest.manifest.models,
    })
}

/// Of what is measured: threads are the kernel's, the others are this build's.
fn version(contender: &str) -> String {
    match contender {
        "thread" => match fs::read_to_string("/proc/sys/kernel/osrelease") {
            Ok(release) => format!("linux-{}", release.trim()),
            Err(_) => "linux".into(),
        },
        _ => env!("CARGO_PKG_VERSION").into(),
    }
}

fn unknown_contender(name: &str) -> io::Error {
    let known: Vec<&str> = crate::manifests().filter_map(|(path, _)| path.split('/').nth(1)).collect();
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("no contender `{name}` in the tree; known: {}", known.join(", ")),
    )
}
