//! When the stand-in runs what the suites submit: lazily, and in another process late.

use super::driver::{Chosen, chosen};
use cuda_standin::Mode;
use std::process::Command;

/// What a suite runs in when nothing is said.
const FIRST: Mode = Mode::Lazy;
const THEN: [Mode; 2] = [Mode::Late(1), Mode::Late(7)];
/// Suites on a device that runs nothing until the test says so.
const CHOOSES_ITSELF: [&str; 2] = ["late", "left_behind"];
const VARIABLE: &str = "HAPAX_SUITE_MODE";

pub fn mode() -> Mode {
    std::env::var(VARIABLE).map_or(FIRST, |mode| mode.parse().expect("a mode of the stand-in"))
}

/// The suite again, in processes of its own, as the driver's state is one for each.
#[test]
fn the_suite_holds_under_late_schedules_too() {
    if CHOOSES_ITSELF.contains(&env!("CARGO_CRATE_NAME")) {
        println!("skipped: this suite chooses its schedules itself");
        return;
    }
    if chosen() == Chosen::Card {
        println!("skipped: a card has its own schedule");
        return;
    }
    if std::env::var_os(VARIABLE).is_some() {
        return; // this is the suite again
    }
    let suite = std::env::current_exe().expect("a test knows where it is");
    let runs = THEN.map(|mode| (mode, Command::new(&suite).env(VARIABLE, mode.to_string()).output()));
    for (mode, run) in runs {
        let run = run.expect("it ran once");
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "in mode {mode}:\n{text}\n{}", String::from_utf8_lossy(&run.stderr));
        assert!(text.contains("test result: ok.") && !text.contains(" 0 passed"), "in mode {mode}:\n{text}");
    }
}
