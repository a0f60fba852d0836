//! Placements: which CPUs a cell runs on, and the guard that puts a worker there.
//!
//! CPU ids are read once, from the allowed mask, before anything is pinned: `core_affinity` lists only what
//! the caller may use at that moment and aborts on ids of 1024 and above, so nothing reaches it unchecked.

use crate::error::{Error, Result};
use crate::sys;
use crate::topology::Topology;
use std::path::Path;

/// The CPUs a run may use, ascending; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpus {
    allowed: Vec<usize>,
    topology: Topology,
}

impl Cpus {
    /// What the process may use, narrowed to `--cpus` if given.
    pub fn allowed(narrowed: Option<&str>) -> Result<Cpus> {
        let mask = sys::affinity().map_err(|e| Error::usage(format!("cannot read the CPU affinity: {e}")))?;
        match narrowed {
            None => Ok(Cpus::of(Path::new("/"), mask)),
            Some(list) => Cpus::narrow(&mask, list),
        }
    }

    /// These, whose neighbours are read below a root that is `/` but in tests.
    fn of(root: &Path, allowed: Vec<usize>) -> Cpus {
        let topology = Topology::read(root, &allowed);
        Cpus { allowed, topology }
    }

    fn narrow(mask: &[usize], list: &str) -> Result<Cpus> {
        let mut cpus = parse_list(list)
            .ok_or_else(|| Error::usage(format!("--cpus `{list}` is not a list such as 0,2-3")))?;
        cpus.sort_unstable();
        cpus.dedup();
        match cpus.iter().find(|cpu| !mask.contains(cpu)) {
            None if cpus.is_empty() => Err(Error::usage("--cpus names no CPU")),
            None => Ok(Cpus::of(Path::new("/"), cpus)),
            Some(cpu) => Err(Error::usage(format!(
                "cannot pin to cpu {cpu}: not in the allowed set {}; name others with --cpus, or run under taskset",
                format_list(mask)
            ))),
        }
    }

    /// CPUs of a placement, first the one a worker starts on; the error is the reason of an `unsupported`.
    pub fn of_placement(&self, placement: &str) -> std::result::Result<Vec<usize>, String> {
        // The last one: CPU 0 takes most interrupts.
        let allowed = &self.allowed;
        let last = *allowed.last().expect("at least one CPU is allowed");
        let beside = |other: Option<usize>, needs: &str| match other {
            Some(other) => Ok(vec![last, other]),
            None => Err(format!("{placement} needs {needs}; allowed: {}", format_list(allowed))),
        };
        match placement {
            "same-core" => Ok(vec![last]),
            "cross-core" if allowed.len() > 1 && self.topology.other_core(last, allowed).is_none() => {
                Err(format!(
                    "cross-core needs two cores; the allowed CPUs {} are threads of one: that is smt-sibling",
                    format_list(allowed)
                ))
            }
            "cross-core" => beside(self.topology.other_core(last, allowed), "two CPUs"),
            "smt-sibling" => beside(self.topology.sibling(last, allowed), "two hardware threads of one core"),
            "cross-node" => beside(self.topology.other_node(last, allowed), "CPUs of two memory nodes"),
            // Alone on its CPU rather than not at all, where the machine has one core.
            "one-core" => beside(
                self.topology.other_core(last, allowed).or(self.topology.sibling(last, allowed)),
                "a CPU for the server and one for the load",
            ),
            "all-cores" | "free" => Ok(allowed.iter().rev().copied().collect()),
            other => Err(format!("placement {other} is not part of this version")),
        }
    }

    /// Where the parent waits while a placement is measured: elsewhere, if there is an elsewhere.
    pub fn aside(&self, placement: &[usize]) -> Vec<usize> {
        let others: Vec<usize> =
            self.allowed.iter().copied().filter(|cpu| !placement.contains(cpu)).collect();
        if others.is_empty() { self.allowed.clone() } else { others }
    }

    /// Their numbers, ascending.
    pub fn as_slice(&self) -> &[usize] {
        &self.allowed
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.allowed.len()
    }
}

/// Keeps the calling thread on some CPUs until dropped; then its former mask is back.
#[derive(Debug)]
pub struct Pinned {
    former: Vec<usize>,
}

