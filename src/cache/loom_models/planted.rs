//! Bugs planted in the index's own source, each of which a model must catch: only then does it say something
//! that the model passes.
//!
//! Each case is a process of its own that runs one of the models' tests with one bug: loom panics inside
//! destructors, which aborts.

use crate::cache::planted::{Bug, on::plant};
use std::process::Command;

const VARIABLE: &str = "HAPAX_PLANTED_BUG";

const BUGS: [Bug; 18] = [
    Bug::LeaseOutsideLock,
    Bug::IgnoredLease,
    Bug::RelaxedRelease,
    Bug::DoubleReturn,
    Bug::LostWakeUp,
    Bug::SlotReused,
    Bug::BudgetRace,
    Bug::LockOrder,
    Bug::RelaxedShare,
    Bug::WaitRace,
    Bug::ClosedInTwoSteps,
    Bug::PinOfClosed,
    Bug::KeyUnchecked,
    Bug::RelaxedOpen,
    Bug::RelaxedPin,
    Bug::RelaxedGrowth,
    Bug::OpenedBeforePassed,
    Bug::UntoldRelease,
];

/// In a process of `assert_caught`'s, plants its bug.
pub(super) fn plant_from_environment() {
    let name = std::env::var(VARIABLE).ok();
    plant(name.map(|name| *BUGS.iter().find(|bug| format!("{bug:?}") == name).expect("one of the bugs")));
}

const DATA_RACE: &str = "Causality violation: Concurrent read and write accesses";
const DEADLOCK: &str = "deadlock; threads";

#[test]
fn loom_a_lease_taken_outside_of_the_lock_is_caught() {
    assert_caught(Bug::LeaseOutsideLock, "residents::loom_a_leased_entry_is_not_evicted", DATA_RACE);
}

#[test]
fn loom_an_eviction_that_ignores_leases_is_caught() {
    assert_caught(Bug::IgnoredLease, "residents::loom_a_lease_shared_between_threads_holds_until_the_last", DATA_RACE);
}

#[test]
fn loom_a_release_that_orders_nothing_is_caught() {
    assert_caught(Bug::RelaxedRelease, "residents::loom_a_leased_entry_is_not_evicted", DATA_RACE);
}

#[test]
fn loom_a_retired_entry_queued_twice_is_caught() {
    let words = "a retired entry stays until it is collected";
    assert_caught(Bug::DoubleReturn, "residents::loom_two_late_releases_queue_a_retired_entry_once", words);
}

#[test]
fn loom_a_lost_wake_up_is_caught() {
    assert_caught(Bug::LostWakeUp, "fills::loom_of_two_lookups_one_fills_and_the_other_hits", DEADLOCK);
}

#[test]
fn loom_a_release_that_trusts_its_slot_is_caught() {
    let words = "slot 0 is at (queued, aside, passed)";
    assert_caught(Bug::SlotReused, "residents::loom_a_passed_entry_is_released_used_and_evicted_at_once", words);
}

#[test]
fn loom_room_used_after_the_lock_was_let_go_is_caught() {
    let words = "120 bytes used of a budget of 100";
    assert_caught(Bug::BudgetRace, "residents::loom_two_inserts_and_an_onlooker_stay_within_the_budget", words);
}

#[test]
fn loom_two_locks_in_the_wrong_order_are_caught() {
    assert_caught(Bug::LockOrder, "fills::loom_a_vacancy_given_up_goes_to_who_waits", DEADLOCK);
}

#[test]
fn loom_a_share_that_misses_leases_is_caught() {
    let words = "they are being forgotten";
    assert_caught(Bug::RelaxedShare, "residents::loom_a_lease_is_shared_while_another_thread_uses_the_entry", words);
}

/// One cache's lock would hide it: the cycle has to go over two.
#[test]
fn loom_a_wait_that_is_checked_and_entered_in_two_steps_is_caught() {
    assert_caught(Bug::WaitRace, "fills::loom_a_cycle_of_two_fillers_over_two_caches_is_refused_once", DEADLOCK);
}

#[test]
fn loom_relaxed_what_is_set_aside_and_opened_before_it_is_flagged_is_caught() {
    assert_caught(
        Bug::OpenedBeforePassed,
        "relaxed::loom_relaxed_a_hit_beside_a_refusal_and_what_it_set_aside",
        DATA_RACE,
    );
}

#[test]
fn loom_relaxed_a_lease_given_back_untold_is_caught() {
    let model = "relaxed::loom_relaxed_a_retired_entry_met_by_a_lookup_of_another_key_comes_out";
    assert_caught(Bug::UntoldRelease, model, "no lease is left");
}

#[test]
fn loom_relaxed_a_victim_closed_in_a_second_step_is_caught() {
    assert_caught(Bug::ClosedInTwoSteps, "relaxed::loom_relaxed_a_leased_entry_is_not_evicted", DATA_RACE);
}

#[test]
fn loom_relaxed_a_hit_on_what_is_closed_is_caught() {
    assert_caught(Bug::PinOfClosed, "relaxed::loom_relaxed_a_leased_entry_is_not_evicted", DATA_RACE);
}

#[test]
fn loom_relaxed_a_key_that_is_not_compared_is_caught() {
    let test = "relaxed::loom_relaxed_a_hit_does_not_take_the_slots_next_entry_for_its_own";
    assert_caught(Bug::KeyUnchecked, test, "the entry of another key");
}

#[test]
fn loom_relaxed_an_entry_opened_before_it_is_written_is_caught() {
    let test = "relaxed::loom_relaxed_a_hit_does_not_take_the_slots_next_entry_for_its_own";
    assert_caught(Bug::RelaxedOpen, test, DATA_RACE);
}

#[test]
fn loom_relaxed_a_lease_that_is_not_ordered_before_its_read_is_caught() {
    let test = "relaxed::loom_relaxed_a_hit_does_not_take_the_slots_next_entry_for_its_own";
    assert_caught(Bug::RelaxedPin, test, DATA_RACE);
}

#[test]
fn loom_relaxed_a_larger_table_shown_before_it_is_filled_is_caught() {
    let words = "Causality violation";
    assert_caught(Bug::RelaxedGrowth, "relaxed::loom_relaxed_a_hit_beside_a_table_that_grows_is_a_hit", words);
}

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
