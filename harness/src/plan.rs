//! The plan: definitions × contenders × parameters × placements. Pure.
//!
//! A *group* is what one block measures: a workload with its parameters in a placement, and the contenders
//! that compete in it. What cannot run is in the plan too, with its status and reason: absence is visible.

use crate::contender::{Contender, Kind};
use crate::definition::Definition;
use crate::error::{Error, Result};
use crate::pin::Cpus;
use crate::protocol::Prepare;
use fastrand::Rng;
use regex::Regex;
use std::fmt::Write;
use std::time::Duration;
use switchmark_schema::{ParamValue, Status};

/// How much to measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Profile {
    /// `smoke`, `quick`, `standard`, `full`.
    pub name: &'static str,
    /// Timed slices of a worker.
    pub slices: usize,
    /// Length of a slice.
    pub slice: Duration,
    /// Slices of a load, and the length of each.
    pub loads: (usize, Duration),
    /// Ticks of a slice in the policy family: p99 wants a thousand.
    pub ticks: u64,
    /// Where the search for the most units stops at the latest.
    pub most_units: u64,
    /// Blocks at which an interval may be looked at; the last is the cap. Fixed beforehand, since looking
    /// whenever one likes is how an interval loses its level.
    pub looks: &'static [u32],
    /// Half-width, as a share, at which a cell needs no further block.
    pub width: Option<f64>,
    /// Time for everything.
    pub budget: Option<Duration>,
}

const PROFILES: [Profile; 4] = [
    Profile {
        name: "smoke",
        slices: 1,
        slice: Duration::from_millis(5),
        loads: (1, Duration::from_millis(20)),
        ticks: 100,
        most_units: 500,
        looks: &[1],
        width: None,
        budget: None,
    },
    Profile {
        name: "quick",
        slices: 16,
        slice: Duration::from_millis(6),
        loads: (1, Duration::from_millis(500)),
        ticks: 1000,
        most_units: 4_000_000,
        looks: &[6, 9, 12],
        width: Some(0.05),
        // Three minutes, less the block in flight when it is spent and the page.
        budget: Some(Duration::from_secs(170)),
    },
    Profile {
        name: "standard",
        slices: 32,
        slice: Duration::from_millis(6),
        loads: (1, Duration::from_secs(1)),
        ticks: 2000,
        most_units: 4_000_000,
        looks: &[20],
        width: None,
        budget: Some(Duration::from_mins(20)),
    },
    Profile {
        name: "full",
        slices: 64,
        slice: Duration::from_millis(6),
        loads: (4, Duration::from_secs(1)),
        ticks: 2000,
        most_units: 4_000_000,
        looks: &[40],
        width: None,
        budget: None,
    },
];

impl Profile {
    /// A profile by name.
    pub fn named(name: &str) -> Result<Profile> {
        PROFILES.into_iter().find(|p| p.name == name).ok_or_else(|| {
            let known: Vec<&str> = PROFILES.iter().map(|p| p.name).collect();
            Error::usage(format!("unknown profile `{name}`; known: {}", known.join(", ")))
        })
    }

    /// Blocks at most.
    pub fn cap(&self) -> u32 {
        self.looks.last().copied().unwrap_or(1)
    }
}

/// How a workload is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Timed slices in turn.
    Slices,
    /// A parked population that grows, weighed.
    Population,
    /// A server under the load generator, whose slices are timed.
    Served,
    /// Ticks, and how late each was.
    Ticks,
    /// One search for the most units, in one block: a limit is no sample.
    Limit,
}

impl Method {
    /// A definition's method follows from its model, or from the unit of its answer.
    pub fn of(definition: &Definition) -> Method {
        match (definition.model.as_str(), definition.unit.as_str()) {
            ("echo", _) => Method::Served,
            ("limit", _) => Method::Limit,
            (_, "µs late") => Method::Ticks,
            (_, unit) if unit.starts_with("bytes/") => Method::Population,
            _ => Method::Slices,
        }
    }
}

