//! `cargo bench --bench io`: what an echoed request costs, under criterion.
//!
//! The server and the load of `switchmark run`, both in this process and on one core: server, load and the kernel between them
//! share it, so a time is what a request costs all three together. `-- --quick` takes seconds, `-- --test` asks each server once at smoke size.

#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use criterion::{Criterion, criterion_group, criterion_main};
use std::time::Duration;
use switchmark_benches::Server;
use switchmark_harness::contender::Contender;
use switchmark_harness::definition::Definition;
use switchmark_harness::load::Load;
use switchmark_harness::protocol::Prepare;
use switchmark_schema::ParamValue;

const WORKLOAD: &str = "io.echo";
const PLACEMENT: &str = "same-core";
/// Of the one cell; at smoke size whatever that is.
const CONNECTIONS: u64 = 100;

fn io(criterion: &mut Criterion) {
    // CPU 0 takes the interrupts, so the last. What a server starts stays with the thread that started it.
    let cpu = core_affinity::get_core_ids().expect("allowed cpus").pop().expect("one at least");
    assert!(core_affinity::set_for_current(cpu));
    let definitions = switchmark_benches::definitions();
    let mut definitions =
        definitions.map(|(path, text)| Definition::parse(text, path).expect("the tests have parsed it"));
    let definition = definitions.find(|d| d.id == WORKLOAD).expect("it is in the tree");
    let smoke = std::env::args().any(|a| a == "--test");
    let mut cells = definition.grid(Some(if smoke { "smoke" } else { "quick" })).into_iter();
    let wanted = ("connections".to_owned(), ParamValue::Number(CONNECTIONS));
    let params = cells.find(|cell| smoke || cell.contains(&wanted)).expect("a cell of so many connections");
    let values: Vec<String> = params.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let prepare = Prepare {
        workload: definition.id.clone(),
        model: definition.model.clone(),
        placement: PLACEMENT.into(),
        cpus: vec![cpu.id],
        params,
    };
    for (path, text) in switchmark_benches::manifests() {
        // The others have a program of their own, which is not ours to start here.
        let Ok(contender) = Contender::in_tree(text, path) else { continue };
        if contender.refuses(&definition.id, &definition.model, PLACEMENT).is_none() {
            let id = format!("{WORKLOAD}/{}/{PLACEMENT}/{}", values.join("/"), contender.id());
            bench(criterion, &id, contender.id(), &prepare);
        }
    }
}

/// One cell: a time is that of one request, as many of which are under way as there are connections.
fn bench(criterion: &mut Criterion, id: &str, contender: &str, prepare: &Prepare) {
    let server = match Server::of(contender, prepare).expect("a contender in the tree") {
        Ok(server) => server,
        Err(reason) => return eprintln!("{id}: unsupported: {reason}"),
    };
    let mut of_load = prepare.clone();
    of_load.params.push(("address".into(), ParamValue::Word(server.address().to_string())));
    let mut load = Load::open(&of_load).unwrap_or_else(|why| panic!("{id}: {why:?}"));
    criterion.bench_function(id, |bencher| {
        bencher.iter_custom(|iterations| {
            let sample = load.slice(iterations).unwrap_or_else(|why| panic!("{id}: {why}"));
            assert_eq!(sample.answered, Some(iterations), "{id}: every request is answered");
            Duration::from_nanos(sample.elapsed_ns)
        });
    });
    assert_eq!(server.served(), load.served(), "{id}: the books of server and load agree");
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(800));
    targets = io
}
criterion_main!(benches);
