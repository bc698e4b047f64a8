//! Entries that are read together: what each gives is what it gives alone.

use crate::damage::files_below;
use crate::{Artifact, open, options};
use hapax::{
    CrashDisk, DirectoryOptions, DirectoryStore, DiskFault, FaultDisk, Key, LayeredStore, MemoryStore, Meta, Miss,
    Record, Store,
};
use std::sync::Arc;
use std::time::Duration;

/// Small ones, some above what is read together, some with a file of their own.
fn artifacts() -> Vec<Artifact> {
    let bytes = |number: u64| match number % 13 {
        5 => 40_000,
        7 => 70_000,
        11 => 300_000,
        _ => 100 + 30 * number as usize,
    };
    (0..60).map(|number| Artifact::new(number, bytes(number))).collect()
}

/// All keys in an order of their own, some twice, with keys that nobody has put.
fn keys(artifacts: &[Artifact]) -> Vec<Key> {
    let mut keys: Vec<Key> = (0..artifacts.len()).map(|at| artifacts[at * 37 % artifacts.len()].key).collect();
    keys.extend([artifacts[3].key, Artifact::new(1_000, 0).key, artifacts[3].key]);
    keys.insert(17, Artifact::new(1_001, 0).key);
    keys
}

fn put_all(artifacts: &[Artifact], store: &dyn Store) {
    artifacts.iter().for_each(|artifact| artifact.put(store));
}

fn payload(found: &Result<Record, Miss>) -> Result<&[u8], Miss> {
    found.as_ref().map(|record| &**record).map_err(|miss| *miss)
}

fn check(many: &[Result<Record, Miss>], keys: &[Key], each: &dyn Store) {
    assert_eq!(many.len(), keys.len());
    for (found, key) in many.iter().zip(keys) {
        let alone = each.get(key);
        assert_eq!(payload(found), payload(&alone));
        assert_eq!(found.as_ref().map(Record::meta).ok(), alone.as_ref().map(Record::meta).ok());
    }
}

#[test]
fn what_is_read_together_is_what_each_gives_alone_and_counts_the_same() {
    let (artifacts, folder) = (artifacts(), tempfile::tempdir().unwrap());
    let options = options(&folder).budget_bytes(64 << 20).segment_bytes(200_000);
    // Segments of two processes, the later one's still open.
    let (first, second) = artifacts.split_at(40);
    put_all(first, &open(&options));
    let still_open = open(&options);
    put_all(second, &still_open);
    let keys = keys(&artifacts);
    for store in [&open(&options), &still_open] {
        let each = open(&options.clone().read_only(true));
        check(&store.get_many(&keys), &keys, &each);
        let (many, each) = (store.stats(), each.stats());
        assert_eq!((many.hits, many.misses, many.damaged), (each.hits, each.misses, 0));
        assert_eq!((many.hits, many.misses), (62, 2));
        store.validate();
    }
    assert!(still_open.get_many(&[]).is_empty());
}

#[test]
fn each_counts_as_a_use() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(&folder).segment_bytes(2_000);
    let artifacts: Vec<Artifact> = (0..12).map(|number| Artifact::new(number, 300)).collect();
    put_all(&artifacts, &open(&options));
    let used: Vec<Key> = [7, 2, 9].map(|at: usize| artifacts[at].key).to_vec();
    open(&options).get_many(&used);
    let by_use: Vec<Key> = open(&options).entries().into_iter().map(|entry| entry.key).collect();
    assert_eq!(by_use[9..], used, "in the order in which they were asked for");
}

#[test]
fn what_another_process_has_put_meanwhile_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(&folder).look_every(Duration::ZERO);
    let artifacts: Vec<Artifact> = (0..8).map(|number| Artifact::new(number, 100)).collect();
    put_all(&artifacts[..1], &open(&options));
    let store = open(&options);
    let other = open(&options);
    put_all(&artifacts[1..], &other);
    let keys: Vec<Key> = artifacts.iter().map(|artifact| artifact.key).collect();
    assert!(store.get_many(&keys).iter().all(Result::is_ok));
    let stats = store.stats();
    assert_eq!((stats.hits, stats.misses), (8, 0));
}

#[test]
fn records_read_together_outlive_each_other_and_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let artifacts: Vec<Artifact> = (0..8).map(|number| Artifact::new(number, 100)).collect();
    let store = open(&options(&folder));
    put_all(&artifacts, &store);
    let keys: Vec<Key> = artifacts.iter().map(|artifact| artifact.key).collect();
    let mut records: Vec<Record> = store.get_many(&keys).into_iter().map(Result::unwrap).collect();
    store.clear().unwrap();
    drop(store);
    for artifact in artifacts.iter().rev() {
        assert_eq!(records.pop().unwrap().into_vec(), artifact.payload);
    }
}

