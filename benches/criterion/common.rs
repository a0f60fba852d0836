//! What the fronts share: the quick cells of some workloads, for every contender in the tree, in criterion's hands.

use criterion::Criterion;
use std::time::Duration;
use switchmark_benches::with_cell;
use switchmark_harness::contender::Contender;
use switchmark_harness::definition::Definition;
use switchmark_harness::protocol::Prepare;

/// Benches every workload of these families that is divided into operations.
pub(crate) fn families(criterion: &mut Criterion, families: &[&str]) {
    // Read once: the list shrinks when a thread has pinned itself.
    let cpus: Vec<usize> =
        core_affinity::get_core_ids().expect("allowed cpus").iter().map(|c| c.id).rev().collect();
    // CPU 0 takes the interrupts, so the last.
    assert!(core_affinity::set_for_current(core_affinity::CoreId { id: cpus[0] }));
    // `cargo bench -- --test` runs each once; then it is the smoke size that should run.
    let profile = if std::env::args().any(|a| a == "--test") { "smoke" } else { "quick" };
    for (path, text) in switchmark_benches::definitions() {
        let definition = Definition::parse(text, path).expect("the tests have parsed it");
        if !families.contains(&definition.family()) {
            continue;
        }
        // The one placement that needs nobody outside: this thread is pinned, and what it spawns stays with it.
        for params in definition.grid(Some(profile)) {
            let values: Vec<String> = params.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let words: Vec<&str> = values.iter().map(String::as_str).collect();
            // Several values of what the parent alone can set up would be the same cell here.
            if words.contains(&"idle_policy=awake") {
                continue;
            }
            let prepare = Prepare {
                workload: definition.id.clone(),
                model: definition.model.clone(),
                placement: "same-core".into(),
                cpus: cpus.clone(),
                params,
            };
            for (path, text) in switchmark_benches::manifests() {
                let contender = Contender::in_tree(text, path).expect("the tests have parsed it");
                if contender.refuses(&definition.id, &definition.model, "same-core").is_none() {
                    let id = [&[definition.id.as_str()], &*words, &["same-core", contender.id()]];
                    bench(criterion, &id.concat().join("/"), &definition, contender.id(), &prepare);
                }
            }
        }
    }
}

/// One cell. What criterion shows as a time is one of the cell's unit: elapsed time divided as the definition says.
fn bench(criterion: &mut Criterion, id: &str, definition: &Definition, contender: &str, prepare: &Prepare) {
    let opened = with_cell(contender, prepare, |cell| match cell {
        Err(reason) => eprintln!("{id}: unsupported: {reason}"),
        Ok(slice) => {
            criterion.bench_function(id, |bencher| {
                bencher.iter_custom(|iterations| {
                    let sample = slice(iterations);
                    let names = |name: &str| match name {
                        "iterations" => Some(sample.iterations),
                        "units" => Some(sample.units),
                        "switches" => sample.switches,
                        "check" => Some(sample.check),
                        _ => definition.value(&prepare.params, name),
                    };
                    let operations = definition.divisor.evaluate(names).expect("a divisor of known names");
                    // Criterion divides by the iterations it asked for, the definition by its operations.
                    let share = iterations as f64 / operations.max(1) as f64;
                    Duration::from_nanos(sample.elapsed_ns).mul_f64(share)
                });
            });
        }
    });
    opened.expect("a contender in the tree");
}
