//! A file of which nothing is in memory when it is read.
//!
//! It lies in the directory for temporary files and has no name: it is unlinked as soon as it is open, so that a worker that is killed
//! leaves none behind. It is as long as it takes to keep a reader waiting for a given time, within bounds.
//!
//! Whether a read was cold is not for the file to claim: the kernel books what a process had from storage, and that must be most of it.

use crate::sys;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What is read by one call of the kernel.
const CHUNK: usize = 64 << 10;
/// Least and most bytes of a file.
const SIZES: (usize, usize) = (1 << 20, 64 << 20);
/// The share of what was read that must have come from storage, in tenths. A neighbour's readahead is not ours, but the kernel may find a
/// page or two that it could not drop.
const FROM_STORAGE: u64 = 9;

pub(super) struct ColdFile {
    file: File,
    bytes: u64,
}

impl ColdFile {
    /// Makes a file in `folder` whose reading takes some `target_ns` by `stamp`. The error says why none can be had there: above all where
    /// nothing is cold, or where the longest is read in less than `least_ns`.
    pub(super) fn taking(
        target_ns: u64,
        least_ns: u64,
        stamp: fn() -> u64,
        folder: &Path,
    ) -> Result<ColdFile, String> {
        let cannot = |what: &str, e: io::Error| format!("cannot {what} a file in {}: {e}", folder.display());
        let mut cold = ColdFile::empty(folder).map_err(|e| cannot("make", e))?;
        let mut size = SIZES.0;
        loop {
            cold.grow(size).map_err(|e| cannot("write", e))?;
            let before = from_storage()?;
            let start = stamp();
            cold.read().map_err(|e| cannot("read", e))?;
            let took = stamp() - start;
            if !cold.is_cold(1, from_storage()? - before) {
                return Err(format!(
                    "nothing is cold in {}: what was dropped from the page cache is read from memory again; set TMPDIR to a directory on a disk",
                    folder.display()
                ));
            }
            if took >= target_ns {
                return Ok(cold);
            }
            if size >= SIZES.1 {
                let short = format!(
                    "a cold file of {size} bytes is read in {took} ns here: nobody stands still for that"
                );
                return if took < least_ns { Err(short) } else { Ok(cold) };
            }
            size *= 2;
        }
    }

    fn empty(folder: &Path) -> io::Result<ColdFile> {
        let path = folder.join(format!("switchmark-cold-{}-{}", std::process::id(), sys::monotonic_ns()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        fs::remove_file(&path)?;
        Ok(ColdFile { file, bytes: 0 })
    }

    /// Writes on until it is so long, down to the disk.
    fn grow(&mut self, to: usize) -> io::Result<()> {
        // Not zeros, which a file system might keep as a hole.
        let chunk = vec![0xa5; CHUNK];
        while self.bytes < to as u64 {
            self.file.write_all(&chunk)?;
            self.bytes += CHUNK as u64;
        }
        self.file.sync_all()
    }

    /// Drops it from memory, and reads all of it.
    pub(super) fn read(&self) -> io::Result<()> {
        sys::drop_cached(&self.file)?;
        let mut chunk = vec![0; CHUNK];
        for offset in (0..self.bytes).step_by(CHUNK) {
            self.file.read_exact_at(&mut chunk, offset)?;
        }
        Ok(())
    }

    /// Whether so many bytes from storage are what so many reads of it take.
    pub(super) fn is_cold(&self, reads: u64, from_storage: u64) -> bool {
        from_storage * 10 >= reads * self.bytes * FROM_STORAGE
    }
}

/// Bytes that the process has had from storage so far, by the kernel's books.
pub(super) fn from_storage() -> Result<u64, String> {
    let books = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = books.lines().find_map(|line| line.strip_prefix("read_bytes: "));
    line.and_then(|n| n.trim().parse().ok()).ok_or_else(|| {
        "the kernel does not say what was read from storage: /proc/self/io has no read_bytes".into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_memory_is_never_cold() {
        // The kernel's own tmpfs; where a system has none there, nothing is proven.
        let memory = Path::new("/dev/shm");
        if ColdFile::empty(memory).is_err() {
            return;
        }
        let error = ColdFile::taking(1, 0, sys::monotonic_ns, memory).map(drop).unwrap_err();
        assert!(error.contains("nothing is cold in /dev/shm") && error.contains("TMPDIR"), "{error}");
    }

    #[test]
    fn a_file_that_is_read_too_soon_is_no_stall() {
        match ColdFile::taking(u64::MAX, u64::MAX, sys::monotonic_ns, &std::env::temp_dir()) {
            Ok(_) => panic!("no file takes so long"),
            Err(error) => {
                assert!(
                    error.contains("nobody stands still") || error.contains("nothing is cold"),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn what_did_not_come_from_storage_was_not_cold() {
        let file = ColdFile { file: File::open("/proc/self/io").unwrap(), bytes: 1000 };
        assert!(file.is_cold(3, 2700) && !file.is_cold(3, 2699) && !file.is_cold(1, 0));
    }
}
