//! Contenders: who can run models, where their workers come from, and what they cannot do.

use crate::error::{Error, Result};
use regex::Regex;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A `contender.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Contender id.
    pub name: String,
    /// Mark and colour in every chart.
    pub kind: Kind,
    /// Models it runs.
    pub models: Vec<String>,
    /// Commands that build it, in its folder.
    #[serde(default)]
    pub build: Vec<Vec<String>>,
    /// Command of a worker, relative to its folder; absent for those in the tree.
    #[serde(default)]
    pub run: Vec<String>,
    /// Slices to discard in each worker.
    #[serde(default = "one")]
    pub warmup: u32,
    /// What building needs.
    #[serde(default)]
    pub needs: Vec<Need>,
    /// What it cannot do.
    #[serde(default)]
    pub except: Vec<Exception>,
    /// Where its scheduler, and not the model, decides how often a unit's yield becomes a switch: there its switches
    /// are recorded, as those of more than two threads are, and not checked.
    #[serde(default)]
    pub recorded: Vec<Exception>,
}

fn one() -> u32 {
    1
}

/// What kind of unit a contender creates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Units are OS threads: the kernel counts their switches.
    Thread,
    /// Units have a stack of their own; the worker counts.
    Stackful,
    /// Units are state machines; the worker counts.
    Stackless,
}

/// Something asked before building, so that the answer is a sentence.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Need {
    /// Command that shows it.
    pub run: Vec<String>,
    /// Regular expression its output must match.
    #[serde(rename = "match")]
    pub matches: String,
    /// What provides it.
    pub hint: String,
}

/// A workload that a contender cannot run though it has the model, or whose books it keeps otherwise.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// Workload id.
    pub workload: String,
    /// Only in this placement.
    #[serde(default)]
    pub placement: Option<String>,
    /// The reason that the result will give.
    pub why: String,
}

impl Exception {
    fn applies(&self, workload: &str, placement: &str) -> bool {
        self.workload == workload && self.placement.as_deref().is_none_or(|p| p == placement)
    }
}

/// A contender and how its workers are started.
#[derive(Debug, Clone)]
pub struct Contender {
    /// Its manifest.
    pub manifest: Manifest,
    /// Its folder; `None` for one served by this program itself.
    pub folder: Option<PathBuf>,
    /// What building needs and this machine lacks: asked once, since each answer is a process.
    lacks: OnceLock<Vec<String>>,
}

impl Contender {
    /// One in the tree, from its embedded manifest.
    pub fn in_tree(manifest: &str, origin: &str) -> Result<Contender> {
        let contender =
            Contender { manifest: parse(manifest, origin)?, folder: None, lacks: OnceLock::new() };
        if contender.manifest.run.is_empty() {
            Ok(contender)
        } else {
            Err(Error::usage(format!("{origin}: a contender in the tree has no `run`")))
        }
    }

    /// One of its own folder, from the path of its `contender.toml`.
    pub fn outside(path: &Path) -> Result<Contender> {
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::usage(format!("cannot read contender manifest {origin}: {e}")))?;
        let manifest = parse(&text, &origin)?;
        if manifest.run.is_empty() {
            return Err(Error::usage(format!("{origin}: `run` is missing: the command of a worker")));
        }
        let folder = std::path::absolute(path.parent().unwrap_or(Path::new(".")))
            .map_err(|e| Error::usage(format!("cannot resolve {origin}: {e}")))?;
        Ok(Contender { manifest, folder: Some(folder), lacks: OnceLock::new() })
    }

    /// Those with a folder of their own below `root`; none where `root` does not exist.
    pub fn discover(root: &Path) -> Result<Vec<Contender>> {
        let Ok(entries) = std::fs::read_dir(root) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let path = entry.path().join("contender.toml");
            // Those without `run` are in the tree, and embedded.
            if let Ok(text) = std::fs::read_to_string(&path)
                && !parse(&text, &path.display().to_string())?.run.is_empty()
            {
                found.push(Contender::outside(&path)?);
            }
        }
        found.sort_by(|a, b| a.manifest.name.cmp(&b.manifest.name));
        Ok(found)
    }

    /// Contender id.
    pub fn id(&self) -> &str {
        &self.manifest.name
    }

    /// The command of a worker that stands alone; `None` for one served by this program itself.
    pub fn command(&self) -> Option<(PathBuf, &[String])> {
        let folder = self.folder.as_ref()?;
        let (program, arguments) = self.manifest.run.split_first()?;
        // A bare word (`java`) is looked up in PATH, a path is relative to the folder.
        let program = if program.contains('/') { folder.join(program) } else { PathBuf::from(program) };
        Some((program, arguments))
    }

    /// Whether a worker could be started; the error is the reason of a `skipped`.
    pub fn available(&self) -> std::result::Result<(), String> {
        match self.command() {
            Some((program, _)) if program.is_absolute() && !program.exists() => {
                let build = format!("run `switchmark build {}`", self.id());
                Err(match self.missing_needs() {
                    [] => format!("{} is not built; {build}", self.id()),
                    lacks => format!("{} is not built: {}; then {build}", self.id(), lacks.join("; ")),
                })
            }
            _ => Ok(()),
        }
    }

    /// Why a workload cannot run in a placement, if so.
    pub fn refuses(&self, workload: &str, model: &str, placement: &str) -> Option<String> {
        if !self.manifest.models.iter().any(|m| m == model) {
            return Some(format!("{} does not run the model {model}", self.id()));
        }
        self.manifest.except.iter().find(|e| e.applies(workload, placement)).map(|e| e.why.clone())
    }

    /// Whether the switches of a workload are recorded and not checked, whatever the number of units.
    pub fn records(&self, workload: &str, placement: &str) -> bool {
        self.manifest.recorded.iter().any(|e| e.applies(workload, placement))
    }

    /// What building needs and this machine lacks, as sentences with their remedy.
    pub fn missing_needs(&self) -> &[String] {
        let answers = |need: &Need| -> std::result::Result<bool, String> {
            let pattern = Regex::new(&need.matches).map_err(|e| e.to_string())?;
            let (program, arguments) = need.run.split_first().ok_or("`run` is empty")?;
            let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
            let output = output.map_err(|e| e.to_string())?;
            let text = [output.stdout, output.stderr].concat();
            Ok(pattern.is_match(&String::from_utf8_lossy(&text)))
        };
        let lacks = |need: &Need| {
            let asked = need.run.join(" ");
            match answers(need) {
                Ok(true) => None,
                Ok(false) => Some(format!("`{asked}` does not answer {}; {}", need.matches, need.hint)),
                Err(e) => Some(format!("`{asked}`: {e}; {}", need.hint)),
            }
        };
        self.lacks.get_or_init(|| self.manifest.needs.iter().filter_map(lacks).collect())
    }

    /// Runs the build commands in the contender's folder, their output on standard error.
    pub fn build(&self) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        for command in &self.manifest.build {
            let (program, arguments) = command
                .split_first()
                .ok_or_else(|| Error::usage(format!("{}: an empty build command", self.id())))?;
            let status = Command::new(program)
                .args(arguments)
                .current_dir(folder)
                // Their target folder is their own, wherever the caller's may point.
                .env_remove("CARGO_TARGET_DIR")
                .stdin(Stdio::null())
                .stdout(std::io::stderr())
                .status()
                .map_err(|e| Error::worker(format!("cannot build {}: {program}: {e}", self.id())))?;
            if !status.success() {
                return Err(Error::worker(format!(
                    "cannot build {}: `{}` ended with {status}",
                    self.id(),
                    command.join(" ")
                )));
            }
        }
        Ok(())
    }
}

fn parse(text: &str, origin: &str) -> Result<Manifest> {
    let manifest: Manifest =
        toml::from_str(text).map_err(|e| Error::usage(format!("contender manifest {origin}: {e}")))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if manifest.name.is_empty() || !manifest.name.chars().all(plain) {
        return Err(Error::usage(format!(
            "contender manifest {origin}: name `{}` must be letters, digits, - and _",
            manifest.name
        )));
    }
    for need in &manifest.needs {
        Regex::new(&need.matches).map_err(|e| Error::usage(format!("contender manifest {origin}: {e}")))?;
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_built_says_which_command_brings_what_it_needs() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("contender.toml");
        let reason = |needs: &str| {
            let text =
                format!("name = 'peer'\nkind = 'stackful'\nmodels = []\nrun = ['out/worker']\n{needs}");
            std::fs::write(&manifest, text).unwrap();
            Contender::outside(&manifest).unwrap().available().unwrap_err()
        };
        assert_eq!(reason(""), "peer is not built; run `switchmark build peer`");
        let needs = |run: &str, matches: &str| {
            format!(
                "[[needs]]\nrun = ['{run}', '--version']\nmatch = '{matches}'\nhint = 'scripts/install-it'"
            )
        };
        assert_eq!(reason(&needs("cargo", "cargo")), "peer is not built; run `switchmark build peer`");
        for lacking in [needs("no-such-compiler", "."), needs("cargo", "cargo 0\\.")] {
            let reason = reason(&lacking);
            assert!(reason.contains("scripts/install-it") && reason.contains("build peer"), "{reason}");
        }
    }
}
