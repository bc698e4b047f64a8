//! Every entry of a store, read and checked, with a progress bar where a person looks on.

use crate::show;
use hapax::{DirectoryStore, Key, Kind, Meta, Miss, Record, Store};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};

/// An intact entry.
pub struct Artifact {
    pub key: Key,
    pub bytes: u64,
    pub meta: Meta,
}

/// An entry that cannot be read as it was written.
pub struct Damaged {
    pub key: Key,
    pub bytes: u64,
    pub why: Miss,
}

/// What a store holds.
#[derive(Default)]
pub struct Contents {
    /// The least recently used first.
    pub artifacts: Vec<Artifact>,
    pub damaged: Vec<Damaged>,
    /// Evicted by others while it was read.
    pub gone: u64,
    /// Places found damaged before any entry was read: what was behind them has no name any more.
    pub damaged_places: u64,
}

impl Contents {
    /// Reads all entries and hands each intact one to `each`, which may end it early.
    pub fn read<E>(
        store: &DirectoryStore,
        what: &'static str,
        for_people: bool,
        mut each: impl FnMut(&Key, &Record) -> Result<(), E>,
    ) -> Result<Contents, E> {
        let mut contents = Contents { damaged_places: store.stats().damaged, ..Contents::default() };
        let entries = store.entries();
        let progress = progress(what, for_people, entries.iter().map(|entry| entry.bytes).sum());
        for entry in entries {
            let (key, bytes) = (entry.key, entry.bytes);
            match store.get(&key) {
                Ok(record) => {
                    each(&key, &record)?;
                    contents.artifacts.push(Artifact { key, bytes, meta: record.meta().clone() });
                }
                Err(Miss::Absent) => contents.gone += 1,
                Err(why) => contents.damaged.push(Damaged { key, bytes, why }),
            }
            progress.inc(bytes);
        }
        progress.finish_and_clear();
        Ok(contents)
    }

    /// As [`read`](Contents::read), for what there is to know without the bytes.
    pub fn known(store: &DirectoryStore, what: &'static str, for_people: bool) -> Contents {
        let Ok(contents) = Contents::read(store, what, for_people, |_, _| Ok::<(), std::convert::Infallible>(()));
        contents
    }
}

/// Drawn on standard error, where that is a terminal, and nowhere else.
fn progress(what: &'static str, for_people: bool, bytes: u64) -> ProgressBar {
    if !for_people || !io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{prefix} {bar:40} {bytes} of {total_bytes}, {eta} left");
    ProgressBar::new(bytes).with_style(style.expect("the template is one")).with_prefix(what)
}

/// A name for a kind, for people and programs.
pub fn kind_name(kind: Kind) -> String {
    match kind {
        Kind::CODE => "code".to_owned(),
        Kind::IR => "ir".to_owned(),
        Kind::HINT => "hint".to_owned(),
        // The embedder's own begin here.
        own if own.number() >> 8 == Kind::custom(0).number() >> 8 => format!("custom-{}", own.number() & 0xff),
        other => format!("kind-{:#06x}", other.number()),
    }
}

/// What a person calls it: its label, or the beginning of its fingerprint.
pub fn title(label: &str, fingerprint: &hapax::Fingerprint) -> String {
    if label.is_empty() { format!("{fingerprint:?}") } else { show::printable(label) }
}
