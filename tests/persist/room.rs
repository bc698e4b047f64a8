//! What stays under the budget, what it costs, and what is left behind.

use crate::spy::Spy;
use crate::{key, small};
use hapax::{CrashDisk, DirectoryOptions, DirectoryStore, Disk, Meta, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn bytes_on(disk: &CrashDisk) -> u64 {
    disk.list().unwrap().iter().map(|name| disk.bytes(name).unwrap()).sum()
}

/// What lists an entry takes 64 bytes beside it, and 42 in the list of uses: more than a small one itself.
#[test]
fn entries_of_any_size_keep_the_bound_and_are_written_few_times() {
    const BUDGET: u64 = 256 << 10;
    const SEGMENT: u64 = BUDGET / 32;
    for payload in [40u64, 90, 200, 450, 900, 2000] {
        for uses in [0, 2] {
            let disk = CrashDisk::new();
            let options = DirectoryOptions::new("r").budget_bytes(BUDGET);
            let store = DirectoryStore::over_disk(Arc::new(disk.clone()), &options);
            let puts = 2 * BUDGET / (payload + 80);
            let mut most = 0;
            for number in 0..puts {
                store.put(&key(number), &Meta::default(), &vec![1; payload as usize]).unwrap();
                // Of the older ones some are used again, so that segments hold what stays beside what goes.
                for at in 0..uses {
                    let back = (number * 7919 + at * 104_729) % (BUDGET / (payload + 80));
                    drop(store.get(&key(number.saturating_sub(back) / 4 * 4)));
                }
                if number % 20 == 0 {
                    most = most.max(bytes_on(&disk));
                }
            }
            store.validate();
            let stats = store.stats();
            let times = disk.steps() as f64 / (puts * (payload + 80)) as f64;
            let told = format!(
                "payload {payload}, {uses} uses a put: at most {:.3} of the budget, {times:.2} times what was put; {} evicted, {} \
                 written again, {} there",
                most as f64 / BUDGET as f64,
                stats.evictions,
                stats.reinsertions,
                stats.entries,
            );
            println!("{told}");
            assert!(most <= BUDGET + SEGMENT, "{told}");
            assert!(times <= if uses == 0 { 2.0 } else { 4.0 }, "{told}");
            // Three quarters, with 64 and 42 bytes for the lists.
            assert!(stats.entries * (payload + 80 + 64 + 42) >= BUDGET / 4 * 3, "{told}");
        }
    }
}

/// Large entries are files of their own; those who write them are killed in the middle.
#[test]
fn what_killed_writers_leave_goes_when_room_is_made() {
    const BUDGET: u64 = 256 << 10;
    let options = DirectoryOptions::new("r").budget_bytes(BUDGET);
    let mut disk = CrashDisk::new();
    for round in 0..6u64 {
        let store = DirectoryStore::over_disk(Arc::new(disk.clone()), &options);
        disk.stop_after(20_000);
        assert!(store.put(&key(1_000_000 + round), &Meta::default(), &[7; 40_000]).is_err());
        disk = disk.after_kill();
    }
    let work = |disk: CrashDisk| {
        let store = DirectoryStore::over_disk(Arc::new(disk.clone()), &options);
        let before = disk.steps();
        for number in 0..1000 {
            store.put(&key(number), &Meta::default(), &[1; 500]).unwrap();
        }
        let there = (0..1000).filter(|number| store.get(&key(*number)).is_ok()).count();
        (disk.steps() - before, bytes_on(&disk), there)
    };
    let (fresh, after) = (work(CrashDisk::new()), work(disk.clone()));
    let told = format!("(bytes written, bytes of files, entries): {fresh:?}, and after six kills {after:?}");
    assert!(after.0 <= fresh.0 + fresh.0 / 10 && after.1 <= BUDGET + BUDGET / 32, "{told}");
    assert!(after.2 + 20 >= fresh.2, "{told}");
    assert!(!disk.list().unwrap().iter().any(|name| name.ends_with(".tmp")), "{told}");
}

#[test]
fn beside_a_very_large_entry_the_most_recently_used_stay() {
    let folder = tempfile::tempdir().unwrap();
    let options = DirectoryOptions::new("r").dir(folder.path()).budget_bytes(1 << 20);
    let store = DirectoryStore::open_strict(&options).unwrap();
    (0..700).for_each(|number| store.put(&key(number), &Meta::default(), &[1; 1000]).unwrap());
    store.put(&key(5000), &Meta::default(), &vec![2; 790_000]).unwrap();
    let left: Vec<u64> = (0..700).filter(|number| store.get(&key(*number)).is_ok()).collect();
    let latest = left.iter().filter(|number| **number >= 600).count();
    assert!(latest >= 60, "{} are left, of the latest hundred {latest}: {left:?}", left.len());
}

/// Two processes compile the same large unit at once; the times they note differ in length.
#[test]
fn two_puts_of_one_large_key_at_once_leave_one_file() {
    let disk = CrashDisk::new();
    let (spy, watch) = Spy::on(disk.clone());
    let one = DirectoryStore::over_disk(spy, &small());
    let other = Arc::new(DirectoryStore::over_disk(Arc::new(disk.clone()), &small()));
    let put = |store: &DirectoryStore, compile_ns| {
        store.put(&key(1), &Meta { compile_ns, ..Meta::default() }, &[1; 400]).unwrap();
    };
    let (mut once, beside) = (true, other.clone());
    watch.on_call(move |call, name| {
        if call == "rename" && name.ends_with(".art") && std::mem::take(&mut once) {
            put(&beside, 5_000_000_000);
        }
    });
    put(&one, 4_000_000_000);
    for store in [&one, &*other] {
        store.refresh().unwrap();
        store.validate();
        assert_eq!(store.stats().resident_bytes, bytes_on(&disk), "all is counted");
        assert!(store.get(&key(1)).is_ok());
    }
    one.gc().unwrap();
    let files: Vec<String> = disk.list().unwrap().into_iter().filter(|name| name.ends_with(".art")).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    assert!(one.get(&key(1)).is_ok() && other.get(&key(1)).is_ok());
}

/// A writer makes a file, then holds it: whoever removes it must hold it till then, or the writer would take it for its own.
#[test]
fn a_file_that_was_left_behind_is_held_until_it_is_gone() {
    let mut disk = CrashDisk::new();
    let killed = DirectoryStore::over_disk(Arc::new(disk.clone()), &small());
    disk.stop_after(100);
    assert!(killed.put(&key(1), &Meta::default(), &[7; 400]).is_err());
    disk = disk.after_kill();
    let left_behind = |disk: &CrashDisk| disk.list().unwrap().iter().filter(|name| name.ends_with(".tmp")).count();
    assert_eq!(left_behind(&disk), 1);

    let (spy, watch) = Spy::on(disk.clone());
    let store = DirectoryStore::over_disk(spy, &small());
    let (of_writer, removed) = (disk.clone(), Arc::new(AtomicBool::new(false)));
    let seen = removed.clone();
    watch.on_call(move |call, name| {
        if call == "remove" && name.ends_with(".tmp") {
            assert!(of_writer.open_held(name).unwrap().is_none(), "{name} could be taken before it went");
            seen.store(true, Ordering::Relaxed);
        }
    });
    store.gc().unwrap();
    assert!(removed.load(Ordering::Relaxed));
    assert_eq!(left_behind(&disk), 0);
}

#[test]
fn a_put_beside_a_clear_is_written_after_it() {
    for (last_call, file, bytes) in [("rename", ".art", 400), ("open", ".seg", 40)] {
        let disk = CrashDisk::new();
        let (spy, watch) = Spy::on(disk.clone());
        let one = DirectoryStore::over_disk(spy, &small());
        let other = DirectoryStore::over_disk(Arc::new(disk.clone()), &small());
        let clears = Arc::new(AtomicU64::new(2));
        let left = clears.clone();
        watch.on_call(move |call, name| {
            if call == last_call && name.ends_with(file) && left.load(Ordering::Relaxed) > 0 {
                left.fetch_sub(1, Ordering::Relaxed);
                other.clear().unwrap();
            }
        });
        one.put(&key(1), &Meta::default(), &vec![1; bytes]).unwrap();
        assert_eq!(clears.load(Ordering::Relaxed), 0);
        one.validate();
        assert_eq!(one.stats().resident_bytes, bytes_on(&disk), "all is counted");
        assert_eq!(*one.get(&key(1)).unwrap(), vec![1; bytes]);
        assert!(!disk.list().unwrap().iter().any(|name| name.ends_with(".tmp")));
    }
}

/// A store of 600 segments stands for one of 10 GiB, whose segments are of 16 MiB.
#[test]
fn many_segments_do_not_take_a_file_descriptor_each() {
    const SEGMENTS: u64 = 600;
    let folder = tempfile::tempdir().unwrap();
    let options = DirectoryOptions::new("r").dir(folder.path()).budget_bytes(1 << 30).segment_bytes(4096);
    let of_store = || {
        let files = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let targets = files.filter_map(|file| std::fs::read_link(file.path()).ok());
        targets.filter(|target| target.starts_with(folder.path())).count()
    };
    let store = DirectoryStore::open_strict(&options).unwrap();
    for number in 0..SEGMENTS * 3 {
        store.put(&key(number), &Meta::default(), &[1; 900]).unwrap();
    }
    let written = of_store();
    store.validate();
    drop(store);
    let store = DirectoryStore::open_strict(&options).unwrap();
    (0..SEGMENTS * 3).for_each(|number| assert!(store.get(&key(number)).is_ok()));
    let read = of_store();
    store.validate();
    assert!((10..=70).contains(&written) && (10..=70).contains(&read), "{written} by the writer, {read} by a reader");
}
