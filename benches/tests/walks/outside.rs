//! Every question, asked at smoke size of every contender of its own folder that is built: over the protocol, as the
//! parent does. What is not built is named and left out; `.ci/run` builds what its toolchains allow and asks again.

use crate::PROCESS;
use crate::cells::{self, Books};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::PoisonError;
use std::thread;
use switchmark_harness::contender::Contender;
use switchmark_harness::protocol::{Identity, Prepare, Reply, Request, Sample, Served};

/// A worker's answer to one cell.
enum Answer {
    /// Its samples.
    Samples(Vec<Sample>),
    /// What a server says that it served.
    Served(Served),
    /// Why it refused.
    Refused(String),
}

/// Asks a worker for one cell: for slices, or where it serves, for nothing while `load` talks to its address.
fn talk(
    contender: &Contender,
    prepare: &Prepare,
    slices: &[u64],
    load: impl FnOnce(String),
) -> (Identity, Answer) {
    let (program, arguments) = contender.command().expect("a program of its own");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    if let Some(folder) = &contender.folder {
        command.current_dir(folder);
    }
    let mut worker = command.spawn().expect("it is built");
    let mut stdin = worker.stdin.take().expect("piped");
    let mut lines = BufReader::new(worker.stdout.take().expect("piped")).lines();
    let mut ask = |stdin: &mut ChildStdin, request: &Request| {
        writeln!(stdin, "{request}").expect("the worker reads");
        let line = lines.next().expect("the worker answers").expect("in UTF-8");
        Reply::parse(&line).unwrap_or_else(|e| panic!("{}: {e} in `{line}`", contender.id()))
    };
    let Reply::Hello(identity) = ask(&mut stdin, &Request::Hello) else { panic!("no hello") };
    let answer = match ask(&mut stdin, &Request::Prepare(prepare.clone())) {
        Reply::Ready { address: Some(address) } => {
            load(address);
            None
        }
        Reply::Ready { address: None } => {
            let slice = |n: &u64| match ask(&mut stdin, &Request::Slice { iterations: *n }) {
                Reply::Sample(sample) => sample,
                other => panic!("answered a slice with `{other}`"),
            };
            Some(Answer::Samples(slices.iter().map(slice).collect()))
        }
        Reply::Unsupported { reason } => Some(Answer::Refused(reason)),
        other => panic!("answered prepare with `{other}`"),
    };
    let answer = match (answer, ask(&mut stdin, &Request::Finish)) {
        (Some(answer), Reply::Done(None)) => answer,
        (None, Reply::Done(Some(served))) => Answer::Served(served),
        (_, other) => panic!("{}: answered finish with `{other}`", contender.id()),
    };
    assert!(worker.wait().expect("it is ours").success(), "{} ends with success", contender.id());
    (identity, answer)
}

/// As [`talk`], on the CPUs of the cell, which a process takes over from the thread that starts it.
fn talk_in_place(
    contender: &Contender,
    prepare: &Prepare,
    slices: &[u64],
    load: impl FnOnce(String) + Send,
) -> (Identity, Answer) {
    let pinned = || {
        if let [one] = *prepare.cpus {
            assert!(core_affinity::set_for_current(core_affinity::CoreId { id: one }));
        }
        talk(contender, prepare, slices, load)
    };
    thread::scope(|s| s.spawn(pinned).join()).expect("the conversation comes to an end")
}

#[test]
fn every_contender_that_is_built_answers_as_the_definitions_expect() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("contenders");
    let _alone = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let walked = cells::sliced();
    for contender in Contender::discover(&folder).expect("every manifest parses") {
        if let Err(reason) = contender.available() {
            eprintln!("skipped: {reason}");
            continue;
        }
        let mut measured = 0;
        for (definition, prepare) in &walked {
            let placement = &prepare.placement;
            if contender.refuses(&definition.id, &definition.model, placement).is_some() {
                continue;
            }
            let cell = cells::name(prepare, contender.id());
            let slices = cells::slices(prepare);
            let no_load = |address| panic!("{cell}: serves at {address}");
            let (identity, answer) = talk_in_place(&contender, prepare, &slices, no_load);
            assert_eq!(identity.contender, contender.id());
            assert_eq!(
                identity.models, contender.manifest.models,
                "{cell}: the worker and its manifest agree"
            );
            let samples = match answer {
                Answer::Samples(samples) => samples,
                Answer::Served(served) => panic!("{cell}: was asked for slices and served {served:?}"),
                // A refusal is an answer, and its reason is what the page prints.
                Answer::Refused(reason) => {
                    assert!(!reason.is_empty(), "{cell}: refused without a reason");
                    eprintln!("{cell}: {reason}");
                    continue;
                }
            };
            measured += 1;
            for (sample, iterations) in samples.iter().zip(&slices) {
                assert_eq!(sample.iterations, *iterations, "{cell}");
                assert!(sample.elapsed_ns > 0, "{cell}: no time passed");
            }
            // The first is short: a yield more or less is more than a hundredth of it.
            let last = samples.last().expect("at least one slice");
            let books = match last.switches {
                _ if contender.records(&definition.id, placement) => Books::Recorded,
                None => Books::Uncounted,
                Some(_) => Books::Held,
            };
            let faults = cells::faults(definition, prepare, last, books);
            assert!(faults.is_empty(), "{cell}: {faults:?} in {last:?}");
        }
        assert!(measured > 0, "{} answers something", contender.id());
        eprintln!("{}: {measured} cells", contender.id());
    }
}

#[test]
fn every_server_that_is_built_answers_its_load_and_counts_as_the_load_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("contenders");
    let _alone = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let walked = cells::served();
    for contender in Contender::discover(&folder).expect("every manifest parses") {
        if contender.available().is_err() {
            continue;
        }
        for (definition, prepare) in &walked {
            if contender.refuses(&definition.id, &definition.model, &prepare.placement).is_some() {
                continue;
            }
            let cell = cells::name(prepare, contender.id());
            let mut seen = None;
            let load = |address| seen = Some(cells::loaded(definition, prepare, address, &cell));
            match talk_in_place(&contender, prepare, &[], load).1 {
                Answer::Served(served) => assert_eq!(Some(served), seen, "{cell}"),
                Answer::Refused(reason) => panic!("{cell}: refused, {reason}"),
                Answer::Samples(_) => panic!("{cell}: does not serve"),
            }
            eprintln!("{cell}");
        }
    }
}
