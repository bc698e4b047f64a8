//! Journals that refuse, and bytes that change.

use super::{noon, open, unit};
use hapax::{
    Compacted, CrashDisk, DirectoryJournal, DirectoryOptions, Disk, DiskFault, FaultDisk, Fingerprint, HintOptions,
    HintStore, Journal, JournalEntry, MemoryJournal, Refusal, Replay,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Accepts so many appends more, and then none until there are more.
struct Rationed {
    journal: MemoryJournal,
    appends_left: AtomicI64,
    readable: bool,
}

impl Rationed {
    fn new(readable: bool) -> Arc<Rationed> {
        Arc::new(Rationed { journal: MemoryJournal::new(), appends_left: AtomicI64::new(0), readable })
    }

    fn allow(&self, appends: i64) {
        self.appends_left.store(appends, Ordering::Relaxed);
    }
}

impl Journal for Rationed {
    fn append(&self, fingerprint: &Fingerprint, entry: &[u8]) -> Result<(), Refusal> {
        if self.appends_left.fetch_sub(1, Ordering::Relaxed) <= 0 {
            return Err(Refusal::DiskFull);
        }
        self.journal.append(fingerprint, entry)
    }

    fn replay(&self) -> Result<Replay, Refusal> {
        if self.readable { self.journal.replay() } else { Err(Refusal::Off("it is not to be trusted".into())) }
    }

    fn compact(&self, fold: &mut dyn FnMut(Vec<JournalEntry>) -> Vec<JournalEntry>) -> Result<Compacted, Refusal> {
        self.journal.compact(fold)
    }

    fn sync(&self) -> Result<(), Refusal> {
        self.journal.sync()
    }

    fn clear(&self) -> Result<(), Refusal> {
        self.journal.clear()
    }

    fn bytes(&self) -> u64 {
        self.journal.bytes()
    }
}

#[test]
fn what_a_full_disk_refuses_is_written_once_when_there_is_room() {
    const UNITS: u64 = 500; // a dozen appends
    let journal = Rationed::new(true);
    let clock = noon();
    let hints = open(clock.on(HintOptions::in_journal(journal.clone())));
    let mut rounds = 0;
    for appends in [0, 1, 5, 0, 3] {
        for number in 0..UNITS {
            hints.record_hit(&unit(number));
        }
        rounds += 1;
        journal.allow(appends);
        assert_eq!(hints.flush(), Err(Refusal::DiskFull));
        hints.refresh().unwrap();
        hints.validate();
        assert!(
            (0..UNITS).all(|number| hints.get(&unit(number)).unwrap().hits == rounds),
            "nothing is forgotten meanwhile"
        );
    }
    journal.allow(1000);
    hints.flush().unwrap();
    hints.flush().unwrap();
    assert_eq!((hints.stats().failures, hints.stats().lost, hints.stats().pending), (5, 0, 0));
    drop(hints);
    let again = open(clock.on(HintOptions::in_journal(journal)));
    assert!((0..UNITS).all(|number| again.get(&unit(number)).unwrap().hits == rounds));
}

#[test]
fn what_is_refused_for_good_takes_no_more_than_the_budget() {
    let journal = Rationed::new(true);
    let clock = noon();
    let hints = open(clock.on(HintOptions::in_journal(journal)).budget_bytes(10 << 10));
    for number in 0..5_000 {
        hints.record_hit(&unit(number));
        if number % 50 == 0 {
            hints.flush().unwrap_err();
        }
    }
    hints.flush().unwrap_err();
    hints.validate();
    let stats = hints.stats();
    assert!(stats.bytes <= 10 << 10 && stats.lost >= 4_000, "{stats:?}");
}

#[test]
fn a_journal_that_cannot_be_read_turns_the_store_off_with_its_reason() {
    let hints = HintStore::open(HintOptions::in_journal(Rationed::new(false)));
    assert_eq!(hints.off_reason(), Some("the store is off: it is not to be trusted"));
}

#[test]
fn a_read_only_directory_is_read_and_never_written() {
    let folder = tempfile::tempdir().unwrap();
    let directory = DirectoryOptions::new("faults").dir(folder.path());
    let clock = noon();
    let hints = open(clock.on(HintOptions::new(&directory)));
    hints.record_hit(&unit(0));
    drop(hints);
    let hints = open(clock.on(HintOptions::new(&directory.clone().read_only(true))));
    hints.record_hit(&unit(0));
    assert_eq!(hints.get(&unit(0)).unwrap().hits, 2);
    assert_eq!(hints.flush(), Err(Refusal::ReadOnly));
    drop(hints);
    assert_eq!(open(clock.on(HintOptions::new(&directory))).get(&unit(0)).unwrap().hits, 1);
}

#[test]
fn a_flipped_bit_or_a_cut_loses_records_and_never_invents_any() {
    const UNITS: u64 = 200;
    let folder = tempfile::tempdir().unwrap();
    let directory = DirectoryOptions::new("faults").dir(folder.path());
    let clock = noon();
    for fold in [false, true] {
        let hints = open(clock.on(HintOptions::new(&directory)));
        for number in 0..UNITS {
            hints.record_compile(&unit(number), number, Duration::from_nanos(number));
        }
        hints.flush().unwrap();
        if fold {
            hints.gc().unwrap();
        }
    }
    let files: Vec<(PathBuf, Vec<u8>)> = files(folder.path());
    assert!(!files.is_empty());
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    let mut damaged = 0;
    for round in 0..600 {
        let (path, bytes) = &files[next(files.len())];
        let mut changed = bytes.clone();
        let bit = next(bytes.len() * 8);
        if round % 3 == 0 {
            changed.truncate(bit / 8);
        } else {
            changed[bit / 8] ^= 1 << (bit % 8);
        }
        std::fs::write(path, &changed).unwrap();
        let hints = HintStore::open(clock.on(HintOptions::new(&directory)).budget_bytes(1 << 20));
        assert_eq!(hints.off_reason(), None);
        hints.validate();
        damaged += u64::from(hints.stats().damaged > 0);
        for number in 0..UNITS {
            let Some(hint) = hints.get(&unit(number)) else { continue };
            assert!(hint.compile_count <= 2 && hint.size_bytes == number, "{hint:?}");
        }
        assert_eq!(hints.hottest(usize::MAX).len() as u64, hints.stats().entries);
        crate::kill(hints); // a drop would have nothing to write, and must not
        std::fs::write(path, bytes).unwrap();
    }
    assert!(damaged > 300, "{damaged} of 600 were noticed");
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.metadata().unwrap().len() > 0 {
            let bytes = std::fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found
}

#[test]
fn a_directory_that_is_removed_while_open_costs_what_was_in_it_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let directory = DirectoryOptions::new("faults").dir(folder.path());
    let clock = noon();
    let hints = open(clock.on(HintOptions::new(&directory)));
    hints.record_hit(&unit(0));
    hints.flush().unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
    hints.record_hit(&unit(0));
    let refused = hints.flush().unwrap_err();
    assert!(matches!(refused, Refusal::Io { .. }), "{refused}");
    hints.validate();
    assert_eq!((hints.get(&unit(0)).unwrap().hits, hints.stats().pending), (2, 1), "memory goes on");
    drop(hints);
    assert_eq!(open(clock.on(HintOptions::new(&directory))).get(&unit(0)), None);
}

#[test]
fn wherever_a_call_fails_once_every_use_is_counted_once() {
    let clock = noon();
    let session = |fault: Option<(u64, DiskFault)>| {
        let disk = CrashDisk::new();
        let open_journal = |disk: Arc<dyn Disk>| HintOptions::in_journal(Arc::new(DirectoryJournal::over_disk(disk)));
        let (failing, faults) = FaultDisk::new(disk.clone());
        if let Some((call, fault)) = fault {
            faults.fail_call(call, fault);
        }
        let failing: Arc<dyn Disk> = Arc::new(failing);
        let mut recorded = 0;
        for _ in 0..3 {
            let hints = HintStore::open(clock.on(open_journal(failing.clone())));
            for step in 0..4 {
                hints.record_hit(&unit(0));
                recorded += u64::from(hints.off_reason().is_none());
                let _ = hints.flush();
                if step == 1 {
                    let _ = hints.gc();
                }
            }
            // What failed is not failing any more.
            hints.sync().or_else(|_| hints.flush()).unwrap();
            hints.validate();
        }
        let hints = open(clock.on(open_journal(Arc::new(disk))));
        let found = hints.get(&unit(0)).map_or(0, |hint| hint.hits);
        assert_eq!(found, recorded, "{fault:?}");
        faults.calls()
    };
    let calls = session(None);
    assert!(calls > 50, "{calls} calls");
    for call in 1..=calls {
        for fault in [DiskFault::Broken, DiskFault::Full, DiskFault::ReadOnly, DiskFault::ShortWrite] {
            session(Some((call, fault)));
        }
    }
}
