//! Precompilation: the hot first, beside requests, and stopped when asked.

mod common;

use common::{Words, builder, call, isa, jit, lower, memory_store, words};
use cranelift_codegen::ir::Function;
use hapax::{DirectoryOptions, HintOptions, HintStore};
use hapax_cranelift::{HotAfter, LowerError, Lowering};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

static ORDER: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn recorded(unit: &Words, lowering: &mut Lowering<'_>, function: &mut Function) -> Result<(), LowerError> {
    ORDER.lock().unwrap().push(unit.name.clone());
    lower(unit, lowering, function)
}

fn units(count: usize) -> Vec<Words> {
    (0..count).map(|n| words(&format!("f{n}"), &format!("a {n} +"))).collect()
}

#[test]
fn what_is_stored_names_its_hints_in_every_tier() {
    let store = memory_store();
    let folder = tempfile::tempdir().unwrap();
    let hints = Arc::new(HintStore::open(HintOptions::new(&DirectoryOptions::new("names").dir(folder.path()))));
    let unit = words("f", "a b +");
    let jit = builder(&store)
        .tier(isa(&[("opt_level", "speed")]))
        .tier_policy(HotAfter { uses: 2 })
        .hints(hints.clone())
        .build()
        .unwrap();
    jit.compile(&unit, lower).unwrap();
    jit.compile(&unit, lower).unwrap();
    let entries = store.entries();
    assert_eq!(entries.len(), 2, "a tier each");
    for entry in entries {
        let record = store.get(&entry.key).unwrap();
        let hinted_as = record.meta().hinted_as.expect("it says where its hints are");
        assert_ne!(hinted_as, entry.key.fingerprint);
        assert_eq!(hints.get(&hinted_as).unwrap().compile_count, 2, "under one name for both tiers");
    }
}

/// The hints come from an earlier process that asked for some units more often; `ORDER` is this test's alone.
#[test]
fn what_was_used_most_is_compiled_first() {
    let folder = tempfile::tempdir().unwrap();
    let directory = DirectoryOptions::new("background").dir(folder.path());
    let open = || Arc::new(HintStore::open(HintOptions::new(&directory).version("tests 1")));
    let hints = open();
    let earlier = builder(&memory_store()).hints(hints.clone()).build().unwrap();
    for (unit, uses) in units(20).iter().zip([3, 1, 9, 1, 1, 30, 1, 1, 1, 1, 1, 1, 100, 1, 1, 1, 1, 1, 1, 1]) {
        // The first of them compiles.
        for _ in 0..uses {
            earlier.compile(unit, lower).unwrap();
        }
    }
    // What a compilation took here is nothing beside an hour, so that each takes the same time as far as the hints know, on
    // a busy machine, too, and uses alone decide.
    for hint in hints.hottest(usize::MAX) {
        hints.record_compile(&hint.fingerprint, hint.hint.size_bytes, Duration::from_secs(3600));
    }
    drop((earlier, hints));
    let hints = open();
    let jit = builder(&memory_store()).hints(hints.clone()).build().unwrap();
    let progress = jit.precompile(units(20), recorded).wait();
    assert_eq!((progress.total, progress.done, progress.failed), (20, 20, 0));
    let order = std::mem::take(&mut *ORDER.lock().unwrap());
    assert_eq!(order.len(), 20);
    assert_eq!(order[..4], ["f12", "f5", "f2", "f0"]);
    assert_eq!(jit.stats().memory_hits, 0);
    let before: Vec<u64> = units(20)
        .iter()
        .map(|unit| {
            let code = jit.compile(unit, |_, _, _| Err("it is there".into())).unwrap();
            call(&code, 1, 0) as u64
        })
        .collect();
    assert_eq!(before, (1..21).collect::<Vec<u64>>());
    assert_eq!(jit.stats().memory_hits, 20);
}

#[test]
fn an_order_of_ones_own_is_kept_and_failures_are_counted() {
    let jit = jit(&memory_store());
    let mut all = units(30);
    all[7].body = "nonsense".into();
    let precompile = jit.precompile_by(all, lower, |unit| unit.name[1..].parse::<f64>().unwrap());
    let progress = precompile.wait();
    assert_eq!((progress.done, progress.failed), (30, 1));
    assert_eq!(jit.stats().compiles, 29);
}

#[test]
fn a_stopped_precompilation_ends_and_requests_go_on() {
    static STOPPED: AtomicBool = AtomicBool::new(false);
    /// Is at it until it is stopped; or for a minute, so that a request that waits for it fails and does not hang.
    fn held(unit: &Words, lowering: &mut Lowering<'_>, function: &mut Function) -> Result<(), LowerError> {
        let begun = Instant::now();
        while !STOPPED.load(Ordering::SeqCst) && begun.elapsed() < Duration::from_secs(60) {
            std::thread::yield_now();
        }
        lower(unit, lowering, function)
    }
    let jit = jit(&memory_store());
    let precompile = jit.precompile(units(5_000), held);
    let code = jit.compile(&words("asked", "a b *"), lower).unwrap();
    assert_eq!(call(&code, 6, 7), 42);
    assert_eq!(precompile.progress().done, 0, "the request was served while the thread was at it");
    precompile.stop();
    STOPPED.store(true, Ordering::SeqCst);
    let progress = precompile.wait();
    assert!(progress.done < progress.total, "it was stopped among {} units", progress.total);
}

#[test]
fn requests_and_precompilation_of_the_same_units_agree() {
    let jit = jit(&memory_store());
    let all = units(200);
    let precompile = jit.precompile(all.clone(), lower);
    for (n, unit) in all.iter().enumerate().rev() {
        assert_eq!(call(&jit.compile(unit, lower).unwrap(), 1, 0), 1 + n as i64);
    }
    assert_eq!(precompile.wait().failed, 0);
    assert_eq!(jit.stats().compiles, 200);
    for (n, unit) in all.iter().enumerate() {
        assert_eq!(call(&jit.compile(unit, lower).unwrap(), 1, 0), 1 + n as i64);
    }
}