/// What one block measures.
#[derive(Debug)]
pub struct Group<'a> {
    /// `workload/param=value/…/placement`: a cell id without its contender.
    pub id: String,
    /// The question.
    pub definition: &'a Definition,
    /// Parameters in definition order.
    pub params: Vec<(String, ParamValue)>,
    /// Placement.
    pub placement: String,
    /// Its CPUs, first the one a worker starts on.
    pub cpus: Vec<usize>,
    /// Contenders that will be measured.
    pub contenders: Vec<&'a Contender>,
    /// Those that cannot be.
    pub refused: Vec<Refused>,
}

/// A cell that will have no number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Contender id.
    pub contender: String,
    /// `unsupported` or `skipped`.
    pub status: Status,
    /// Why.
    pub reason: String,
}

impl Group<'_> {
    /// Id of a contender's cell.
    pub fn cell(&self, contender: &str) -> String {
        format!("{}/{contender}", self.id)
    }

    /// What a worker is told of it.
    pub fn prepare(&self) -> Prepare {
        Prepare {
            workload: self.definition.id.clone(),
            model: self.definition.model.clone(),
            placement: self.placement.clone(),
            cpus: self.cpus.clone(),
            params: self.params.clone(),
        }
    }

    /// How it is measured.
    pub fn method(&self) -> Method {
        Method::of(self.definition)
    }

    /// Name of the metric that answers the question.
    pub fn primary(&self) -> &'static str {
        match self.method() {
            Method::Slices => "time",
            Method::Population => "bytes",
            Method::Limit => "count",
            Method::Served if self.definition.unit == "requests/s" => "rate",
            Method::Served | Method::Ticks => "p99",
        }
    }

    /// Whether the load begins requests when they are due, not when the answer before is there.
    pub fn is_open_loop(&self) -> bool {
        self.params.iter().any(|(name, value)| name == "loop" && value.to_string() == "open")
    }

    /// A numeric parameter, or what the definition gives for the values of the parameters.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.definition.value(&self.params, name)
    }
}

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    /// All definitions.
    pub definitions: &'a [Definition],
    /// All contenders.
    pub contenders: &'a [Contender],
    /// `--contenders`: these and no others.
    pub named: Option<&'a [String]>,
    /// FILTER; without one, quick's default set.
    pub filter: Option<&'a Regex>,
    /// `--placement`: this one alone.
    pub placement: Option<&'a str>,
    /// CPUs that may be used.
    pub cpus: &'a Cpus,
    /// How much.
    pub profile: Profile,
}

/// The two sides of the comparison. Where one of them cannot run a workload, the result says so; other
/// contenders are floors and peers, and simply stay away from what they do not claim.
const PAIR: [&str; 2] = ["thread", "coroutine"];

/// All groups, in definition order.
#[derive(Debug)]
pub struct Plan<'a> {
    /// How much.
    pub profile: Profile,
    /// Fixes every random order.
    pub seed: u64,
    /// What to measure.
    pub groups: Vec<Group<'a>>,
    /// What to measure the instrument on, with one contender each.
    pub controls: Vec<Group<'a>>,
}

