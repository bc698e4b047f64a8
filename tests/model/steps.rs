//! What a run does to a cache, one call at a time, and how such runs are drawn.

use hapax::{Mode, Policy};
use proptest::prelude::*;

/// The limit of every run's heap: more than a run ever holds, so that only the cache refuses.
pub const LIMIT_BYTES: u64 = 4096;
pub const KEYS: u32 = 9;
const MOST_BUDGET_BYTES: u64 = 60;

#[derive(Debug, Clone)]
pub struct Setup {
    pub policy: Policy,
    pub mode: Mode,
    pub granule_bytes: u64,
    pub budget_bytes: u64,
    pub max_entries: Option<usize>,
}

/// Numbers named `nth` choose among what is there, modulo its count; without any the step does nothing.
#[derive(Debug, Clone)]
pub enum Step {
    Insert {
        key: u32,
        bytes: usize,
        cost_ns: u64,
    },
    /// Puts a handle in that the cache gave back earlier.
    InsertAgain {
        key: u32,
        nth: usize,
    },
    Get {
        key: u32,
    },
    Lookup {
        key: u32,
        then: Then,
    },
    TryLookup {
        key: u32,
        then: Then,
    },
    /// Goes on with a vacancy or a reservation that an earlier step held.
    GoOn {
        nth: usize,
        then: Then,
    },
    Release {
        nth: usize,
    },
    Share {
        nth: usize,
    },
    Remove {
        key: u32,
    },
    Retire {
        key: u32,
    },
    Clear,
    Collect,
    SetBudget {
        bytes: u64,
    },
    Contains {
        key: u32,
    },
    Peek {
        key: u32,
    },
}

/// What becomes of a vacancy. What only a reservation can do, a vacancy reserves for first; what only a vacancy
/// can do, a reservation gives its bytes back for.
#[derive(Debug, Clone)]
pub enum Then {
    Hold,
    Drop,
    Reserve { bytes: usize },
    Commit { reserve: usize, bytes: usize, cost_ns: u64 },
    Fill { bytes: usize, cost_ns: u64 },
    Unreserve,
    MakeRoom,
}

pub fn setup() -> impl Strategy<Value = Setup> {
    let policy = prop_oneof![Just(Policy::Lru), Just(Policy::Camp)];
    let mode = prop_oneof![Just(Mode::Exact), Just(Mode::Relaxed)];
    let granule_bytes = prop_oneof![4 => Just(1u64), 1 => Just(8)];
    let max_entries = prop_oneof![2 => Just(None), 1 => (1..=6usize).prop_map(Some)];
    (policy, mode, granule_bytes, 20..=MOST_BUDGET_BYTES, max_entries).prop_map(
        |(policy, mode, granule_bytes, budget_bytes, max_entries)| Setup {
            policy,
            mode,
            granule_bytes,
            budget_bytes,
            max_entries,
        },
    )
}

pub fn step() -> impl Strategy<Value = Step> {
    let key = || 0..KEYS;
    prop_oneof![
        20 => (key(), bytes(), cost()).prop_map(|(key, bytes, cost_ns)| Step::Insert { key, bytes, cost_ns }),
        4 => (key(), 0..4usize).prop_map(|(key, nth)| Step::InsertAgain { key, nth }),
        10 => key().prop_map(|key| Step::Get { key }),
        10 => (key(), then()).prop_map(|(key, then)| Step::Lookup { key, then }),
        5 => (key(), then()).prop_map(|(key, then)| Step::TryLookup { key, then }),
        10 => (0..8usize, then()).prop_map(|(nth, then)| Step::GoOn { nth, then }),
        18 => (0..16usize).prop_map(|nth| Step::Release { nth }),
        3 => (0..16usize).prop_map(|nth| Step::Share { nth }),
        4 => key().prop_map(|key| Step::Remove { key }),
        5 => key().prop_map(|key| Step::Retire { key }),
        1 => Just(Step::Clear),
        3 => Just(Step::Collect),
        4 => budget().prop_map(|bytes| Step::SetBudget { bytes }),
        2 => key().prop_map(|key| Step::Contains { key }),
        2 => key().prop_map(|key| Step::Peek { key }),
    ]
}

fn then() -> impl Strategy<Value = Then> {
    prop_oneof![
        3 => Just(Then::Hold),
        3 => Just(Then::Drop),
        4 => bytes().prop_map(|bytes| Then::Reserve { bytes }),
        4 => (bytes(), bytes(), cost()).prop_map(|(a, b, cost_ns)| {
            // mostly what was reserved, or less
            let bytes = if cost_ns % 4 == 0 { b } else { b.min(a) };
            Then::Commit { reserve: a, bytes, cost_ns }
        }),
        4 => (bytes(), cost()).prop_map(|(bytes, cost_ns)| Then::Fill { bytes, cost_ns }),
        1 => Just(Then::Unreserve),
        2 => Just(Then::MakeRoom),
    ]
}

/// Mostly small, so that several entries fit; at times nothing, or more than any budget.
fn bytes() -> impl Strategy<Value = usize> {
    prop_oneof![12 => 1..=16usize, 2 => Just(0usize), 3 => 17..=MOST_BUDGET_BYTES as usize + 2]
}

/// Only what a cache keeps exactly, up to the dearest there is.
fn cost() -> impl Strategy<Value = u64> {
    prop_oneof![2 => 0..1000u64, 1 => (10..46u32).prop_map(|bit| 1 << bit), 1 => (46..64u32).prop_map(|bit| 1 << bit)]
}

fn budget() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 20..=MOST_BUDGET_BYTES, 3 => 1..20u64, 1 => Just(0), 1 => Just(LIMIT_BYTES + 1)]
}
