//! Entries that are in two segments for a moment, since a process writes them again before it removes the old one.

use crate::spy::Spy;
use crate::{key, small, ten_in_five_segments};
use hapax::{CrashDisk, DirectoryOptions, DirectoryStore, Disk, Meta, PowerLoss, Store};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn over(disk: &CrashDisk) -> DirectoryStore {
    DirectoryStore::over_disk(Arc::new(disk.clone()), &small())
}

/// Puts, with three favourites always in use, so that they are written again and again.
fn work(store: &DirectoryStore, round: u64, puts: u64) {
    for step in 0..puts {
        store.put(&key(round * 1000 + step), &Meta::default(), &[step as u8; 40]).unwrap();
        (0..3).for_each(|hot| drop(store.get(&key(round * 1000 + hot))));
    }
}

/// A process evicts and writes the hot again. Whenever it is about to remove a segment, another one opens.
#[test]
fn a_process_that_opens_during_an_eviction_finds_what_was_written_again() {
    let (mut lost, mut opened) = (0, 0);
    for round in 0..20 {
        let disk = CrashDisk::new();
        let (spy, watch) = Spy::on(disk.clone());
        let evicting = DirectoryStore::over_disk(spy, &small());
        let others: Arc<Mutex<Vec<DirectoryStore>>> = Arc::default();
        let (seen, at) = (others.clone(), disk.clone());
        watch.on_call(move |call, name| {
            if call == "remove" && name.ends_with(".seg") {
                seen.lock().unwrap().push(over(&at));
            }
        });
        work(&evicting, round, 60);
        let fresh = over(&disk);
        for other in others.lock().unwrap().iter() {
            opened += 1;
            other.refresh().unwrap();
            other.validate();
            let there = (0..60).map(|step| key(round * 1000 + step)).filter(|key| fresh.get(key).is_ok());
            lost += there.filter(|key| other.get(key).is_err()).count();
        }
    }
    assert!(opened > 100, "{opened} processes");
    assert_eq!(lost, 0, "entries that {opened} processes do not see, and a process that opens now does");
}

/// As before, and then the first process ends and the last that opened goes on: what goes must have been evicted.
#[test]
fn what_goes_after_that_was_evicted() {
    let (mut lost, mut unseen, mut went_on) = (0, 0, 0);
    for round in 0..60 {
        let disk = CrashDisk::new();
        let (spy, watch) = Spy::on(disk.clone());
        let evicting = DirectoryStore::over_disk(spy, &small());
        let newest: Arc<Mutex<Option<DirectoryStore>>> = Arc::default();
        let (seen, at) = (newest.clone(), disk.clone());
        watch.on_call(move |call, name| {
            if call == "remove" && name.ends_with(".seg") {
                *seen.lock().unwrap() = Some(over(&at));
            }
        });
        work(&evicting, round, 40 + round % 7);
        drop(evicting);
        let Some(other) = newest.lock().unwrap().take() else { continue };
        went_on += 1;
        other.refresh().unwrap();
        let there = || {
            let fresh = DirectoryStore::over_disk(Arc::new(disk.clone()), &small().read_only(true));
            (0..50).map(|step| key(round * 1000 + step)).filter(|key| fresh.get(key).is_ok()).collect::<Vec<_>>()
        };
        let before = there();
        unseen += before.iter().filter(|key| other.get(key).is_err()).count();
        for step in 100..115 {
            other.put(&key(round * 1000 + step), &Meta::default(), &[3; 40]).unwrap();
        }
        other.validate();
        let evicted = other.take_evicted();
        drop(other);
        let after = there();
        lost += before.iter().filter(|key| !after.contains(key) && !evicted.contains(key)).count();
    }
    assert!(went_on > 30, "{went_on}");
    assert_eq!((lost, unseen), (0, 0), "entries gone that nobody evicted, and entries not seen by who went on");
}

