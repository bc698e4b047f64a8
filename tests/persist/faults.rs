//! Every call to the file system fails once, in every way, and every call from one on.

use crate::Artifact;
use hapax::{
    CrashDisk, DirectoryJournal, DirectoryOptions, DirectoryStore, DiskFault, FaultDisk, Fingerprint, Journal, Meta,
    Refusal, Store,
};
use std::sync::Arc;

const FAULTS: [DiskFault; 6] = [
    DiskFault::Broken,
    DiskFault::Full,
    DiskFault::ReadOnly,
    DiskFault::ShortWrite,
    DiskFault::TornWrite,
    DiskFault::LostWrite,
];

fn small() -> DirectoryOptions {
    DirectoryOptions::new("faults").budget_bytes(5 << 10).segment_bytes(700)
}

fn artifacts() -> Vec<Artifact> {
    (0..24).map(|number| Artifact::new(number, if number % 8 == 7 { 600 } else { 40 + number as usize * 3 })).collect()
}

/// Puts, gets, makes room, collects, and ends in order. Returns which puts were acknowledged and not evicted since.
fn session(store: &DirectoryStore, artifacts: &[Artifact]) -> Vec<bool> {
    let mut kept = vec![false; artifacts.len()];
    for (at, artifact) in artifacts.iter().enumerate() {
        kept[at] = store.put(&artifact.key, &Meta::default(), &artifact.payload).is_ok();
        for evicted in store.take_evicted() {
            let lost = artifacts.iter().position(|artifact| artifact.key == evicted).unwrap();
            kept[lost] = false;
        }
        if let Ok(record) = store.get(&artifacts[at / 2].key) {
            assert_eq!(*record, *artifacts[at / 2].payload, "wrong bytes");
        }
    }
    let _ = store.sync();
    let _ = store.gc();
    store.validate();
    for evicted in store.take_evicted() {
        let lost = artifacts.iter().position(|artifact| artifact.key == evicted).unwrap();
        kept[lost] = false;
    }
    kept
}

#[test]
fn no_call_that_fails_loses_what_was_acknowledged() {
    let artifacts = artifacts();
    let calls = {
        let (disk, faults) = FaultDisk::new(CrashDisk::new());
        session(&DirectoryStore::over_disk(Arc::new(disk), &small()), &artifacts);
        faults.calls()
    };
    assert!(calls > 150, "{calls}");
    for fault in FAULTS {
        for nth in 1..=calls {
            let below = CrashDisk::new();
            let (disk, faults) = FaultDisk::new(below.clone());
            faults.fail_call(nth, fault);
            let kept = session(&DirectoryStore::over_disk(Arc::new(disk), &small()), &artifacts);
            let store = DirectoryStore::over_disk(Arc::new(below.after_kill()), &small());
            store.validate();
            let lies = matches!(fault, DiskFault::TornWrite | DiskFault::LostWrite);
            for (artifact, kept) in artifacts.iter().zip(kept) {
                let found = artifact.is_in(&store);
                // A disk that lies loses what it lied about. It cannot make us return other bytes.
                assert!(found || !kept || lies, "{fault:?} at call {nth}: lost");
            }
        }
    }
}

#[test]
fn a_disk_that_stays_broken_misses_and_refuses_and_a_repaired_one_works() {
    let artifacts = artifacts();
    for fault in [DiskFault::Broken, DiskFault::Full, DiskFault::ReadOnly] {
        for from in [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144] {
            let (disk, faults) = FaultDisk::new(CrashDisk::new());
            faults.fail_from(from, fault);
            let store = DirectoryStore::over_disk(Arc::new(disk), &small());
            session(&store, &artifacts);
            let refused = store.put(&artifacts[0].key, &Meta::default(), &artifacts[0].payload).unwrap_err();
            match fault {
                DiskFault::Full => assert_eq!(refused, Refusal::DiskFull),
                DiskFault::ReadOnly => assert_eq!(refused, Refusal::ReadOnly),
                _ => assert!(matches!(refused, Refusal::Io { .. }), "{refused:?}"),
            }
            assert!(store.stats().refusals > 0);
            faults.disarm();
            artifacts[0].put(&store);
            assert!(artifacts[0].is_in(&store));
        }
    }
}

#[test]
fn a_sync_that_failed_is_not_made_good_by_one_that_succeeds() {
    let (disk, faults) = FaultDisk::new(CrashDisk::new());
    let store = DirectoryStore::over_disk(Arc::new(disk), &small());
    artifacts()[0].put(&store);
    faults.fail_call(2, DiskFault::Broken);
    assert!(matches!(store.sync(), Err(Refusal::Io { action: "sync", .. })));
    assert!(store.sync().is_err(), "the pages count as clean now, and may not be on the disk");
}

#[test]
fn no_call_that_fails_makes_a_journal_count_twice_or_forget() {
    let name = Fingerprint::of("faults").finish();
    let run = |disk: Arc<dyn hapax::Disk>| {
        let mut acknowledged = Vec::new();
        for process in 0..3u8 {
            let journal = DirectoryJournal::over_disk(disk.clone());
            for entry in 0..3u8 {
                if journal.append(&name, &[process, entry]).is_ok() {
                    acknowledged.push([process, entry]);
                }
            }
            let _ = journal.compact(&mut |entries| entries);
        }
        acknowledged
    };
    let (disk, faults) = FaultDisk::new(CrashDisk::new());
    run(Arc::new(disk));
    for nth in 1..=faults.calls() {
        for fault in [DiskFault::Broken, DiskFault::Full, DiskFault::ReadOnly, DiskFault::ShortWrite] {
            let below = CrashDisk::new();
            let (disk, faults) = FaultDisk::new(below.clone());
            faults.fail_call(nth, fault);
            let acknowledged = run(Arc::new(disk));
            let replay = DirectoryJournal::over_disk(Arc::new(below.after_kill())).replay().unwrap();
            let mut found: Vec<Vec<u8>> = replay.entries.into_iter().map(|entry| entry.bytes).collect();
            found.sort();
            assert_eq!(found, acknowledged, "{fault:?} at call {nth}: and nothing that was refused");
        }
    }
}
