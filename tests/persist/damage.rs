//! Flipped bits and cut files, over the files of real stores: what is found is right, or not found.

use crate::{Artifact, open, options};
use hapax::{DirectoryJournal, Fingerprint, Journal, Key, Store};
use std::path::{Path, PathBuf};

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// Damages a file in one of four ways.
fn damaged(original: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = original.to_vec();
    if bytes.is_empty() {
        return vec![random.below(256) as u8];
    }
    match random.below(4) {
        0 | 1 => {
            for _ in 0..=random.below(3) {
                let bit = random.below(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
        2 => bytes.truncate(random.below(bytes.len())),
        _ => {
            let start = random.below(bytes.len());
            let end = (start + 1 + random.below(64)).min(bytes.len());
            bytes[start..end].fill(random.below(256) as u8);
        }
    }
    bytes
}

/// 10,000 damages over a store's segments, sidecars, large entries and the list of uses.
#[test]
fn of_ten_thousand_damages_none_gives_wrong_bytes() {
    let artifacts: Vec<Artifact> = (0..24)
        .map(|number| Artifact::new(number, if number % 12 == 5 { 5000 } else { 60 + number as usize * 9 }))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let options = options(&folder).budget_bytes(256 << 10).segment_bytes(2048);
    for half in artifacts.chunks(12) {
        let store = open(&options);
        half.iter().for_each(|artifact| artifact.put(&store));
    }
    let files: Vec<(PathBuf, Vec<u8>)> =
        files_below(folder.path()).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    assert!(files.len() >= 8, "{files:?}");
    let total: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let keys: Vec<Key> = artifacts.iter().map(|artifact| artifact.key).collect();
    let (mut random, mut seen, mut found) = (Random(7), 0, 0);
    for _ in 0..10_000 {
        let mut at = random.below(total);
        let (path, original) = files
            .iter()
            .find(|(_, bytes)| {
                at < bytes.len() || {
                    at -= bytes.len();
                    false
                }
            })
            .unwrap();
        std::fs::write(path, damaged(original, &mut random)).unwrap();
        // Reading only, so that the next round finds the rest as it was. `is_in` checks the bytes.
        let store = open(&options.clone().read_only(true));
        let here = artifacts.iter().filter(|artifact| artifact.is_in(&store)).count();
        let together = open(&options.clone().read_only(true)).get_many(&keys);
        let right = together.iter().zip(&artifacts).filter(|(found, artifact)| {
            found.as_ref().is_ok_and(|record| {
                assert_eq!(**record, *artifact.payload, "wrong bytes");
                true
            })
        });
        assert_eq!(right.count(), here, "read together");
        assert!(here >= artifacts.len() - 12, "{here} left after damage to {}", path.display());
        found += here;
        seen += u64::from(here < artifacts.len() || store.stats().damaged > 0);
        drop(store);
        std::fs::write(path, original).unwrap();
    }
    assert!(seen > 5_000 && found > 200_000, "{seen} damages seen, {found} artifacts found");
}

#[test]
fn a_store_goes_on_after_damage_to_every_file() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(&folder).budget_bytes(256 << 10).segment_bytes(2048);
    let artifacts: Vec<Artifact> =
        (0..24).map(|number| Artifact::new(number, 50 + 200 * (number as usize % 5))).collect();
    let mut random = Random(11);
    for _ in 0..60 {
        {
            let store = open(&options);
            artifacts.iter().filter(|artifact| !artifact.is_in(&store)).for_each(|artifact| artifact.put(&store));
            assert!(artifacts.iter().all(|artifact| artifact.is_in(&store)));
            store.validate();
            store.gc().unwrap();
        }
        for path in files_below(folder.path()) {
            let original = std::fs::read(&path).unwrap();
            if random.below(2) == 0 {
                std::fs::write(&path, damaged(&original, &mut random)).unwrap();
            }
        }
    }
}

#[test]
fn a_damaged_journal_replays_what_is_intact_and_counts_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let name = |number: u64| Fingerprint::of("damage").part("number", number.to_le_bytes()).finish();
    for process in 0..3u64 {
        let journal = DirectoryJournal::open_strict(&options(&folder)).unwrap();
        for entry in 0..5 {
            journal.append(&name(process * 5 + entry), &[(process * 5 + entry) as u8; 40]).unwrap();
        }
        if process == 1 {
            journal.compact(&mut |entries| entries).unwrap();
        }
    }
    let files = files_below(folder.path());
    let mut random = Random(13);
    let mut counted = 0;
    for round in 0..2_000 {
        let path = &files[random.below(files.len())];
        let original = std::fs::read(path).unwrap();
        std::fs::write(path, damaged(&original, &mut random)).unwrap();
        let replay = DirectoryJournal::open_strict(&options(&folder)).unwrap().replay().unwrap();
        for entry in &replay.entries {
            let number = u64::from(entry.bytes[0]);
            assert!(
                entry.bytes == [number as u8; 40] && entry.fingerprint == name(number),
                "round {round}: wrong bytes"
            );
        }
        assert!(replay.entries.len() <= 15);
        counted += replay.damaged;
        std::fs::write(path, original).unwrap();
    }
    assert!(counted > 500, "{counted}");
}
