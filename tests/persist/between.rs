//! What other processes, and other threads, do between two calls of this one. Each is legal, so nothing may be lost, missed or
//! said to be damaged for it.

use crate::spy::Spy;
use crate::{key, small};
use hapax::{
    Compacted, CrashDisk, DirectoryJournal, DirectoryOptions, DirectoryStore, Disk, Fingerprint, Journal, JournalEntry,
    Key, Meta, Store,
};
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn over(disk: &CrashDisk, options: &DirectoryOptions) -> DirectoryStore {
    DirectoryStore::over_disk(Arc::new(disk.clone()), options)
}

/// Who looks at nothing unless it must.
fn incurious() -> DirectoryOptions {
    small().look_every(Duration::from_secs(3600))
}

fn put(store: &DirectoryStore, number: u64) {
    store.put(&key(number), &Meta::default(), &[number as u8; 40]).unwrap();
}

fn named(disk: &CrashDisk, end: &str) -> Vec<String> {
    disk.list().unwrap().into_iter().filter(|name| name.ends_with(end)).collect()
}

fn contents(disk: &CrashDisk, name: &str) -> Vec<u8> {
    let (file, mut bytes) = (disk.open(name).unwrap(), Vec::new());
    file.read_at(0, file.bytes().unwrap() as usize, &mut bytes).unwrap();
    bytes
}

fn has(disk: &CrashDisk, name: &str, key: &Key) -> bool {
    contents(disk, name).windows(32).any(|bytes| bytes == key.fingerprint.as_bytes())
}

/// Somebody who finds an entry in two segments may remove one of them and count on the other.
#[test]
fn what_was_written_again_is_held_until_its_first_segment_is_gone() {
    let keys: Vec<Key> = (0..300).map(key).collect();
    let (says, said) = channel();
    for round in 0..12 {
        let disk = CrashDisk::new();
        let (spy, watch) = Spy::on(disk.clone());
        let evicting = DirectoryStore::over_disk(spy, &small().budget_bytes(82_000).segment_bytes(1500));
        let (all, says) = (keys.clone(), says.clone());
        watch.on_call(move |call, gone| {
            if call != "remove" || !gone.ends_with(".seg") {
                return;
            }
            let goes: Vec<&Key> = all.iter().filter(|key| has(&disk, gone, key)).collect();
            for copied in named(&disk, ".seg").iter().filter(|name| *name != gone) {
                if goes.iter().any(|key| has(&disk, copied, key)) {
                    let is_sealed = disk.bytes(&copied.replace(".seg", ".idx")).is_ok();
                    says.send((is_sealed, disk.open_held(copied).unwrap().is_none())).unwrap();
                }
            }
        });
        let put = |key, bytes: usize| evicting.put(key, &Meta::default(), &vec![1; bytes]).unwrap();
        keys.iter().for_each(|key| put(key, 40));
        // Two of three stay in use, so that they have to be written again. A very large entry needs room for which several
        // segments go at once.
        (0..300).filter(|at| at % 3 > 0).for_each(|at| drop(evicting.get(&keys[at])));
        put(&key(1000), 10_000 + 2_000 * round);
    }
    drop(says);
    let said: Vec<(bool, bool)> = said.iter().collect();
    let sealed = said.iter().filter(|(is_sealed, _)| *is_sealed).count();
    assert!(sealed > 4, "{} copies, {sealed} in a sealed segment", said.len());
    assert!(said.iter().all(|(_, is_held)| *is_held), "{said:?}");
}

/// One who drops a segment as it is finds an entry in another one that is gone since it looked.
#[test]
fn an_eviction_counts_what_only_seems_to_be_elsewhere_and_what_another_thread_has_seen_gone() {
    let disk = CrashDisk::new();
    let (spy, watch) = Spy::on(disk.clone());
    let store = Arc::new(DirectoryStore::over_disk(spy, &small()));
    let here = Arc::downgrade(&store);
    watch.on_call(move |call, name| {
        if call == "remove" && name.ends_with(".idx") {
            // The segment itself is gone by now.
            here.upgrade().unwrap().refresh().unwrap();
        }
    });
    (0..60).for_each(|number| put(&store, number));
    let stats = store.stats();
    assert_eq!(
        (stats.evictions + stats.entries, store.take_evicted().len() as u64),
        (60, stats.evictions),
        "{stats:?}"
    );
    assert!(stats.evictions > 30);
}