impl<'a> Plan<'a> {
    /// Makes the plan; an error where nothing matches.
    pub fn new(selection: &Selection<'a>, seed: u64) -> Result<Plan<'a>> {
        if let Some(unknown) = unknown_name(selection) {
            let known: Vec<&str> = selection.contenders.iter().map(Contender::id).collect();
            return Err(Error::usage(format!("unknown contender `{unknown}`; known: {}", known.join(", "))));
        }
        let profile = selection.profile;
        let mut groups = groups(selection, Some(profile.name));
        if groups.is_empty() && selection.filter.is_some() {
            // A pasted id names a cell of another profile: then the whole grid is searched.
            groups = self::groups(selection, None);
        }
        if groups.is_empty() {
            let filter = selection.filter.map_or("the default set", Regex::as_str);
            return Err(Error::usage(format!(
                "`{filter}` matches no cell; `switchmark list` shows them all"
            )));
        }
        // A single block is no comparison.
        let controls = if profile.cap() == 1 { Vec::new() } else { controls(selection) };
        Ok(Plan { profile, seed, groups, controls })
    }

    /// The cells of the controls and nothing else, for the instrument to try itself on.
    pub fn of_controls(selection: &Selection<'a>, seed: u64) -> Plan<'a> {
        Plan { profile: selection.profile, seed, groups: Vec::new(), controls: controls(selection) }
    }

    /// The random order of something in a block. It depends on nothing that was measured or drawn before, so that a run
    /// which is taken up again goes on as it would have.
    pub fn rng(&self, block: u32, of: &str) -> Rng {
        let digest = crate::environment::hex_digest(format!("{} {block} {of}", self.seed).as_bytes());
        Rng::with_seed(u64::from_str_radix(&digest[..16], 16).expect("sixteen hex digits"))
    }

    /// Identity of the plan: what it measures and how often, not in which order.
    pub fn fingerprint(&self) -> String {
        let mut text = format!("{} {}\n", self.profile.name, self.profile.slices);
        for group in &self.groups {
            let ids: Vec<&str> = group.contenders.iter().map(|c| c.id()).collect();
            let _ = writeln!(text, "{} {}", group.id, ids.join(","));
        }
        crate::environment::hex_digest(text.as_bytes())[..12].to_owned()
    }
}

/// Whatever was asked for: they prove the instrument, not a contender.
fn controls<'a>(selection: &Selection<'a>) -> Vec<Group<'a>> {
    let control = |(workload, (name, value), placement, contender)| {
        let definition = selection.definitions.iter().find(|d| d.id == workload)?;
        let contender = selection.contenders.iter().find(|c| c.id() == contender)?;
        let is_it = |cell: &Vec<(String, ParamValue)>| matches!(&cell[..], [(n, v)] if n == name && v.to_string() == value);
        let params = definition.grid(None).into_iter().find(is_it)?;
        let cpus = selection.cpus.of_placement(placement).ok()?;
        let contenders = vec![contender];
        Some(Group { contenders, ..blank_group(definition, params, placement, cpus) })
    };
    crate::controls::CELLS.into_iter().filter_map(control).collect()
}

fn unknown_name<'a>(selection: &Selection<'a>) -> Option<&'a String> {
    let known = |name: &str| selection.contenders.iter().any(|c| c.id() == name);
    selection.named?.iter().find(|name| !known(name))
}

fn groups<'a>(selection: &Selection<'a>, profile: Option<&str>) -> Vec<Group<'a>> {
    let mut groups = Vec::new();
    for definition in selection.definitions {
        for params in definition.grid(profile) {
            if selection.filter.is_none() && !definition.in_default_set(&params) {
                continue;
            }
            for placement in definition.placements(profile) {
                if selection.placement.is_none_or(|p| p == placement) {
                    groups.extend(group(selection, definition, params.clone(), placement));
                }
            }
        }
    }
    groups
}

fn group<'a>(
    selection: &Selection<'a>,
    definition: &'a Definition,
    params: Vec<(String, ParamValue)>,
    placement: &str,
) -> Option<Group<'a>> {
    let (cpus, nowhere) = match selection.cpus.of_placement(placement) {
        Ok(cpus) => (cpus, None),
        Err(reason) => (Vec::new(), Some(reason)),
    };
    let mut group = blank_group(definition, params, placement, cpus);
    for contender in selection.contenders {
        let id = contender.id();
        if selection.filter.is_some_and(|filter| !filter.is_match(&group.cell(id))) {
            continue;
        }
        let asked = selection.named.map(|named| named.iter().any(|name| name == id));
        let runs_model = contender.manifest.models.contains(&definition.model);
        let in_it = match asked {
            Some(asked) => asked,
            None => PAIR.contains(&id) || (runs_model && contender.available().is_ok()),
        };
        if !in_it {
            continue;
        }
        let refusal = contender
            .refuses(&definition.id, &definition.model, placement)
            .or(nowhere.clone())
            .map(|reason| (Status::Unsupported, reason))
            .or_else(|| contender.available().err().map(|reason| (Status::Skipped, reason)));
        match refusal {
            None => group.contenders.push(contender),
            Some((status, reason)) => group.refused.push(Refused { contender: id.into(), status, reason }),
        }
    }
    (!group.contenders.is_empty() || !group.refused.is_empty()).then_some(group)
}

