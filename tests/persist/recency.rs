//! The order of use, over processes that live, end and are killed; and what a process sees that only hits.

use crate::{bytes_below, key, options};
use hapax::{DirectoryStore, Meta, Miss, Store};
use std::process::{Command, Stdio};
use std::time::Duration;

const BUDGET: u64 = 1 << 20;

/// An application that keeps its store in a `static`, or ends by `exit` or a signal: no drop runs. Runs that use one entry
/// all the time alternate with runs that only put, a third of the budget each.
#[test]
fn the_order_of_use_survives_processes_that_end_without_a_drop() {
    const TOLD: &str = "HAPAX_TEST_EXIT";
    if let Ok(told) = std::env::var(TOLD) {
        let mut words = told.splitn(3, ' ');
        let mut next = || words.next().unwrap().to_owned();
        let (round, ends, folder) = (next().parse::<u64>().unwrap(), next(), next());
        let options = hapax::DirectoryOptions::new("test").dir(folder).budget_bytes(BUDGET);
        let store = DirectoryStore::open_strict(&options).unwrap();
        if round == 0 {
            store.put(&key(0), &Meta::default(), &[0; 1000]).unwrap();
        }
        let mut there = true;
        if round % 2 == 0 {
            (0..100).for_each(|_| there &= store.get(&key(0)).is_ok());
        } else {
            (0..300).for_each(|at| store.put(&key(1 + round * 300 + at), &Meta::default(), &[1; 1000]).unwrap());
        }
        store.sync().unwrap();
        if ends == "drops" {
            drop(store);
        }
        std::process::exit(if there { 0 } else { 77 });
    }
    for ends in ["drops", "exits"] {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..16 {
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["recency::the_order_of_use_survives_processes_that_end_without_a_drop", "--exact"])
                .env(TOLD, format!("{round} {ends} {}", folder.path().display()))
                .stdout(Stdio::null())
                .status()
                .unwrap();
            assert_eq!(status.code(), Some(0), "{ends}, run {round}: what every other run uses all the time is gone");
        }
        assert!(bytes_below(folder.path()) > BUDGET / 2, "it fills the budget");
    }
}

/// An entry is evicted only if it and those used more recently take three quarters of the budget, whoever uses them.
#[test]
fn what_another_process_uses_all_the_time_is_not_evicted() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(&folder).budget_bytes(BUDGET);
    let [writer, reader] = [(); 2].map(|()| DirectoryStore::open_strict(&options).unwrap());
    writer.put(&key(0), &Meta::default(), &[0; 1000]).unwrap();
    reader.refresh().unwrap();
    for number in 1..4000 {
        writer.put(&key(number), &Meta::default(), &[1; 1000]).unwrap();
        if number % 10 == 0 {
            reader.refresh().unwrap();
            assert!(reader.get(&key(0)).is_ok(), "evicted after {number} puts of another process, used every ten");
        }
    }
    assert!(writer.stats().evictions > 1000);
}

/// As before, without a call but the lookups: a process that only hits tells what it uses, and sees what others do.
#[test]
fn a_process_that_only_hits_tells_others_what_it_uses() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(&folder).budget_bytes(BUDGET);
    let writer = DirectoryStore::open_strict(&options).unwrap();
    writer.put(&key(0), &Meta::default(), &[0; 1000]).unwrap();
    let reader = DirectoryStore::open_strict(&options.clone().look_every(Duration::ZERO)).unwrap();
    for number in 1..4000 {
        writer.put(&key(number), &Meta::default(), &[1; 1000]).unwrap();
        if number % 5 == 0 {
            assert!(reader.get(&key(0)).is_ok());
        }
    }
    assert!(writer.stats().evictions > 1000);
    // What a process has open it finds even if it is gone, so another one is asked.
    assert!(!writer.take_evicted().contains(&key(0)), "evicted, and used all the time by a process that hits");
    assert!(writer.get(&key(0)).is_ok());
}

/// Somebody runs `hapax clear`, since the code is wrong. A process that only hits has the file open.
#[test]
fn what_was_cleared_is_not_found_for_long_by_a_process_that_only_hits() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(&folder).look_every(Duration::from_micros(10));
    let [one, other] = [(); 2].map(|()| DirectoryStore::open_strict(&options).unwrap());
    one.put(&key(1), &Meta::default(), b"wrong code").unwrap();
    other.refresh().unwrap();
    assert!(other.get(&key(1)).is_ok());
    one.clear().unwrap();
    std::thread::sleep(Duration::from_millis(2)); // more than a hundred times as long as a miss waits
    let found = (0..100).map_while(|_| other.get(&key(1)).ok()).count();
    assert!(found <= 16, "{found} hits after the clear");
    assert_eq!(other.get(&key(1)).unwrap_err(), Miss::Absent);
}
