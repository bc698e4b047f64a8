//! Random sessions of several stores on one journal, against a slow oracle that keeps every recorded use in a list.

use super::{DAY, noon, unit};
use hapax::{DirectoryJournal, DirectoryOptions, Hint, HintOptions, HintStore, Journal, MemoryJournal};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const PROCESSES: usize = 3;
const UNITS: u64 = 5;
const HALF_LIFE: Duration = DAY;

#[derive(Debug, Clone)]
enum Step {
    Compile { unit: u64, bytes: u64, ns: u64 },
    Hit { unit: u64 },
    Flush,
    Refresh,
    Gc,
    Restart,
    Kill,
    Clear,
    SetClock { day: u64, ns: u64 },
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let unit = 0..UNITS;
    let step = prop_oneof![
        6 => (unit.clone(), 0..100u64, 0..1000u64).prop_map(|(unit, bytes, ns)| Step::Compile { unit, bytes, ns }),
        6 => unit.prop_map(|unit| Step::Hit { unit }),
        3 => Just(Step::Flush),
        2 => Just(Step::Refresh),
        2 => Just(Step::Gc),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
        1 => Just(Step::Clear),
        // Forth and back, and to the same instant again.
        2 => (0..25u64, 0..3u64).prop_map(|(day, ns)| Step::SetClock { day, ns }),
    ];
    prop::collection::vec((0..PROCESSES, step), 1..80)
}

/// One use, as recorded.
#[derive(Debug, Clone, Copy)]
struct Use {
    unit: u64,
    /// Bytes and nanoseconds, if it was compiled.
    compiled: Option<(u64, u64)>,
    at_ns: u64,
    /// Its place in the order of uses.
    stamp: u64,
}

#[derive(Default, Clone)]
struct Process {
    seen: Vec<Use>,
    pending: Vec<Use>,
    latest: u64,
}

impl Process {
    fn record(&mut self, unit: u64, compiled: Option<(u64, u64)>, now: u64) {
        self.latest = now.max(self.latest + 1);
        self.pending.push(Use { unit, compiled, at_ns: now, stamp: self.latest });
    }

    fn flush(&mut self, journal: &mut Vec<Use>) {
        journal.extend(&self.pending);
        self.seen.append(&mut self.pending);
    }

    fn read(&mut self, journal: &[Use]) {
        self.seen = journal.to_vec();
        self.latest = journal.iter().map(|one| one.stamp).max().unwrap_or(0).max(self.latest);
    }

    fn of(&self, unit: u64) -> Vec<Use> {
        self.seen.iter().chain(&self.pending).filter(|one| one.unit == unit).copied().collect()
    }
}

fn decayed(uses: &[Use], now: u64) -> f64 {
    let day_ns = DAY.as_nanos() as u64;
    let age = |one: &Use| now.saturating_sub(one.at_ns / day_ns * day_ns) as f64 / HALF_LIFE.as_nanos() as f64;
    uses.iter().map(|one| (-age(one)).exp2()).sum()
}

fn check(store: &HintStore, process: &Process, now: u64) {
    store.validate();
    let mut expected = BTreeMap::new();
    for number in 0..UNITS {
        let uses = process.of(number);
        let compiled: Vec<(u64, u64, u64)> =
            uses.iter().filter_map(|one| one.compiled.map(|(bytes, ns)| (one.at_ns, bytes, ns))).collect();
        let found = store.get(&unit(number));
        assert_eq!(found.is_some(), !uses.is_empty(), "unit {number}");
        let hint = found.unwrap_or_default();
        let (last, bytes) = compiled.iter().map(|(at, bytes, _)| (*at, *bytes)).max().unwrap_or_default();
        assert_eq!(hint.compile_count, compiled.len() as u64, "unit {number}");
        assert_eq!(hint.hits, (uses.len() - compiled.len()) as u64, "unit {number}");
        assert_eq!(hint.compile_ns, compiled.iter().map(|(_, _, ns)| ns).sum::<u64>());
        assert_eq!(hint.compile_ns_min, compiled.iter().map(|(_, _, ns)| *ns).min().unwrap_or(0));
        assert_eq!(hint.first_compiled_unix_ns, compiled.iter().map(|(at, _, _)| *at).min().unwrap_or(0));
        assert_eq!((hint.last_compiled_unix_ns, hint.size_bytes), (last, bytes));
        assert_eq!(hint.last_used_unix_ns, uses.iter().map(|one| one.stamp).max().unwrap_or(0));
        if !uses.is_empty() {
            expected.insert(unit(number), decayed(&uses, now));
        }
    }
    let ranked = store.hottest(usize::MAX);
    assert_eq!(ranked.len(), expected.len());
    assert!(ranked.is_sorted_by(|a, b| a.decayed_uses >= b.decayed_uses));
    for hint in ranked {
        let close = (hint.decayed_uses - expected[&hint.fingerprint]).abs() <= 1e-9 * expected[&hint.fingerprint];
        assert!(close, "{} is not {}", hint.decayed_uses, expected[&hint.fingerprint]);
    }
    let queue = store.precompile_queue(2);
    let all = store.precompile_queue(usize::MAX);
    assert_eq!(queue, all[..all.len().min(2)]);
    assert!(all.is_sorted_by(|a, b| a.saving_ns_per_day >= b.saving_ns_per_day));
    assert!(all.iter().all(|hint| hint.hint.compile_count > 0));
}

