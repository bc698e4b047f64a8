//! `hapax verify`: reads every entry and every hint, and says what is damaged. Opens for reading, so it removes nothing.

use crate::arguments::Verify;
use crate::contents::{Contents, kind_name};
use crate::outcome::{Answer, Failure};
use crate::place::Place;
use crate::show;
use serde::Serialize;

#[derive(Serialize)]
struct Found {
    intact: bool,
    code: Option<Code>,
    hints: Option<Hints>,
}

#[derive(Serialize)]
struct Code {
    intact_entries: u64,
    intact_bytes: u64,
    /// Evicted by other processes meanwhile.
    gone: u64,
    damaged: Vec<Damaged>,
    /// What was in them has no name any more.
    damaged_places: u64,
}

#[derive(Serialize)]
struct Damaged {
    fingerprint: String,
    kind: String,
    bytes: u64,
    why: String,
}

#[derive(Serialize)]
struct Hints {
    records: u64,
    damaged_places: u64,
    other_formats: u64,
}

pub fn run(arguments: &Verify, for_people: bool) -> Result<Answer, Failure> {
    let parts = Place::find_either(&arguments.source)?.open()?;
    let code = parts.code.as_ref().map(|store| Code::of(Contents::known(store, "verifying", for_people)));
    let hints = parts.hints()?.map(|hints| Hints {
        records: hints.records.len() as u64,
        damaged_places: hints.damaged,
        other_formats: hints.other_formats,
    });
    let damaged = code.as_ref().map_or(0, |code| code.damaged.len() as u64 + code.damaged_places)
        + hints.as_ref().map_or(0, |hints| hints.damaged_places);
    let found = Found { intact: damaged == 0, code, hints };
    let finding = (damaged > 0).then(|| {
        let places = show::counted(damaged, "place is damaged", "places are damaged");
        format!("{places}: the application takes each for a miss, and compiles again")
    });
    Ok(Answer::new(found.text(), &found, finding))
}

impl Code {
    fn of(contents: Contents) -> Code {
        let damaged = contents.damaged.into_iter().map(|damaged| Damaged {
            fingerprint: damaged.key.fingerprint.to_string(),
            kind: kind_name(damaged.key.kind),
            bytes: damaged.bytes,
            why: damaged.why.to_string(),
        });
        Code {
            intact_entries: contents.artifacts.len() as u64,
            intact_bytes: contents.artifacts.iter().map(|artifact| artifact.bytes).sum(),
            gone: contents.gone,
            damaged: damaged.collect(),
            damaged_places: contents.damaged_places,
        }
    }

    fn text(&self) -> String {
        let intact = show::counted(self.intact_entries, "entry is intact", "entries are intact");
        let mut text = format!("code   {intact}, {}\n", show::bytes(self.intact_bytes));
        if self.gone > 0 {
            text += &format!("       {} evicted meanwhile\n", show::counted(self.gone, "was", "were"));
        }
        for damaged in &self.damaged {
            text += &format!("       damaged: {} of {}: {}\n", damaged.kind, damaged.fingerprint, damaged.why);
        }
        if self.damaged_places > 0 {
            let places = show::counted(self.damaged_places, "file", "files");
            text += &format!("       damaged: {places} in part, and what was in that part has no name any more\n");
        }
        text
    }
}

impl Found {
    fn text(&self) -> String {
        let mut text = self.code.as_ref().map_or_else(|| "code   none was ever stored\n".to_owned(), Code::text);
        match &self.hints {
            None => text += "hints  none were ever recorded\n",
            Some(hints) => {
                text += &format!("hints  {}\n", show::counted(hints.records, "record is intact", "records are intact"));
                if hints.damaged_places > 0 {
                    text += &format!("       damaged: {}\n", show::counted(hints.damaged_places, "place", "places"));
                }
                if hints.other_formats > 0 {
                    let entries = show::counted(hints.other_formats, "entry", "entries");
                    text += &format!("       {entries} of another version of hapax, not looked into\n");
                }
            }
        }
        text
    }
}