impl Pinned {
    /// Pins the calling thread, and what it starts while the guard lives.
    pub fn to(cpus: &[usize]) -> std::io::Result<Pinned> {
        let former = sys::affinity()?;
        match cpus {
            [one] => {
                if !core_affinity::set_for_current(core_affinity::CoreId { id: *one }) {
                    return Err(std::io::Error::other(format!("the kernel refuses cpu {one}")));
                }
            }
            several => sys::set_affinity(several)?,
        }
        Ok(Pinned { former })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // A CPU can have gone offline meanwhile; then the kernel's choice stands, and nothing is measured on it.
        let _ = sys::set_affinity(&self.former);
    }
}

/// `0,2-3` as numbers; `None` where it is anything else.
pub fn parse_list(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high): (usize, usize) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
        // The bound keeps a hostile range from filling the memory.
        if low > high || high > 1 << 16 {
            return None;
        }
        cpus.extend(low..=high);
    }
    Some(cpus)
}

/// Numbers as `0,2-3`; they must be ascending.
pub fn format_list(cpus: &[usize]) -> String {
    cpus.chunk_by(|a, b| b - a == 1)
        .map(|run| match run {
            [one] => one.to_string(),
            _ => format!("{}-{}", run[0], run[run.len() - 1]),
        })
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CPUs of a machine that says nothing of its cores.
    fn cpus(allowed: &[usize]) -> Cpus {
        Cpus::of(Path::new("/nowhere"), allowed.to_vec())
    }

    #[test]
    fn lists_are_read_and_written_alike() {
        for list in ["0", "0-3", "1,4-6,9"] {
            assert_eq!(format_list(&parse_list(list).unwrap()), list);
        }
        for bad in ["", "a", "3-1", "0,", "0-99999999", "-1"] {
            assert_eq!(parse_list(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_cpu_outside_the_mask_is_refused_with_a_sentence() {
        for outside in ["7", "1024", "0,4096", "0-2"] {
            let error = Cpus::narrow(&[0, 1], outside).unwrap_err().to_string();
            assert!(error.contains("allowed set 0-1"), "{error}");
        }
        assert_eq!(Cpus::narrow(&[0, 1, 2], "2,0").unwrap().as_slice(), [0, 2]);
    }

    #[test]
    fn hardware_threads_and_nodes_are_placements_of_their_own() {
        let root = crate::topology::tests::two_nodes();
        let on =
            |allowed: &[usize], placement| Cpus::of(root.path(), allowed.to_vec()).of_placement(placement);
        let all = [0, 1, 2, 3, 4, 5, 6, 7];
        let of = ["smt-sibling", "cross-core", "cross-node", "one-core"].map(|placement| on(&all, placement));
        assert_eq!(of, [Ok(vec![7, 5]), Ok(vec![7, 4]), Ok(vec![7, 0]), Ok(vec![7, 4])]);
        assert!(on(&[5, 7], "cross-core").unwrap_err().contains("allowed CPUs 5,7 are threads of one"));
        assert_eq!(on(&[5, 7], "one-core"), Ok(vec![7, 5]));
        assert!(
            on(&[4, 7], "smt-sibling")
                .unwrap_err()
                .contains("two hardware threads of one core; allowed: 4,7")
        );
        assert!(on(&[4, 7], "cross-node").unwrap_err().contains("two memory nodes"));
        assert!(
            cpus(&[0, 1]).of_placement("smt-sibling").is_err()
                && cpus(&[0, 1]).of_placement("cross-node").is_err()
        );
    }

    #[test]
    fn placements_take_the_last_cpu_first() {
        let (cpus_3, cpus) = (cpus(&[3]), cpus(&[0, 1, 5]));
        assert_eq!(cpus.of_placement("same-core"), Ok(vec![5]));
        assert_eq!(cpus.of_placement("cross-core"), Ok(vec![5, 0]));
        assert_eq!(cpus.of_placement("one-core"), Ok(vec![5, 0]));
        assert_eq!(cpus.of_placement("all-cores"), Ok(vec![5, 1, 0]));
        assert_eq!(cpus.aside(&[5]), [0, 1]);
        assert!(cpus_3.of_placement("cross-core").unwrap_err().contains("allowed: 3"));
        assert!(cpus_3.of_placement("one-core").unwrap_err().contains("the load; allowed: 3"));
        assert_eq!(cpus_3.aside(&[3]), [3]);
    }

    #[test]
    fn a_pin_is_seen_by_the_kernel_and_undone() {
        let before = sys::affinity().unwrap();
        let last = *before.last().unwrap();
        {
            let _pinned = Pinned::to(&[last]).unwrap();
            assert_eq!(sys::affinity().unwrap(), [last]);
        }
        assert_eq!(sys::affinity().unwrap(), before);
    }
}
