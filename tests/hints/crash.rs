//! A session that stops at every byte that it writes. What was flushed outlives the process, what was synced the loss of
//! power, and nothing is counted that was not recorded, nor twice.

use super::{noon, unit};
use hapax::{CrashDisk, DirectoryJournal, HintOptions, HintStore, PowerLoss};
use std::sync::Arc;
use std::time::Duration;

const UNITS: usize = 3;
const RUNS: u64 = 3;
const LOSSES: [PowerLoss; 5] = [
    PowerLoss::KeepsSynced,
    PowerLoss::KeepsNames,
    PowerLoss::KeepsSome(1),
    PowerLoss::KeepsSome(2),
    PowerLoss::KeepsAll,
];

/// Compilations of each unit.
type Counts = [u64; UNITS];

#[derive(Default)]
struct Known {
    recorded: Counts,
    flushed: Counts,
    synced: Counts,
}

fn open(disk: &CrashDisk) -> HintStore {
    let journal = DirectoryJournal::over_disk(Arc::new(disk.clone()));
    HintStore::open(noon().on(HintOptions::in_journal(Arc::new(journal))))
}

/// Processes one after the other, each of which flushes, folds and syncs. Ends early when the disk stops.
fn session(disk: &CrashDisk) -> Known {
    let mut known = Known::default();
    for _ in 0..RUNS {
        let hints = open(disk);
        for step in 0..5 {
            if disk.has_stopped() || hints.off_reason().is_some() {
                return known;
            }
            hints.record_compile(&unit(step % UNITS as u64), 1, Duration::from_nanos(1));
            known.recorded[step as usize % UNITS] += 1;
            if hints.flush().is_ok() {
                known.flushed = known.recorded;
            }
            if step == 2 {
                let _ = hints.gc();
            }
            if step == 3 && hints.sync().is_ok() {
                known.synced = known.recorded;
            }
        }
    }
    known
}

fn check(found: CrashDisk, least: &Counts, most: &Counts, when: &str) {
    let hints = open(&found);
    assert_eq!(hints.off_reason(), None, "{when}");
    hints.validate();
    for number in 0..UNITS {
        let count = hints.get(&unit(number as u64)).map_or(0, |hint| hint.compile_count);
        let expected = least[number]..=most[number];
        assert!(expected.contains(&count), "{when}: {count} of unit {number}, not {expected:?}");
    }
    // And it can be used on.
    hints.record_hit(&unit(0));
    hints.gc().unwrap();
}

#[test]
fn wherever_a_process_is_killed_or_power_is_lost_counts_are_between_kept_and_recorded() {
    let whole = CrashDisk::new();
    assert_eq!(session(&whole).flushed.iter().sum::<u64>(), RUNS * 5);
    let steps = whole.steps();
    assert!(steps > 1000);
    for stop in 0..=steps {
        let disk = CrashDisk::new();
        disk.stop_after(stop);
        let known = session(&disk);
        check(disk.after_kill(), &known.flushed, &known.recorded, &format!("killed at step {stop}"));
        let loss = LOSSES[stop as usize % LOSSES.len()];
        let when = format!("power lost at step {stop}, {loss:?}");
        check(disk.after_power_loss(loss), &known.synced, &known.recorded, &when);
    }
}
