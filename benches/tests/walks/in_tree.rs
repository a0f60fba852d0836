//! Every question, asked of every contender in the tree at smoke size: the answer and the ledger must be what the
//! definition expects.

use crate::PROCESS;
use crate::cells::{self, Books, definitions, prepare};
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};
use switchmark_benches::{Server, with_cell};
use switchmark_harness::contender::{Contender, Kind};
use switchmark_harness::definition::Definition;
use switchmark_harness::protocol::{Prepare, Sample};
use switchmark_schema::ParamValue;

fn contenders() -> Vec<Contender> {
    let parsed = switchmark_benches::manifests().map(|(path, text)| Contender::in_tree(text, path));
    parsed.collect::<Result<_, _>>().expect("every manifest parses")
}

fn definition(id: &str) -> Definition {
    definitions().into_iter().find(|d| d.id == id).expect("a definition of this id")
}

/// The last slice of those asked for, by a worker in a pinned thread of its own.
fn run(contender: &str, prepare: &Prepare, slices: &[u64]) -> Result<Sample, String> {
    let one_core = prepare.placement == "same-core";
    let work = || {
        if one_core {
            assert!(core_affinity::set_for_current(core_affinity::CoreId { id: prepare.cpus[0] }));
        }
        let take = |cell: switchmark_benches::Cell<'_>| {
            cell.map(|slice| slices.iter().map(|n| slice(*n)).last().expect("at least one slice"))
        };
        with_cell(contender, prepare, take).expect("a contender in the tree")
    };
    thread::scope(|s| s.spawn(work).join()).expect("the worker does not panic")
}

/// Contenders in the tree count their switches, and are held to them.
fn faults(definition: &Definition, prepare: &Prepare, sample: &Sample) -> Vec<String> {
    cells::faults(definition, prepare, sample, Books::Held)
}

#[test]
fn every_cell_answers_as_its_definition_expects() {
    let _alone = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let start = Instant::now();
    let mut walked = 0;
    for (definition, prepare) in cells::sliced() {
        let slices = cells::slices(&prepare);
        for contender in contenders() {
            if contender.refuses(&definition.id, &definition.model, &prepare.placement).is_some() {
                continue;
            }
            let cell = cells::name(&prepare, contender.id());
            // What other programs take of the core is in the kernel's count, so a refuted walk is taken again.
            let attempt = || {
                let sample = run(contender.id(), &prepare, &slices)?;
                Ok::<_, String>((faults(&definition, &prepare, &sample), sample))
            };
            let (mut faults, mut sample) = match attempt() {
                Ok(first) => first,
                // A component that only the other side's hand-off has.
                Err(reason) if definition.model == "rung" && reason.contains("no component of") => continue,
                Err(reason) => panic!("{cell}: {reason}"),
            };
            for _ in 0..5 {
                if faults.is_empty() {
                    break;
                }
                (faults, sample) = attempt().unwrap_or_else(|e| panic!("{cell}: {e}"));
            }
            assert!(faults.is_empty(), "{cell}: {faults:?} in {sample:?}");
            let lie = self::faults(&definition, &prepare, &cells::overstated(&sample));
            assert!(!lie.is_empty(), "{cell}: a wrong divisor passes");
            assert!(sample.elapsed_ns > 0, "{cell}: no time passed");
            assert_eq!(sample.iterations, *slices.last().unwrap(), "{cell}");
            walked += 1;
        }
    }
    assert!(walked >= 8, "only {walked} cells were walked");
    assert!(start.elapsed() < Duration::from_secs(30), "a smoke walk is short: {:?}", start.elapsed());
}

#[test]
fn every_server_answers_its_load_and_counts_as_the_load_does() {
    let _alone = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut walked = 0;
    for (definition, prepare) in cells::served() {
        for contender in contenders() {
            if contender.refuses(&definition.id, &definition.model, &prepare.placement).is_some() {
                continue;
            }
            let cell = cells::name(&prepare, contender.id());
            let server = Server::of(contender.id(), &prepare).expect("a contender in the tree");
            let server = server.unwrap_or_else(|e| panic!("{cell}: {e}"));
            let seen = cells::loaded(&definition, &prepare, server.address().to_string(), &cell);
            assert_eq!(server.served(), seen, "{cell}");
            walked += 1;
        }
    }
    assert!(walked >= 3, "only {walked} cells were walked");
}

