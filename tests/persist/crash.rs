//! A session that stops at every byte, and what is found afterwards.
//!
//! The session puts, replaces, syncs, makes room and ends in order, in a budget so small that segments are sealed, evicted
//! and written again. What may be missing afterwards is what was not acknowledged, what was evicted, and after the loss of
//! power what was not synced.

use crate::Artifact;
use hapax::{
    CrashDisk, DirectoryJournal, DirectoryOptions, DirectoryStore, Fingerprint, Journal, JournalEntry, Key, Meta,
    PowerLoss, Record, Store,
};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

const BUDGET: u64 = 3500;
const LOSSES: [PowerLoss; 5] = [
    PowerLoss::KeepsSynced,
    PowerLoss::KeepsNames,
    PowerLoss::KeepsSome(1),
    PowerLoss::KeepsSome(2),
    PowerLoss::KeepsAll,
];

/// What the session knows when it stops.
#[derive(Default)]
struct Known {
    /// The payloads that a key may have: the last acknowledged one, and those not acknowledged since.
    acknowledged: HashMap<Key, Vec<u8>>,
    attempted: HashMap<Key, Vec<Vec<u8>>>,
    synced: HashMap<Key, Vec<u8>>,
    /// What the last put was to store, if it was refused.
    refused: Option<Vec<u8>>,
}

/// What each step puts: under which key, and what. Mostly new keys, some replaced; one in ten takes a file of its own.
static PUTS: LazyLock<Vec<Artifact>> = LazyLock::new(|| {
    let put = |step: u64| {
        let number = if step % 7 == 3 { step / 2 } else { step };
        let bytes = if step % 10 == 9 { 300 } else { (step as usize * 37) % 80 };
        Artifact { key: Artifact::new(number, 0).key, payload: Artifact::new(1000 + step, bytes).payload }
    };
    (0..24).map(put).collect()
});

fn small_options() -> DirectoryOptions {
    DirectoryOptions::new("crash").budget_bytes(BUDGET).segment_bytes(600)
}

/// Ends early when the disk stops.
fn session(disk: &CrashDisk) -> Known {
    let mut known = Known::default();
    let store = DirectoryStore::over_disk(Arc::new(disk.clone()), &small_options());
    for (step, Artifact { key, payload }) in PUTS.iter().enumerate() {
        known.attempted.entry(*key).or_default().push(payload.clone());
        let put = store.put(key, &Meta::default(), payload);
        for evicted in store.take_evicted() {
            known.acknowledged.remove(&evicted);
            known.synced.remove(&evicted);
        }
        known.refused = put.is_err().then(|| payload.clone());
        if put.is_ok() {
            known.acknowledged.insert(*key, payload.clone());
            // Replaced: neither the old bytes nor the new ones have to survive before the next sync.
            known.synced.remove(key);
        }
        let _ = store.get(&PUTS[step / 3].key);
        if step % 8 == 7 && store.sync().is_ok() {
            known.synced = known.acknowledged.clone();
        }
        if disk.has_stopped() {
            break;
        }
    }
    known
}

fn check(found: CrashDisk, must_have: &HashMap<Key, Vec<u8>>, known: &Known, when: &str) {
    let keys: Vec<Key> = known.attempted.keys().copied().collect();
    let reading = small_options().read_only(true);
    let together = DirectoryStore::over_disk(Arc::new(found.clone()), &reading).get_many(&keys);
    let store = DirectoryStore::over_disk(Arc::new(found), &small_options());
    store.validate();
    for (key, together) in keys.iter().zip(together) {
        let alone = store.get(key).map(Record::into_vec);
        assert_eq!(together.map(Record::into_vec), alone, "{when}: read together");
    }
    for (key, attempted) in &known.attempted {
        match store.get(key) {
            Ok(record) => {
                assert!(attempted.iter().any(|payload| **payload == *record), "{when}: wrong bytes");
                assert!(known.refused.as_deref() != Some(&*record), "{when}: a put that was refused has stored");
                if let Some(payload) = must_have.get(key) {
                    // The last acknowledged put, or one that came after it.
                    let at = attempted.iter().position(|attempt| attempt == payload).unwrap();
                    assert!(
                        attempted[at..].iter().any(|attempt| **attempt == *record),
                        "{when}: an older put came back"
                    );
                }
            }
            Err(miss) => assert!(!must_have.contains_key(key), "{when}: {key:?} is lost: {miss}"),
        }
    }
    // And it goes on working.
    let after = &PUTS[0];
    after.put(&store);
    assert!(after.is_in(&store), "{when}");
}