/// `journal` is opened anew by each process, as a directory is.
fn run(steps: &[(usize, Step)], journal: &dyn Fn() -> Arc<dyn Journal>) {
    let clock = noon();
    let begin = clock.now();
    let open = || super::open(clock.on(HintOptions::in_journal(journal())).half_life(HALF_LIFE));
    let mut stores: Vec<HintStore> = (0..PROCESSES).map(|_| open()).collect();
    let mut written: Vec<Use> = Vec::new();
    let mut processes = vec![Process::default(); PROCESSES];
    for (at, step) in steps {
        let (store, process) = (&mut stores[*at], &mut processes[*at]);
        match *step {
            Step::Compile { unit: number, bytes, ns } => {
                store.record_compile(&unit(number), bytes, Duration::from_nanos(ns));
                process.record(number, Some((bytes, ns)), clock.now());
            }
            Step::Hit { unit: number } => {
                store.record_hit(&unit(number));
                process.record(number, None, clock.now());
            }
            Step::Flush => {
                store.flush().unwrap();
                process.flush(&mut written);
            }
            Step::Refresh => {
                store.refresh().unwrap();
                process.read(&written);
            }
            Step::Gc => {
                store.gc().unwrap();
                process.flush(&mut written);
                process.read(&written);
            }
            Step::Restart | Step::Kill => {
                let ended = std::mem::replace(store, open());
                if matches!(step, Step::Kill) {
                    crate::kill(ended);
                } else {
                    drop(ended);
                    process.flush(&mut written);
                }
                *store = open();
                *process = Process::default();
                process.read(&written);
            }
            Step::Clear => {
                store.clear().unwrap();
                written.clear();
                *process = Process { latest: process.latest, ..Process::default() };
            }
            Step::SetClock { day, ns } => clock.set(begin + day * DAY.as_nanos() as u64 + ns),
        }
        for (store, process) in stores.iter().zip(&processes) {
            check(store, process, clock.now());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn stores_in_memory_agree_with_the_oracle_after_each_step(steps in steps()) {
        let journal = MemoryJournal::new();
        run(&steps, &|| Arc::new(journal.clone()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn stores_in_a_directory_agree_with_the_oracle_after_each_step(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        let options = DirectoryOptions::new("model").dir(folder.path());
        run(&steps, &|| Arc::new(DirectoryJournal::open_strict(&options).unwrap()));
    }

    /// The same uses, spread over processes, flushes and folds in two ways.
    #[test]
    fn no_interleaving_changes_the_sums(
        uses in prop::collection::vec((0..UNITS, prop::option::of((0..100u64, 0..1000u64)), 0..40u64), 1..60),
        schedules in prop::array::uniform2(prop::collection::vec((0..PROCESSES, 0..4u8), 60)),
    ) {
        let hints = schedules.map(|schedule| played(&uses, &schedule));
        prop_assert_eq!(&hints[0], &hints[1]);
    }
}

fn played(uses: &[(u64, Option<(u64, u64)>, u64)], schedule: &[(usize, u8)]) -> Vec<(Option<Hint>, f64)> {
    let journal = MemoryJournal::new();
    let clock = noon();
    let begin = clock.now();
    let open = || super::open(clock.on(HintOptions::in_journal(Arc::new(journal.clone()))));
    let mut stores: Vec<HintStore> = (0..PROCESSES).map(|_| open()).collect();
    for ((number, compiled, day), (at, what)) in uses.iter().zip(schedule) {
        let store = &mut stores[*at];
        // Where a use is recorded must not show in its time.
        clock.set(begin.max(clock.now() + 1));
        let now = clock.now();
        clock.set(now + (day / 10) * DAY.as_nanos() as u64);
        match compiled {
            Some((bytes, ns)) => store.record_compile(&unit(*number), *bytes, Duration::from_nanos(*ns)),
            None => store.record_hit(&unit(*number)),
        }
        match what {
            0 => store.flush().unwrap(),
            1 => store.gc().unwrap(),
            2 => *store = open(),
            _ => {}
        }
    }
    drop(stores);
    let whole = open();
    (0..UNITS)
        .map(|number| (whole.get(&unit(number)), whole.rank(&unit(number)).map_or(0.0, |hint| hint.decayed_uses)))
        .collect()
}

#[test]
fn more_days_than_are_kept_leave_the_latest() {
    let clock = noon();
    let hints = super::open(clock.on(HintOptions::in_journal(Arc::new(MemoryJournal::new()))).half_life(DAY * 10_000));
    for _ in 0..100 {
        hints.record_hit(&unit(0));
        clock.pass(DAY);
    }
    let rank = hints.rank(&unit(0)).unwrap();
    assert_eq!(rank.hint.hits, 100);
    assert!((31.0..=32.0).contains(&rank.decayed_uses), "{}", rank.decayed_uses);
}
