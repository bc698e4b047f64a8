//! Real processes on one directory: this test program runs itself again.

use super::{open, unit};
use hapax::{DirectoryOptions, HintOptions};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PROCESSES: u64 = 4;
const ROUNDS: u64 = 3_000;
const UNITS: u64 = 50;
const FOLDER: &str = "HAPAX_TEST_HINTS_FOLDER";
const NUMBER: &str = "HAPAX_TEST_HINTS_NUMBER";
/// What the child prints when it has been told that all is written.
const WRITTEN: &str = "all is written";

fn options(folder: &str) -> HintOptions {
    HintOptions::new(&DirectoryOptions::new("processes").dir(folder))
}

/// Does nothing unless another test here started it.
#[test]
fn child() {
    let (Ok(folder), Ok(number)) = (std::env::var(FOLDER), std::env::var(NUMBER)) else { return };
    let number: u64 = number.parse().unwrap();
    let hints = open(options(&folder));
    for round in 0..ROUNDS {
        let name = unit((round + number) % UNITS);
        if round % 3 == 0 {
            hints.record_compile(&name, 1, Duration::from_nanos(number + 1));
        } else {
            hints.record_hit(&name);
        }
        match (round + 17 * number) % 50 {
            0..5 => hints.flush().unwrap(),
            10 => hints.refresh().unwrap(),
            // Others are at it, too.
            20 => hints.gc().unwrap(),
            _ => {}
        }
    }
    hints.flush().unwrap();
    hints.record_hit(&unit(UNITS)); // never written
    println!("\n{WRITTEN}");
    // Until it is killed; or until whoever was to do that is gone. An end in order would write.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    std::process::abort();
}

fn start(folder: &str, number: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["processes::child", "--exact", "--nocapture"])
        .env(FOLDER, folder)
        .env(NUMBER, number.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn what_killed_processes_wrote_adds_up() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let mut children: Vec<Child> = (0..PROCESSES).map(|number| start(folder, number)).collect();
    for child in &mut children {
        let output = BufReader::new(child.stdout.take().unwrap());
        let written = output.lines().any(|line| line.unwrap() == WRITTEN);
        child.kill().unwrap(); // SIGKILL: nothing in it runs any more
        child.wait().unwrap();
        assert!(written, "a child failed");
    }
    for folded in [false, true] {
        let hints = open(options(folder));
        let all: Vec<_> = (0..UNITS).map(|number| hints.get(&unit(number)).unwrap()).collect();
        let sum = |of: fn(&hapax::Hint) -> u64| all.iter().map(of).sum::<u64>();
        assert_eq!(sum(|hint| hint.compile_count), PROCESSES * ROUNDS / 3, "folded: {folded}");
        assert_eq!(sum(|hint| hint.hits), PROCESSES * ROUNDS / 3 * 2);
        assert_eq!(sum(|hint| hint.compile_ns), ROUNDS / 3 * (1..=PROCESSES).sum::<u64>());
        assert_eq!(all.iter().map(|hint| hint.compile_ns_min).min(), Some(1));
        assert_eq!((hints.get(&unit(UNITS)), hints.stats().damaged), (None, 0));
        hints.gc().unwrap();
    }
}
