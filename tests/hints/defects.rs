//! What was wrong with the system that this one replaces; each with a test of its own.

use super::{Clock, DAY, noon, open, system_clock_ns, unit};
use hapax::{CodeStore, DirectoryOptions, Fingerprint, HintOptions, HintStore, Key, Kind, MemoryJournal, Meta};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

fn directory(folder: &tempfile::TempDir) -> DirectoryOptions {
    DirectoryOptions::new("defects").dir(folder.path())
}

/// It hashed only operator kinds, so graphs of the same operators shared their hints.
#[test]
fn units_that_differ_in_anything_share_nothing() {
    let graph = |shape: &str, constant: u32| {
        Fingerprint::of("graph").part("ops", "add mul").part("shape", shape).part("constant", constant.to_le_bytes())
    };
    let mut units = vec![graph("2x2", 1).finish(), graph("2x3", 1).finish(), graph("2x2", 2).finish()];
    // And where fingerprints come from elsewhere, each of their bits counts.
    units.extend((0..256).map(|bit| {
        let mut bytes = [0; 32];
        bytes[bit / 8] |= 1 << (bit % 8);
        Fingerprint::from_bytes(bytes)
    }));
    let journal = Arc::new(MemoryJournal::new());
    let hints = open(HintOptions::in_journal(journal.clone()));
    for (size, unit) in units.iter().enumerate() {
        assert_eq!(hints.get(unit), None);
        hints.record_compile(unit, size as u64, Duration::ZERO);
    }
    drop(hints);
    let hints = open(HintOptions::in_journal(journal));
    for (size, unit) in units.iter().enumerate() {
        let hint = hints.get(unit).unwrap();
        assert_eq!((hint.size_bytes, hint.compile_count), (size as u64, 1));
    }
}

/// Its counts fell back after a restart.
#[test]
fn counts_never_fall_back_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    for run in 1..=50 {
        let hints = open(HintOptions::new(&directory(&folder)));
        hints.record_compile(&unit(0), 10, Duration::from_nanos(run));
        hints.record_hit(&unit(0));
        let hint = hints.get(&unit(0)).unwrap();
        assert_eq!(
            (hint.compile_count, hint.hits, hint.compile_ns, hint.compile_ns_min),
            (run, run, run * (run + 1) / 2, 1)
        );
        if run % 7 == 0 {
            hints.gc().unwrap();
        }
    }
}

/// It wrote over its files in place, so that a crash left neither the old nor the new.
#[test]
fn what_is_on_the_disk_is_added_to_or_replaced_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut before = contents(folder.path());
    for run in 0..12 {
        let hints = open(HintOptions::new(&directory(&folder)));
        for number in 0..100 {
            hints.record_compile(&unit(number), run, Duration::from_nanos(run));
        }
        hints.flush().unwrap();
        if run % 4 == 3 {
            hints.gc().unwrap();
        }
        let after = contents(folder.path());
        for (path, old) in &before {
            let kept = after.get(path).is_none_or(|new| new.starts_with(old));
            assert!(kept, "{} changed in place", path.display());
        }
        before = after;
    }
    assert!(!before.is_empty());
}

fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.insert(path.clone(), std::fs::read(path).unwrap());
        }
    }
    files
}

/// Its `clear` removed whatever it found.
#[test]
fn clear_removes_hints_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let code = CodeStore::open(&directory(&folder));
    let artifact = Key::new(Kind::CODE, unit(0));
    code.put(&artifact, &Meta::default(), b"code").unwrap();
    let hints = open(HintOptions::new(&directory(&folder)));
    hints.record_hit(&unit(0));
    hints.flush().unwrap();
    let hint_folder = contents(folder.path())
        .into_keys()
        .map(|path| path.parent().unwrap().to_owned())
        .find(|path| path.ends_with("hints"))
        .expect("hints have a folder");
    let foreign = hint_folder.join("notes.txt");
    std::fs::write(&foreign, "mine").unwrap();
    hints.clear().unwrap();
    assert_eq!((hints.get(&unit(0)), hints.stats().entries), (None, 0));
    drop(hints);
    assert_eq!(open(HintOptions::new(&directory(&folder))).get(&unit(0)), None);
    assert_eq!(std::fs::read_to_string(foreign).unwrap(), "mine");
    assert_eq!(*code.get(&artifact).unwrap(), *b"code");
}

