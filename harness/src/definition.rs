//! Workload definitions: a question asked of a model, as data.

use crate::error::{Error, Result};
use crate::protocol;
use indexmap::IndexMap;
use serde::Deserialize;
use std::collections::BTreeMap;
use switchmark_schema::{Better, ParamValue};

/// A definition file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Workload id, as in `switch.yield`.
    pub id: String,
    /// Model id.
    pub model: String,
    /// The question.
    pub question: String,
    /// Unit of the primary metric.
    pub unit: String,
    /// Which direction is good.
    pub better: Better,
    /// What one operation is, as a formula over parameters, `iterations`, and what the sample observed
    /// (`units`, `switches`, `check`); elapsed time is divided by it.
    #[serde(default = "Formula::iterations")]
    pub divisor: Formula,
    /// Further metrics beside the primary, by name, each with its divisor.
    #[serde(default)]
    pub beside: IndexMap<String, Beside>,
    /// Where it runs.
    pub placements: Vec<String>,
    /// Whether quick's default set has it: all its quick cells, or those with these values.
    #[serde(default)]
    pub default: InDefault,
    /// What counts the work independently.
    pub witness: String,
    /// Famous ways to get it wrong.
    pub traps: String,
    /// Parameters and all their values.
    #[serde(default)]
    pub params: IndexMap<String, Vec<ParamValue>>,
    /// Values by profile; a parameter that a profile does not name takes all its values. `placements` narrows
    /// the placements alike.
    #[serde(default)]
    pub profile: BTreeMap<String, IndexMap<String, Vec<ParamValue>>>,
    /// Combinations of values that are not asked for.
    #[serde(default)]
    pub omit: Vec<BTreeMap<String, ParamValue>>,
    /// Numbers that a formula may name but cannot make, by the values of parameters: `{depth = 3, nodes = 1111}`.
    #[serde(default)]
    pub given: Vec<BTreeMap<String, ParamValue>>,
    /// What the ledger must say.
    pub expect: Expect,
}

/// A second metric of the same slices.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beside {
    /// Its unit.
    pub unit: String,
    /// What is divided; the elapsed time where absent.
    #[serde(default)]
    pub dividend: Option<Formula>,
    /// What it is divided by.
    pub divisor: Formula,
}

/// Membership in quick's default set.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum InDefault {
    /// All of its quick cells, or none.
    All(bool),
    /// The cells with these values.
    These(BTreeMap<String, ParamValue>),
}

impl Default for InDefault {
    fn default() -> Self {
        InDefault::All(false)
    }
}

/// What the ledger must say, as formulas.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Switches of a slice; absent where the workload promises none.
    #[serde(default)]
    pub switches: Option<Formula>,
    /// Units of a slice.
    #[serde(default)]
    pub units: Option<Formula>,
    /// The answer.
    pub check: Formula,
    /// How far the answer may be off, as a share; 0 where it is exact.
    #[serde(default)]
    pub tolerance: f64,
    /// Placements in which the switches are checked; elsewhere they are recorded. All where empty.
    #[serde(default)]
    pub checked: Vec<String>,
}

/// Products and sums of names and numbers, and nothing cleverer: `2 * iterations + units`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Formula {
    /// Sum of products.
    terms: Vec<Vec<Factor>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Factor {
    Number(u64),
    Name(String),
}

impl Formula {
    fn iterations() -> Formula {
        Formula { terms: vec![vec![Factor::Name("iterations".into())]] }
    }

    /// The value, where `lookup` knows every name and nothing overflows.
    pub fn evaluate(&self, lookup: impl Fn(&str) -> Option<u64>) -> Option<u64> {
        self.terms.iter().try_fold(0_u64, |sum, factors| {
            let product = factors.iter().try_fold(1_u64, |product, factor| {
                product.checked_mul(match factor {
                    Factor::Number(n) => *n,
                    Factor::Name(name) => lookup(name)?,
                })
            })?;
            sum.checked_add(product)
        })
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.terms.iter().flatten().filter_map(|f| match f {
            Factor::Name(name) => Some(name.as_str()),
            Factor::Number(_) => None,
        })
    }
}

