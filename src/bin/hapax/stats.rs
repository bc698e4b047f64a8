//! `hapax stats`: how much is stored. Reads no artifact.

use crate::arguments::Stats;
use crate::contents::kind_name;
use crate::history::Totals;
use crate::outcome::{Answer, Failure};
use crate::place::Place;
use crate::show;
use hapax::{DirectoryStore, Journal, Store};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Serialize)]
struct Found {
    name: String,
    directory: PathBuf,
    code: Option<Code>,
    hints: Option<Hints>,
}

/// What is known of the code without reading it.
#[derive(Serialize)]
pub struct Code {
    pub entries: u64,
    /// All that counts against the budget: entries, their frames, what lists them, and what is not yet collected.
    pub resident_bytes: u64,
    pub budget_bytes: Option<u64>,
    by_kind: BTreeMap<String, OfKind>,
    damaged_places: u64,
}

#[derive(Default, Serialize)]
struct OfKind {
    entries: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Hints {
    journal_bytes: u64,
    #[serde(flatten)]
    totals: Totals,
}

pub fn run(arguments: &Stats) -> Result<Answer, Failure> {
    let place = Place::find_either(&arguments.source)?;
    let parts = place.open()?;
    let totals = parts.hints()?.map(|hints| Totals::of(&hints));
    let journal_bytes = parts.journal.as_ref().map_or(0, Journal::bytes);
    let found = Found {
        code: parts.code.as_ref().map(|store| Code::of(store, arguments.budget)),
        hints: totals.map(|totals| Hints { journal_bytes, totals }),
        name: place.name,
        directory: place.path,
    };
    Ok(Answer::new(found.text(), &found, None))
}

impl Code {
    pub fn of(store: &DirectoryStore, budget_bytes: Option<u64>) -> Code {
        let stats = store.stats();
        let mut by_kind: BTreeMap<String, OfKind> = BTreeMap::new();
        for entry in store.entries() {
            let kind = by_kind.entry(kind_name(entry.key.kind)).or_default();
            kind.entries += 1;
            kind.bytes += entry.bytes;
        }
        Code {
            entries: stats.entries,
            resident_bytes: stats.resident_bytes,
            budget_bytes,
            by_kind,
            damaged_places: stats.damaged,
        }
    }

    fn text(&self) -> String {
        let mut lines =
            vec![("entries", show::count(self.entries)), ("on disk", against(self.resident_bytes, self.budget_bytes))];
        for (kind, of) in &self.by_kind {
            lines.push((kind, format!("{}, {}", show::counted(of.entries, "entry", "entries"), show::bytes(of.bytes))));
        }
        if self.damaged_places > 0 {
            lines.push((
                "damaged",
                show::counted(self.damaged_places, "place, seen in passing", "places, seen in passing"),
            ));
        }
        show::pairs(&lines)
    }
}

/// Bytes, and the share of the budget if one is given.
pub fn against(bytes: u64, budget_bytes: Option<u64>) -> String {
    match budget_bytes {
        Some(budget) if budget > 0 => {
            let share = show::percent(bytes as f64 / budget as f64);
            format!("{} of {}, {share}", show::bytes(bytes), show::bytes(budget))
        }
        _ => show::bytes(bytes),
    }
}

/// The lines that tell what hints add up to.
pub fn totals_lines(totals: &Totals) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        (
            "records",
            format!("{} of {}", show::count(totals.records), show::counted(totals.versions, "version", "versions")),
        ),
        (
            "compiled",
            format!("{}, in {}", show::counted(totals.compiles, "time", "times"), show::time(totals.compile_ns as f64)),
        ),
        ("found compiled", show::counted(totals.hits, "time", "times")),
        ("hit rate", totals.hit_rate.map_or_else(|| "no uses were recorded".to_owned(), show::percent)),
        ("time saved", format!("about {}, hits times mean compile time", show::time(totals.saved_ns as f64))),
    ];
    if totals.hits_without_compile_time > 0 {
        lines.push((
            "",
            format!(
                "and what {} saved whose compile time is not known",
                show::counted(totals.hits_without_compile_time, "hit", "hits")
            ),
        ));
    }
    if totals.damaged > 0 {
        lines.push(("damaged", show::counted(totals.damaged, "place", "places")));
    }
    if totals.other_formats > 0 {
        lines.push((
            "other formats",
            format!("{}, of another version of hapax", show::counted(totals.other_formats, "entry", "entries")),
        ));
    }
    lines
}

impl Found {
    fn text(&self) -> String {
        let mut text = format!("{} in {}\n", self.name, self.directory.display());
        text += "\ncode\n";
        text += &self.code.as_ref().map_or_else(|| "  none was ever stored\n".to_owned(), Code::text);
        text += "\nhints\n";
        match &self.hints {
            None => text += "  none were ever recorded\n",
            Some(hints) => {
                let mut lines = vec![("on disk", show::bytes(hints.journal_bytes))];
                lines.extend(totals_lines(&hints.totals));
                text += &show::pairs(&lines);
            }
        }
        text
    }
}
