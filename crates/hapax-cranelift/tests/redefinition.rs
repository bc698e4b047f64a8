//! Which definition calls of a unit lead to, whatever runs beside, and what is known of it.
#![allow(unsafe_code, reason = "frees compiled code")]

mod common;

use common::{Words, call, jit, lower, memory_store, with_imports, words};
use cranelift_codegen::ir::Function;
use hapax::FingerprintBuilder;
use hapax_cranelift::{HotAfter, Jit, Lower, LowerError, Lowering, TierPolicy, Unit, UnitUse};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};

#[test]
fn precompilation_does_not_undo_a_redefinition() {
    let jit = jit(&memory_store());
    let caller = jit.compile(&words("caller", "a b @f"), lower).unwrap();
    let old = vec![words("f", "a b +")];
    jit.compile(&words("f", "a b *"), lower).unwrap(); // an edit, while the old list waits for its thread
    assert_eq!(call(&caller, 6, 7), 42);
    assert_eq!(jit.precompile(old, lower).wait().failed, 0);
    assert_eq!(call(&caller, 6, 7), 42, "what was compiled ahead has replaced what was asked for");
}

/// Waits in the middle of a compilation, once, until the test says so.
struct Gate {
    begun: Barrier,
    goes_on: Barrier,
    closed: AtomicBool,
}

impl Gate {
    const fn new() -> Gate {
        Gate { begun: Barrier::new(2), goes_on: Barrier::new(2), closed: AtomicBool::new(true) }
    }

    fn pass(&self) {
        if self.closed.swap(false, Ordering::SeqCst) {
            self.begun.wait();
            self.goes_on.wait();
        }
    }
}

#[test]
fn of_two_requests_the_one_that_began_last_decides() {
    static GATE: Gate = Gate::new();
    fn slow(unit: &Words, lowering: &mut Lowering<'_>, function: &mut Function) -> Result<(), LowerError> {
        GATE.pass();
        lower(unit, lowering, function)
    }
    let jit = jit(&memory_store());
    let caller = jit.compile(&words("caller", "a b @f"), lower).unwrap();
    std::thread::scope(|scope| {
        let old = scope.spawn(|| jit.compile(&words("f", "a b +"), slow).unwrap());
        GATE.begun.wait();
        let new = jit.compile(&words("f", "a b *"), lower).unwrap();
        GATE.goes_on.wait();
        let old = old.join().unwrap();
        assert_eq!((call(&old, 6, 7), call(&new, 6, 7)), (13, 42), "each gets the code that it asked for");
    });
    assert_eq!(call(&caller, 6, 7), 42);
    assert_eq!(call(&jit.current("f").unwrap(), 6, 7), 42);
}

#[test]
fn what_was_removed_while_it_was_compiled_stays_removed() {
    static GATES: [Gate; 3] = [Gate::new(), Gate::new(), Gate::new()];
    fn slow(unit: &Words, lowering: &mut Lowering<'_>, function: &mut Function) -> Result<(), LowerError> {
        GATES[unit.body.len() - "a".len()].pass();
        lower(&words(&unit.name, "a b +"), lowering, function)
    }
    let jit = jit(&memory_store());
    let compiled = |body: &str, meanwhile: &dyn Fn()| {
        let gate = &GATES[body.len() - 1];
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| jit.compile(&words("f", body), slow).unwrap());
            gate.begun.wait();
            meanwhile();
            gate.goes_on.wait();
            assert_eq!(call(&thread.join().unwrap(), 6, 7), 13);
        });
    };
    jit.compile(&words("f", "a b *"), lower).unwrap();
    compiled("a", &|| assert!(jit.remove("f")));
    assert!(jit.current("f").is_none());
    compiled("aa", &|| jit.clear().unwrap());
    assert!(jit.current("f").is_none());
    // And what is compiled ahead.
    let ahead = jit.precompile(vec![words("f", "aaa")], slow);
    GATES[2].begun.wait();
    jit.clear().unwrap();
    GATES[2].goes_on.wait();
    assert_eq!(ahead.wait().failed, 0);
    assert!(jit.current("f").is_none());
    jit.compile(&words("f", "a b -"), lower).unwrap();
    assert_eq!(call(&jit.current("f").unwrap(), 6, 7), -1, "a new request defines it");
}

#[test]
fn a_name_that_panics_leaves_the_jit_usable() {
    struct Bad;
    impl Unit for Bad {
        fn name(&self) -> &str {
            panic!("no name")
        }

        fn key(&self, key: FingerprintBuilder) -> FingerprintBuilder {
            key
        }
    }
    let jit = jit(&memory_store());
    let lower_bad: Lower<Bad> = |_, _, _| Err("never".into());
    let compiled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| jit.compile(&Bad, lower_bad)));
    assert!(compiled.is_err());
    jit.compile(&words("f", "a b +"), lower).unwrap();
}

fn tiered() -> hapax_cranelift::JitBuilder {
    with_imports(Jit::builder(common::isa(&[("opt_level", "none")])).tier(common::isa(&[("opt_level", "speed")])))
}

#[test]
fn requests_are_counted_from_one() {
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<(String, u64)>>>);
    impl TierPolicy for Seen {
        fn tier(&self, unit: &UnitUse<'_>) -> usize {
            self.0.lock().unwrap().push((unit.name.to_owned(), unit.requests));
            0
        }
    }
    let seen = Seen::default();
    let jit = tiered().tier_policy(seen.clone()).build().unwrap();
    jit.compile(&words("caller", "a b @g"), lower).unwrap(); // refers to g, asks for it not
    jit.compile(&words("g", "a b +"), lower).unwrap();
    jit.precompile(vec![words("h", "a b -")], lower).wait();
    jit.compile(&words("h", "a b -"), lower).unwrap();
    jit.compile(&words("caller", "a b @g"), lower).unwrap();
    let seen = seen.0.lock().unwrap().clone();
    let expected = [("caller", 1), ("g", 1), ("h", 0), ("h", 1), ("caller", 2)];
    assert_eq!(seen, expected.map(|(name, requests)| (name.to_owned(), requests)));
}

#[test]
fn a_unit_that_was_referred_to_is_not_hot_at_its_first_use() {
    let jit = tiered().tier_policy(HotAfter { uses: 2 }).build().unwrap();
    jit.compile(&words("caller", "a b @g"), lower).unwrap();
    let once = jit.compile(&words("g", "a 0 + b 0 + +"), lower).unwrap();
    let twice = jit.compile(&words("g", "a 0 + b 0 + +"), lower).unwrap();
    assert_ne!(once.as_ptr(), twice.as_ptr(), "the second use makes the better code, not the first");
}