#[test]
fn more_connections_than_the_process_may_have_open_are_refused_by_the_limits_name() {
    let echo = definition("io.echo");
    let mut params = echo.grid(Some("smoke")).remove(0);
    params[0] = ("connections".into(), ParamValue::Number(1 << 40));
    let prepare = prepare(&echo, "same-core", params);
    for (contender, limit) in
        [("thread", "1099511627776 threads"), ("coroutine", "RLIMIT_NOFILE"), ("epoll", "RLIMIT_NOFILE")]
    {
        let reason = Server::of(contender, &prepare).unwrap().unwrap_err();
        assert!(reason.contains(limit), "{contender}: {reason}");
    }
    assert!(Server::of("call", &prepare).unwrap().unwrap_err().contains("echo"));
}

#[test]
fn the_walk_catches_a_wrong_formula_and_a_wrong_ledger() {
    let _alone = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let honest = definition("switch.handoff");
    let prepare = prepare(&honest, "same-core", honest.grid(Some("smoke")).remove(0));
    let sample = run("thread", &prepare, &[2000]).unwrap();
    assert_eq!(faults(&honest, &prepare, &sample), Vec::<String>::new());

    let mut halved = honest.clone();
    halved.expect.switches = Some("iterations".to_owned().try_into().unwrap());
    assert!(faults(&halved, &prepare, &sample)[0].contains("switches"));

    let mut idle = sample.clone();
    (idle.check, idle.switches) = (sample.check - 1, None);
    let found = faults(&honest, &prepare, &idle);
    assert_eq!(found.len(), 2, "one lost token and no switches: {found:?}");
}

#[test]
fn a_pump_with_several_at_either_end_loses_nothing_and_waits_as_its_channel_must() {
    let _alone = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let channel = definition("sync.channel");
    let cell = |capacity, ends, implementation: &str| {
        let number = |name: &str, n| (name.to_owned(), ParamValue::Number(n));
        let implementation = ("implementation".to_owned(), ParamValue::Word(implementation.into()));
        let params = vec![
            number("capacity", capacity),
            number("producers", ends),
            number("consumers", ends),
            implementation,
        ];
        prepare(&channel, "same-core", params)
    };
    for contender in ["thread", "coroutine"] {
        for (capacity, ends) in [(0, 4), (1, 1), (1, 4), (64, 4)] {
            let prepare = cell(capacity, ends, "own");
            // No multiple of four: the shares differ.
            let sample = run(contender, &prepare, &[3, 1001]).unwrap();
            assert_eq!(faults(&channel, &prepare, &sample), Vec::<String>::new(), "{contender}");
        }
    }
    let hand_over = run("coroutine", &cell(0, 1, "own"), &[1000]).unwrap().switches.unwrap();
    let buffered = run("coroutine", &cell(64, 1, "own"), &[1000]).unwrap().switches.unwrap();
    assert!(hand_over >= 1000 && buffered <= 250, "{hand_over} and {buffered} switches for 1000 messages");

    let sample = run("thread", &cell(64, 1, "std"), &[1001]).unwrap();
    assert_eq!(sample.check, 1001 * 1001 + 1001);
    assert!(run("thread", &cell(64, 4, "std"), &[1]).unwrap_err().contains("one receiver"));
    assert!(run("coroutine", &cell(64, 1, "std"), &[1]).unwrap_err().contains("OS thread"));
}

#[test]
fn a_batch_is_alive_at_once_where_nobody_runs_before_the_first_join() {
    let _alone = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let batch = definition("spawn.batch");
    let prepare = prepare(&batch, "same-core", vec![("batch".into(), ParamValue::Number(500))]);
    assert_eq!(run("coroutine", &prepare, &[3]).unwrap().peak_live, 500);
    let threads = run("thread", &prepare, &[3]).unwrap();
    assert!((1..=500).contains(&threads.peak_live), "{}", threads.peak_live);
    assert_eq!(faults(&batch, &prepare, &threads), Vec::<String>::new());
}

#[test]
fn a_yield_with_nobody_to_yield_to_is_no_switch() {
    let _alone = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let ring = definition("switch.yield");
    let alone = prepare(&ring, "same-core", vec![("tasks".into(), ParamValue::Number(1))]);
    for contender in ["thread", "coroutine"] {
        // The quietest of a few: on a busy machine the kernel takes the core away, and counts that.
        let samples = (0..20).map(|_| run(contender, &alone, &[1000]).unwrap());
        let sample = samples.min_by_key(|sample| sample.switches).unwrap();
        assert_eq!(sample.check, 1000, "{contender}: it gave way all the same");
        assert!(sample.switches.is_some_and(|s| s <= 8), "{contender}: {:?}", sample.switches);
        assert!(!faults(&ring, &alone, &sample).is_empty(), "{contender}: the ledger sees through it");
    }
}