impl TryFrom<String> for Formula {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Formula, String> {
        let factor = |word: &str| -> std::result::Result<Factor, String> {
            let word = word.trim();
            if let Ok(number) = word.parse() {
                return Ok(Factor::Number(number));
            }
            let name = |c: char| c.is_ascii_lowercase() || c == '_';
            if !word.is_empty() && word.chars().all(name) {
                Ok(Factor::Name(word.to_owned()))
            } else {
                Err(format!("`{word}` in formula `{text}` is neither a number nor a name"))
            }
        };
        let terms = text
            .split('+')
            .map(|term| term.split('*').map(factor).collect())
            .collect::<std::result::Result<_, _>>()?;
        Ok(Formula { terms })
    }
}

/// Names a formula may use beside the parameters.
const OBSERVED: [&str; 6] = ["units", "switches", "check", "second_ns", "kept_bytes", "trimmed_bytes"];

/// In a profile: the placements, where it has not all of them.
const PLACEMENTS_KEY: &str = "placements";

/// The profiles, least first.
pub const PROFILES: [&str; 4] = ["smoke", "quick", "standard", "full"];

/// Placements of the contract.
pub const PLACEMENTS: [&str; 7] =
    ["same-core", "cross-core", "all-cores", "free", "one-core", "smt-sibling", "cross-node"];

impl Definition {
    /// Parses and checks a definition; the error names the file and what is wrong with it.
    pub fn parse(text: &str, origin: &str) -> Result<Definition> {
        let definition: Definition =
            toml::from_str(text).map_err(|e| Error::usage(format!("definition {origin}: {e}")))?;
        definition.check().map_err(|e| Error::usage(format!("definition {origin}: {e}")))?;
        Ok(definition)
    }

    fn check(&self) -> std::result::Result<(), String> {
        if self.id.split_once('.').is_none_or(|(family, name)| family.is_empty() || name.is_empty()) {
            return Err(format!("id `{}` is not family.name", self.id));
        }
        if let Some(p) = self.placements.iter().find(|p| !PLACEMENTS.contains(&p.as_str())) {
            return Err(format!("unknown placement `{p}`; known: {}", PLACEMENTS.join(", ")));
        }
        if self.placements.is_empty() {
            return Err("it has no placement".into());
        }
        if let Some((name, _)) = self.params.iter().find(|(_, values)| values.is_empty()) {
            return Err(format!("parameter {name} has no value"));
        }
        if let Some(name) = self.params.keys().find(|name| !protocol::can_name_a_parameter(name)) {
            return Err(format!("a parameter cannot be called `{name}`: a worker would not understand it"));
        }
        for (profile, values) in &self.profile {
            if !PROFILES.contains(&profile.as_str()) {
                return Err(format!("unknown profile `{profile}`; known: {}", PROFILES.join(", ")));
            }
            let known = |name: &str| name == PLACEMENTS_KEY || self.params.contains_key(name);
            if let Some(name) = values.keys().find(|name| !known(name)) {
                return Err(format!("profile {profile} sets `{name}`, which is not a parameter"));
            }
            let mut narrowed = values.get(PLACEMENTS_KEY).into_iter().flatten().map(ToString::to_string);
            if let Some(p) = narrowed.find(|p| !self.placements.contains(p)) {
                return Err(format!("profile {profile} has placement `{p}`, which the definition has not"));
            }
        }
        self.check_tables()?;
        let known = |name: &str| name == "iterations" || self.in_every_cell(name);
        let expected = [self.expect.switches.as_ref(), self.expect.units.as_ref()];
        // The answer may be one for each unit, where how many there will be is the question.
        let answer = self.expect.check.names().filter(|name| *name != "units");
        let promised =
            expected.into_iter().flatten().flat_map(Formula::names).chain(answer).find(|n| !known(n));
        let beside = self.beside.values().flat_map(|b| std::iter::once(&b.divisor).chain(&b.dividend));
        let divisors = std::iter::once(&self.divisor).chain(beside);
        let mut divided = divisors.flat_map(Formula::names);
        let divided = divided.find(|n| !known(n) && !OBSERVED.contains(n));
        match promised.or(divided) {
            Some(name) => {
                Err(format!("a formula uses `{name}`, which is neither a parameter nor given in every cell"))
            }
            None => Ok(()),
        }
    }

    fn check_tables(&self) -> std::result::Result<(), String> {
        let parameter = |name: &String| self.params.contains_key(name);
        if let Some(name) = self.omit.iter().flat_map(BTreeMap::keys).find(|name| !parameter(name)) {
            return Err(format!("omit names `{name}`, which is not a parameter"));
        }
        if let Some(row) = self.given.iter().find(|row| !row.keys().any(parameter)) {
            return Err(format!("given {row:?} names no parameter that says where it applies"));
        }
        let mut numbers = self.given.iter().flatten().filter(|(name, _)| !parameter(name));
        match numbers.find(|(_, value)| matches!(value, ParamValue::Word(_))) {
            Some((name, word)) => Err(format!("given {name} is `{word}`, not a number")),
            None => Ok(()),
        }
    }

