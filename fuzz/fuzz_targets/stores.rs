//! Any bytes at all, where a store expects segments, sidecars, lists of uses and large entries: it opens, its books add up, what
//! it returns is what was written under that key; and a list of uses costs order, no entries.
#![no_main]

mod common;

use common::{Input, aligned, file, in_proportion, record, write};
use hapax::{CrashDisk, DirectoryOptions, DirectoryStore, Fingerprint, Key, Kind, Meta, Store};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const SEGMENT: u16 = 1;
const SIDECAR: u16 = 2;
const LARGE: u16 = 3;
const RECENCY: u16 = 4;
const INDEX_KIND: u16 = 0xfff1;
const RECENCY_KIND: u16 = 0xfff2;
const SEGMENTS: [u64; 2] = [1, 2];

/// What was written under each key, in segments and in large files.
#[derive(Default)]
struct Written {
    payloads: BTreeMap<Key, Vec<Vec<u8>>>,
    bytes: usize,
    /// Of the numbers of puts and uses that a store believes.
    greatest: u64,
}

/// A greater number is taken for none that a store wrote.
const NUMBER_AT_MOST: u64 = 1 << 62;

impl Written {
    fn number(&mut self, number: u64) -> u64 {
        if number <= NUMBER_AT_MOST {
            self.greatest = self.greatest.max(number);
        }
        number
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let (disk, mut written) = (CrashDisk::new(), Written::default());
    let (list, sidecar, large) = (input.byte(), input.byte(), input.byte());
    let uses = list_of_uses(list, &mut input, &mut written);
    add(&disk, &mut written, "recency", uses);
    if sidecar & 3 != 0 {
        add(&disk, &mut written, "0000000000000001.idx", sidecar_file(sidecar, &mut input));
    }
    if large & 1 != 0 {
        let file = large_file(large, &mut input, &mut written);
        add(&disk, &mut written, &file.0, file.1);
    }
    for id in SEGMENTS {
        let pieces = if id == 1 { 4 } else { usize::MAX };
        let segment = segment(id, pieces, &mut input, &mut written);
        add(&disk, &mut written, &format!("{id:016x}.seg"), segment);
    }
    let only_uses_are_hostile = sidecar & 3 == 0 && large & 1 == 0;
    look(&disk, &written, only_uses_are_hostile);
});

fn look(disk: &CrashDisk, written: &Written, only_uses_are_hostile: bool) {
    let open = |disk: &CrashDisk| DirectoryStore::over_disk(Arc::new(disk.clone()), &options());
    let store = in_proportion(written.bytes, || open(disk));
    store.validate();
    let keys: Vec<Key> = written.payloads.keys().copied().collect();
    if only_uses_are_hostile {
        let mut found = in_order(&store);
        found.sort();
        assert_eq!(found, keys, "a list of uses costs entries");
    }
    for (number, key) in keys.iter().enumerate().filter(|(number, _)| number % 2 == 0) {
        let found = store.get(key);
        assert!(found.is_ok() || !only_uses_are_hostile, "entry {number} is lost");
        assert!(found.is_err() || written.payloads[key].contains(&found.unwrap().to_vec()), "bytes of another");
    }
    store.refresh().expect("the disk is memory");
    store.validate();
    // Uses after the last number that is believed are not believed either. No store counts so far.
    if only_uses_are_hostile && written.greatest < NUMBER_AT_MOST / 2 {
        // The keys alone: of two records that were put under one number either may come first.
        assert_eq!(in_order(&open(&disk.after_kill())), in_order(&store), "the order is not what was written down");
    }
    let new = Key::new(Kind::IR, Fingerprint::from_bytes([255; 32]));
    store.put(&new, &Meta::default(), b"new").expect("there is room");
    store.gc().expect("the disk is memory");
    store.validate();
    drop(store);
    let store = open(disk);
    store.validate();
    assert_eq!(store.get(&new).expect("it was put").to_vec(), b"new");
    for (key, payloads) in &written.payloads {
        match store.get(key) {
            Ok(found) => assert!(payloads.contains(&found.to_vec()), "bytes of another"),
            Err(_) => assert!(!only_uses_are_hostile, "an entry is lost"),
        }
    }
}

