//! One process after the other.

use crate::{Artifact, bytes_below, open, options};
use hapax::{DirectoryOptions, Fingerprint, Key, Kind, LayeredStore, Meta, Miss, Refusal, Store};
use std::sync::Arc;

const SMALL: usize = 1000;
const LARGE: usize = 400_000;

#[test]
fn what_was_put_is_there_after_a_restart_small_and_large() {
    let folder = tempfile::tempdir().unwrap();
    let artifacts: Vec<Artifact> =
        (0..200).map(|number| Artifact::new(number, if number % 20 == 0 { LARGE } else { SMALL })).collect();
    let store = open(&options(&folder));
    artifacts.iter().for_each(|artifact| artifact.put(&store));
    let before = store.stats();
    drop(store);
    for _ in 0..2 {
        let store = open(&options(&folder));
        assert!(artifacts.iter().all(|artifact| artifact.is_in(&store)));
        let stats = store.stats();
        assert_eq!((stats.entries, stats.damaged, stats.misses), (200, 0, 0));
        assert!(stats.resident_bytes >= before.resident_bytes, "sizes survive");
        assert!(stats.resident_bytes.abs_diff(bytes_below(folder.path())) <= 100, "and are those of the files");
    }
}

#[test]
fn what_is_known_of_an_artifact_comes_back_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let artifact = Artifact::new(1, 10);
    let hinted_as = Some(Fingerprint::of("hints").finish());
    let meta = Meta { label: "kernel".to_owned(), compile_ns: 5, written_unix_s: 7, hinted_as };
    open(&options(&folder)).put(&artifact.key, &meta, &artifact.payload).unwrap();
    let record = open(&options(&folder)).get(&artifact.key).unwrap();
    assert_eq!(*record.meta(), meta);
    assert_eq!(record.into_vec(), artifact.payload);
}

#[test]
fn gc_seals_what_a_process_that_never_drops_its_store_and_a_killed_one_leave() {
    let folder = tempfile::tempdir().unwrap();
    let artifacts: Vec<Artifact> = (0..40).map(|number| Artifact::new(number, SMALL)).collect();
    let sidecars = || -> Vec<std::path::PathBuf> {
        let code = options(&folder).path().unwrap().join("code");
        let files = std::fs::read_dir(code).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|extension| extension == "idx")).collect()
    };
    let store = open(&options(&folder));
    artifacts[..20].iter().for_each(|artifact| artifact.put(&store));
    assert_eq!(sidecars().len(), 0);
    store.gc().unwrap();
    assert_eq!(sidecars().len(), 1, "its own");
    artifacts[20..].iter().for_each(|artifact| artifact.put(&store));
    assert!(artifacts.iter().all(|artifact| artifact.is_in(&store)), "it goes on in the same segment");
    drop(store);

    std::fs::remove_file(&sidecars()[0]).unwrap(); // as if it had been killed
    let store = open(&options(&folder));
    store.gc().unwrap();
    assert_eq!(sidecars().len(), 1, "that of another");
    store.validate();
    assert!(store.stats().resident_bytes.abs_diff(bytes_below(folder.path())) <= 100, "and it counts");
    drop(store);
    let store = open(&options(&folder));
    assert!(artifacts.iter().all(|artifact| artifact.is_in(&store)));
    assert_eq!((store.stats().entries, store.stats().damaged), (40, 0));
}

#[test]
fn kinds_of_one_fingerprint_are_entries_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let artifact = Artifact::new(1, 10);
    let store = open(&options(&folder));
    artifact.put(&store);
    let ir = Key::new(Kind::IR, artifact.key.fingerprint);
    assert_eq!(store.get(&ir).unwrap_err(), Miss::Absent);
    store.put(&ir, &Meta::default(), b"ir").unwrap();
    assert_eq!(*store.get(&ir).unwrap(), *b"ir");
    assert!(artifact.is_in(&store));
}

#[test]
fn the_last_put_of_a_key_is_the_one_that_is_found_after_restarts_whatever_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let key = Artifact::new(1, 0).key;
    let sizes = [SMALL, 2 * SMALL, LARGE, 2 * LARGE, SMALL, LARGE, 0];
    for (round, size) in sizes.into_iter().enumerate() {
        let payload = vec![round as u8; size];
        let store = open(&options(&folder));
        store.put(&key, &Meta::default(), &payload).unwrap();
        assert_eq!(*store.get(&key).unwrap(), *payload, "round {round}");
        assert_eq!(store.stats().entries, 1);
        drop(store);
        assert_eq!(*open(&options(&folder)).get(&key).unwrap(), *payload, "round {round}, next process");
    }
}

#[test]
fn many_short_processes_share_few_files() {
    let folder = tempfile::tempdir().unwrap();
    let artifacts: Vec<Artifact> = (0..50).map(|number| Artifact::new(number, SMALL)).collect();
    for artifact in &artifacts {
        artifact.put(&open(&options(&folder)));
    }
    let store = open(&options(&folder));
    assert!(artifacts.iter().all(|artifact| artifact.is_in(&store)));
    let code = folder.path().join(private_folder()).join("v1/code");
    let files = std::fs::read_dir(code).unwrap().count();
    assert!(files <= 3, "{files} files"); // one segment, its sidecar, the recency list
}

