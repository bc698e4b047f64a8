//! `hapax gc` and `hapax clear`: what makes a store smaller. Only parts that are there are opened for writing, since opening
//! makes what is missing.

use crate::arguments::{Clear, Gc, Part};
use crate::outcome::{Answer, Failure};
use crate::place::Place;
use crate::show;
use hapax::{HintOptions, HintStore, Journal, Store};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

#[derive(Serialize)]
struct Collected {
    code: Option<CollectedCode>,
    hints: Option<CollectedHints>,
}

#[derive(Serialize)]
struct CollectedCode {
    files_left_behind: u64,
    freed_bytes: u64,
    evicted_entries: u64,
    resident_bytes: u64,
}

#[derive(Serialize)]
struct CollectedHints {
    /// False if another process is folding them.
    folded: bool,
    bytes_before: u64,
    bytes: u64,
}

pub fn gc(arguments: &Gc) -> Result<Answer, Failure> {
    let place = Place::find(&arguments.store)?;
    let parts = place.open()?;
    let mut collected = Collected { code: None, hints: None };
    if parts.code.is_some() {
        let store = place.open_code(arguments.budget)?;
        let found = store.gc()?;
        let stats = store.stats();
        collected.code = Some(CollectedCode {
            files_left_behind: found.files,
            freed_bytes: found.bytes,
            evicted_entries: stats.evictions,
            resident_bytes: stats.resident_bytes,
        });
    }
    if parts.journal.is_some() {
        let journal = Arc::new(place.open_journal()?);
        let bytes_before = journal.bytes();
        // Of no version: nobody's hints are older than others'.
        let options = HintOptions::in_journal(journal.clone())
            .budget_bytes(arguments.hints_budget.unwrap_or(u64::MAX))
            .keep_other_versions(Duration::MAX);
        let hints = HintStore::open(options);
        if let Some(why) = hints.off_reason() {
            return Err(Failure::CannotOpen(why.to_owned()));
        }
        hints.gc()?;
        let folded = hints.stats().compactions > 0;
        collected.hints = Some(CollectedHints { folded, bytes_before, bytes: journal.bytes() });
    }
    Ok(Answer::new(collected.text(), &collected, None))
}

impl Collected {
    fn text(&self) -> String {
        let mut text = String::new();
        if let Some(code) = &self.code {
            text += &format!(
                "code   {} left behind by crashes removed, {} evicted; {} less, {} left\n",
                show::counted(code.files_left_behind, "file", "files"),
                show::counted(code.evicted_entries, "entry", "entries"),
                show::bytes(code.freed_bytes),
                show::bytes(code.resident_bytes),
            );
        }
        if let Some(hints) = &self.hints {
            let (before, after) = (show::bytes(hints.bytes_before), show::bytes(hints.bytes));
            text += &match hints.folded {
                true => format!("hints  folded from {before} to {after}\n"),
                false => "hints  left to another process, which is folding them\n".to_owned(),
            };
        }
        text
    }
}

#[derive(Serialize)]
struct Cleared {
    code: Option<ClearedCode>,
    hints: Option<ClearedHints>,
}

#[derive(Serialize)]
struct ClearedCode {
    entries: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct ClearedHints {
    bytes: u64,
}

pub fn clear(arguments: &Clear) -> Result<Answer, Failure> {
    let place = Place::find(&arguments.store)?;
    let parts = place.open()?;
    let mut cleared = Cleared { code: None, hints: None };
    if parts.code.is_some() && arguments.only != Some(Part::Hints) {
        let store = place.open_code(None)?;
        let before = store.stats();
        store.clear()?;
        store.sync()?;
        cleared.code = Some(ClearedCode { entries: before.entries, bytes: before.resident_bytes });
    }
    if parts.journal.is_some() && arguments.only != Some(Part::Code) {
        let journal = place.open_journal()?;
        let bytes = journal.bytes();
        journal.clear()?;
        journal.sync()?;
        cleared.hints = Some(ClearedHints { bytes });
    }
    let nothing = cleared.code.is_none() && cleared.hints.is_none();
    let finding = nothing.then(|| "that part was never there: nothing is removed".to_owned());
    Ok(Answer::new(cleared.text(), &cleared, finding))
}

impl Cleared {
    fn text(&self) -> String {
        let mut text = String::new();
        if let Some(code) = &self.code {
            let entries = show::counted(code.entries, "entry", "entries");
            text += &format!("code   {entries} removed, {}\n", show::bytes(code.bytes));
        }
        if let Some(hints) = &self.hints {
            text += &format!("hints  all removed, {}\n", show::bytes(hints.bytes));
        }
        text
    }
}