    /// Whether every cell of every profile has such a parameter, or a number given for its values.
    fn in_every_cell(&self, name: &str) -> bool {
        let profiles = std::iter::once(None).chain(PROFILES.into_iter().map(Some));
        let mut cells = profiles.flat_map(|profile| self.grid(profile));
        self.params.contains_key(name) || cells.all(|cell| self.value(&cell, name).is_some())
    }

    /// A number of a cell: a numeric parameter, or what is given for its values.
    pub fn value(&self, params: &[(String, ParamValue)], name: &str) -> Option<u64> {
        let number = |value: &ParamValue| match value {
            ParamValue::Number(n) => Some(*n),
            ParamValue::Word(_) => None,
        };
        let param = |name: &str| params.iter().find(|(n, _)| n == name).map(|(_, value)| value);
        let applies = |row: &&BTreeMap<String, ParamValue>| {
            let mut selectors = row.iter().filter(|(key, _)| self.params.contains_key(*key));
            row.contains_key(name) && selectors.all(|(key, value)| param(key) == Some(value))
        };
        param(name).and_then(number).or_else(|| number(self.given.iter().find(applies)?.get(name)?))
    }

    /// The family: what stands before the point.
    pub fn family(&self) -> &str {
        self.id.split_once('.').map_or(self.id.as_str(), |(family, _)| family)
    }

    /// All combinations of the parameters' values in a profile, or of all their values.
    pub fn grid(&self, profile: Option<&str>) -> Vec<Vec<(String, ParamValue)>> {
        let narrowed = profile.and_then(|p| self.profile.get(p));
        let mut grid = vec![Vec::new()];
        for (name, all) in &self.params {
            let values = narrowed.and_then(|n| n.get(name)).unwrap_or(all);
            grid = grid
                .into_iter()
                .flat_map(|row| {
                    values.iter().map(move |value| {
                        let mut row = row.clone();
                        row.push((name.clone(), value.clone()));
                        row
                    })
                })
                .collect();
        }
        let has = |cell: &[(String, ParamValue)], (name, value): (&String, &ParamValue)| {
            cell.iter().any(|(n, v)| n == name && v == value)
        };
        grid.retain(|cell| !self.omit.iter().any(|omitted| omitted.iter().all(|pair| has(cell, pair))));
        grid
    }

    /// Placements in a profile, or all.
    pub fn placements(&self, profile: Option<&str>) -> Vec<&str> {
        let narrowed = profile.and_then(|p| self.profile.get(p)?.get(PLACEMENTS_KEY));
        let kept = |p: &&String| narrowed.is_none_or(|n| n.iter().any(|v| v.to_string() == **p));
        self.placements.iter().filter(kept).map(String::as_str).collect()
    }

