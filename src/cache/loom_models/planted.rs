//! Bugs planted in the index's own source, each of which a model must catch. So that a model that passes says
//! something.
//!
//! Each case is a process of its own that runs one of the models' tests with one bug: loom panics inside
//! destructors, which aborts.

use crate::cache::planted::{Bug, on::plant};
use std::process::Command;

const VARIABLE: &str = "HAPAX_PLANTED_BUG";

const BUGS: [Bug; 8] = [
    Bug::LeaseOutsideLock,
    Bug::IgnoredLease,
    Bug::RelaxedRelease,
    Bug::DoubleReturn,
    Bug::LostWakeUp,
    Bug::SlotReused,
    Bug::BudgetRace,
    Bug::LockOrder,
];

/// In a process of `assert_caught`'s, plants its bug.
pub(super) fn plant_from_environment() {
    let name = std::env::var(VARIABLE).ok();
    plant(name.map(|name| *BUGS.iter().find(|bug| format!("{bug:?}") == name).expect("one of the bugs")));
}

const DATA_RACE: &str = "Causality violation: Concurrent read and write accesses";
const DEADLOCK: &str = "deadlock; threads";

/// The test of this path passes; with the bug it must fail, and say so in these words.
fn assert_caught(bug: Bug, test: &str, words: &str) {
    let path = format!("{}::{test}", module_path!().rsplit_once("::").unwrap().0.split_once("::").unwrap().1);
    let program = std::env::current_exe().unwrap();
    let ran = Command::new(program)
        .args([&path, "--exact", "--nocapture"])
        .env(VARIABLE, format!("{bug:?}"))
        .env_remove("RUST_BACKTRACE")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    assert!(output.contains("running 1 test"), "no test is called {path}:\n{output}");
    assert!(!ran.status.success(), "{path} did not catch {bug:?}:\n{output}");
    assert!(output.contains(words), "{path} failed with {bug:?}, but not by {words:?}:\n{output}");
}