/// A process began a segment and was killed; the next goes on with it while a third is about to remove it as empty.
#[test]
fn a_segment_that_is_no_longer_empty_is_not_collected() {
    let disk = CrashDisk::new();
    let (spy, watch) = Spy::on(disk.clone());
    let begun = Arc::new(Mutex::new(true));
    let (at, once) = (disk.clone(), begun.clone());
    watch.on_call(move |call, name| {
        if call == "open" && name.ends_with(".seg") && std::mem::take(&mut *once.lock().unwrap()) {
            at.stop_after(0);
        }
    });
    assert!(DirectoryStore::over_disk(spy, &small()).put(&key(0), &Meta::default(), &[0; 40]).is_err());
    let disk = disk.after_kill();
    assert_eq!(named(&disk, ".seg").iter().map(|name| disk.bytes(name).unwrap()).collect::<Vec<_>>(), [16]);

    let (spy, watch) = Spy::on(disk.clone());
    let collecting = Arc::new(DirectoryStore::over_disk(spy, &small()));
    let (at, here) = (disk.clone(), Arc::downgrade(&collecting));
    let mut once = true;
    watch.on_call(move |call, name| {
        if call == "open_held" && name.ends_with(".seg") && std::mem::take(&mut once) {
            put(&over(&at, &small()), 7);
            here.upgrade().unwrap().refresh().unwrap(); // another thread
        }
    });
    collecting.gc().unwrap();
    assert_eq!(named(&disk, ".seg").len(), 1, "it was gone on with");
    assert!(collecting.get(&key(7)).is_ok() && over(&disk, &small()).get(&key(7)).is_ok());
}

/// The numbers of processes that see little of each other lie apart.
#[test]
fn what_was_put_after_an_eviction_is_found_though_its_number_is_lower() {
    let disk = CrashDisk::new();
    let behind = over(&disk, &incurious());
    let ahead = over(&disk, &incurious());
    (0..2).for_each(|_| drop(ahead.get(&key(1))));
    put(&ahead, 1);
    let looking = over(&disk, &incurious());
    assert!(looking.get(&key(1)).is_ok());
    // Some process evicts it.
    named(&disk, ".seg").iter().for_each(|name| disk.remove(name).unwrap());
    put(&behind, 1);
    looking.refresh().unwrap();
    looking.validate();
    assert!(looking.get(&key(1)).is_ok());
}

/// Another process puts the same entry and evicts it, in the middle of a put that had its number before.
#[test]
fn a_put_is_not_lost_behind_a_later_one_that_is_gone() {
    let disk = CrashDisk::new();
    let options = incurious().budget_bytes(100_000);
    let ahead = over(&disk, &options);
    put(&ahead, 10);
    let (spy, watch) = Spy::on(disk.clone());
    let store = Arc::new(DirectoryStore::over_disk(spy, &options));
    assert!(store.get(&key(10)).is_ok(), "a use to write down");
    (11..20).for_each(|number| put(&ahead, number));
    let (beside, theirs) = (store.clone(), disk.clone());
    let (says, said) = channel();
    watch.on_call(move |call, name| {
        if call == "rename" && name == "recency" {
            put(&ahead, 1);
            beside.refresh().unwrap(); // which another thread may do at any time
            let gone = named(&theirs, ".seg").into_iter().find(|name| has(&theirs, name, &key(1))).unwrap();
            theirs.remove(&gone).unwrap();
            says.send(()).unwrap();
        }
    });
    put(&store, 1);
    said.try_recv().expect("another process was at it in the middle of the put");
    assert!(store.get(&key(1)).is_ok());
    watch.on_call(|_, _| ()); // the one before keeps the store, which keeps it
    drop(store);
    assert!(over(&disk, &small()).get(&key(1)).is_ok(), "nor is it left out of what lists the segment");
}