/// Its `load` and its eviction took two locks in opposite orders.
#[test]
fn everything_at_once_from_several_threads_ends_and_adds_up() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 400;
    let folder = tempfile::tempdir().unwrap();
    // Room for few, so that there is always something to evict; unit 0 is used all the time.
    let options = HintOptions::new(&directory(&folder)).budget_bytes(2_000).write_behind(Duration::ZERO);
    let hints = open(options.clone());
    let (done, ended) = mpsc::channel();
    for thread in 0..THREADS {
        let (hints, done) = (hints.clone(), done.clone());
        std::thread::spawn(move || {
            for round in 0..ROUNDS {
                let number = thread * ROUNDS + round;
                hints.record_compile(&unit(1 + number), 1, Duration::from_nanos(1));
                hints.record_hit(&unit(0));
                hints.get(&unit(1 + number / 2));
                match number % 37 {
                    0 => hints.gc().unwrap(),
                    1 => hints.refresh().unwrap(),
                    2 => drop(hints.precompile_queue(3)),
                    3 => drop(hints.is_hot(&unit(0))),
                    4 => drop(hints.stats()),
                    5 => hints.sync().unwrap(),
                    _ => {}
                }
                hints.validate();
                done.send(()).unwrap();
            }
        });
    }
    // Whose threads all panicked tells nobody any more.
    drop(done);
    for _ in 0..THREADS * ROUNDS {
        ended.recv_timeout(Duration::from_secs(120)).expect("a thread waits for ever, or panicked");
    }
    assert!(hints.stats().evictions > 0);
    assert_eq!(hints.get(&unit(0)).unwrap().hits, THREADS * ROUNDS);
    drop(hints);
    assert_eq!(open(options).get(&unit(0)).unwrap().hits, THREADS * ROUNDS);
}

/// Its hints changed nothing.
#[test]
fn what_is_used_changes_what_is_compiled_first() {
    let journal = Arc::new(MemoryJournal::new());
    let clock = noon();
    let first_of = |hints: &HintStore| hints.precompile_queue(1)[0].fingerprint;
    let hints = open(clock.on(HintOptions::in_journal(journal.clone())));
    hints.record_compile(&unit(0), 1, Duration::from_millis(10));
    hints.record_compile(&unit(1), 1, Duration::from_millis(30));
    assert_eq!(first_of(&hints), unit(1), "the dearer of two that were used alike");
    for _ in 0..9 {
        hints.record_hit(&unit(0));
    }
    drop(hints);
    let hints = open(clock.on(HintOptions::in_journal(journal.clone())));
    assert_eq!(first_of(&hints), unit(0), "10 uses of 10 ms against one of 30");
    assert!(hints.is_hot(&unit(0)) && !hints.is_hot(&unit(1)) && !hints.is_hot(&unit(2)));
    clock.pass(21 * DAY);
    hints.record_hit(&unit(1));
    assert_eq!(first_of(&hints), unit(1), "10 uses three half-lives ago are 1.25");
    assert!(!hints.is_hot(&unit(0)), "and not hot any more");
    let units = [unit(2), unit(0), unit(1)];
    let mut order = units.to_vec();
    order.sort_by(|a, b| {
        let saving = |unit| hints.rank(unit).map_or(0.0, |hint| hint.saving_ns_per_day);
        saving(b).total_cmp(&saving(a))
    });
    assert_eq!(order, [unit(1), unit(0), unit(2)]);
}

/// A directory that could not be used was an error of every call.
#[test]
fn what_cannot_be_opened_is_off_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let bad_place = HintStore::open(HintOptions::new(&directory(&folder)).dir(&file));
    let reason = bad_place.off_reason().expect("a file is no directory").to_owned();
    assert!(reason.contains("file"), "{reason}");
    let switched = HintStore::open(HintOptions::new(&directory(&folder)).enabled(false));
    assert_eq!(switched.off_reason(), Some("it was opened with enabled(false)"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "one that is off makes nothing");
    for hints in [bad_place, switched] {
        hints.record_compile(&unit(0), 1, Duration::ZERO);
        hints.record_hit(&unit(0));
        assert_eq!((hints.get(&unit(0)), hints.is_hot(&unit(0)), hints.rank(&unit(0))), (None, false, None));
        assert!(hints.hottest(5).is_empty() && hints.precompile_queue(5).is_empty());
        assert_eq!(hints.stats(), hapax::HintStats::default());
        for outcome in [hints.flush(), hints.sync(), hints.refresh(), hints.gc(), hints.clear()] {
            assert_eq!(outcome, Ok(()));
        }
    }
}

#[test]
fn a_clock_that_jumps_breaks_no_count_and_no_order() {
    let journal = Arc::new(MemoryJournal::new());
    let clock = Clock::at(system_clock_ns());
    let begin = clock.now();
    let hints = open(clock.on(HintOptions::in_journal(journal.clone())));
    for (step, now) in [begin, begin + 400 * DAY.as_nanos() as u64, begin, 0, u64::MAX, begin].into_iter().enumerate() {
        clock.set(now);
        hints.record_compile(&unit(step as u64), 1, Duration::from_nanos(1));
        hints.record_hit(&unit(99));
        hints.gc().unwrap();
        hints.validate();
    }
    let order = |hints: &HintStore| {
        let mut units: Vec<u64> = (0..6).collect();
        units.sort_by_key(|number| hints.get(&unit(*number)).unwrap().last_used_unix_ns);
        units
    };
    assert_eq!(hints.get(&unit(99)).unwrap().hits, 6);
    assert_eq!(order(&hints)[..5], [0, 1, 2, 3, 4]);
    assert!(hints.rank(&unit(99)).unwrap().decayed_uses >= 3.0, "days to come count as today");
    drop(hints);
    let again = open(clock.on(HintOptions::in_journal(journal)));
    assert_eq!((again.get(&unit(99)).unwrap().hits, order(&again)[..5].to_vec()), (6, vec![0, 1, 2, 3, 4]));
}