/// A group in which nobody competes yet.
fn blank_group<'a>(
    definition: &'a Definition,
    params: Vec<(String, ParamValue)>,
    placement: &str,
    cpus: Vec<usize>,
) -> Group<'a> {
    let mut id = definition.id.clone();
    for (name, value) in &params {
        let _ = write!(id, "/{name}={value}");
    }
    let _ = write!(id, "/{placement}");
    Group {
        id,
        definition,
        params,
        placement: placement.to_owned(),
        cpus,
        contenders: Vec::new(),
        refused: Vec::new(),
    }
}

/// Whose slice when, for `slices` slices of each of `contenders`: with two ABBABAAB or its complement by a
/// coin and then the complement, so that every neighbouring pair holds one of either and linear drift cancels;
/// with more a random permutation and its reverse, over and over.
pub fn order(rng: &mut Rng, contenders: usize, slices: usize) -> Vec<usize> {
    const ABBABAAB: [usize; 8] = [0, 1, 1, 0, 1, 0, 0, 1];
    let mut order = Vec::with_capacity(contenders * slices);
    let mut coin = usize::from(rng.bool());
    while order.len() < contenders * slices {
        if contenders == 2 {
            order.extend(ABBABAAB.map(|who| who ^ coin));
            coin ^= 1;
        } else {
            let mut permutation: Vec<usize> = (0..contenders).collect();
            rng.shuffle(&mut permutation);
            order.extend(&permutation);
            order.extend(permutation.iter().rev());
        }
    }
    // A cut within a pattern still leaves each with its share: patterns are made of whole turns.
    balanced(order, contenders, slices)
}

/// Cuts an order so that each has exactly its slices.
fn balanced(order: Vec<usize>, contenders: usize, slices: usize) -> Vec<usize> {
    let mut left = vec![slices; contenders];
    let take = |who: &usize| {
        let due = left[*who] > 0;
        left[*who] -= usize::from(due);
        due
    };
    order.into_iter().filter(take).collect()
}

/// The order as letters, in the order of the workers.
pub fn letters(order: &[usize]) -> String {
    let letter = |who: &usize| u8::try_from(*who).map_or('?', |who| char::from(b'A'.saturating_add(who)));
    order.iter().map(letter).collect()
}

