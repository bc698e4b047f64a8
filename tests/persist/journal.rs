//! The journals: each entry once, whoever folds.

use crate::options;
use crate::spy::Spy;
use hapax::{
    Compacted, CrashDisk, DirectoryJournal, DirectoryOptions, DirectoryStore, Disk, DiskFault, FaultDisk, Fingerprint,
    Journal, JournalEntry, Key, Kind, MemoryJournal, Meta, PowerLoss, Refusal, Store,
};
use std::sync::Arc;

fn name(number: u64) -> Fingerprint {
    Fingerprint::of("tests/journal").part("number", number.to_le_bytes()).finish()
}

/// The entries' bytes, in order.
fn texts(journal: &dyn Journal) -> Vec<String> {
    let replay = journal.replay().unwrap();
    assert_eq!(replay.damaged, 0);
    let mut texts: Vec<String> =
        replay.entries.into_iter().map(|entry| String::from_utf8(entry.bytes).unwrap()).collect();
    texts.sort();
    texts
}

fn join(entries: Vec<JournalEntry>) -> Vec<JournalEntry> {
    let mut texts: Vec<Vec<u8>> = entries.into_iter().map(|entry| entry.bytes).collect();
    texts.sort();
    vec![JournalEntry { fingerprint: name(0), bytes: texts.join(&b'+') }]
}

#[test]
fn every_process_sees_each_entry_once() {
    let folder = tempfile::tempdir().unwrap();
    let journals = [(); 3].map(|()| DirectoryJournal::open_strict(&options(&folder)).unwrap());
    for (at, text) in ["a", "b", "c", "d", "e", "f"].into_iter().enumerate() {
        journals[at % 3].append(&name(at as u64), text.as_bytes()).unwrap();
    }
    for journal in &journals {
        assert_eq!(texts(journal), ["a", "b", "c", "d", "e", "f"]);
    }
    drop(journals);
    assert_eq!(texts(&DirectoryJournal::open(&options(&folder))), ["a", "b", "c", "d", "e", "f"]);
}

#[test]
fn a_fold_takes_its_own_and_the_ended_and_leaves_the_living() {
    let folder = tempfile::tempdir().unwrap();
    let open = || DirectoryJournal::open_strict(&options(&folder)).unwrap();
    open().append(&name(1), b"ended").unwrap();
    let (living, folding) = (open(), open());
    living.append(&name(2), b"living").unwrap();
    folding.append(&name(3), b"own").unwrap();
    let done = folding.compact(&mut |entries| {
        folding.append(&name(4), b"meanwhile").unwrap();
        assert_eq!(living.compact(&mut join), Ok(Compacted::Busy));
        join(entries)
    });
    assert_eq!(done, Ok(Compacted::Done { entries_before: 2, entries_after: 1 }));
    for journal in [&living, &folding, &open()] {
        assert_eq!(texts(journal), ["ended+own", "living", "meanwhile"]);
    }
    living.append(&name(2), b"still").unwrap();
    drop((living, folding));
    open().compact(&mut join).unwrap();
    assert_eq!(texts(&open()), ["ended+own+living+meanwhile+still"]);
    assert_eq!(open().replay().unwrap().files, 1);
}

#[test]
fn folds_in_a_row_keep_the_sum_and_one_file() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..20u64 {
        let journal = DirectoryJournal::open_strict(&options(&folder)).unwrap();
        journal.append(&name(0), b"x").unwrap();
        journal.compact(&mut join).unwrap();
        let text = texts(&journal).concat();
        assert_eq!(text.matches('x').count() as u64, round + 1);
        assert_eq!(journal.replay().unwrap().files, 1);
    }
}

#[test]
fn a_clear_forgets_everything_and_what_comes_after_it_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (DirectoryJournal::open(&options(&folder)), DirectoryJournal::open(&options(&folder)));
    one.append(&name(1), b"a").unwrap();
    other.append(&name(1), b"b").unwrap();
    one.compact(&mut join).unwrap();
    one.clear().unwrap();
    assert!(texts(&other).is_empty() && other.bytes() == 0);
    // Not into the log that is gone.
    other.append(&name(1), b"c").unwrap();
    assert_eq!(texts(&one), ["c"]);
}

#[test]
fn an_entry_that_is_too_long_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let journals: [Box<dyn Journal>; 2] =
        [Box::new(DirectoryJournal::open(&options(&folder))), Box::new(MemoryJournal::new())];
    for journal in journals {
        assert!(journal.append(&name(1), &vec![b'x'; hapax::ENTRY_BYTES_AT_MOST]).is_ok());
        let refused = journal.append(&name(1), &vec![b'x'; hapax::ENTRY_BYTES_AT_MOST + 1]);
        assert!(matches!(refused, Err(Refusal::Oversize { .. })), "{refused:?}");
        assert_eq!(journal.replay().unwrap().entries.len(), 1);
    }
}

