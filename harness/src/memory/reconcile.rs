//! From readings at several populations to a bill per unit, if the ledgers agree.

use super::{Cgroup, Process, System};
use crate::stats::theil_sen;
use switchmark_schema::{Memory, PerUnitBytes, Witness};

/// The ledgers at one population.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Units parked.
    pub units: u64,
    /// The worker's process.
    pub process: Process,
    /// The machine.
    pub system: System,
    /// Resident bytes of the units' stacks, where the worker can tell.
    pub user_stack: Option<u64>,
    /// The worker's control group, or why it has no ledger.
    pub cgroup: Result<Cgroup, String>,
}

/// How far the ledgers may disagree on a component that both see.
const TOLERANCE: f64 = 0.10;

/// A component that grew by less, in bytes, drowns in what the machine books for others meanwhile: there the
/// system ledger cannot contradict the process.
const BACKGROUND: f64 = (8 << 20) as f64;

/// The bill, or why it cannot be trusted.
pub fn bill(readings: &[Reading]) -> Result<Memory, String> {
    let slope = |of: &dyn Fn(&Reading) -> u64| {
        let points: Vec<(f64, f64)> = readings.iter().map(|r| (r.units as f64, of(r) as f64)).collect();
        theil_sen(&points).ok_or_else(|| "fewer than two populations were read".to_owned())
    };
    let anonymous = slope(&|r| r.process.anonymous)?;
    let page_tables = slope(&|r| r.process.page_tables)?;
    let largest = readings.iter().map(|r| r.units).max().unwrap_or(1) as f64;
    let agree = |name: &str, process: f64, system: f64| {
        let drowned = process.max(system) * largest < BACKGROUND;
        if drowned || (process - system).abs() <= TOLERANCE * process {
            return Ok(());
        }
        Err(format!(
            "the ledgers disagree on {name}: {process:.0} bytes a unit by the process, {system:.0} by the system"
        ))
    };
    agree("user pages", anonymous, slope(&|r| r.system.anonymous)?)?;
    agree("page tables", page_tables, slope(&|r| r.system.page_tables)?)?;
    let told = readings.iter().all(|r| r.user_stack.is_some());
    let user_stack = if told { slope(&|r| r.user_stack.unwrap_or(0))? } else { 0.0 };
    // A component that does not grow can come out a few bytes below zero: the machine gave something back.
    let part = |value: f64| value.max(0.0);
    let mut bytes = PerUnitBytes {
        total: 0.0,
        user_stack: part(user_stack),
        user_other: part(anonymous - user_stack),
        kernel_stack: part(slope(&|r| r.system.kernel_stack)?),
        slab: part(slope(&|r| r.system.slab)?),
        page_tables: part(page_tables),
    };
    bytes.total = bytes.user_stack + bytes.user_other + bytes.kernel_stack + bytes.slab + bytes.page_tables;
    Ok(Memory {
        per_unit_bytes: bytes,
        vmas_per_unit: part(slope(&|r| r.process.mappings)?),
        virtual_bytes: part(slope(&|r| r.process.virtual_size)?),
        cgroup: Some(match readings.iter().find_map(|r| r.cgroup.as_ref().err()) {
            Some(reason) => Witness { reason: Some(reason.clone()), ..Witness::default() },
            None => Witness {
                anonymous: Some(part(slope(&|r| charged(r, |group| group.anonymous))?)),
                kernel: Some(part(slope(&|r| charged(r, |group| group.kernel))?)),
                reason: None,
            },
        }),
    })
}

