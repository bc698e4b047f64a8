//! Processes that share a directory: the test binary runs itself, as children that put, get, and are killed.
//!
//! A child says on its standard output what was acknowledged and what it evicted. It is line by line, so that a kill loses no
//! line that was written.

use crate::{Artifact, bytes_below, open};
use hapax::{DirectoryOptions, DirectoryStore, DiskFault, DiskFaults, Meta, Miss, Store};
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant, SystemTime};

/// Tells a child, which the test harness starts as any other test, what to be.
const ROLE: &str = "HAPAX_TEST_CHILD";

fn child(role: &str, test: &str, folder: &Path, number: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--quiet"])
        .env(ROLE, format!("{role} {number} {}", folder.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// The number and folder, if this process is a child in that role.
fn called_as(role: &str) -> Option<(u64, String)> {
    let told = std::env::var(ROLE).ok()?;
    let mut words = told.splitn(3, ' ');
    assert_eq!(words.next()?, role, "a child runs one test");
    Some((words.next()?.parse().ok()?, words.next()?.to_owned()))
}

fn shared(folder: &str, budget_bytes: u64) -> DirectoryOptions {
    DirectoryOptions::new("test").dir(folder).budget_bytes(budget_bytes).look_every(Duration::from_millis(5))
}

const BUDGET: u64 = 4 << 20;
const OPERATIONS: u64 = 5_000;
const PROCESSES: u64 = 4;
const ARTIFACTS: u64 = 4000;

/// Of every process the same, so that they replace and look up what others have put.
fn mixed_artifact(number: u64) -> Artifact {
    Artifact::new(number, if number % 100 == 0 { 40_000 } else { 200 + (number as usize * 131) % 3000 })
}

fn mixed_operations(number: u64, folder: &str) {
    let store = DirectoryStore::open_strict(&shared(folder, BUDGET)).unwrap();
    let mut state = number + 1;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut said = std::io::stdout().lock();
    for operation in 0..OPERATIONS {
        let artifact_number = random(ARTIFACTS);
        let artifact = mixed_artifact(artifact_number);
        if random(10) < 6 {
            // By the clock that all processes share: whether an eviction came after a put can be told from it.
            let begun = nanoseconds();
            artifact.put(&store);
            writeln!(said, "put {} {begun}", artifact.key.fingerprint).unwrap();
        } else {
            match store.get(&artifact.key) {
                Ok(record) => assert_eq!(*record, *artifact.payload, "wrong bytes"),
                Err(Miss::Absent) => {}
                Err(other) => panic!("operation {operation}: {other}"),
            }
        }
        for evicted in store.take_evicted() {
            writeln!(said, "evicted {} {}", evicted.fingerprint, nanoseconds()).unwrap();
        }
        if operation % 500 == 0 {
            store.validate();
            store.sync().unwrap();
        }
    }
    // When all are done, each says what it finds.
    writeln!(said, "done").unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
    store.refresh().unwrap();
    store.validate();
    for artifact in (0..ARTIFACTS).map(mixed_artifact).filter(|artifact| artifact.is_in(&store)) {
        writeln!(said, "found {}", artifact.key.fingerprint).unwrap();
    }
    let stats = store.stats();
    assert_eq!((stats.damaged, stats.unreadable, stats.refusals), (0, 0, 0), "{stats:?}");
    writeln!(said, "checked").unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

fn nanoseconds() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos()
}

/// What the files take while nobody changes them.
fn bytes_while_stopped(folder: &Path, children: &[Child]) -> u64 {
    let signal = |name: &str| {
        let ids = children.iter().map(|child| child.id().to_string());
        Command::new("kill").arg(format!("-{name}")).args(ids).stderr(Stdio::null()).status().unwrap();
    };
    signal("STOP");
    let bytes = bytes_below(folder);
    signal("CONT");
    bytes
}

#[test]
fn four_processes_lose_nothing_but_what_they_evict_and_keep_the_bound() {
    if let Some((number, folder)) = called_as("mixed") {
        return mixed_operations(number, &folder);
    }
    let folder = tempfile::tempdir().unwrap();
    let test = "processes::four_processes_lose_nothing_but_what_they_evict_and_keep_the_bound";
    let mut children: Vec<Child> = (0..PROCESSES).map(|number| child("mixed", test, folder.path(), number)).collect();
    let (says, said) = std::sync::mpsc::channel();
    for (number, child) in children.iter_mut().enumerate() {
        let (says, lines) = (says.clone(), BufReader::new(child.stdout.take().unwrap()).lines());
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| drop(says.send((number, line))));
            drop(says.send((number, "ended".to_owned())));
        });
    }
    drop(says);

    // By fingerprint: when the last put began, and when the last eviction was over.
    let (mut put, mut evicted) = (HashMap::<String, u128>::new(), HashMap::<String, u128>::new());
    let (mut done, mut checked, mut most) = (0, 0, 0);
    let mut found = vec![HashSet::new(); PROCESSES as usize];
    let mut measured = Instant::now();
    while checked < PROCESSES {
        let (number, line) = match said.recv_timeout(Duration::from_millis(5)) {
            Ok(said) => said,
            Err(RecvTimeoutError::Timeout) => (0, String::new()),
            Err(RecvTimeoutError::Disconnected) => unreachable!("all ended, which each has said"),
        };
        match line.split(' ').collect::<Vec<_>>()[..] {
            [what @ ("put" | "evicted"), fingerprint, when] => {
                let times = if what == "put" { &mut put } else { &mut evicted };
                let time = times.entry(fingerprint.to_owned()).or_default();
                *time = when.parse::<u128>().unwrap().max(*time);
            }
            ["found", fingerprint] => drop(found[number].insert(fingerprint.to_owned())),
            ["done"] => done += 1,
            ["checked"] => checked += 1,
            // The others wait for it, and end when this one does.
            ["ended"] => panic!("process {number} ended early"),
            _ => {}
        }
        if measured.elapsed() > Duration::from_millis(15) {
            most = most.max(bytes_while_stopped(folder.path(), &children));
            measured = Instant::now();
        }
        if done == PROCESSES {
            done = 0;
            most = most.max(bytes_below(folder.path()));
            children.iter_mut().for_each(|child| writeln!(child.stdin.as_mut().unwrap(), "check").unwrap());
        }
    }
    // Not even the lists of uses come on top of it.
    assert!(most <= BUDGET + PROCESSES * (BUDGET / 32), "{most} bytes");
    assert!(most > BUDGET / 10 * 9, "{most} bytes: the budget was never near");
    assert!(put.len() > 3000 && evicted.len() > 500, "{} put, {} evicted", put.len(), evicted.len());

    // What was put and not evicted since is found by each process, and by one that opens now. Of an evicted entry an older
    // put may come back where its bytes are still there; `is_in` checks that it is a put of that entry at all.
    let store = open(&shared(folder.path().to_str().unwrap(), BUDGET));
    let artifacts = (0..ARTIFACTS).map(mixed_artifact).filter(|artifact| artifact.is_in(&store));
    found.push(artifacts.map(|artifact| artifact.key.fingerprint.to_string()).collect());
    let kept = |(fingerprint, begun): &(&String, &u128)| evicted.get(*fingerprint).is_none_or(|ended| ended < *begun);
    let kept: Vec<&String> = put.iter().filter(kept).map(|(fingerprint, _)| fingerprint).collect();
    for (number, found) in found.iter().enumerate() {
        let lost = kept.iter().filter(|fingerprint| !found.contains(**fingerprint)).count();
        assert!(lost == 0, "process {number} does not find {lost} of {} entries put and not evicted", kept.len());
    }
    assert!(kept.len() > 500, "{} are left", kept.len());
    assert_eq!(store.stats().damaged, 0);
    drop(store);

    children.iter_mut().for_each(|child| drop(child.stdin.take()));
    let ended: Vec<bool> = children.iter_mut().map(|child| child.wait().unwrap().success()).collect();
    assert_eq!(ended, [true; PROCESSES as usize]);
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    if let Some((_, folder)) = called_as("killed") {
        let store = DirectoryStore::open_strict(&shared(&folder, 1 << 30)).unwrap();
        let mut said = std::io::stdout().lock();
        for number in 0.. {
            mixed_artifact(number).put(&store);
            writeln!(said, "{number}").unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut next = 0;
    for round in 0..5u64 {
        let mut child =
            child("killed", "processes::a_killed_process_loses_nothing_that_it_acknowledged", folder.path(), 0);
        let mut said = child.stdout.take().unwrap();
        std::thread::sleep(Duration::from_millis(300 + 70 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut lines = String::new();
        said.read_to_string(&mut lines).unwrap();
        let whole = lines.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let acknowledged = whole.lines().filter_map(|line| line.parse::<u64>().ok()).max().map_or(0, |last| last + 1);
        next = next.max(acknowledged);
        let store = open(&shared(folder.path().to_str().unwrap(), 1 << 30));
        let lost: Vec<u64> = (0..next).filter(|number| !mixed_artifact(*number).is_in(&store)).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?} of {next}");
        // A write that was cut off is no damage: nobody was told that it had happened.
        assert_eq!(store.stats().damaged, 0);
        // The next child replaces what is there, in segments of its own.
    }
    assert!(next > 100, "{next} entries in five rounds");
}

/// At each call to the file system in turn the child is killed, in the middle if it is a write; by itself, so that it is
/// exactly there.
#[test]
fn a_process_killed_at_any_write_loses_nothing_that_it_acknowledged() {
    const ENTRIES: u64 = 30;
    if let Some((kill_at, folder)) = called_as("boundary") {
        let options = shared(&folder, 64 << 10);
        let faults = DiskFaults::default();
        faults.fail_call(kill_at, DiskFault::Kill);
        let store = DirectoryStore::open_behind(&options, &faults).unwrap();
        let mut said = std::io::stdout().lock();
        for number in 0..ENTRIES {
            Artifact::new(number, if number % 10 == 9 { 1500 } else { 200 }).put(&store);
            writeln!(said, "{number}").unwrap();
        }
        store.sync().unwrap();
        drop(store);
        writeln!(said, "ended").unwrap();
        return;
    }
    let test = "processes::a_process_killed_at_any_write_loses_nothing_that_it_acknowledged";
    for kill_at in 1.. {
        let folder = tempfile::tempdir().unwrap();
        let mut child = child("boundary", test, folder.path(), kill_at);
        let mut lines = String::new();
        child.stdout.take().unwrap().read_to_string(&mut lines).unwrap();
        let killed = !child.wait().unwrap().success();
        let acknowledged = lines.lines().filter_map(|line| line.parse::<u64>().ok()).max().map_or(0, |last| last + 1);
        let store = open(&shared(folder.path().to_str().unwrap(), 64 << 10));
        for number in 0..acknowledged {
            let artifact = Artifact::new(number, if number % 10 == 9 { 1500 } else { 200 });
            assert!(artifact.is_in(&store), "killed at call {kill_at}: {number} of {acknowledged} is lost");
        }
        store.put(&Artifact::new(0, 0).key, &Meta::default(), b"after").unwrap();
        if !killed {
            assert!(lines.contains("ended") && kill_at > ENTRIES, "{kill_at} {lines}");
            return;
        }
    }
}
