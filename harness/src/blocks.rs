//! The blocks of a run on disk: a head, then a line a block, each written whole as soon as it is measured.
//!
//! A kill costs the block in flight: what it left of a line is cut off when the run is taken up again.

use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use switchmark_schema::{BlockRecord, BlocksHead, MAX_BYTES};

/// Name of the file in the folder of a run.
const NAME: &str = "blocks.jsonl";

/// An open file of blocks, which is written to by one process at a time.
#[derive(Debug)]
pub struct Blocks {
    path: PathBuf,
    file: File,
}

impl Blocks {
    /// Begins a run in a folder, which is made where it is missing.
    ///
    /// # Errors
    /// Usage where the folder holds a run, document where it cannot be written.
    pub fn create(folder: &Path, head: &BlocksHead) -> Result<Blocks> {
        let about = |e: std::io::Error| {
            Error::document(format!("cannot write into {}: {e}; name another with --out", folder.display()))
        };
        fs::create_dir_all(folder).map_err(about)?;
        let path = folder.join(NAME);
        if path.exists() {
            return Err(Error::usage(format!(
                "{} holds a run already; name another folder with --out, or go on with that one by --resume",
                folder.display()
            )));
        }
        let file = File::create_new(&path).map_err(about)?;
        let mut blocks = Blocks { path, file };
        blocks.lock()?;
        blocks.line(head)?;
        Ok(blocks)
    }

    /// Takes up the run in a folder: what it was to measure, and the blocks that it has.
    ///
    /// # Errors
    /// Usage where the folder holds no run or another process writes there, document where a line is not a block.
    pub fn resume(folder: &Path) -> Result<(Blocks, BlocksHead, Vec<BlockRecord>)> {
        let path = folder.join(NAME);
        let opened = OpenOptions::new().read(true).append(true).open(&path);
        let file = opened.map_err(|e| {
            Error::usage(format!("cannot resume the run in {}: {}: {e}", folder.display(), path.display()))
        })?;
        let blocks = Blocks { path, file };
        blocks.lock()?;
        let mut text = String::new();
        let size = blocks.file.metadata().map_err(|e| blocks.fault(&e))?.len();
        if size > MAX_BYTES {
            return Err(blocks.fault(&format!("{size} bytes, more than {MAX_BYTES}")));
        }
        (&blocks.file).read_to_string(&mut text).map_err(|e| blocks.fault(&e))?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = (1..).zip(text[..whole].lines());
        let Some((_, first)) = lines.next() else {
            return Err(blocks.fault(&"it ends before its head; nothing was measured: start anew"));
        };
        let head: BlocksHead =
            serde_json::from_str(first).map_err(|e| blocks.fault(&format!("line 1: {e}")))?;
        if head.schema != BlocksHead::SCHEMA {
            let known = BlocksHead::SCHEMA;
            return Err(blocks.fault(&format!("it is `{}`, this switchmark reads `{known}`", head.schema)));
        }
        let (mut records, mut seen) = (Vec::new(), BTreeSet::new());
        for (number, line) in lines {
            let record: BlockRecord =
                serde_json::from_str(line).map_err(|e| blocks.fault(&format!("line {number}: {e}")))?;
            if !seen.insert((record.cell.clone(), record.block)) {
                let what = format!("line {number}: block {} of {} once more", record.block, record.cell);
                return Err(blocks.fault(&what));
            }
            records.push(record);
        }
        blocks.file.set_len(whole as u64).map_err(|e| blocks.fault(&e))?;
        Ok((blocks, head, records))
    }

    /// Keeps a block.
    ///
    /// # Errors
    /// Document, where it cannot be written.
    pub fn keep(&mut self, record: &BlockRecord) -> Result<()> {
        self.line(record)
    }

    fn line<T: serde::Serialize>(&mut self, line: &T) -> Result<()> {
        let mut text = serde_json::to_vec(line).expect("a block has string keys and finite numbers");
        text.push(b'\n');
        self.file
            .write_all(&text)
            .map_err(|e| Error::document(format!("cannot write {}: {e}", self.path.display())))
    }

