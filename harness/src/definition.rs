//! Workload definitions: a question asked of a model, as data.

use crate::error::{Error, Result};
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
    /// Further time metrics beside the primary, by name, each with its divisor.
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
    /// What the ledger must say.
    pub expect: Expect,
}

/// A second time metric of the same slices.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beside {
    /// Its unit.
    pub unit: String,
    /// What its elapsed time is divided by.
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
const OBSERVED: [&str; 3] = ["units", "switches", "check"];

/// In a profile: the placements, where it has not all of them.
const PLACEMENTS_KEY: &str = "placements";

/// The profiles, least first.
pub const PROFILES: [&str; 4] = ["smoke", "quick", "standard", "full"];

/// Placements of the contract.
pub const PLACEMENTS: [&str; 5] = ["same-core", "cross-core", "all-cores", "free", "one-core"];

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
        let known = |name: &str| name == "iterations" || self.params.contains_key(name);
        let expected = [self.expect.switches.as_ref(), self.expect.units.as_ref(), Some(&self.expect.check)];
        let promised = expected.into_iter().flatten().flat_map(Formula::names).find(|n| !known(n));
        let divisors = std::iter::once(&self.divisor).chain(self.beside.values().map(|b| &b.divisor));
        let mut divided = divisors.flat_map(Formula::names);
        let divided = divided.find(|n| !known(n) && !OBSERVED.contains(n));
        match promised.or(divided) {
            Some(name) => Err(format!("a formula uses `{name}`, which is not a parameter")),
            None => Ok(()),
        }
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
    fn a_definition_with_a_fault_is_refused_by_name() {
        let faults = [
            (r#"id = "switch.yield""#, r#"id = "yield""#, "family.name"),
            (r#"["same-core", "free"]"#, r#"["on-the-moon"]"#, "on-the-moon"),
            (r#"placements = ["free"]"#, r#"placements = ["one-core"]"#, "one-core"),
            ("[profile.quick]", "[profile.leisurely]", "leisurely"),
            ("tasks * iterations + 1", "jobs * iterations", "jobs"),
            ("witness", "witless", "witless"),
        ];
        for (good, bad, named) in faults {
            let error = Definition::parse(&YIELD.replace(good, bad), "yield.toml").unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
            assert!(error.to_string().contains("yield.toml"), "{error}");
        }
    }
}
