//! Any bytes at all, where a hint store expects its batches: nothing panics, the books add up, and what was read is what a fold
//! leaves; and what is recorded comes back.
#![no_main]

mod common;

use common::{Input, in_proportion, number};
use hapax::{Fingerprint, HintOptions, HintRecords, HintStore, Journal, MemoryJournal};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: Duration = Duration::from_secs(86_400);
const WEEK: Duration = Duration::from_secs(7 * 86_400);
const FORMAT: u8 = 1;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let how = input.byte();
    if how & 1 == 0 { hostile(how >> 1, input) } else { recorded(input) }
});

fn hostile(how: u8, mut input: Input) {
    let now = UNIX_EPOCH + if how & 1 == 0 { 20_000 * DAY } else { Duration::ZERO };
    let journal = Arc::new(MemoryJournal::new());
    let (options, version) = (options(&journal, now), version(&journal, now));
    let read = || HintRecords::read(&*journal, WEEK, now).expect("a journal in memory can be read");
    while let Some(piece) = input.piece() {
        let namespace = if piece.len() % 4 == 3 { name(0) } else { version };
        journal.append(&namespace, &batch(piece)).expect("it is short");
    }
    let found = in_proportion(journal.bytes() as usize, read);
    let store = in_proportion(journal.bytes() as usize, || HintStore::open(options));
    store.validate();
    store.gc().expect("a journal in memory can be folded");
    store.validate();
    let left = read();
    assert_eq!((left.damaged, left.other_formats), (0, found.other_formats));
    assert_eq!((left.charged_bytes, &left.records), (found.charged_bytes, &found.records));

    for hint in &found.records {
        assert!(hint.ranked.decayed_uses.is_finite() && hint.ranked.saving_ns_per_day.is_finite());
    }
    for hint in found.records.iter().filter(|hint| hint.version == version) {
        let (name, before) = (hint.ranked.fingerprint, hint.ranked.hint);
        assert_eq!(store.get(&name), Some(before));
        store.record_hit(&name);
        store.record_compile(&name, 1, Duration::MAX);
        let after = store.get(&name).expect("it was just recorded");
        assert_eq!(after.hits, before.hits.saturating_add(1));
        assert_eq!(after.compile_count, before.compile_count.saturating_add(1));
        assert!(after.last_used_unix_ns >= before.last_used_unix_ns);
    }
    assert_eq!(store.precompile_queue(usize::MAX).len(), store.hottest(usize::MAX).len(), "all of them were compiled");
    store.flush().expect("a journal in memory takes everything");
    store.validate();
    store.gc().expect("a journal in memory can be folded");
    store.validate();
}

/// An entry: as the piece has it; or with a prefix and with names, which make it a batch of this format; or with counts too, in
/// which sums overflow.
fn batch(piece: &[u8]) -> Vec<u8> {
    let Some((how, rest)) = piece.split_first() else { return Vec::new() };
    if how & 1 == 0 {
        return rest.to_vec();
    }
    let names = u16::from(how >> 2 & 3);
    let mut entry = vec![FORMAT];
    entry.extend([0; 8]);
    entry.extend(names.to_le_bytes());
    (0..names).for_each(|number| entry.extend(name((how >> 4).wrapping_add(number as u8)).as_bytes()));
    if how & 2 == 0 {
        entry.extend(rest);
        return entry;
    }
    number(&mut entry, u64::from(names));
    let mut input = Input(rest);
    for _ in 0..names {
        let (compiled, days) = (input.byte() & 1, input.byte() & 63);
        entry.push(compiled);
        // Of what was compiled six numbers; the hits; the last use.
        (0..6 * compiled + 2).for_each(|_| number(&mut entry, count(&mut input)));
        number(&mut entry, u64::from(days));
        for _ in 0..days {
            number(&mut entry, count(&mut input) >> 32);
            number(&mut entry, count(&mut input) >> 32);
        }
    }
    entry
}

/// Small, or at the end of what there is.
fn count(input: &mut Input) -> u64 {
    match input.byte() {
        few @ 0..128 => u64::from(few) << (few % 2 * 32),
        many => u64::MAX - u64::from(many - 128),
    }
}

/// The bytes say what is recorded, when, and by which of two processes; and when they write.
fn recorded(mut input: Input) {
    let journal = Arc::new(MemoryJournal::new());
    let start = UNIX_EPOCH + 20_000 * DAY;
    let stores = [0, 1].map(|_| HintStore::open(options(&journal, start)));
    let mut hits = [0u64; 8];
    let mut compiles = [(0u64, 0u64); 8];
    while !input.0.is_empty() {
        let what = input.byte();
        let (store, unit) = (&stores[usize::from(what & 1)], usize::from(what >> 1 & 7));
        match what >> 4 & 7 {
            0..3 => {
                store.record_hit(&name(unit as u8));
                hits[unit] += 1;
            }
            3..6 => {
                let ns = u64::from(input.byte());
                store.record_compile(&name(unit as u8), 1, Duration::from_nanos(ns));
                compiles[unit] = (compiles[unit].0 + 1, compiles[unit].1 + ns);
            }
            6 => store.flush().expect("a journal in memory takes everything"),
            _ => store.gc().expect("a journal in memory can be folded"),
        }
        store.validate();
    }
    drop(stores);
    let next = HintStore::open(options(&journal, start));
    for unit in 0..8 {
        let hint = next.get(&name(unit as u8)).unwrap_or_default();
        assert_eq!((hint.hits, (hint.compile_count, hint.compile_ns)), (hits[unit], compiles[unit]));
    }
}

/// Nothing is too old, and nothing too much.
fn options(journal: &Arc<MemoryJournal>, now: SystemTime) -> HintOptions {
    HintOptions::in_journal(journal.clone())
        .version("fuzz")
        .keep_other_versions(Duration::MAX)
        .write_behind(Duration::MAX)
        .clock(move || now)
}

/// The fingerprint that the store's version has in the journal.
fn version(journal: &Arc<MemoryJournal>, now: SystemTime) -> Fingerprint {
    HintStore::open(options(journal, now)).record_hit(&name(0));
    let found = HintRecords::read(&**journal, WEEK, now).expect("a journal in memory can be read");
    journal.clear().expect("a journal in memory can be cleared");
    found.records[0].version
}

fn name(number: u8) -> Fingerprint {
    Fingerprint::from_bytes([number; 32])
}
