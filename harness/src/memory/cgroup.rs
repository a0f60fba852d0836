//! The control group's ledger: a witness beside the bill, never a judge.
//!
//! It charges what the kernel allocates to the group that asked, so it sees kernel stacks, records and page tables of the worker as one
//! number; but whatever else runs in the group, the parent among it, is charged there too.

use std::fs;
use std::path::{Path, PathBuf};

/// What the memory controller charges to a process's group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cgroup {
    /// Anonymous pages, in bytes.
    pub anonymous: u64,
    /// The kernel's memory: stacks, records, page tables, in bytes.
    pub kernel: u64,
}

impl Cgroup {
    /// Reads the ledger of the group that a process is in; the error is the reason why there is none.
    pub fn read(pid: u32) -> Result<Cgroup, String> {
        Cgroup::under(Path::new("/"), pid)
    }

    /// The same below another root.
    fn under(root: &Path, pid: u32) -> Result<Cgroup, String> {
        let read = |path: PathBuf| {
            fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))
        };
        let groups = read(root.join(format!("proc/{pid}/cgroup")))?;
        // A line is `hierarchy:controllers:path`; in version 2 the one hierarchy has number 0 and names no controllers.
        let of = |wanted: &dyn Fn(&str, &str) -> bool| {
            groups.lines().find_map(|line| {
                let (hierarchy, rest) = line.split_once(':')?;
                let (controllers, path) = rest.split_once(':')?;
                wanted(hierarchy, controllers).then(|| path.trim_start_matches('/').to_owned())
            })
        };
        let mounted = root.join("sys/fs/cgroup");
        let number = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let missing = || format!("its memory.stat has no field {name}");
            line.and_then(|value| value.trim().parse().ok()).ok_or_else(missing)
        };
        if let Some(path) = of(&|_, controllers| controllers.split(',').any(|c| c == "memory")) {
            let folder = mounted.join("memory").join(path);
            let kernel = read(folder.join("memory.kmem.usage_in_bytes"))?;
            let kernel =
                kernel.trim().parse().map_err(|_| format!("`{}` is no number of bytes", kernel.trim()))?;
            return Ok(Cgroup { anonymous: number(&read(folder.join("memory.stat"))?, "rss")?, kernel });
        }
        let path = of(&|hierarchy, _| hierarchy == "0").ok_or("it is in no control group")?;
        let stat = read(mounted.join(path).join("memory.stat"))?;
        Ok(Cgroup { anonymous: number(&stat, "anon")?, kernel: number(&stat, "kernel")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn either_version_of_control_groups_is_read() {
        let second = tree(&[
            ("proc/7/cgroup", "0::/user/a\n"),
            ("sys/fs/cgroup/user/a/memory.stat", "anon 4096\nfile 1\nkernel 512\nkernel_stack 64\n"),
        ]);
        assert_eq!(Cgroup::under(second.path(), 7), Ok(Cgroup { anonymous: 4096, kernel: 512 }));
        // Both are mounted, and the memory controller is where its name is.
        let first = tree(&[
            ("proc/7/cgroup", "4:cpu,memory:/job\n0::/user/a\n"),
            ("sys/fs/cgroup/user/a/memory.stat", "anon 4096\nkernel 512\n"),
            ("sys/fs/cgroup/memory/job/memory.stat", "cache 1\nrss 8192\nrss_huge 0\n"),
            ("sys/fs/cgroup/memory/job/memory.kmem.usage_in_bytes", "1024\n"),
        ]);
        assert_eq!(Cgroup::under(first.path(), 7), Ok(Cgroup { anonymous: 8192, kernel: 1024 }));
    }

    #[test]
    fn where_there_is_no_ledger_the_reason_is_named() {
        let without = |files: &[(&str, &str)]| Cgroup::under(tree(files).path(), 7).unwrap_err();
        assert!(without(&[]).contains("proc/7/cgroup"));
        assert!(without(&[("proc/7/cgroup", "3:cpu:/\n")]).contains("no control group"));
        assert!(without(&[("proc/7/cgroup", "0::/\n")]).contains("memory.stat"));
        let old = [("proc/7/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.stat", "anon 4096\n")];
        assert!(without(&old).contains("no field kernel"), "before Linux 5.18");
    }
}