#[test]
fn damage_to_one_is_a_miss_of_that_one_alone() {
    let folder = tempfile::tempdir().unwrap();
    let artifacts: Vec<Artifact> = (0..10).map(|number| Artifact::new(number, 150)).collect();
    let options = options(&folder);
    put_all(&artifacts, &open(&options));
    let keys: Vec<Key> = artifacts.iter().map(|artifact| artifact.key).collect();
    let files = files_below(folder.path());
    let segment = files.iter().find(|path| path.extension().is_some_and(|end| end == "seg")).unwrap();
    let intact = std::fs::read(segment).unwrap();
    for at in 0..intact.len() {
        let mut bytes = intact.clone();
        bytes[at] ^= 0x10;
        std::fs::write(segment, &bytes).unwrap();
        let store = open(&options.clone().read_only(true));
        let many = store.get_many(&keys);
        check(&many, &keys, &open(&options.clone().read_only(true)));
        let damaged = many.iter().filter(|found| matches!(found, Err(Miss::Damaged(_)))).count();
        assert_eq!(
            (many.iter().filter(|found| found.is_ok()).count(), store.stats().damaged),
            (10 - damaged, damaged as u64)
        );
        assert!(damaged <= 1, "{damaged} damaged by byte {at}");
        assert_eq!(store.get(&keys[0]).is_ok(), many[0].is_ok(), "it is not looked at again");
    }
    for length in (0..intact.len()).step_by(7) {
        std::fs::write(segment, &intact[..length]).unwrap();
        let (store, each) = (open(&options.clone().read_only(true)), open(&options.clone().read_only(true)));
        check(&store.get_many(&keys), &keys, &each);
        assert_eq!(store.stats().damaged, each.stats().damaged, "cut at {length}");
    }
}

#[test]
fn a_read_that_fails_takes_no_other_entry_with_it() {
    let small = DirectoryOptions::new("many").budget_bytes(64 << 10).segment_bytes(3_000);
    let artifacts: Vec<Artifact> =
        (0..30).map(|number| Artifact::new(number, if number % 9 == 4 { 1_500 } else { 100 })).collect();
    let below = CrashDisk::new();
    put_all(&artifacts, &DirectoryStore::over_disk(Arc::new(below.clone()), &small));
    let keys = keys(&artifacts);
    let expected = open_over(&below, &small).get_many(&keys);
    let faulty = || {
        let (disk, faults) = FaultDisk::new(below.clone());
        (DirectoryStore::over_disk(Arc::new(disk), &small.clone().read_only(true)), faults)
    };
    let calls = {
        let (store, faults) = faulty();
        let opened = faults.calls();
        store.get_many(&keys);
        faults.calls() - opened
    };
    assert!(calls >= 8, "{calls}");
    for nth in 1..=calls {
        let (store, faults) = faulty();
        faults.fail_call(nth, DiskFault::Broken);
        let many = store.get_many(&keys);
        let differing: Vec<_> = (0..keys.len()).filter(|at| payload(&many[*at]) != payload(&expected[*at])).collect();
        assert!(differing.len() <= 1, "{} lost by call {nth}", differing.len());
        assert!(differing.iter().all(|at| many[*at].as_ref().is_err_and(|miss| *miss == Miss::Unreadable)));
        // It may be readable the next time.
        check(&store.get_many(&keys), &keys, &open_over(&below, &small));

        let (store, faults) = faulty();
        faults.fail_from(nth, DiskFault::Broken);
        for (found, expected) in store.get_many(&keys).iter().zip(&expected) {
            assert!(payload(found) == payload(expected) || matches!(found, Err(Miss::Unreadable)));
        }
    }
}

fn open_over(disk: &CrashDisk, options: &DirectoryOptions) -> DirectoryStore {
    DirectoryStore::over_disk(Arc::new(disk.clone()), &options.clone().read_only(true))
}

#[test]
fn layers_and_memory_give_the_same() {
    let (folder, artifacts) = (tempfile::tempdir().unwrap(), artifacts());
    let (pack, own) = (MemoryStore::new(16 << 20), Arc::new(open(&options(&folder))));
    for (number, artifact) in artifacts.iter().enumerate() {
        match number % 3 {
            0 => artifact.put(&pack),
            1 => artifact.put(&*own),
            _ => {
                // Hidden by the layer above.
                pack.put(&artifact.key, &Meta::default(), b"below").unwrap();
                artifact.put(&*own);
            }
        }
    }
    let layers = || LayeredStore::new(own.clone(), vec![Arc::new(MemoryStore::new(1 << 20)), Arc::new(pack.clone())]);
    let keys = keys(&artifacts);
    let (store, before) = (layers(), own.stats());
    let many = store.get_many(&keys);
    let after = store.stats();
    assert_eq!((after.hits - before.hits, after.misses - before.misses), (62, 2));
    check(&many, &keys, &layers());
    check(&pack.get_many(&keys), &keys, &pack);
}

#[test]
fn a_record_that_is_kept_stays_what_it_is_while_others_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let artifacts: Vec<Artifact> = (0..300).map(|number| Artifact::new(number, 2_000)).collect();
    put_all(&artifacts, &open(&options(&folder)));
    let store = open(&options(&folder));
    let keys: Vec<Key> = artifacts.iter().map(|artifact| artifact.key).collect();
    // All, some of what is read together, all of it here and there, and none.
    let keeps: [fn(usize) -> bool; 4] = [|_| true, |at| at % 7 == 0, |at| at / 50 % 2 == 0, |_| false];
    for keeps in keeps {
        let (mut given, mut kept) = (vec![0; keys.len()], Vec::new());
        store.get_each(&keys, &mut |at, record| {
            let record = record.unwrap();
            assert_eq!(*record, artifacts[at].payload);
            given[at] += 1;
            kept.extend(keeps(at).then_some((at, record)));
        });
        assert_eq!(given, vec![1; keys.len()]);
        assert!(kept.iter().all(|(at, record)| **record == artifacts[*at].payload));
    }
}
