//! What there is to measure: embedded definitions and contenders, those of the checkout, and one's own.

use regex::Regex;
use std::path::{Path, PathBuf};
use switchmark_harness::contender::Contender;
use switchmark_harness::definition::Definition;
use switchmark_harness::{Error, Result};

/// Definitions and contenders.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) definitions: Vec<Definition>,
    pub(crate) contenders: Vec<Contender>,
}

impl World {
    /// Loads everything; `manifests` and `definitions` add one's own.
    pub(crate) fn load(manifests: &[PathBuf], definitions: Option<&Path>) -> Result<World> {
        let mut world = World { definitions: Vec::new(), contenders: Vec::new() };
        for (origin, text) in switchmark_benches::definitions() {
            world.definitions.push(Definition::parse(text, origin)?);
        }
        for (origin, text) in switchmark_benches::manifests() {
            world.contenders.push(Contender::in_tree(text, origin)?);
        }
        if let Some(folder) = checkout_contenders() {
            world.contenders.extend(Contender::discover(&folder)?);
        }
        for path in manifests {
            world.contenders.push(Contender::outside(path)?);
        }
        if let Some(folder) = definitions {
            world.definitions.extend(read_definitions(folder)?);
        }
        world.refuse_doubles()?;
        Ok(world)
    }

    fn refuse_doubles(&self) -> Result<()> {
        let twice = |ids: Vec<&str>| {
            let mut seen = std::collections::BTreeSet::new();
            ids.into_iter().find(|id| !seen.insert(*id)).map(str::to_owned)
        };
        if let Some(id) = twice(self.contenders.iter().map(Contender::id).collect()) {
            return Err(Error::usage(format!("two contenders are called `{id}`")));
        }
        match twice(self.definitions.iter().map(|d| d.id.as_str()).collect()) {
            Some(id) => Err(Error::usage(format!("two definitions are called `{id}`"))),
            None => Ok(()),
        }
    }
}

/// FILTER as a regular expression.
pub(crate) fn filter(text: Option<&str>) -> Result<Option<Regex>> {
    let parse = |text| Regex::new(text).map_err(|e| Error::usage(format!("FILTER `{text}`: {e}")));
    text.map(parse).transpose()
}

/// The contenders' folder of the checkout that the current folder is in, if it is in one.
fn checkout_contenders() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    here.ancestors().map(|folder| folder.join("benches/contenders")).find(|folder| folder.is_dir())
}

fn read_definitions(folder: &Path) -> Result<Vec<Definition>> {
    let about =
        |e: std::io::Error| Error::usage(format!("cannot read definitions in {}: {e}", folder.display()));
    let mut paths = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(about)? {
            let path = entry.map_err(about)?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "toml") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(Error::usage(format!("no definition (*.toml) in {}", folder.display())));
    }
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).map_err(about)?;
        Definition::parse(&text, &path.display().to_string())
    };
    paths.into_iter().map(read).collect()
}