/// The listing still names a segment that goes before it is read, and what it is copied to was read by then.
#[test]
fn a_look_during_an_eviction_finds_what_is_written_again() {
    let disk = CrashDisk::new();
    let two = [over(&disk, &small()), over(&disk, &small())];
    two.iter().zip([1, 2]).for_each(|(store, number)| put(store, number));
    let disk = disk.after_kill();
    let (spy, watch) = Spy::on(disk.clone());
    let looking = DirectoryStore::over_disk(spy, &incurious());
    let (segments, at, mut once) = (named(&disk, ".seg"), disk.clone(), true);
    watch.on_call(move |call, name| {
        if call == "bytes" && name == segments[1] && std::mem::take(&mut once) {
            let copied = at.open_held(&segments[0]).unwrap().unwrap();
            copied.write_at(copied.bytes().unwrap(), &contents(&at, name)[16..]).unwrap();
            at.remove(name).unwrap();
        }
    });
    looking.refresh().unwrap();
    looking.validate();
    assert_eq!(named(&disk, ".seg").len(), 1);
    assert!(looking.get(&key(1)).is_ok() && looking.get(&key(2)).is_ok());
}

/// Two threads look up what another process has written again. One looks for it, and the other one comes back with nothing.
#[test]
fn a_thread_finds_what_has_moved_while_another_one_looks() {
    let disk = CrashDisk::new();
    let two = [over(&disk, &small()), over(&disk, &small())];
    two.iter().zip([1, 2]).for_each(|(store, number)| put(store, number));
    drop(two);
    let (spy, watch) = Spy::on(disk.clone());
    let store = Arc::new(DirectoryStore::over_disk(spy, &incurious()));
    // In the order in which they are read.
    let segments = named(&disk, ".seg");
    let (moves, stays) = if has(&disk, &segments[0], &key(1)) { (1, 2) } else { (2, 1) };
    // Some process writes one again and removes the old segment.
    disk.remove(&segments[0]).unwrap();
    put(&over(&disk, &small()), moves);

    let (lists, listing) = channel();
    let (go_on, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    watch.on_list({
        let lists = lists.clone();
        move || {
            lists.send(()).unwrap();
            if std::thread::current().name() == Some("other") {
                wait.lock().unwrap().recv().unwrap();
            }
        }
    });
    let (here, mut once) = (store.clone(), Some(()));
    let other: Arc<Mutex<Option<std::thread::JoinHandle<()>>>> = Arc::default();
    let (started, listing) = (other.clone(), Mutex::new(listing));
    watch.on_call(move |call, name| {
        if call == "open" && name == segments[1] && once.take().is_some() {
            let (store, ends) = (here.clone(), lists.clone());
            let run = move || {
                drop(store.get(&key(99)));
                let _ = ends.send(());
            };
            *started.lock().unwrap() = Some(std::thread::Builder::new().name("other".into()).spawn(run).unwrap());
            // It lists, or has found that nobody need.
            listing.lock().unwrap().recv().unwrap();
        }
    });
    let found = store.get_many(&[key(moves), key(stays)]);
    let _ = go_on.send(());
    if let Some(other) = other.lock().unwrap().take() {
        other.join().unwrap();
    }
    watch.on_call(|_, _| ()); // the one before keeps the store, which keeps it
    assert!(found.iter().all(Result::is_ok), "{found:?}");
}

/// A process goes on with a segment and seals it again, and another one removes a sidecar, while a third looks at them first.
#[test]
fn a_sidecar_that_changes_while_it_is_read_is_no_damage() {
    let calls: [(&'static str, &'static str); 3] = [("open", ".idx"), ("bytes", ".seg"), ("bytes", ".idx")];
    for removes in [false, true] {
        for (at_call, of) in calls {
            let disk = CrashDisk::new();
            let roomy = small().budget_bytes(100_000).segment_bytes(4000);
            put(&over(&disk, &roomy), 1);
            let (spy, watch) = Spy::on(disk.clone());
            let (beside, options, mut once) = (disk.clone(), roomy.clone(), true);
            watch.on_call(move |call, name| {
                if call == at_call && name.ends_with(of) && std::mem::take(&mut once) {
                    if removes {
                        named(&beside, ".idx").iter().for_each(|name| beside.remove(name).unwrap());
                    } else {
                        put(&over(&beside, &options), 2);
                    }
                }
            });
            let looking = DirectoryStore::over_disk(spy, &roomy);
            assert_eq!(named(&disk, ".seg").len(), 1, "it was gone on with");
            looking.validate();
            assert!(looking.get(&key(1)).is_ok() && looking.get(&key(2)).is_ok() != removes);
            assert_eq!(looking.stats().damaged, 0, "{at_call} of {of}, removed: {removes}");
        }
    }
}

fn journal(disk: &CrashDisk) -> DirectoryJournal {
    DirectoryJournal::over_disk(Arc::new(disk.clone()))
}

fn append(journal: &DirectoryJournal, text: &str) {
    journal.append(&Fingerprint::of("between").finish(), text.as_bytes()).unwrap();
}

fn texts(journal: &DirectoryJournal) -> Vec<String> {
    let entries = journal.replay().unwrap().entries;
    let mut texts: Vec<String> = entries.into_iter().map(|entry| String::from_utf8(entry.bytes).unwrap()).collect();
    texts.sort();
    texts
}

fn same(entries: Vec<JournalEntry>) -> Vec<JournalEntry> {
    entries
}

#[test]
fn what_is_cleared_during_a_fold_does_not_come_back() {
    for (at_call, of) in [("open", ".base"), ("open_held", ".log"), ("create", ".tmp"), ("rename", ".base")] {
        let disk = CrashDisk::new();
        append(&journal(&disk), "folded");
        journal(&disk).compact(&mut same).unwrap();
        append(&journal(&disk), "old");
        let (spy, watch) = Spy::on(disk.clone());
        let (beside, mut once) = (disk.clone(), true);
        watch.on_call(move |call, name| {
            if call == at_call && name.ends_with(of) && std::mem::take(&mut once) {
                journal(&beside).clear().unwrap();
                append(&journal(&beside), "new");
            }
        });
        assert_eq!(DirectoryJournal::over_disk(spy).compact(&mut same), Ok(Compacted::Busy), "{at_call} of {of}");
        assert_eq!(texts(&journal(&disk)), ["new"], "{at_call} of {of}");
        assert!(named(&disk, ".tmp").is_empty());
    }
}

#[test]
fn a_fold_whose_file_is_taken_makes_another() {
    let disk = CrashDisk::new();
    append(&journal(&disk), "a");
    let (spy, watch) = Spy::on(disk.clone());
    drop(disk.create("lock").unwrap());
    watch.creates_taken.store(2, Ordering::Relaxed);
    let folded = DirectoryJournal::over_disk(spy).compact(&mut same);
    assert!(matches!(folded, Ok(Compacted::Done { entries_before: 1, .. })), "{folded:?}");
    assert_eq!(watch.creates_taken.load(Ordering::Relaxed), 0);
    assert_eq!(texts(&journal(&disk)), ["a"]);
}

/// A process has made a log and does not hold it yet; a fold takes it, and is killed before it removes it.
#[test]
fn what_goes_to_a_log_that_a_killed_fold_has_held_is_seen() {
    let scratch = CrashDisk::new();
    append(&journal(&scratch), "acknowledged");
    let log = named(&scratch, ".log").remove(0);
    let disk = CrashDisk::new();
    append(&journal(&disk), "folded");
    drop(disk.create(&log).unwrap());
    let (spy, watch) = Spy::on(disk.clone());
    let at = disk.clone();
    watch.on_call(move |call, name| {
        if call == "remove" && name.ends_with(".log") {
            at.stop_after(0);
        }
    });
    let _ = DirectoryJournal::over_disk(spy).compact(&mut same);
    let disk = disk.after_kill();
    let made = disk.open_held(&log).unwrap().expect("nobody holds it any more");
    made.write_at(0, &contents(&scratch, &log)).unwrap();
    assert_eq!(texts(&journal(&disk)), ["acknowledged", "folded"]);
    drop(made);
    journal(&disk).compact(&mut same).unwrap();
    assert_eq!(texts(&journal(&disk)), ["acknowledged", "folded"]);
}

#[test]
fn a_replay_ends_though_others_fold_without_pause() {
    let disk = CrashDisk::new();
    append(&journal(&disk), "a");
    journal(&disk).compact(&mut same).unwrap();
    let (spy, watch) = Spy::on(disk.clone());
    let beside = disk.clone();
    watch.on_call(move |call, name| {
        if call == "open" && name.ends_with(".base") {
            journal(&beside).compact(&mut same).unwrap();
        }
    });
    assert_eq!(texts(&DirectoryJournal::over_disk(spy)), ["a"]);
}
