//! The cache against its specification: random calls on small budgets, done to a `VramCache` and to a slow oracle,
//! compared after each. The oracle is `oracle.rs`; what is compared stands in `run.rs`.

/// Host memory; or CUDA's driver, in the package `cuda-suite`, which compiles these same files.
#[allow(dead_code, unused_imports, reason = "each suite uses its part")]
mod device {
    include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/device/mod.rs"));
}

mod oracle;
mod order;
mod run;
mod steps;

use hapax::{Mode, Policy};
use oracle::Figures;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use run::run;
use steps::{Setup, Step};

/// `PROPTEST_CASES` raises it.
const CASES: u32 = device::MODEL_CASES;
/// Of each long run; there are two for each policy and mode.
const STEPS: usize = device::MODEL_STEPS;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(CASES),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_cache_does_what_its_specification_says(
        setup in steps::setup(),
        steps in prop::collection::vec(steps::step(), 1..120),
    ) {
        run(&setup, steps);
    }
}

/// One cache all the way, so that what drifts slowly shows; the same steps in every run.
#[test]
fn a_long_run_on_one_lru_cache_does_not_drift() {
    long_runs(Policy::Lru, Mode::Exact);
}

#[test]
fn a_long_run_on_one_relaxed_lru_cache_does_not_drift() {
    long_runs(Policy::Lru, Mode::Relaxed);
}

/// On the host the clock runs past what the cache's numbers can hold, so that it has to make them small again.
#[test]
fn a_long_run_on_one_camp_cache_does_not_drift() {
    let clock = long_runs(Policy::Camp, Mode::Exact);
    assert!(STEPS < 52_000 || clock > 1 << 53, "the clock stands at {clock}");
}

#[test]
fn a_long_run_on_one_relaxed_camp_cache_does_not_drift() {
    let clock = long_runs(Policy::Camp, Mode::Relaxed);
    assert!(STEPS < 52_000 || clock > 1 << 53, "the clock stands at {clock}");
}

fn long_runs(policy: Policy, mode: Mode) -> u128 {
    let roomy = Setup { policy, mode, granule_bytes: 1, budget_bytes: 48, max_entries: None };
    let narrow = Setup { policy, mode, granule_bytes: 4, budget_bytes: 60, max_entries: Some(5) };
    let clocks = [(roomy, 1), (narrow, 2)].map(|(setup, seed)| {
        let (figures, clock) = run(&setup, drawn_steps(seed).take(STEPS));
        // It was no idle run.
        let Figures { hits, misses, evictions, rejections, .. } = figures;
        assert!([hits, misses, evictions, rejections].iter().all(|&count| count > STEPS as u64 / 50), "{figures:?}");
        clock
    });
    clocks[0].max(clocks[1])
}

fn drawn_steps(seed: u8) -> impl Iterator<Item = Step> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let strategy = steps::step();
    std::iter::repeat_with(move || strategy.new_tree(&mut runner).expect("steps are never rejected").current())
}