/// Whether the kernel, and not the model, decides how often these units switch: among more than two threads
/// a yield may come back to who gave way.
pub fn kernel_decides(kind: Kind, peak_live: u64) -> bool {
    kind == Kind::Thread && peak_live > 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_contenders_alternate_in_balanced_pairs() {
        for seed in 0..20 {
            let order = order(&mut Rng::with_seed(seed), 2, 16);
            assert_eq!(order.len(), 32);
            assert!(order.chunks(2).all(|pair| pair[0] != pair[1]), "{}", letters(&order));
            assert!(["ABBABAABBAABABBA", "BAABABBAABBABAAB"].contains(&&letters(&order)[..16]));
        }
        let starts: Vec<usize> =
            (0..20).map(|seed| self::order(&mut Rng::with_seed(seed), 2, 4)[0]).collect();
        assert!(starts.contains(&0) && starts.contains(&1), "the coin must have two sides");
    }

    #[test]
    fn any_number_of_contenders_gets_its_slices() {
        for contenders in 1..6 {
            for slices in [1, 2, 3, 16] {
                let order = order(&mut Rng::with_seed(7), contenders, slices);
                for who in 0..contenders {
                    assert_eq!(order.iter().filter(|w| **w == who).count(), slices);
                }
            }
        }
    }

    fn world() -> (Vec<Definition>, Vec<Contender>) {
        let definition = |id: &str, model: &str, placements: &str| {
            let text = format!(
                "id = '{id}'\nmodel = '{model}'\nquestion = '?'\nunit = 'ns/switch'\nbetter = 'lower'\n\
                 placements = [{placements}]\ndefault = {{ tasks = 2 }}\nwitness = 'w'\ntraps = 't'\n\
                 [params]\ntasks = [2, 64, 1024]\n[profile.quick]\ntasks = [2, 1024]\n\
                 [profile.smoke]\ntasks = [2]\n[expect]\ncheck = 'iterations'"
            );
            Definition::parse(&text, id).unwrap()
        };
        let contender = |name: &str, models: &str, more: &str| {
            let text = format!("name = '{name}'\nkind = 'thread'\nmodels = [{models}]\n{more}");
            Contender::in_tree(&text, name).unwrap()
        };
        let definitions = vec![
            definition("switch.yield", "yield-ring", "'same-core'"),
            definition("switch.handoff", "ping-pong", "'same-core', 'cross-core'"),
        ];
        let except = "[[except]]\nworkload = 'switch.handoff'\nplacement = 'cross-core'\nwhy = 'one worker'";
        let contenders = vec![
            contender("thread", "'yield-ring', 'ping-pong'", ""),
            contender("coroutine", "'yield-ring', 'ping-pong'", except),
            contender("call", "'bounce'", ""),
        ];
        (definitions, contenders)
    }

    fn plan_ids(filter: Option<&str>, profile: &str, named: Option<&[String]>) -> Result<Vec<String>> {
        let (definitions, contenders) = world();
        let filter = filter.map(|f| Regex::new(f).unwrap());
        let cpus = Cpus::allowed(None).unwrap();
        let selection = Selection {
            definitions: &definitions,
            contenders: &contenders,
            named,
            filter: filter.as_ref(),
            placement: None,
            cpus: &cpus,
            profile: Profile::named(profile).unwrap(),
        };
        let plan = Plan::new(&selection, 1)?;
        let mut ids = Vec::new();
        for group in &plan.groups {
            ids.extend(group.contenders.iter().map(|c| group.cell(c.id())));
            ids.extend(group.refused.iter().map(|r| format!("!{}", group.cell(&r.contender))));
        }
        Ok(ids)
    }

    #[test]
    fn without_a_filter_the_default_set_runs() {
        let ids = plan_ids(None, "quick", None).unwrap();
        assert!(ids.contains(&"switch.yield/tasks=2/same-core/coroutine".into()), "{ids:?}");
        assert!(ids.iter().all(|id| id.contains("tasks=2/")), "{ids:?}");
        assert!(ids.contains(&"!switch.handoff/tasks=2/cross-core/coroutine".into()), "refusals are visible");
        assert!(!ids.iter().any(|id| id.ends_with("call")), "a floor stays away from what it does not claim");
    }

    #[test]
    fn a_filter_searches_the_profile_and_a_pasted_id_the_whole_grid() {
        assert_eq!(plan_ids(Some(r"^switch\.yield"), "quick", None).unwrap().len(), 4);
        assert_eq!(plan_ids(Some(r"^switch\.yield"), "smoke", None).unwrap().len(), 2);
        let pasted = "switch.yield/tasks=64/same-core/thread";
        assert_eq!(plan_ids(Some(pasted), "quick", None).unwrap(), [pasted]);
        let error = plan_ids(Some("nothing.like.this"), "quick", None).unwrap_err();
        assert!(error.to_string().contains("matches no cell"), "{error}");
    }

    #[test]
    fn an_unknown_contender_is_refused_and_a_named_one_must_explain_itself() {
        let error = plan_ids(None, "quick", Some(&["gosched".into()])).unwrap_err();
        assert!(error.to_string().contains("gosched") && error.to_string().contains("coroutine"), "{error}");
        let ids = plan_ids(Some("yield"), "smoke", Some(&["call".into()])).unwrap();
        assert_eq!(ids, ["!switch.yield/tasks=2/same-core/call"]);
    }
}
