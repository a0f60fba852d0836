//! The system ledger, from `/proc/meminfo`.

use crate::environment::proc_field;
use std::fs;
use std::io;

/// What the kernel books for the whole machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct System {
    /// Kernel stacks, in bytes.
    pub kernel_stack: u64,
    /// Slab, reclaimable or not, in bytes.
    pub slab: u64,
    /// Page tables, in bytes.
    pub page_tables: u64,
    /// Anonymous pages, in bytes.
    pub anonymous: u64,
}

impl System {
    /// Reads the ledger. The kernel keeps it per CPU and adds up about once a second; reading `stat_refresh`,
    /// where root may, adds up now.
    pub fn read() -> io::Result<System> {
        let _ = fs::read("/proc/sys/vm/stat_refresh");
        let meminfo = fs::read_to_string("/proc/meminfo")?;
        let bytes = |name: &str| {
            let missing = || io::Error::other(format!("/proc/meminfo has no field {name}"));
            proc_field(&meminfo, name).map(|kib| kib * 1024).ok_or_else(missing)
        };
        Ok(System {
            kernel_stack: bytes("KernelStack:")?,
            slab: bytes("Slab:")?,
            page_tables: bytes("PageTables:")?,
            anonymous: bytes("AnonPages:")?,
        })
    }
}
