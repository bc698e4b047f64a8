//! The bound in bytes, in memory and on the disk, and what is forgotten to keep it.

use super::{DAY, noon, open, unit};
use hapax::{DirectoryOptions, HintOptions, HintStore, MemoryJournal};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What a record of one day is charged; see `HintOptions::budget_bytes`.
const RECORD_BYTES: u64 = 122;
const FOLD_AT_LEAST: u64 = 256 << 10;

fn known(hints: &HintStore, among: std::ops::Range<u64>) -> Vec<u64> {
    among.filter(|number| hints.get(&unit(*number)).is_some()).collect()
}

#[test]
fn sizes_and_the_order_of_uses_survive_a_restart_and_so_does_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let options = HintOptions::new(&DirectoryOptions::new("bound").dir(folder.path())).budget_bytes(16 * RECORD_BYTES);
    let clock = noon();
    let hints = open(clock.on(options.clone()));
    for number in 0..16 {
        clock.pass(Duration::from_secs(1));
        hints.record_compile(&unit(number), 1000 + number, Duration::from_micros(number));
    }
    hints.record_hit(&unit(0));
    hints.record_hit(&unit(1));
    drop(hints);
    let hints = open(clock.on(options.clone()));
    assert_eq!((hints.stats().entries, hints.stats().bytes), (16, 16 * RECORD_BYTES));
    for number in 0..16 {
        assert_eq!(hints.get(&unit(number)).unwrap().size_bytes, 1000 + number);
    }
    hints.record_compile(&unit(16), 1, Duration::ZERO);
    // An eighth goes at once, and one for the newcomer. The first two were used last.
    assert_eq!(known(&hints, 0..17), [0, 1, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    hints.validate();
    // On the disk all 17 are left, of which one is too many.
    hints.gc().unwrap();
    drop(hints);
    let hints = open(clock.on(options));
    assert_eq!(hints.stats().bytes, 16 * RECORD_BYTES);
    assert_eq!((known(&hints, 0..4), known(&hints, 14..17)), (vec![0, 1, 3], vec![14, 15, 16]));
}

#[test]
fn the_directory_stays_within_its_bound_over_restarts_that_bring_ever_new_units() {
    let folder = tempfile::tempdir().unwrap();
    let budget = 100 << 10;
    let options = HintOptions::new(&DirectoryOptions::new("bound").dir(folder.path())).budget_bytes(budget);
    let mut most = 0;
    for run in 0..60 {
        let hints = open(options.clone());
        for number in 0..300 {
            hints.record_compile(&unit(run * 300 + number), 1, Duration::from_nanos(1));
        }
        hints.flush().unwrap();
        assert!(hints.stats().bytes <= budget);
        drop(hints);
        most = most.max(bytes_below(folder.path()));
    }
    // Three times the budget, and what one process writes before it looks again.
    let one_run = 300 * RECORD_BYTES;
    assert!(most <= (3 * budget).max(FOLD_AT_LEAST) + one_run, "{most} bytes");
    let hints = open(options);
    let last = 59 * 300..60 * 300;
    assert!(last.clone().filter(|number| hints.get(&unit(*number)).is_some()).count() >= 250, "the newest are kept");
}

#[test]
fn a_journal_that_repeats_itself_is_folded_by_itself() {
    let journal = Arc::new(MemoryJournal::new());
    let clock = noon();
    let hints = open(clock.on(HintOptions::in_journal(journal.clone())));
    for round in 1..=4_000 {
        for number in 0..10 {
            hints.record_hit(&unit(number));
        }
        hints.flush().unwrap();
        assert!(hints.stats().journal_bytes <= FOLD_AT_LEAST + 4096);
        assert_eq!(hints.get(&unit(3)).unwrap().hits, round);
    }
    assert!(hints.stats().compactions >= 5);
    let again = open(clock.on(HintOptions::in_journal(journal)));
    assert!((0..10).all(|number| again.get(&unit(number)).unwrap().hits == 4_000));
}

#[test]
fn many_processes_that_record_little_leave_few_files() {
    let folder = tempfile::tempdir().unwrap();
    let options = HintOptions::new(&DirectoryOptions::new("bound").dir(folder.path()));
    let mut most = 0;
    for _ in 0..200 {
        open(options.clone()).record_hit(&unit(0));
        most = most.max(files_below(folder.path()));
    }
    assert!((60..=70).contains(&most), "{most} files");
    assert_eq!(open(options).get(&unit(0)).unwrap().hits, 200);
}

#[test]
fn a_record_that_another_process_uses_is_no_victim_of_a_fold() {
    let folder = tempfile::tempdir().unwrap();
    let options = HintOptions::new(&DirectoryOptions::new("bound").dir(folder.path())).budget_bytes(8 * RECORD_BYTES);
    let clock = noon();
    let first = open(clock.on(options.clone()));
    for _ in 0..5 {
        first.record_compile(&unit(0), 1, Duration::from_nanos(1));
    }
    drop(first);
    let user = open(clock.on(options.clone()));
    let folder_of_all = open(clock.on(options.clone()));
    clock.pass(Duration::from_secs(10));
    for number in 1..12 {
        folder_of_all.record_hit(&unit(number));
    }
    clock.pass(Duration::from_secs(10));
    user.record_hit(&unit(0));
    user.flush().unwrap();
    // What the fold is given says that unit 0 was used before all others: its last use is in a log that still grows.
    folder_of_all.gc().unwrap();
    drop((user, folder_of_all));
    let hint = open(clock.on(options)).get(&unit(0)).unwrap();
    assert_eq!((hint.compile_count, hint.hits), (5, 1));
}

#[test]
fn zero_bytes_hold_nothing_and_break_nothing() {
    let clock = noon();
    let hints = open(clock.on(HintOptions::in_journal(Arc::new(MemoryJournal::new()))).budget_bytes(0));
    for number in 0..10 {
        hints.record_hit(&unit(number));
        hints.validate();
        assert!(hints.get(&unit(number)).is_none());
    }
    hints.gc().unwrap();
    assert_eq!((hints.stats().entries, hints.stats().journal_bytes), (0, 0));
}

#[test]
fn versions_do_not_see_each_other_and_the_abandoned_one_goes_in_time() {
    let journal = Arc::new(MemoryJournal::new());
    let clock = noon();
    let version = |version: &str| open(clock.on(HintOptions::in_journal(journal.clone()).version(version)));
    let (old, new) = (version("7"), version("8"));
    for round in 1..=3 {
        old.record_compile(&unit(0), 7, Duration::from_nanos(7));
        old.gc().unwrap();
        assert_eq!(new.get(&unit(0)).map(|hint| hint.compile_count), (round > 1).then_some(round - 1));
        new.record_compile(&unit(0), 8, Duration::from_nanos(8));
        new.gc().unwrap();
        assert_eq!(old.get(&unit(0)).unwrap().compile_count, round);
        assert_eq!((old.get(&unit(0)).unwrap().size_bytes, new.get(&unit(0)).unwrap().size_bytes), (7, 8));
    }
    drop((old, new));
    clock.pass(29 * DAY);
    let new = version("8");
    new.record_hit(&unit(0));
    new.gc().unwrap();
    let old = version("7");
    assert_eq!(old.get(&unit(0)).unwrap().compile_count, 3, "not yet");
    drop(old);
    clock.pass(2 * DAY);
    new.gc().unwrap();
    assert_eq!(version("7").get(&unit(0)), None);
    clock.pass(1000 * DAY);
    new.gc().unwrap();
    assert_eq!(version("8").get(&unit(0)).unwrap().compile_count, 3, "its own never grow too old");
}

fn bytes_below(folder: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        bytes += if metadata.is_dir() { bytes_below(&entry.path()) } else { metadata.len() };
    }
    bytes
}

fn files_below(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files_below(&path) } else { 1 }).sum()
}
