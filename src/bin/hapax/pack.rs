//! `hapax export` and `hapax import`: code from store to store. A pack is a directory that was written once, for
//! [`LayeredStore`](hapax::LayeredStore) and for import to read.

use crate::arguments::{Export, Import};
use crate::contents::Contents;
use crate::outcome::{Answer, Failure};
use crate::place::{Place, absolute};
use crate::show;
use hapax::{DirectoryOptions, DirectoryStore, Key, Store};
use serde::Serialize;
use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How a pack is opened. A pack may be larger than any budget.
fn pack_options(pack: &Path) -> DirectoryOptions {
    DirectoryOptions::pack(pack).budget_bytes(u64::MAX)
}

#[derive(Serialize)]
struct Exported {
    pack: PathBuf,
    entries: u64,
    bytes: u64,
    /// Left out.
    damaged: u64,
}

pub fn export(arguments: &Export, for_people: bool) -> Result<Answer, Failure> {
    let place = Place::find(&arguments.store)?;
    let parts = place.open()?;
    let pack = absolute(&arguments.pack)?;
    refuse_to_replace(&pack)?;
    let mut exported = Exported { pack, entries: 0, bytes: 0, damaged: 0 };
    let contents = match &parts.code {
        Some(store) if store.stats().entries > 0 => write_pack(store, &exported.pack, for_people)?,
        _ => Contents::default(),
    };
    exported.entries = contents.artifacts.len() as u64;
    exported.bytes = contents.artifacts.iter().map(|artifact| artifact.bytes).sum();
    exported.damaged = contents.damaged.len() as u64 + contents.damaged_places;
    let finding = if exported.entries == 0 {
        Some("the store has no code that could be exported: there is no pack".to_owned())
    } else {
        let left_out = show::counted(exported.damaged, "damaged place is", "damaged places are");
        (exported.damaged > 0).then(|| format!("{left_out} not in the pack; `hapax verify` names them"))
    };
    let text = match exported.entries {
        0 => String::new(),
        entries => format!(
            "{}, {}, in {}\n",
            show::counted(entries, "entry", "entries"),
            show::bytes(exported.bytes),
            exported.pack.display()
        ),
    };
    Ok(Answer::new(text, &exported, finding))
}

fn refuse_to_replace(pack: &Path) -> Result<(), Failure> {
    let in_the_way = match fs::read_dir(pack) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    };
    if !in_the_way {
        return Ok(());
    }
    Err(Failure::CannotOpen(format!("{} is in the way; remove it, or choose another name", pack.display())))
}

/// Writes beside, reads it back, and gives it its name last: what has the name is whole.
fn write_pack(store: &DirectoryStore, pack: &Path, for_people: bool) -> Result<Contents, Failure> {
    let mut beside = pack.as_os_str().to_owned();
    beside.push(format!(".partial-{}", std::process::id()));
    let beside = PathBuf::from(beside);
    fs::DirBuilder::new().mode(0o700).create(&beside).map_err(|error| cannot(&beside, &error))?;
    let written = fill(store, &beside, for_people).and_then(|contents| {
        if !contents.artifacts.is_empty() {
            fs::rename(&beside, pack).map_err(|error| cannot(pack, &error))?;
        }
        Ok(contents)
    });
    if written.as_ref().map_or(true, |contents| contents.artifacts.is_empty()) {
        let _ = fs::remove_dir_all(&beside);
    }
    written
}

fn fill(store: &DirectoryStore, directory: &Path, for_people: bool) -> Result<Contents, Failure> {
    let writable = DirectoryStore::open_strict(&pack_options(directory))?;
    let contents = Contents::read(store, "exporting", for_people, |key, record| {
        writable.put(key, record.meta(), record).map_err(|why| Failure::CannotOpen(format!("the pack: {why}")))
    })?;
    writable.sync().map_err(|why| Failure::CannotOpen(format!("the pack: {why}")))?;
    drop(writable);
    let readable = DirectoryStore::open_strict(&pack_options(directory).read_only(true))?;
    let read_back = Contents::known(&readable, "reading back", for_people);
    if read_back.artifacts.len() == contents.artifacts.len() {
        publish(directory).map_err(|error| cannot(directory, &error))?;
        return Ok(contents);
    }
    Err(Failure::CannotOpen(format!(
        "the pack does not read back as it was written: {} of {} entries; check the disk",
        read_back.artifacts.len(),
        contents.artifacts.len()
    )))
}

/// A store is private; a pack goes into an image that root makes and others run.
fn publish(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        fs::set_permissions(entry?.path(), Permissions::from_mode(0o644))?;
    }
    fs::set_permissions(directory, Permissions::from_mode(0o755))
}

fn cannot(path: &Path, error: &io::Error) -> Failure {
    Failure::CannotOpen(format!("{}: {error}", path.display()))
}

#[derive(Default, Serialize)]
struct Imported {
    imported: u64,
    imported_bytes: u64,
    already_there: u64,
    refused: u64,
    /// In the pack.
    damaged: u64,
    evicted: u64,
}

pub fn import(arguments: &Import, for_people: bool) -> Result<Answer, Failure> {
    let place = Place::find(&arguments.store)?;
    let pack = DirectoryStore::open_strict(&pack_options(&absolute(&arguments.pack)?).read_only(true))?;
    if pack.stats().entries == 0 && pack.stats().damaged == 0 {
        let finding = format!("{} holds no entries: nothing is imported", arguments.pack.display());
        return Ok(Answer::new(String::new(), &Imported::default(), Some(finding)));
    }
    let store = place.open_code(arguments.budget)?;
    let known: HashSet<Key> = store.entries().iter().map(|entry| entry.key).collect();
    let mut imported = Imported::default();
    let mut last_refusal = None;
    let contents = Contents::read(&pack, "importing", for_people, |key, record| {
        // What is damaged there is replaced.
        if known.contains(key) && store.get(key).is_ok() {
            imported.already_there += 1;
            return Ok::<(), Failure>(());
        }
        match store.put(key, record.meta(), record) {
            Ok(()) => {
                imported.imported += 1;
                imported.imported_bytes += record.len() as u64;
            }
            Err(why) => {
                imported.refused += 1;
                last_refusal = Some(why);
            }
        }
        Ok(())
    })?;
    store.sync()?;
    imported.damaged = contents.damaged.len() as u64 + contents.damaged_places;
    imported.evicted = store.stats().evictions;
    let finding = match &last_refusal {
        Some(why) => {
            Some(format!("{} not imported: {why}", show::counted(imported.refused, "entry is", "entries are")))
        }
        None if imported.damaged > 0 => {
            Some(format!("{} in the pack", show::counted(imported.damaged, "damaged place is", "damaged places are")))
        }
        None => None,
    };
    let text = format!(
        "{} imported, {}; {} there already; {} evicted to make room\n",
        show::counted(imported.imported, "entry", "entries"),
        show::bytes(imported.imported_bytes),
        show::count(imported.already_there),
        show::count(imported.evicted),
    );
    Ok(Answer::new(text, &imported, finding))
}