#[test]
fn every_rung_is_somebodys_and_who_has_it_not_names_those_it_has() {
    let _alone = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let anatomy = definition("switch.anatomy");
    let mut answered = [0, 0];
    for params in anatomy.grid(None) {
        let prepare = prepare(&anatomy, "same-core", params);
        let answers = ["thread", "coroutine"].map(|contender| run(contender, &prepare, &[1, 10]));
        for (count, answer) in answered.iter_mut().zip(&answers) {
            *count += u32::from(answer.is_ok());
            let named = |reason: &String| reason.contains("no component of") && reason.contains("yield");
            assert!(answer.as_ref().err().is_none_or(named), "{answer:?}");
        }
        assert!(answers.iter().any(Result::is_ok), "nobody has {:?}", prepare.params);
    }
    assert_eq!(answered, [6, 4]);
}

#[test]
fn the_clock_around_a_slice_agrees_with_the_one_inside() {
    let _alone = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let tasks = |n| vec![("tasks".to_owned(), ParamValue::Number(n))];
    let cells = [
        ("switch.yield", tasks(2), 3000, 100_000),
        ("switch.yield", tasks(256), 20, 2000),
        ("switch.handoff", Vec::new(), 1000, 50_000),
    ];
    for (workload, params, threads, coroutines) in cells {
        let definition = definition(workload);
        let prepare = prepare(&definition, "same-core", params);
        for (contender, iterations) in [("thread", threads), ("coroutine", coroutines)] {
            // What is not booked in a slice that lasted `around`, beyond what the parent allows.
            let excess = |slice: &mut dyn FnMut(u64) -> Sample| {
                let start = Instant::now();
                let sample = slice(iterations);
                let around = start.elapsed().as_nanos() as f64;
                let booked = (sample.elapsed_ns + sample.base_ns.unwrap_or(0)) as f64;
                assert!(booked <= around, "{workload}: a slice within its request");
                around - booked - (0.02 * around + 100_000.0)
            };
            let best = with_cell(contender, &prepare, |cell| {
                let slice = cell.expect("a small cell");
                (0..10).map(|_| excess(slice)).fold(f64::INFINITY, f64::min)
            });
            let best = best.expect("a contender in the tree");
            assert!(best <= 0.0, "{workload}/{contender}: {best} ns are in no book, in ten slices");
        }
    }
}

#[test]
fn a_population_grows_and_its_stacks_are_weighed() {
    let _alone = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let idle = definition("stack.idle");
    let prepare = prepare(&idle, "same-core", idle.grid(Some("smoke")).remove(0));
    for contender in contenders().iter().filter(|c| c.manifest.models.contains(&idle.model)) {
        let sample = run(contender.id(), &prepare, &[10, 10, 100]).unwrap();
        assert_eq!((sample.parked, sample.check), (Some(100), 100));
        let bytes = sample.user_stack_bytes.expect("a contender that knows its stacks") / 100;
        assert!((4096..65536).contains(&bytes), "{}: {bytes} bytes of stack a unit", contender.id());
    }
}

#[test]
fn a_call_that_blocks_waits_for_a_cold_file_or_says_that_nothing_is_cold() {
    let _alone = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let stall = definition("policy.blocking");
    let cell = |mechanism: &str, medium: &str| {
        let word = |name: &str, value: &str| (name.to_owned(), ParamValue::Word(value.into()));
        prepare(&stall, "same-core", vec![word("mechanism", mechanism), word("medium", medium)])
    };
    // Its threads are counted in `worker_process`, where no other test starts one.
    assert!(run("thread", &cell("bare", "tape"), &[1]).unwrap_err().contains("sleep or file"));
    // Where a directory for temporary files is in memory, that is what is said.
    for (contender, mechanism) in [("thread", "bare"), ("coroutine", "bare"), ("coroutine", "blocking")] {
        match run(contender, &cell(mechanism, "file"), &[30]) {
            Ok(sample) => assert_eq!(faults(&stall, &cell(mechanism, "file"), &sample), Vec::<String>::new()),
            Err(reason) => {
                assert!(reason.contains("nothing is cold") || reason.contains("nobody stands"), "{reason}");
            }
        }
    }
}

