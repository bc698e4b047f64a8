//! What outlives the process: that it does, and what damage, crashes, other processes and hostile surroundings do to it.

mod between;
mod code;
mod crash;
mod damage;
mod environment;
mod faults;
mod journal;
mod lookup;
mod many;
mod processes;
mod recency;
mod restart;
mod room;
mod spy;
mod twins;

use hapax::{CrashDisk, DirectoryOptions, DirectoryStore, Disk, Fingerprint, Key, Kind, Meta, Miss, Store};
use std::sync::Arc;
use std::time::Duration;

/// An artifact's bytes follow from its number, so that wrong bytes are seen wherever they turn up.
struct Artifact {
    key: Key,
    payload: Vec<u8>,
}

impl Artifact {
    fn new(number: u64, bytes: usize) -> Artifact {
        let fingerprint = Fingerprint::of("tests/persist").part("number", number.to_le_bytes()).finish();
        let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        Artifact { key: Key::new(Kind::CODE, fingerprint), payload: (0..bytes).map(|_| next()).collect() }
    }

    fn put(&self, store: &dyn Store) {
        store.put(&self.key, &Meta::default(), &self.payload).unwrap();
    }

    /// Whether it is there. What is there is right.
    fn is_in(&self, store: &dyn Store) -> bool {
        match store.get(&self.key) {
            Ok(record) => {
                assert_eq!(*record, *self.payload, "wrong bytes");
                true
            }
            Err(Miss::Absent | Miss::Damaged(_)) => false,
            Err(other) => panic!("{other}"),
        }
    }
}

fn key(number: u64) -> Key {
    Artifact::new(number, 0).key
}

/// So small that a few puts evict, and a few hundred bytes are a large entry.
fn small() -> DirectoryOptions {
    DirectoryOptions::new("test").budget_bytes(3500).segment_bytes(600).look_every(Duration::ZERO)
}

/// Ten entries in five segments, more than [`small`] allows; one of each segment is in use, so that it has to be written again.
fn ten_in_five_segments(disk: &CrashDisk) -> [Key; 5] {
    let store = DirectoryStore::over_disk(Arc::new(disk.clone()), &small().budget_bytes(10_000));
    (0..10).for_each(|number| store.put(&key(number), &Meta::default(), &[1; 40]).unwrap());
    store.sync().unwrap();
    assert_eq!(disk.list().unwrap().iter().filter(|name| name.ends_with(".seg")).count(), 5);
    [0, 2, 4, 6, 8].map(key)
}

fn options(folder: &tempfile::TempDir) -> DirectoryOptions {
    DirectoryOptions::new("test").dir(folder.path())
}

fn open(options: &DirectoryOptions) -> DirectoryStore {
    let store = DirectoryStore::open_strict(options).unwrap();
    store.validate();
    store
}

/// Bytes of all files below a folder.
fn bytes_below(folder: &std::path::Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        // What goes while we look takes nothing.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() { bytes_below(&entry.path()) } else { metadata.len() };
    }
    bytes
}
