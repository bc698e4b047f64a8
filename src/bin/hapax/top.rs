//! `hapax top`: the hottest units, and the dearest to compile. Hints say how often and how long; the store knows names.

use crate::arguments::Top;
use crate::contents::{Artifact, Contents, kind_name, title};
use crate::outcome::{Answer, Failure};
use crate::place::Place;
use crate::show;
use hapax::{Fingerprint, HintRecord, HintRecords};
use serde::Serialize;
use std::collections::{BTreeSet, HashMap, HashSet};

/// One unit under one version, from its hint, its artifacts, or both.
#[derive(Debug, Clone, Serialize)]
pub struct Unit {
    /// That of its hints, if it has another for those.
    pub fingerprint: String,
    /// The fingerprint of the version under which its hints are kept; none if it has none.
    pub version: Option<String>,
    pub label: String,
    /// How people are told of it.
    #[serde(skip)]
    pub title: String,
    pub kinds: Vec<String>,
    /// What its artifacts take in the store; 0 if they are not there.
    pub stored_bytes: u64,
    pub compile_count: u64,
    pub hits: u64,
    /// How long compiling takes on average, by the hints, else by its artifacts; 0 if unknown.
    pub compile_ns_mean: u64,
    pub last_used_unix_ns: u64,
    /// Uses, each weighed by `2^(-age / 7 days)`.
    pub decayed_uses: f64,
    pub saving_ns_per_day: f64,
}

#[derive(Serialize)]
struct Found {
    hottest: Vec<Unit>,
    dearest: Vec<Unit>,
}

pub fn run(arguments: &Top, for_people: bool) -> Result<Answer, Failure> {
    let parts = Place::find_either(&arguments.source)?.open()?;
    let hints = parts.hints()?;
    let contents = parts.code.as_ref().map(|store| Contents::known(store, "reading", for_people));
    let units = units(hints.as_ref(), &contents.unwrap_or_default().artifacts);
    let found = Found { hottest: hottest(&units, arguments.count), dearest: dearest(&units, arguments.count) };
    Ok(Answer::new(found.text(), &found, None))
}

/// All units of which anything is known.
pub fn units(hints: Option<&HintRecords>, artifacts: &[Artifact]) -> Vec<Unit> {
    let mut stored: HashMap<Fingerprint, Vec<&Artifact>> = HashMap::new();
    for artifact in artifacts {
        let unit = artifact.meta.hinted_as.unwrap_or(artifact.key.fingerprint);
        stored.entry(unit).or_default().push(artifact);
    }
    let records = hints.map_or(&[][..], |hints| &hints.records[..]);
    let with_hints: HashSet<Fingerprint> = records.iter().map(|record| record.ranked.fingerprint).collect();
    let none = Vec::new();
    let mut units: Vec<Unit> = Vec::new();
    for record in records {
        let fingerprint = record.ranked.fingerprint;
        units.push(Unit::of(&fingerprint, Some(record), stored.get(&fingerprint).unwrap_or(&none)));
    }
    for (fingerprint, artifacts) in stored.iter().filter(|(fingerprint, _)| !with_hints.contains(*fingerprint)) {
        units.push(Unit::of(fingerprint, None, artifacts));
    }
    // Equal ones in the same order each time.
    units.sort_by(|one, other| (&one.fingerprint, &one.version).cmp(&(&other.fingerprint, &other.version)));
    units
}

/// By decayed uses; none that was never used.
pub fn hottest(units: &[Unit], count: usize) -> Vec<Unit> {
    first(units, count, |unit| unit.decayed_uses)
}

/// By mean compile time; none of which that is unknown.
pub fn dearest(units: &[Unit], count: usize) -> Vec<Unit> {
    first(units, count, |unit| unit.compile_ns_mean as f64)
}

fn first(units: &[Unit], count: usize, by: fn(&Unit) -> f64) -> Vec<Unit> {
    let mut first: Vec<&Unit> = units.iter().filter(|unit| by(unit) > 0.0).collect();
    first.sort_by(|one, other| by(other).total_cmp(&by(one)));
    first.into_iter().take(count).cloned().collect()
}

impl Unit {
    fn of(fingerprint: &Fingerprint, record: Option<&HintRecord>, artifacts: &[&Artifact]) -> Unit {
        let label = artifacts.iter().map(|artifact| &artifact.meta.label).find(|label| !label.is_empty());
        let label = label.cloned().unwrap_or_default();
        let ranked = record.map(|record| &record.ranked);
        let hint = ranked.map(|ranked| ranked.hint).unwrap_or_default();
        let by_artifacts = artifacts.iter().map(|artifact| artifact.meta.compile_ns).max().unwrap_or(0);
        Unit {
            fingerprint: fingerprint.to_string(),
            version: record.map(|record| record.version.to_string()),
            title: title(&label, fingerprint),
            label,
            kinds: artifacts
                .iter()
                .map(|artifact| kind_name(artifact.key.kind))
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            stored_bytes: artifacts.iter().map(|artifact| artifact.bytes).sum(),
            compile_count: hint.compile_count,
            hits: hint.hits,
            compile_ns_mean: if hint.compile_count > 0 { hint.compile_ns_mean() } else { by_artifacts },
            last_used_unix_ns: hint.last_used_unix_ns,
            decayed_uses: ranked.map_or(0.0, |ranked| ranked.decayed_uses),
            saving_ns_per_day: ranked.map_or(0.0, |ranked| ranked.saving_ns_per_day),
        }
    }

    /// The cells of a table; the columns are those of [`HEADINGS`].
    pub fn cells(&self) -> [String; 7] {
        let unless_zero = |zero: bool, text: String| if zero { "-".to_owned() } else { text };
        [
            unless_zero(self.decayed_uses == 0.0, format!("{:.1}", self.decayed_uses)),
            show::count(self.hits),
            show::count(self.compile_count),
            unless_zero(self.compile_ns_mean == 0, show::time(self.compile_ns_mean as f64)),
            unless_zero(self.saving_ns_per_day == 0.0, show::time(self.saving_ns_per_day)),
            unless_zero(self.stored_bytes == 0, show::bytes(self.stored_bytes)),
            self.title.clone(),
        ]
    }
}

/// What the columns of units mean.
pub const HEADINGS: [&str; 7] = ["heat", "hits", "compiled", "compile time", "saves a day", "stored", "unit"];

impl Found {
    fn text(&self) -> String {
        let table = |units: &[Unit], otherwise: &str| {
            if units.is_empty() {
                return format!("  {otherwise}\n");
            }
            let mut rows = vec![HEADINGS.map(str::to_owned).to_vec()];
            rows.extend(units.iter().map(|unit| unit.cells().to_vec()));
            show::table(&rows)
        };
        format!(
            "hottest: uses, each weighed by half for every 7 days of its age\n{}\ndearest: longest to compile, on average\n{}",
            table(&self.hottest, "no hints were recorded"),
            table(&self.dearest, "no compile time is known"),
        )
    }
}