    /// Whether quick's default set has the cell with these values.
    pub fn in_default_set(&self, params: &[(String, ParamValue)]) -> bool {
        match &self.default {
            InDefault::All(all) => *all,
            InDefault::These(values) => {
                values.iter().all(|(name, value)| params.iter().any(|(n, v)| n == name && v == value))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YIELD: &str = r#"
        id = "switch.yield"
        model = "yield-ring"
        question = "?"
        unit = "ns/switch"
        better = "lower"
        placements = ["same-core", "free"]
        default = { tasks = 2 }
        divisor = "switches"
        witness = "w"
        traps = "t"
        [params]
        tasks = [2, 64, 1024]
        save = ["abi", "full"]
        [profile.quick]
        tasks = [2, 1024]
        [profile.smoke]
        placements = ["free"]
        [expect]
        switches = "tasks * iterations"
        check = "tasks * iterations + 1"
    "#;

    #[test]
    fn a_formula_is_sums_of_products() {
        let formula = Formula::try_from("2 * iterations + tasks*tasks".to_owned()).unwrap();
        let lookup = |name: &str| match name {
            "iterations" => Some(10),
            "tasks" => Some(3),
            _ => None,
        };
        assert_eq!(formula.evaluate(lookup), Some(29));
        assert_eq!(formula.evaluate(|_| None), None);
        assert_eq!(formula.evaluate(|_| Some(u64::MAX)), None, "an overflow is no value");
        for bad in ["", "2 *", "a - b", "f(x)", "2 ** 3"] {
            assert!(Formula::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_grid_keeps_the_definition_order_and_narrows_by_profile() {
        let definition = Definition::parse(YIELD, "yield.toml").unwrap();
        assert_eq!(definition.grid(None).len(), 6);
        let quick = definition.grid(Some("quick"));
        assert_eq!(quick.len(), 4);
        assert_eq!(quick[0][0].0, "tasks");
        assert_eq!(quick[0][1].0, "save");
        assert!(definition.in_default_set(&quick[0]));
        assert_eq!(definition.placements(Some("smoke")), ["free"]);
        assert_eq!(definition.placements(Some("quick")), ["same-core", "free"]);
        assert!(!definition.in_default_set(&quick[3]));
    }

    #[test]
    fn what_a_formula_cannot_make_is_given_by_the_values_of_parameters() {
        let tree = YIELD.replace("tasks * iterations + 1", "nodes * iterations").replace(
            "[expect]",
            "[[given]]\ntasks = 2\nnodes = 7\n[[given]]\ntasks = 64\nnodes = 9\n[expect]",
        );
        let error = Definition::parse(&tree, "yield.toml").unwrap_err().to_string();
        assert!(error.contains("`nodes`"), "1024 tasks have no nodes: {error}");
        let tree = tree.replace("[expect]", "[[given]]\ntasks = 1024\nnodes = 11\n[expect]");
        let definition = Definition::parse(&tree, "yield.toml").unwrap();
        let nodes: Vec<_> = definition.grid(None).iter().map(|c| definition.value(c, "nodes")).collect();
        assert_eq!(nodes, [Some(7), Some(7), Some(9), Some(9), Some(11), Some(11)]);
        assert_eq!(definition.value(&definition.grid(None)[2], "tasks"), Some(64));
        let by_word = tree.replace("tasks = 1024\nnodes", "save = \"full\"\nnodes");
        let error = Definition::parse(&by_word, "yield.toml").unwrap_err().to_string();
        assert!(error.contains("`nodes`"), "1024 tasks that save abi have no nodes: {error}");
        let by_word = by_word.replace("[expect]", "[[given]]\nsave = \"abi\"\nnodes = 12\n[expect]");
        let definition = Definition::parse(&by_word, "yield.toml").unwrap();
        assert_eq!(definition.value(&definition.grid(None)[4], "nodes"), Some(12));
        assert_eq!(definition.value(&definition.grid(None)[5], "nodes"), Some(11));
        let worded = tree.replace("nodes = 7", "nodes = \"seven\"");
        assert!(Definition::parse(&worded, "yield.toml").unwrap_err().to_string().contains("seven"));
        let stray = tree.replace("tasks = 1024\nnodes", "leaves = 3\nnodes");
        assert!(Definition::parse(&stray, "yield.toml").unwrap_err().to_string().contains("leaves"));
    }

    #[test]
    fn combinations_that_are_omitted_are_no_cells() {
        let text = YIELD.replace("[params]", "omit = [{tasks = 2, save = \"full\"}]\n[params]");
        let definition = Definition::parse(&text, "yield.toml").unwrap();
        assert_eq!((definition.grid(None).len(), definition.grid(Some("quick")).len()), (5, 3));
        let misspelt = text.replace("{tasks = 2", "{jobs = 2");
        assert!(Definition::parse(&misspelt, "yield.toml").unwrap_err().to_string().contains("jobs"));
    }

    #[test]
    fn a_definition_with_a_fault_is_refused_by_name() {
        let faults = [
            (r#"id = "switch.yield""#, r#"id = "yield""#, "family.name"),
            (r#"["same-core", "free"]"#, r#"["on-the-moon"]"#, "on-the-moon"),
            (r#"placements = ["free"]"#, r#"placements = ["one-core"]"#, "one-core"),
            ("[profile.quick]", "[profile.leisurely]", "leisurely"),
            ("tasks * iterations + 1", "jobs * iterations", "jobs"),
            ("witness", "witless", "witless"),
            ("save =", "cpus =", "cpus"),
            ("save =", "\"a b\" =", "a b"),
        ];
        for (good, bad, named) in faults {
            let error = Definition::parse(&YIELD.replace(good, bad), "yield.toml").unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
            assert!(error.to_string().contains("yield.toml"), "{error}");
        }
    }
}
