//! The process ledger, from `/proc/<pid>`.

use crate::environment::proc_field;
use std::fs;
use std::io;

/// What the kernel books for one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Process {
    /// Anonymous pages, in bytes: what the units' stacks and heap add to.
    pub anonymous: u64,
    /// Page tables, in bytes.
    pub page_tables: u64,
    /// Address space, in bytes.
    pub virtual_size: u64,
    /// Lines of its map.
    pub mappings: u64,
    /// Threads.
    pub threads: u64,
}

impl Process {
    /// Reads the ledger of a process.
    pub fn read(pid: u32) -> io::Result<Process> {
        let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
        let (rollup, status, maps) = (file("smaps_rollup")?, file("status")?, file("maps")?);
        let field = |text: &str, name: &str| {
            let missing = || io::Error::other(format!("/proc/{pid} has no field {name}"));
            proc_field(text, name).ok_or_else(missing)
        };
        let kib = |text: &str, name: &str| field(text, name).map(|kib| kib * 1024);
        Ok(Process {
            anonymous: kib(&rollup, "Anonymous:")?,
            page_tables: kib(&status, "VmPTE:")?,
            virtual_size: kib(&status, "VmSize:")?,
            mappings: maps.lines().count() as u64,
            threads: field(&status, "Threads:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Process;

    #[test]
    fn touched_pages_appear_in_the_ledger() {
        let before = Process::read(std::process::id()).unwrap();
        let bytes = 8 << 20;
        let block = std::hint::black_box(vec![1_u8; bytes]);
        let after = Process::read(std::process::id()).unwrap();
        let grown = after.anonymous.saturating_sub(before.anonymous);
        assert!(grown >= bytes as u64 / 2, "8 MiB were touched, {grown} bytes booked");
        drop(block);
    }
}