/// The least recently used first.
fn in_order(store: &DirectoryStore) -> Vec<Key> {
    store.entries().iter().map(|entry| entry.key).collect()
}

/// Nothing is evicted, and nobody looks by the clock.
fn options() -> DirectoryOptions {
    DirectoryOptions::new("fuzz").budget_bytes(1 << 40).segment_bytes(1 << 12).look_every(Duration::from_secs(1 << 20))
}

fn add(disk: &CrashDisk, written: &mut Written, name: &str, bytes: Vec<u8>) {
    written.bytes += bytes.len();
    write(disk, name, &bytes);
}

fn key(number: u8) -> Key {
    let kind = if number & 8 == 0 { Kind::CODE } else { Kind::custom(number) };
    Key::new(kind, Fingerprint::from_bytes([number & 15; 32]))
}

fn list_of_uses(how: u8, input: &mut Input, written: &mut Written) -> Vec<u8> {
    let payload = match how & 3 {
        0 => return input.piece().unwrap_or_default().to_vec(),
        1 => return file(RECENCY, 0, input.piece().unwrap_or_default()),
        2 => input.piece().unwrap_or_default().to_vec(),
        _ => {
            let mut rows = Vec::new();
            for _ in 0..how >> 2 & 15 {
                let key = key(input.byte());
                rows.extend(input.number().to_le_bytes());
                rows.extend(key.kind.number().to_le_bytes());
                rows.extend(key.fingerprint.as_bytes());
            }
            rows
        }
    };
    for row in payload.chunks_exact(42) {
        written.number(u64::from_le_bytes(row[..8].try_into().expect("eight bytes")));
    }
    file(RECENCY, 0, &record(RECENCY_KIND, 0, [0; 32], &payload))
}

fn sidecar_file(how: u8, input: &mut Input) -> Vec<u8> {
    let payload = match how & 3 {
        1 => return file(SIDECAR, 1, input.piece().unwrap_or_default()),
        2 => input.piece().unwrap_or_default().to_vec(),
        _ => {
            let rows = how >> 2 & 7;
            let mut payload = u64::from(input.byte()).wrapping_mul(16).to_le_bytes().to_vec();
            payload.extend(u64::from(rows).to_le_bytes());
            for _ in 0..rows {
                let key = key(input.byte());
                payload.extend(key.kind.number().to_le_bytes());
                payload.extend([0; 2]);
                payload.extend((u32::from(input.byte()) * 16).to_le_bytes());
                payload.extend(u32::from(input.byte()).to_le_bytes());
                payload.extend([0; 4]);
                payload.extend(input.number().to_le_bytes());
                payload.extend(input.number().to_le_bytes());
                payload.extend(key.fingerprint.as_bytes());
            }
            payload
        }
    };
    let mut number = [0; 32];
    number[0] = 1;
    file(SIDECAR, 1, &record(INDEX_KIND, 0, number, &payload))
}

/// Its name says what is in it, and may lie.
fn large_file(how: u8, input: &mut Input, written: &mut Written) -> (String, Vec<u8>) {
    let (key, order) = (key(input.byte()), input.number());
    let payload = input.piece().unwrap_or_default();
    let inside = if how & 2 == 0 { order } else { input.number() };
    let body = record(key.kind.number(), inside, *key.fingerprint.as_bytes(), payload);
    let bytes = file(LARGE, 0, if how & 4 == 0 { &body } else { payload });
    written.payloads.entry(key).or_default().push(payload.to_vec());
    let claimed = if how & 8 == 0 { bytes.len() as u32 } else { input.number() as u32 };
    let kind = key.kind.number();
    (format!("{}-{kind:04x}-{order:016x}-{claimed:08x}.art", key.fingerprint), bytes)
}

fn segment(id: u64, pieces: usize, input: &mut Input, written: &mut Written) -> Vec<u8> {
    let mut records = Vec::new();
    for _ in 0..pieces {
        let (number, order) = (input.byte(), written.number(input.number()));
        let Some(payload) = input.piece() else { break };
        let key = key(number);
        records.extend(aligned(record(key.kind.number(), order, *key.fingerprint.as_bytes(), payload)));
        written.payloads.entry(key).or_default().push(payload.to_vec());
    }
    file(SEGMENT, id, &records)
}
