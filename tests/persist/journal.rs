//! The journals: each entry once, whoever folds.

use crate::options;
use hapax::{Compacted, DirectoryJournal, Fingerprint, Journal, JournalEntry, MemoryJournal, Refusal};

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