/// A link, or a file that the disk fails to give.
#[test]
fn a_log_that_cannot_be_read_takes_nothing_from_the_others_and_stays_for_a_fold_that_can() {
    let folder = tempfile::tempdir().unwrap();
    let open = || DirectoryJournal::open_strict(&options(&folder)).unwrap();
    open().append(&name(1), b"a").unwrap();
    let path = options(&folder).path().unwrap().join("hints/0000000000000001.log");
    std::os::unix::fs::symlink("/nowhere", &path).unwrap();
    let replay = open().replay().unwrap();
    assert_eq!((replay.entries.len(), replay.damaged), (1, 1));
    open().compact(&mut join).unwrap();
    assert!(path.symlink_metadata().is_ok(), "what was not folded stays");
    assert_eq!(open().replay().unwrap().entries.len(), 1);
}

/// Nobody may take one for a log that was left behind, and nobody may begin to write there: it is about to go.
#[test]
fn a_fold_holds_its_logs_until_they_are_gone() {
    let disk = CrashDisk::new();
    DirectoryJournal::over_disk(Arc::new(disk.clone())).append(&name(1), b"a").unwrap();
    let log = disk.list().unwrap().into_iter().find(|name| name.ends_with(".log")).unwrap();
    let (spy, watch) = Spy::on(disk.clone());
    let (seen, sees) = std::sync::mpsc::channel();
    watch.on_call(move |call, name| {
        if call == "rename" || call == "remove" && name == log {
            seen.send((call.to_owned(), disk.open_held(&log).unwrap().is_some())).unwrap();
        }
    });
    DirectoryJournal::over_disk(spy).compact(&mut join).unwrap();
    let seen: Vec<(String, bool)> = sees.try_iter().collect();
    assert_eq!(seen, [("rename".to_owned(), false), ("remove".to_owned(), false)], "whether others could hold it");
}

#[test]
fn what_killed_folds_left_goes_with_the_next_fold() {
    let mut disk = CrashDisk::new();
    let open = |disk: &CrashDisk| DirectoryJournal::over_disk(Arc::new(disk.clone()));
    let temporary = |disk: &CrashDisk| disk.list().unwrap().iter().filter(|name| name.ends_with(".tmp")).count();
    for round in 0..3u64 {
        let journal = open(&disk);
        journal.append(&name(round), b"some bytes of an entry").unwrap();
        disk.stop_after(100); // in the middle of the new base
        assert!(journal.compact(&mut join).is_err());
        disk = disk.after_kill();
        assert_eq!(temporary(&disk), 1, "of this fold, and of none before");
    }
    open(&disk).compact(&mut join).unwrap();
    assert_eq!((temporary(&disk), texts(&open(&disk)).concat().matches("some").count()), (0, 3));
}

/// Power is lost at every step of processes that append and fold one after the other, and any part of the names is left.
#[test]
fn whatever_names_the_loss_of_power_leaves_each_entry_counts_once() {
    let session = |disk: &CrashDisk| {
        for process in 0..3 {
            let journal = DirectoryJournal::over_disk(Arc::new(disk.clone()));
            let _ = journal.append(&name(0), format!("<{process}>").as_bytes());
            let _ = journal.compact(&mut join);
        }
    };
    let whole = CrashDisk::new();
    session(&whole);
    for stop in 1..=whole.steps() {
        let disk = CrashDisk::new();
        disk.stop_after(stop);
        session(&disk);
        for seed in 0..64 {
            let found = disk.after_power_loss(PowerLoss::KeepsSome(seed));
            let entries = DirectoryJournal::over_disk(Arc::new(found)).replay().unwrap().entries;
            let all = String::from_utf8(entries.into_iter().flat_map(|entry| entry.bytes).collect()).unwrap();
            for process in 0..3 {
                assert!(all.matches(&format!("<{process}>")).count() <= 1, "{all} after {stop} steps, seed {seed}");
            }
        }
    }
}

/// A pack has one directory for everything.
#[test]
fn clearing_a_journal_leaves_a_stores_entries_and_the_other_way_round() {
    let folder = tempfile::tempdir().unwrap();
    let options = DirectoryOptions::pack(folder.path().join("pack"));
    let store = DirectoryStore::open_strict(&options).unwrap();
    let key = Key::new(Kind::CODE, name(1));
    store.put(&key, &Meta::default(), b"code").unwrap();
    let journal = DirectoryJournal::open_strict(&options).unwrap();
    journal.append(&name(1), b"a").unwrap();
    journal.clear().unwrap();
    assert_eq!((*store.get(&key).unwrap()).to_vec(), b"code");
    journal.append(&name(1), b"b").unwrap();
    store.clear().unwrap();
    assert_eq!(texts(&journal), ["b"]);
}

/// A process has many files open, and later fewer.
#[test]
fn a_sync_that_could_not_open_a_log_is_made_up_for_by_the_next() {
    let disk = CrashDisk::new();
    let (faulty, faults) = FaultDisk::new(disk.clone());
    let journal = DirectoryJournal::over_disk(Arc::new(faulty));
    journal.append(&name(1), b"a").unwrap();
    faults.fail_call(1, DiskFault::Broken);
    assert!(journal.sync().is_err());
    journal.sync().unwrap();
    let found = disk.after_power_loss(PowerLoss::KeepsSynced);
    assert_eq!(texts(&DirectoryJournal::over_disk(Arc::new(found))), ["a"]);
}