fn charged(reading: &Reading, of: impl Fn(&Cgroup) -> u64) -> u64 {
    reading.cgroup.as_ref().map_or(0, of)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread's bill as measured by hand: 9 776 + 16 384 + 7 908 + 4 121 bytes over fixed costs.
    fn readings(system_anonymous: u64) -> Vec<Reading> {
        let at = |units: u64| Reading {
            units,
            process: Process {
                anonymous: (3 << 20) + units * 9_776,
                page_tables: 100_000 + units * 4_121,
                virtual_size: units * 2_214_781,
                mappings: 60 + units * 4,
                threads: 1 + units,
            },
            system: System {
                kernel_stack: 5_000_000 + units * 16_384,
                slab: 90_000_000 + units * 7_908,
                page_tables: 2_000_000 + units * 4_121,
                anonymous: 80_000_000 + units * system_anonymous,
            },
            user_stack: Some(units * 8_192),
            cgroup: Ok(Cgroup { anonymous: 50_000_000 + units * 9_800, kernel: 9_000_000 + units * 28_000 }),
        };
        [2_500, 5_000, 10_000].map(at).to_vec()
    }

    #[test]
    fn the_whole_bill_is_four_times_the_resident_part() {
        let memory = bill(&readings(9_776)).unwrap();
        let bytes = memory.per_unit_bytes;
        assert!((bytes.total - 38_189.0).abs() < 1.0, "{bytes:?}");
        assert!((bytes.user_stack - 8_192.0).abs() < 1.0 && (bytes.user_other - 1_584.0).abs() < 1.0);
        assert!((memory.vmas_per_unit - 4.0).abs() < 1e-9);
    }

    #[test]
    fn the_control_group_bears_witness_and_never_judges() {
        let told = |mut readings: Vec<Reading>, of: &dyn Fn(u64) -> Result<Cgroup, String>| {
            for reading in &mut readings {
                reading.cgroup = of(reading.units);
            }
            bill(&readings).unwrap().cgroup.unwrap()
        };
        let honest = bill(&readings(9_776)).unwrap().cgroup.unwrap();
        let near = |found: Option<f64>, bytes: f64| found.is_some_and(|found| (found - bytes).abs() < 1.0);
        assert!(near(honest.anonymous, 9_800.0) && near(honest.kernel, 28_000.0), "{honest:?}");
        let wild = told(readings(9_776), &|units| Ok(Cgroup { anonymous: units * 90_000, kernel: 7 }));
        assert!(near(wild.anonymous, 90_000.0) && near(wild.kernel, 0.0), "the bill stands: {wild:?}");
        let missing = told(readings(9_776), &|units| match units {
            5_000 => Err("it is in no control group".into()),
            _ => Ok(Cgroup { anonymous: 0, kernel: 0 }),
        });
        let none = Witness { reason: Some("it is in no control group".into()), ..Witness::default() };
        assert_eq!(missing, none, "absent, not nothing");
    }

    #[test]
    fn ledgers_agree_up_to_a_tenth_and_no_further_on_pages_and_on_page_tables() {
        let with = |anonymous: u64, page_tables: u64| {
            let mut readings = readings(anonymous);
            for reading in &mut readings {
                reading.system.page_tables = 2_000_000 + reading.units * page_tables;
            }
            bill(&readings)
        };
        let (pages, tables) = (9_776, 4_121);
        for share in [91, 109] {
            assert!(with(pages * share / 100, tables * share / 100).is_ok(), "{share} %");
        }
        for share in [89, 111] {
            assert!(with(pages * share / 100, tables).unwrap_err().contains("user pages"), "{share} %");
            assert!(with(pages, tables * share / 100).unwrap_err().contains("page tables"), "{share} %");
        }
    }

    #[test]
    fn ledgers_that_disagree_are_no_bill() {
        let error = bill(&readings(12_000)).unwrap_err();
        assert!(error.contains("user pages") && error.contains("12000"), "{error}");
    }

    #[test]
    fn a_hundred_units_are_too_few_to_contradict_the_process() {
        let few = |mut reading: Reading| {
            let shrunk = |bytes: u64| 80_000_000 + (bytes - 80_000_000) / 100;
            reading.units /= 100;
            reading.process.anonymous = (3 << 20) + reading.units * 9_776;
            reading.process.page_tables = 100_000 + reading.units * 4_121;
            reading.system.anonymous = shrunk(reading.system.anonymous);
            reading.system.page_tables = 2_000_000 + reading.units * 9_999;
            reading
        };
        let readings: Vec<Reading> = readings(20_000).into_iter().map(few).collect();
        assert!(bill(&readings).is_ok());
    }

    #[test]
    fn one_population_is_no_slope() {
        assert!(bill(&readings(9_776)[..1]).is_err());
    }
}
