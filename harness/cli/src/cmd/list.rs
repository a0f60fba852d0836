//! `switchmark list`: what there is, and whether it can run here.

use super::print;
use crate::world::{World, filter};
use serde_json::json;
use std::fmt::Write;
use switchmark_harness::Result;
use switchmark_harness::contender::Contender;
use switchmark_harness::definition::Definition;
use switchmark_harness::document::to_json;
use switchmark_harness::pin::Cpus;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Regular expression searched in the workload ids.
    filter: Option<String>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let world = World::load(&[], None)?;
    let filter = filter(arguments.filter.as_deref())?;
    let cpus = Cpus::allowed(None)?;
    let wanted = |d: &&Definition| filter.as_ref().is_none_or(|f| f.is_match(&d.id));
    let definitions: Vec<&Definition> = world.definitions.iter().filter(wanted).collect();
    print(&if arguments.json {
        as_json(&world, &definitions, &cpus)
    } else {
        as_text(&world, &definitions, &cpus)
    })?;
    Ok(0)
}

/// Why a contender cannot run a workload in a placement here.
fn obstacle(contender: &Contender, definition: &Definition, placement: &str, cpus: &Cpus) -> Option<String> {
    contender
        .refuses(&definition.id, &definition.model, placement)
        .or_else(|| cpus.of_placement(placement).err())
        .or_else(|| contender.available().err())
}

fn as_text(world: &World, definitions: &[&Definition], cpus: &Cpus) -> String {
    let mut text = String::new();
    for definition in definitions {
        let _ = writeln!(text, "{}  {}", definition.id, definition.question);
        for (name, values) in &definition.params {
            let values: Vec<String> = values.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "    {name} = {}", values.join(", "));
        }
        for placement in &definition.placements {
            let runs = |c: &&Contender| obstacle(c, definition, placement, cpus).is_none();
            let able: Vec<&str> = world.contenders.iter().filter(runs).map(Contender::id).collect();
            let _ = writeln!(
                text,
                "    {placement}: {}",
                if able.is_empty() { "nobody".into() } else { able.join(", ") }
            );
            for contender in world.contenders.iter().filter(|c| c.manifest.models.contains(&definition.model))
            {
                if let Some(why) = obstacle(contender, definition, placement, cpus) {
                    let _ = writeln!(text, "        not {}: {why}", contender.id());
                }
            }
        }
    }
    text
}

fn as_json(world: &World, definitions: &[&Definition], cpus: &Cpus) -> String {
    let contender = |c: &Contender, d: &Definition, placement: &str| {
        let obstacle = obstacle(c, d, placement, cpus);
        json!({"contender": c.id(), "runs": obstacle.is_none(), "reason": obstacle})
    };
    let workload = |d: &&Definition| {
        let placements = d.placements.iter().map(|p| {
            let contenders: Vec<_> = world.contenders.iter().map(|c| contender(c, d, p)).collect();
            json!({"placement": p, "contenders": contenders})
        });
        json!({
            "id": d.id, "model": d.model, "question": d.question, "unit": d.unit, "params": d.params,
            "placements": placements.collect::<Vec<_>>(),
        })
    };
    to_json(&json!({"workloads": definitions.iter().map(workload).collect::<Vec<_>>()}))
}