#[test]
fn a_store_that_stops_at_any_byte_keeps_what_it_acknowledged_and_after_power_loss_what_it_synced() {
    let whole = CrashDisk::new();
    let known = session(&whole);
    assert!(!known.synced.is_empty() && known.attempted.len() > known.acknowledged.len(), "it syncs and evicts");
    let steps = whole.steps();
    assert!(steps > 4_000, "{steps}");

    for stop in 1..=steps {
        let disk = CrashDisk::new();
        disk.stop_after(stop);
        let known = session(&disk);
        check(disk.after_kill(), &known.acknowledged, &known, &format!("killed after step {stop}"));
        let loss = LOSSES[stop as usize % LOSSES.len()];
        check(disk.after_power_loss(loss), &known.synced, &known, &format!("power lost after step {stop}, {loss:?}"));
    }
}

/// Appends from two processes with folds in between. Returns the entries acknowledged, synced and attempted.
fn journal_session(disk: &CrashDisk) -> [Vec<String>; 3] {
    let name = Fingerprint::of("crash").finish();
    let (mut acknowledged, mut synced, mut attempted) = (Vec::new(), Vec::new(), Vec::new());
    for process in 0..4 {
        let journal = DirectoryJournal::over_disk(Arc::new(disk.clone()));
        for entry in 0..3 {
            // Of several lengths, as those decide how much of a record is padding.
            let text = format!("<{process}.{entry:0>width$}>", width = 1 + 5 * entry);
            attempted.push(text.clone());
            if journal.append(&name, text.as_bytes()).is_ok() {
                acknowledged.push(text);
            }
        }
        if process % 2 == 0 && journal.sync().is_ok() {
            // Those of ended processes that nobody synced are not in it.
            synced.extend(acknowledged.iter().filter(|text| text.starts_with(&format!("<{process}"))).cloned());
        }
        if process > 0 && journal.compact(&mut join_all).is_ok() {
            synced.clone_from(&acknowledged);
        }
    }
    [acknowledged, synced, attempted]
}

fn join_all(entries: Vec<JournalEntry>) -> Vec<JournalEntry> {
    let bytes = entries.into_iter().flat_map(|entry| entry.bytes).collect();
    vec![JournalEntry { fingerprint: Fingerprint::of("crash").finish(), bytes }]
}

#[test]
fn a_journal_that_stops_at_any_byte_counts_each_entry_once() {
    let whole = CrashDisk::new();
    journal_session(&whole);
    for stop in 1..=whole.steps() {
        let disk = CrashDisk::new();
        disk.stop_after(stop);
        let [acknowledged, synced, attempted] = journal_session(&disk);
        let times_found = |found: CrashDisk| {
            let journal = DirectoryJournal::over_disk(Arc::new(found));
            let all: Vec<u8> = journal.replay().unwrap().entries.into_iter().flat_map(|entry| entry.bytes).collect();
            let all = String::from_utf8(all).unwrap();
            attempted.iter().map(|text| (text.clone(), all.matches(text.as_str()).count())).collect::<Vec<_>>()
        };
        for (text, times) in times_found(disk.after_kill()) {
            // What was refused was not added either, however much of it was written.
            let expected = usize::from(acknowledged.contains(&text));
            assert_eq!(times, expected, "killed after step {stop}: {text}");
        }
        for loss in LOSSES {
            for (text, times) in times_found(disk.after_power_loss(loss)) {
                let expected = if synced.contains(&text) { 1..=1 } else { 0..=1 };
                assert!(expected.contains(&times), "power lost after step {stop}, {loss:?}: {text} {times} times");
            }
        }
    }
}
