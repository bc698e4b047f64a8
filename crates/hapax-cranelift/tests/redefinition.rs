//! Which definition calls of a unit lead to, whatever runs beside, and what is known of it.
#![allow(unsafe_code, reason = "frees compiled code")]

mod common;

use common::{Words, builder, call, jit, lower, memory_store, with_imports, words};
use cranelift_codegen::ir::{AbiParam, Function, InstBuilder, types::I64};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use hapax::FingerprintBuilder;
use hapax_cranelift::{Data, Error, HotAfter, Jit, Lower, LowerError, Lowering, TierPolicy, Unit, UnitUse};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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
    begun: AtomicBool,
    goes_on: AtomicBool,
    closed: AtomicBool,
}

impl Gate {
    const fn new() -> Gate {
        Gate { begun: AtomicBool::new(false), goes_on: AtomicBool::new(false), closed: AtomicBool::new(true) }
    }

    fn pass(&self) {
        if self.closed.swap(false, Ordering::SeqCst) {
            self.begun.store(true, Ordering::SeqCst);
            wait_for(&self.goes_on);
        }
    }

    fn is_reached(&self) {
        wait_for(&self.begun);
    }

    fn open(&self) {
        self.goes_on.store(true, Ordering::SeqCst);
    }
}

/// Not for ever: the thread that was to set it may have failed.
fn wait_for(flag: &AtomicBool) {
    let begun = Instant::now();
    while !flag.load(Ordering::SeqCst) {
        assert!(begun.elapsed() < Duration::from_secs(60), "the other thread does not come");
        std::thread::yield_now();
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
        GATE.is_reached();
        let new = jit.compile(&words("f", "a b *"), lower).unwrap();
        GATE.open();
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
            gate.is_reached();
            meanwhile();
            gate.open();
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
    GATES[2].is_reached();
    jit.clear().unwrap();
    GATES[2].open();
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

/// A function without parameters and results.
fn nullary(_: &Words, lowering: &mut Lowering<'_>, function: &mut Function) -> Result<(), LowerError> {
    function.signature = lowering.make_signature();
    let mut context = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(function, &mut context);
    let block = builder.create_block();
    builder.switch_to_block(block);
    builder.ins().return_(&[]);
    builder.seal_all_blocks();
    builder.finalize(lowering.isa().frontend_config());
    Ok(())
}

/// Refers to the unit that its body names, with a parameter too many.
fn guesses(unit: &Words, lowering: &mut Lowering<'_>, function: &mut Function) -> Result<(), LowerError> {
    lower(&words("x", "a"), lowering, function)?;
    let mut wrong = common::binary();
    wrong.params.push(AbiParam::new(I64));
    // Data, since what is declared and not called leaves no trace.
    lowering.data(Data::bytes([0; 8]).function_address(0, &unit.body, &wrong), function)?;
    Ok(())
}

#[test]
fn a_removed_unit_may_come_back_with_another_signature() {
    let jit = jit(&memory_store());
    let caller = jit.compile(&words("caller", "a b @f"), lower).unwrap();
    let old = jit.compile(&words("f", "a"), lower).unwrap();
    match jit.compile(&words("f", "()"), nullary) {
        Err(error @ Error::Signature { .. }) => {
            assert!(error.to_string().contains("`Jit::remove` it before"), "{error}")
        }
        other => panic!("it is called: {other:?}"),
    }
    jit.remove("f");
    jit.compile(&words("f", "()"), nullary).unwrap();
    assert_eq!(jit.undefined(), ["f"], "the caller's `f` has parameters");
    drop((old, caller));
    // SAFETY: No thread is in compiled code.
    unsafe { jit.free_retired() };
    jit.compile(&words("caller", "a b +"), lower).unwrap();
    // SAFETY: As above.
    unsafe { jit.free_retired() };
    assert!(jit.undefined().is_empty());
    jit.remove("f");
    let f = jit.compile(&words("f", "a b *"), lower).unwrap();
    assert_eq!(call(&f, 6, 7), 42);
}

#[test]
fn a_unit_that_was_refused_leaves_no_names_behind() {
    let jit = builder(&memory_store()).code_space_bytes(64 << 10).build().unwrap();
    let mut n = 0;
    while jit.compile(&words(&format!("f{n}"), "a b +"), lower).is_ok() {
        n += 1;
    }
    assert!(jit.compile(&words("refused", "a b @ghost"), lower).is_err());
    assert!(jit.undefined().is_empty(), "{:?}", jit.undefined());
}

/// What the store gave and was no artifact for this program is compiled again, and binds no name.
#[test]
fn a_bad_artifact_does_not_spoil_the_units_that_it_names() {
    let store = memory_store();
    let unit = words("f", "a b @other");
    jit(&store).compile(&unit, lower).unwrap();
    let key = store.entries()[0].key;
    let mut bytes = store.get(&key).unwrap().to_vec();
    let name = bytes.windows(5).position(|window| window == b"other").unwrap();
    bytes[name - 5] ^= 1; // of the ABI
    store.put(&key, &hapax::Meta::default(), &bytes).unwrap();
    let jit = jit(&store);
    jit.compile(&unit, lower).unwrap();
    let other = jit.compile(&words("other", "a b -"), lower).unwrap();
    assert_eq!(call(&other, 6, 7), -1);
}

/// A caller that guesses wrong is at fault, not the unit that it names: what it calls leads nowhere, and not into the unit.
#[test]
fn a_wrong_guess_of_a_caller_does_not_refuse_the_unit() {
    let jit = jit(&memory_store());
    jit.compile(&words("guess", "g"), guesses).unwrap();
    let g = jit.compile(&words("g", "a b +"), lower).unwrap();
    assert_eq!((call(&g, 3, 4), jit.undefined()), (7, vec!["g".to_owned()]));
    // Where the unit is there, the guess is the error, in one batch with it, too.
    let lower_either: Lower<Words> =
        |unit, lowering, function| if unit.name == "late" { guesses } else { lower }(unit, lowering, function);
    let results = jit.compile_batch(&[words("h", "a b *"), words("late", "h")], lower_either);
    assert!(results[0].is_ok());
    match &results[1] {
        Err(Error::Signature { function, symbol, used, is }) => {
            assert_eq!((&**function, &**symbol), ("late", "h"));
            assert_eq!((used.matches("i64").count(), is.matches("i64").count()), (4, 3), "{used} and {is}");
            assert!(!results[1].as_ref().unwrap_err().to_string().contains("remove"), "the caller is wrong");
        }
        other => panic!("{other:?}"),
    }
}

/// What is read first is written before what is read last, and none of it may run until all of it was compared.
#[test]
fn in_a_batch_that_is_written_in_parts_a_wrong_guess_is_refused_and_nothing_else() {
    let store = memory_store();
    let lower_either: Lower<Words> =
        |unit, lowering, function| if unit.name == "late" { guesses } else { lower }(unit, lowering, function);
    let long = "b + ".repeat(500);
    let mut units = vec![words("h", "a b *")];
    units.extend((0..100).map(|n| words(&format!("f{n}"), &format!("a {n} + {long}"))));
    units.push(words("late", "h"));
    for stored in [false, true] {
        let jit = jit(&store);
        let results = jit.compile_batch(&units, lower_either);
        let (late, others) = results.split_last().unwrap();
        assert!(matches!(late, Err(Error::Signature { function, .. }) if &**function == "late"), "{late:?}");
        assert_eq!(call(others[0].as_ref().unwrap(), 6, 7), 42);
        for (n, code) in others[1..].iter().enumerate() {
            assert_eq!(call(code.as_ref().unwrap(), 1, 2), 1 + n as i64 + 1_000);
        }
        let stats = jit.stats();
        assert!(stats.code_bytes > 128 << 10, "it is more than one part");
        assert!(!stored || (stats.store_hits, stats.compiles) == (101, 1), "{stats:?}: the guess is tried once more");
        assert_eq!(jit.undefined(), ["h"; 0]);
    }
}