/// A process is killed between writing again and removing, and then one of the two segments is damaged.
#[test]
fn of_an_entry_in_two_segments_the_intact_place_is_found() {
    let disk = CrashDisk::new();
    let in_use = ten_in_five_segments(&disk);
    let (spy, watch) = Spy::on(disk.clone());
    let evicting = DirectoryStore::over_disk(spy, &small());
    let killed: Arc<Mutex<Vec<CrashDisk>>> = Arc::default();
    let (seen, at) = (killed.clone(), disk);
    watch.on_call(move |call, name| {
        if call == "remove" && name.ends_with(".seg") {
            seen.lock().unwrap().push(at.after_kill());
        }
    });
    in_use.iter().for_each(|key| assert!(evicting.get(key).is_ok()));
    evicting.put(&key(20), &Meta::default(), &[2; 40]).unwrap();
    assert!(evicting.stats().reinsertions > 0, "{:?}", evicting.stats());
    for killed in killed.lock().unwrap().iter() {
        let segments: Vec<String> = killed.list().unwrap().into_iter().filter(|name| name.ends_with(".seg")).collect();
        let survives_all = |key: &&hapax::Key| {
            segments.iter().all(|damaged| {
                let disk = killed.after_kill();
                let file = disk.open_held(damaged).unwrap().unwrap();
                // The header stays, and the sidecar, which says where the records are.
                file.write_at(16, &vec![0x55; file.bytes().unwrap() as usize - 16]).unwrap();
                over(&disk).get(key).is_ok()
            })
        };
        assert!(in_use.iter().filter(survives_all).count() > 0, "no entry was in two of {} segments", segments.len());
    }
    assert!(!killed.lock().unwrap().is_empty());
}

/// A process ends at any byte of an eviction, so that copies may be there that nobody has synced. The next one evicts the originals.
#[test]
fn what_was_synced_survives_who_ends_in_an_eviction_then_another_eviction_then_the_loss_of_power() {
    let evicting = |stop: u64| {
        let disk = CrashDisk::new();
        let in_use = ten_in_five_segments(&disk);
        let mut evicted = Vec::new();
        let first = over(&disk);
        in_use.iter().for_each(|key| assert!(first.get(key).is_ok()));
        let before = disk.steps();
        disk.stop_after(stop);
        let put = first.put(&key(20), &Meta::default(), &[2; 40]);
        evicted.extend(first.take_evicted());
        drop(first);
        (disk, in_use, evicted, put.is_ok().then_some(before))
    };
    let (disk, _, _, before) = evicting(1 << 40);
    let steps = disk.steps() - before.expect("it stops later");
    let mut survived = 0;
    for stop in (1..steps).step_by(3) {
        let (disk, in_use, mut evicted, _) = evicting(stop);
        disk.stop_after(1 << 40); // it goes on, for the next process
        let second = over(&disk);
        in_use.iter().for_each(|key| drop(second.get(key)));
        for number in 30..34 {
            second.put(&key(number), &Meta::default(), &[3; 40]).unwrap();
            in_use.iter().for_each(|key| drop(second.get(key)));
        }
        evicted.extend(second.take_evicted());
        for loss in [PowerLoss::KeepsSynced, PowerLoss::KeepsNames, PowerLoss::KeepsSome(stop)] {
            let after = over(&disk.after_power_loss(loss));
            for key in in_use.iter().filter(|key| !evicted.contains(key)) {
                let found = after.get(key).or_else(|_| after.get(key));
                assert!(found.is_ok(), "stopped after {stop} of {steps} steps, {loss:?}: {key:?} {found:?}");
                survived += 1;
            }
        }
    }
    assert!(survived > 1000, "{survived} of {steps} steps");
}

/// On the file system, without hooks: processes open while another one evicts.
#[test]
fn processes_that_open_while_another_evicts_see_what_a_later_one_sees() {
    let folder = tempfile::tempdir().unwrap();
    let options = DirectoryOptions::new("test").dir(folder.path()).budget_bytes(2 << 20);
    let evicting = DirectoryStore::open_strict(&options).unwrap();
    let done = AtomicBool::new(false);
    let others: Vec<DirectoryStore> = std::thread::scope(|scope| {
        let opener = scope.spawn(|| {
            let mut others = Vec::new();
            while !done.load(Ordering::Relaxed) && others.len() < 300 {
                others.push(DirectoryStore::open_strict(&options).unwrap());
                std::thread::sleep(Duration::from_millis(3));
            }
            others
        });
        for step in 0..5000u64 {
            evicting.put(&key(step), &Meta::default(), &[step as u8; 2000]).unwrap();
            // Every fifth stays in use for a while, among others that do not.
            let random = step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            drop(evicting.get(&key((step - step.min(random % 1500)) / 5 * 5)));
        }
        done.store(true, Ordering::Relaxed);
        opener.join().unwrap()
    });
    assert!(evicting.stats().reinsertions > 100, "{:?}", evicting.stats());
    let fresh = DirectoryStore::open_strict(&options).unwrap();
    let there: Vec<u64> = (0..5000).filter(|step| fresh.get(&key(*step)).is_ok()).collect();
    for (at, other) in others.iter().enumerate() {
        other.refresh().unwrap();
        other.validate();
        let unseen = there.iter().filter(|step| other.get(&key(**step)).is_err()).count();
        assert_eq!(unseen, 0, "of {} entries, by process {at} of {}", there.len(), others.len());
    }
}
