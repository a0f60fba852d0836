//! Which CPUs share a core and which a memory node, from `/sys/devices/system`.
//!
//! Two hardware threads of a core share its execution units and its nearest caches, and two nodes do not even share a last cache: a hand-over costs
//! another thing in each case, so each is a placement of its own. A machine that does not say is taken to have a core for each CPU and one node.

use crate::pin::parse_list;
use std::fs;
use std::path::Path;

/// Neighbours of each CPU.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Topology {
    /// CPUs of a core, where it has several.
    cores: Vec<Vec<usize>>,
    /// CPUs of a node, where there are several.
    nodes: Vec<Vec<usize>>,
}

impl Topology {
    /// Of these CPUs, below a root that is `/` but in tests.
    pub(crate) fn read(root: &Path, cpus: &[usize]) -> Topology {
        let devices = root.join("sys/devices/system");
        let list = |path: std::path::PathBuf| {
            let text = fs::read_to_string(path).ok()?;
            parse_list(text.trim()).filter(|cpus| cpus.len() > 1)
        };
        let core = |cpu: &usize| list(devices.join(format!("cpu/cpu{cpu}/topology/thread_siblings_list")));
        let mut cores: Vec<Vec<usize>> = cpus.iter().filter_map(core).collect();
        cores.sort();
        cores.dedup();
        let nodes = fs::read_dir(devices.join("node")).into_iter().flatten().flatten();
        let nodes = nodes.filter_map(|node| {
            let text = fs::read_to_string(node.path().join("cpulist")).ok()?;
            parse_list(text.trim())
        });
        let mut nodes: Vec<Vec<usize>> = nodes.collect();
        nodes.sort();
        Topology { cores, nodes }
    }

    /// Whether two CPUs are hardware threads of one core.
    fn share_a_core(&self, a: usize, b: usize) -> bool {
        self.cores.iter().any(|core| core.contains(&a) && core.contains(&b))
    }

    fn share_a_node(&self, a: usize, b: usize) -> bool {
        let node = |cpu| self.nodes.iter().position(|node| node.contains(&cpu));
        node(a) == node(b)
    }

    /// Another hardware thread of the same core.
    pub(crate) fn sibling(&self, of: usize, among: &[usize]) -> Option<usize> {
        among.iter().copied().find(|&cpu| cpu != of && self.share_a_core(of, cpu))
    }

    /// Another core, of the same node where it has one.
    pub(crate) fn other_core(&self, of: usize, among: &[usize]) -> Option<usize> {
        let others = || among.iter().copied().filter(|&cpu| cpu != of && !self.share_a_core(of, cpu));
        others().find(|&cpu| self.share_a_node(of, cpu)).or_else(|| others().next())
    }

    /// A core of another node.
    pub(crate) fn other_node(&self, of: usize, among: &[usize]) -> Option<usize> {
        among.iter().copied().find(|&cpu| !self.share_a_node(of, cpu))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two nodes of two cores of two threads: CPUs 0-3 and 4-7, siblings as the kernel numbers them on many machines.
    pub(crate) fn two_nodes() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |path: String, text: &str| {
            let path = root.path().join("sys/devices/system").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (cpu, siblings) in ["0,2", "1,3", "0,2", "1,3", "4,6", "5,7", "4,6", "5,7"].iter().enumerate() {
            write(format!("cpu/cpu{cpu}/topology/thread_siblings_list"), &format!("{siblings}\n"));
        }
        write("node/node0/cpulist".into(), "0-3\n");
        write("node/node1/cpulist".into(), "4-7\n");
        write("node/possible".into(), "0-1\n");
        root
    }

    #[test]
    fn siblings_cores_and_nodes_are_told_apart() {
        let all: Vec<usize> = (0..8).collect();
        let topology = Topology::read(two_nodes().path(), &all);
        assert_eq!(topology.sibling(7, &all), Some(5));
        assert_eq!(topology.other_core(7, &all), Some(4), "not 0, which is of another node, and not 5");
        assert_eq!(topology.other_node(7, &all), Some(0));
        assert_eq!(topology.sibling(7, &[0, 7]), None, "its sibling is not allowed");
        assert_eq!(topology.other_core(7, &[0, 5, 7]), Some(0), "there is no core but of another node");
        assert_eq!(topology.other_core(7, &[5, 7]), None);
    }

    #[test]
    fn a_machine_that_does_not_say_has_a_core_for_each_cpu_and_one_node() {
        let nowhere = tempfile::tempdir().unwrap();
        let topology = Topology::read(nowhere.path(), &[0, 1]);
        assert_eq!(topology, Topology::default());
        let found =
            [topology.sibling(1, &[0, 1]), topology.other_core(1, &[0, 1]), topology.other_node(1, &[0, 1])];
        assert_eq!(found, [None, Some(0), None]);
    }
}