    /// Two that take up one run would measure each of its blocks twice.
    fn lock(&self) -> Result<()> {
        // A child of whoever had it open holds the lock too, until it is the program that it is to become.
        const PATIENCE: Duration = Duration::from_millis(200);
        let began = Instant::now();
        loop {
            match self.file.try_lock() {
                Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::usage(format!(
                        "another switchmark writes {}; wait for it, or name another folder with --out",
                        self.path.display()
                    )));
                }
                // Some file systems of the network know no locks; they are no place for two either.
                Ok(()) | Err(TryLockError::Error(_)) => return Ok(()),
            }
        }
    }

    fn fault(&self, what: &dyn Display) -> Error {
        Error::document(format!("cannot resume from {}: {what}", self.path.display()))
    }
}

/// The folder of the latest run among `runs`: their names begin with their time.
pub fn latest(runs: &Path) -> Option<PathBuf> {
    let folders = fs::read_dir(runs).ok()?.flatten().map(|entry| entry.path());
    folders.filter(|folder| folder.join(NAME).is_file()).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchmark_schema::{BlockKind, Contamination};

    fn head() -> BlocksHead {
        BlocksHead {
            schema: BlocksHead::SCHEMA.into(),
            seed: 7,
            plan: "p".into(),
            machine: "m".into(),
            tool: String::new(),
        }
    }

    fn block(number: u32) -> BlockRecord {
        BlockRecord {
            kind: BlockKind::Cell,
            cell: "w/same-core".into(),
            block: number,
            order: "AB".into(),
            redrawn: false,
            workers: Vec::new(),
            contamination: Contamination::default(),
        }
    }

    fn append(folder: &Path, text: &str) {
        OpenOptions::new().append(true).open(folder.join(NAME)).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn wherever_a_kill_cuts_a_line_only_that_line_is_lost() {
        let whole = serde_json::to_string(&block(3)).unwrap();
        for cut in [0, 1, whole.len() / 2, whole.len()] {
            let folder = tempfile::tempdir().unwrap();
            let mut blocks = Blocks::create(folder.path(), &head()).unwrap();
            blocks.keep(&block(1)).unwrap();
            blocks.keep(&block(2)).unwrap();
            drop(blocks);
            append(folder.path(), &whole[..cut]);
            let (mut blocks, found, records) = Blocks::resume(folder.path()).unwrap();
            assert_eq!((found, records), (head(), vec![block(1), block(2)]), "cut at {cut}");
            blocks.keep(&block(3)).unwrap();
            drop(blocks);
            assert_eq!(Blocks::resume(folder.path()).unwrap().2.len(), 3, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_not_a_run_is_refused_with_the_place_of_the_fault() {
        let cases = [
            ("{\"schema\": \"switchmark.blocks/1\"", "before its head"),
            ("{}\n", "line 1"),
            ("\u{0}\n", "line 1"),
            (
                "{\"schema\":\"switchmark.blocks/2\",\"seed\":1,\"plan\":\"\",\"machine\":\"\"}\n",
                "switchmark.blocks/2",
            ),
        ];
        for (text, place) in cases {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(NAME), text).unwrap();
            let error = Blocks::resume(folder.path()).unwrap_err().to_string();
            assert!(error.contains(place) && error.contains(NAME), "{text:?}: {error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let mut blocks = Blocks::create(folder.path(), &head()).unwrap();
        blocks.keep(&block(1)).unwrap();
        blocks.keep(&block(1)).unwrap();
        drop(blocks);
        let error = Blocks::resume(folder.path()).unwrap_err().to_string();
        assert!(error.contains("line 3: block 1 of w/same-core once more"), "{error}");
    }

    #[test]
    fn one_process_at_a_time_writes() {
        let folder = tempfile::tempdir().unwrap();
        let blocks = Blocks::create(folder.path(), &head()).unwrap();
        let error = Blocks::resume(folder.path()).unwrap_err().to_string();
        assert!(error.contains("another switchmark"), "{error}");
        drop(blocks);
        assert!(Blocks::resume(folder.path()).is_ok());
    }

    #[test]
    fn the_latest_run_is_the_last_by_name_that_has_blocks() {
        let runs = tempfile::tempdir().unwrap();
        assert_eq!(latest(runs.path()), None);
        for name in ["20260101T000000-9", "20260102T000000-1"] {
            drop(Blocks::create(&runs.path().join(name), &head()).unwrap());
        }
        fs::create_dir(runs.path().join("20260103T000000-1")).unwrap();
        assert_eq!(latest(runs.path()), Some(runs.path().join("20260102T000000-1")));
    }
}
