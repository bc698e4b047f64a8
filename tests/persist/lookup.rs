//! What is found, and what is not touched, when the disk fails for a moment or another thread or process is in between.

use crate::spy::Spy;
use crate::{key, small, ten_in_five_segments};
use hapax::{CrashDisk, DirectoryOptions, DirectoryStore, Disk, Meta, Miss, PowerLoss, Store};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn over(disk: &CrashDisk, options: &DirectoryOptions) -> DirectoryStore {
    DirectoryStore::over_disk(Arc::new(disk.clone()), options)
}

fn with_five_entries() -> CrashDisk {
    let disk = CrashDisk::new();
    let store = over(&disk, &small());
    (0..5).for_each(|number| store.put(&key(number), &Meta::default(), &[1; 40]).unwrap());
    store.sync().unwrap();
    disk
}

#[test]
fn a_segment_that_cannot_be_read_for_a_moment_is_neither_collected_nor_evicted() {
    for opens in [false, true] {
        let disk = with_five_entries();
        let (spy, watch) = Spy::on(disk.clone());
        let failing = if opens { &watch.opens_fail } else { &watch.reads_fail };
        failing.store(true, Ordering::Relaxed);
        let store = DirectoryStore::over_disk(spy, &small());
        let collected = store.gc().unwrap();
        // Fills the budget, so that something must go.
        (10..40).for_each(|number| drop(store.put(&key(number), &Meta::default(), &[1; 40])));
        failing.store(false, Ordering::Relaxed);
        let left = (0..5).filter(|number| over(&disk, &small()).get(&key(*number)).is_ok()).count();
        assert_eq!(left, 5, "{collected:?}, opens fail: {opens}");
        // The store that could not read it can, once the disk works.
        store.refresh().unwrap();
        store.validate();
        assert!((0..5).all(|number| store.get(&key(number)).is_ok()), "opens fail: {opens}");
    }
}

/// An entry that is moved while a thread is about to open its old segment.
#[test]
fn a_lookup_beside_an_eviction_finds_what_was_written_again() {
    let disk = CrashDisk::new();
    let in_use = ten_in_five_segments(&disk);
    let (spy, watch) = Spy::on(disk);
    let store = Arc::new(DirectoryStore::over_disk(spy, &small().look_every(Duration::from_secs(3600))));
    let (mut once, busy) = (true, store.clone());
    watch.on_call(move |call, name| {
        if call == "open" && name.ends_with(".seg") && std::mem::take(&mut once) {
            // Another thread makes room, while this one has not opened the file yet.
            in_use.iter().for_each(|key| assert!(busy.get(key).is_ok()));
            busy.put(&key(20), &Meta::default(), &[2; 40]).unwrap();
        }
    });
    let found = store.get(&key(0)).map(|record| record.to_vec());
    assert_eq!(found, Ok(vec![1; 40]));
    assert!(store.stats().evictions > 0 && store.stats().reinsertions > 0, "{:?}", store.stats());
    let held: Vec<String> = in_use.iter().filter(|key| store.get(key).is_err()).map(|key| format!("{key:?}")).collect();
    assert!(held.is_empty(), "{held:?}");
    watch.on_call(|_, _| ()); // the one before keeps the store, which keeps it
}

/// A segment of an ended process with a damaged record and no sidecar.
#[test]
fn what_was_found_damaged_is_not_read_again_at_each_look() {
    let disk = CrashDisk::new();
    let options = DirectoryOptions::new("r").budget_bytes(64 << 20).look_every(Duration::ZERO);
    let store = over(&disk, &options);
    (0..1000).for_each(|number| store.put(&key(number), &Meta::default(), &[1; 1000]).unwrap());
    let killed = disk.after_kill();
    let name = killed.list().unwrap().into_iter().find(|name| name.ends_with(".seg")).unwrap();
    killed.open_held(&name).unwrap().unwrap().write_at(5000, b"damage").unwrap();
    let (spy, watch) = Spy::on(killed);
    let store = DirectoryStore::over_disk(spy, &options);
    let first = watch.bytes_read.swap(0, Ordering::Relaxed);
    for _ in 0..10 {
        assert!(matches!(store.get(&key(5000)), Err(Miss::Absent)));
    }
    let then = watch.bytes_read.load(Ordering::Relaxed);
    assert!(first > 1_000_000 && then < 1000, "{first} bytes read at opening, {then} by ten misses");
}

/// An intact record whose order is the greatest number, as in a pack that somebody made by hand.
#[test]
fn the_greatest_order_breaks_nothing() {
    let disk = CrashDisk::new();
    let mut bytes = b"HPXF\x01\0\x01\0".to_vec();
    bytes.extend(7u64.to_le_bytes());
    hapax::encode(&key(1), u64::MAX, &Meta::default(), b"x", &mut bytes).unwrap();
    bytes.resize(bytes.len().next_multiple_of(16), 0);
    disk.create("0000000000000007.seg").unwrap().write_at(0, &bytes).unwrap();
    let store = over(&disk, &small());
    assert!(store.get(&key(1)).is_ok());
    store.put(&key(2), &Meta::default(), b"y").unwrap();
    store.put(&key(1), &Meta::default(), b"z").unwrap();
    store.validate();
    for store in [&store, &over(&disk, &small())] {
        assert_eq!(*store.get(&key(1)).unwrap(), *b"z", "a put that was acknowledged");
    }
}

/// A synced entry is put again, as a warm set is from time to time, and power is lost. In a file of its own the older bytes
/// stay until the newer are synced.
#[test]
fn a_large_entry_that_is_put_again_survives_the_loss_of_power() {
    let disk = CrashDisk::new();
    let store = over(&disk, &small());
    store.put(&key(1), &Meta::default(), &[1; 300]).unwrap();
    store.sync().unwrap();
    store.put(&key(1), &Meta::default(), &[2; 300]).unwrap();
    let files = || disk.list().unwrap().into_iter().filter(|name| name.ends_with(".art")).count();
    assert_eq!(files(), 2);
    let after = over(&disk.after_power_loss(PowerLoss::KeepsNames), &small());
    // What it finds first is zeros; the file of them goes, and the next one is looked at.
    let found = after.get(&key(1)).or_else(|_| after.get(&key(1))).map(|record| record.to_vec());
    assert_eq!(found, Ok(vec![1; 300]));
    store.sync().unwrap();
    assert_eq!(files(), 1, "the newer is synced");
    assert_eq!(*over(&disk.after_power_loss(PowerLoss::KeepsSynced), &small()).get(&key(1)).unwrap(), [2; 300]);
}

/// No sync failed: a file could not be opened for a moment.
#[test]
fn a_moment_without_file_descriptors_does_not_end_syncing_for_ever() {
    let disk = CrashDisk::new();
    let (spy, watch) = Spy::on(disk.clone());
    let store = DirectoryStore::over_disk(spy, &small());
    store.put(&key(1), &Meta::default(), b"x").unwrap();
    watch.opens_fail.store(true, Ordering::Relaxed);
    assert!(store.sync().is_err());
    watch.opens_fail.store(false, Ordering::Relaxed);
    assert_eq!(store.sync(), Ok(()));
    assert!(over(&disk.after_power_loss(PowerLoss::KeepsSynced), &small()).get(&key(1)).is_ok());
}