#[test]
fn a_stack_that_was_deep_is_kept_in_part_and_a_depth_that_is_no_page_is_refused() {
    let _alone = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let deep = definition("stack.depth");
    let cell = |kib| prepare(&deep, "same-core", vec![("depth_kib".into(), ParamValue::Number(kib))]);
    for contender in ["thread", "coroutine"] {
        let sample = run(contender, &cell(256), &[20]).unwrap();
        assert_eq!(faults(&deep, &cell(256), &sample), Vec::<String>::new(), "{contender}");
        let [kept, trimmed] = [sample.kept_bytes, sample.trimmed_bytes].map(|bytes| bytes.unwrap() >> 10);
        assert!(trimmed <= kept && trimmed <= 32, "{contender}: {trimmed} of {kept} KiB are left");
        // The pages are there the second time.
        assert!(sample.second_ns.unwrap() < sample.elapsed_ns, "{contender}: a page fault costs nothing");
    }
    assert_eq!(run("coroutine", &cell(256), &[1]).unwrap().kept_bytes, Some(256 << 10), "none has rested");
    for refused in [0, 3] {
        assert!(run("thread", &cell(refused), &[1]).unwrap_err().contains("no number of pages"));
    }
    assert!(run("coroutine", &cell(4096), &[1]).unwrap_err().contains("largest class"));
}

#[test]
fn a_search_for_the_most_units_ends_with_its_cap_and_says_so() {
    let _alone = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let limit = definition("stack.limit");
    let cell =
        |guard: &str| prepare(&limit, "same-core", vec![("guard".into(), ParamValue::Word(guard.into()))]);
    for contender in ["thread", "coroutine"] {
        let sample = run(contender, &cell("mprotect"), &[300]).unwrap();
        assert_eq!((sample.units, sample.peak_live, sample.check), (300, 300, 300), "{contender}");
        assert_eq!(sample.limit.as_deref(), Some("the 300 units that were asked for at most"));
        let mut lost = sample.clone();
        lost.check -= 1;
        assert_eq!(faults(&limit, &cell("mprotect"), &lost).len(), 1, "a unit that never ran is no unit");
    }
    assert!(run("coroutine", &cell("none"), &[1]).unwrap_err().contains("marker or mprotect"));
}

#[test]
fn more_threads_than_the_system_allows_are_refused_by_the_limits_name() {
    let _alone = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let idle = definition("stack.idle");
    let units = vec![
        ("units".to_owned(), ParamValue::Number(1_000_000_000)),
        ("stack".to_owned(), ParamValue::Word("default".into())),
    ];
    let reason = run("thread", &prepare(&idle, "same-core", units), &[1]).unwrap_err();
    assert!(reason.contains("max_map_count") && reason.contains("1000000000"), "{reason}");
}

#[test]
fn what_cannot_be_had_is_a_reason_not_a_panic() {
    let honest = definition("switch.yield");
    let mut strange = prepare(&honest, "same-core", vec![("tasks".into(), ParamValue::Word("many".into()))]);
    assert!(run("thread", &strange, &[1]).unwrap_err().contains("tasks"));
    strange.model = "tango".into();
    assert!(run("thread", &strange, &[1]).unwrap_err().contains("tango"));
    assert!(run("call", &strange, &[1]).unwrap_err().contains("tango"));
    let unknown = with_cell("fiber", &strange, |_| ()).unwrap_err().to_string();
    assert!(unknown.contains("fiber") && unknown.contains("thread"), "{unknown}");
}

#[test]
fn every_model_that_is_named_exists_and_every_contender_is_walked() {
    let models: Vec<String> = contenders().into_iter().flat_map(|c| c.manifest.models).collect();
    for definition in definitions() {
        assert!(models.contains(&definition.model), "nobody runs {}", definition.model);
        let file =
            format!("{}/src/models/{}.rs", env!("CARGO_MANIFEST_DIR"), definition.model.replace('-', "_"));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
        for part in ["**Work.**", "**Ledger.**", "**Check.**"] {
            assert!(text.contains(part), "{file} does not say its {part}");
        }
        assert!(!definition.grid(Some("smoke")).is_empty() && !definition.traps.trim().is_empty());
    }
    for contender in contenders() {
        let kind = contender.manifest.kind;
        assert_eq!(kind == Kind::Thread, contender.id() == "thread", "threads are counted by the kernel");
    }
}