#[test]
fn a_bound_is_kept_over_restarts_and_what_was_used_last_stays() {
    const BUDGET: u64 = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let options = options(&folder).budget_bytes(BUDGET);
    let favourite = Artifact::new(1_000_000, SMALL);
    favourite.put(&open(&options));
    let mut number = 0;
    for _ in 0..20 {
        let store = open(&options);
        for _ in 0..200 {
            Artifact::new(number, SMALL).put(&store);
            number += 1;
        }
        assert!(favourite.is_in(&store), "used in each process, so it is never among the oldest");
        store.validate();
        drop(store);
        let bytes = bytes_below(folder.path());
        assert!(bytes <= BUDGET + BUDGET / 32 + 200_000 / 4, "{bytes} bytes after {number} puts");
    }
    let store = open(&options);
    // The latest half of the budget is all there, in whatever segments it was.
    let expected = BUDGET / 2 / (SMALL as u64 + 100);
    let kept = (number - expected..number).filter(|number| Artifact::new(*number, SMALL).is_in(&store)).count() as u64;
    assert_eq!(kept, expected);
    let old = (0..number / 2).filter(|number| Artifact::new(*number, SMALL).is_in(&store)).count();
    assert!(old <= 40, "{old} of the older half are left"); // those that share a segment with what stays
}

#[test]
fn a_smaller_budget_counts_from_the_next_put_or_collection_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&options(&folder).budget_bytes(8 << 20));
    (0..4000).for_each(|number| Artifact::new(number, SMALL).put(&store));
    drop(store);
    let before = bytes_below(folder.path());
    let store = open(&options(&folder).budget_bytes(1 << 20));
    let collected = store.gc().unwrap();
    let after = bytes_below(folder.path());
    assert!(before > 4_000_000 && after <= (1 << 20) + (1 << 15), "{before} {after}");
    assert!(collected.bytes >= 3_000_000, "{collected:?}");
    assert!(Artifact::new(3999, SMALL).is_in(&store));
}

#[test]
fn an_entry_above_the_budget_is_refused_and_evicts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&options(&folder).budget_bytes(1 << 20));
    let artifact = Artifact::new(1, SMALL);
    artifact.put(&store);
    let refused = store.put(&Artifact::new(2, 0).key, &Meta::default(), &vec![0; 1 << 20]);
    assert!(matches!(refused, Err(Refusal::Oversize { .. })), "{refused:?}");
    assert!(artifact.is_in(&store));
    assert_eq!((store.stats().refusals, store.stats().evictions), (1, 0));
}

#[test]
fn clear_removes_entries_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&options(&folder));
    let (small, large) = (Artifact::new(1, SMALL), Artifact::new(2, LARGE));
    small.put(&store);
    large.put(&store);
    let code = folder.path().join(private_folder()).join("v1/code");
    for foreign in ["README", "x.seg", "0000000000000001.SEG", "0000000000000001.seg.bak"] {
        std::fs::write(code.join(foreign), "foreign").unwrap();
    }
    store.clear().unwrap();
    assert!(!small.is_in(&store) && !large.is_in(&store));
    assert_eq!(store.stats().resident_bytes, 0);
    let left = std::fs::read_dir(&code).unwrap().count();
    assert_eq!(left, 4);
    small.put(&store);
    drop(store);
    assert!(small.is_in(&open(&options(&folder))));
}

#[test]
fn collecting_removes_what_crashes_left_and_no_entry() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&options(&folder));
    let artifact = Artifact::new(1, SMALL);
    artifact.put(&store);
    let code = folder.path().join(private_folder()).join("v1/code");
    for left_behind in ["0000000000000001-00000010.tmp", "0000000000000002.idx", "0000000000000003.seg"] {
        std::fs::write(code.join(left_behind), "torn").unwrap();
    }
    assert_eq!(store.gc().unwrap().files, 3);
    assert!(artifact.is_in(&store));
    assert_eq!(store.gc().unwrap().files, 0);
}

#[test]
fn a_second_store_sees_what_the_first_puts() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (open(&options(&folder)), open(&options(&folder)));
    for (number, size) in [(1, SMALL), (2, LARGE), (3, SMALL)] {
        let artifact = Artifact::new(number, size);
        assert!(!artifact.is_in(&other));
        artifact.put(&one);
        other.refresh().unwrap();
        assert!(artifact.is_in(&other), "{number}");
        other.validate();
    }
    one.clear().unwrap();
    other.refresh().unwrap();
    assert_eq!(other.stats().entries, 0);
    // What it goes on to put is not written into a file that is gone.
    let artifact = Artifact::new(4, SMALL);
    artifact.put(&other);
    one.refresh().unwrap();
    assert!(artifact.is_in(&one));
}

#[test]
fn a_pack_is_read_below_a_store_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let pack = DirectoryOptions::pack(folder.path().join("pack"));
    let artifacts: Vec<Artifact> = (0..3).map(|number| Artifact::new(number, SMALL)).collect();
    let [in_both, in_pack, own] = &artifacts[..] else { unreachable!() };
    {
        let making = open(&pack);
        in_both.put(&making);
        in_pack.put(&making);
    }
    let below = Arc::new(open(&pack.read_only(true)));
    let top = Arc::new(open(&options(&folder)));
    let store = LayeredStore::new(top.clone(), vec![below.clone()]);
    in_both.put(&store);
    own.put(&store);
    assert!(artifacts.iter().all(|artifact| artifact.is_in(&store)));
    assert_eq!(store.entries().iter().map(|entry| entry.key).collect::<Vec<_>>(), [in_pack.key, in_both.key, own.key]);
    assert_eq!((store.stats().hits, store.stats().misses), (3, 0));
    store.clear().unwrap();
    assert!(in_pack.is_in(&store) && in_both.is_in(&store) && !own.is_in(&store));
    assert_eq!(below.stats().entries, 2);
}

fn private_folder() -> String {
    use std::os::unix::fs::MetadataExt;
    format!("test-{}", std::fs::metadata("/proc/self").unwrap().uid())
}
