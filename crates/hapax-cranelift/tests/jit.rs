//! What a `Jit` promises, in one process.

mod common;

use common::{builder, call, isa, jit, lower, memory_store, with_imports, words};
use hapax::{CodeMode, CodeStore, FingerprintBuilder, Key, Kind};
use hapax_cranelift::{Error, HotAfter, Jit, Lower, Unit};
use std::sync::Arc;

#[test]
fn a_unit_runs_and_a_second_request_finds_it_in_memory() {
    let jit = jit(&memory_store());
    let unit = words("f", "a b + 7 *");
    let code = jit.compile(&unit, lower).unwrap();
    assert_eq!(call(&code, 2, 3), 35);
    let again = jit.compile(&unit, lower).unwrap();
    assert_eq!(again.as_ptr(), code.as_ptr());
    let stats = jit.stats();
    assert_eq!((stats.compiles, stats.memory_hits, stats.store_hits, stats.puts), (1, 1, 0, 1));
    assert!(stats.code_bytes > 0 && stats.page_bytes >= stats.code_bytes);
}

#[test]
fn another_jit_finds_it_in_the_store_and_does_not_lower() {
    fn refuse(
        _: &common::Words,
        _: &mut hapax_cranelift::Lowering<'_>,
        _: &mut cranelift_codegen::ir::Function,
    ) -> Result<(), hapax_cranelift::LowerError> {
        Err("a warm hit does not lower".into())
    }
    let store = memory_store();
    let units = [words("f", "a 2 * b @g"), words("g", "a b !host_mul count"), words("r", "a b + b 1 - self")];
    for code in jit(&store).compile_batch(&units, lower) {
        code.unwrap();
    }
    let warm = jit(&store);
    let codes: Vec<_> = warm.compile_batch(&units, refuse).into_iter().map(Result::unwrap).collect();
    assert_eq!(call(&codes[0], 5, 6), 60);
    assert_eq!(call(&codes[1], 5, 6), 90); // its counter is at 60
    assert_eq!(call(&codes[2], 1, 4), 11);
    let stats = warm.stats();
    assert_eq!((stats.compiles, stats.store_hits), (0, 3));
    assert!(stats.compile_ns_saved > 0);
}

#[test]
fn units_call_each_other_before_and_after_they_are_compiled() {
    let jit = jit(&memory_store());
    let even = jit.compile(&words("even", "a b @odd"), lower).unwrap();
    assert_eq!(jit.undefined(), ["odd"]);
    jit.compile(&words("odd", "a b -"), lower).unwrap();
    assert!(jit.undefined().is_empty());
    assert_eq!(call(&even, 9, 4), 5);
}

#[test]
fn a_redefinition_is_what_callers_reach_and_the_old_code_stays_until_it_is_freed() {
    let jit = jit(&memory_store());
    let caller = jit.compile(&words("caller", "a b @f"), lower).unwrap();
    let pointer = jit.compile(&words("pointer", "%f a b ."), lower).unwrap();
    let old = jit.compile(&words("f", "a b +"), lower).unwrap();
    assert_eq!((call(&caller, 3, 4), call(&pointer, 3, 4)), (7, 7));
    let new = jit.compile(&words("f", "a b *"), lower).unwrap();
    assert_eq!((call(&caller, 3, 4), call(&pointer, 3, 4)), (12, 12));
    assert_eq!((call(&old, 3, 4), call(&new, 3, 4)), (7, 12));
    assert_eq!(jit.stats().retired, 1);
    let before = jit.stats().page_bytes;
    // SAFETY: This thread is in no compiled code, and no other knows the `Jit`.
    #[allow(unsafe_code)]
    let freed = unsafe { jit.free_retired() };
    assert_eq!((freed, jit.stats().retired), (1, 0));
    assert_eq!(call(&old, 3, 4), 7, "a pointer keeps its code");
    assert_eq!(jit.stats().page_bytes, before);
    drop(old);
    assert!(jit.stats().page_bytes < before);
    assert_eq!(call(&caller, 3, 4), 12);
}

#[test]
fn a_redefinition_with_another_signature_is_refused_by_name() {
    fn unary(
        _: &common::Words,
        _: &mut hapax_cranelift::Lowering<'_>,
        function: &mut cranelift_codegen::ir::Function,
    ) -> Result<(), hapax_cranelift::LowerError> {
        use cranelift_codegen::ir::{AbiParam, InstBuilder, types::I64};
        function.signature.params.push(AbiParam::new(I64));
        let mut context = cranelift_frontend::FunctionBuilderContext::new();
        let mut builder = cranelift_frontend::FunctionBuilder::new(function, &mut context);
        let block = builder.create_block();
        builder.append_block_params_for_function_params(block);
        builder.switch_to_block(block);
        builder.ins().return_(&[]);
        Ok(())
    }
    let jit = jit(&memory_store());
    let f = jit.compile(&words("f", "a"), lower).unwrap();
    match jit.compile(&words("f", "b"), unary) {
        Err(Error::Signature { function, .. }) => assert_eq!(&*function, "f"),
        other => panic!("{other:?}"),
    }
    assert_eq!(jit.current("f").unwrap().as_ptr(), f.as_ptr());
}

#[test]
fn tables_of_functions_lead_to_the_host_and_to_units() {
    let jit = jit(&memory_store());
    jit.compile(&words("other", "a b -"), lower).unwrap();
    let host = jit.compile(&words("host", "0 table a b ."), lower).unwrap();
    let unit = jit.compile(&words("unit", "1 table a b ."), lower).unwrap();
    assert_eq!((call(&host, 6, 7), call(&unit, 6, 7)), (42, -1));
}

#[test]
fn a_symbol_that_is_not_listed_is_refused_by_name() {
    let jit = jit(&memory_store());
    match jit.compile(&words("f", "a b !getenv"), lower) {
        Err(Error::NotListed { function, symbol }) => assert_eq!((&*function, &*symbol), ("f", "getenv")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_baked_address_is_refused_with_the_functions_name_or_run_and_not_kept() {
    let address = common::host_mul as *const u8 as usize;
    let body = format!("{address} a b .");
    let store = memory_store();
    match jit(&store).compile(&words("baked", &body), lower) {
        Err(error @ Error::Unkept { .. }) => assert!(error.to_string().contains("`baked`"), "{error}"),
        other => panic!("{other:?}"),
    }
    let lenient = builder(&store).baked_addresses(hapax_cranelift::BakedAddresses::RunUnkept).build().unwrap();
    let code = lenient.compile(&words("baked", &body), lower).unwrap();
    assert_eq!(call(&code, 6, 7), 42);
    assert_eq!((lenient.stats().unkept, lenient.stats().puts, store.entries().len()), (1, 0, 0));
}

#[test]
fn an_error_of_the_front_end_comes_back_with_the_units_name() {
    let error = jit(&memory_store()).compile(&words("f", "a +"), lower).unwrap_err();
    assert_eq!(error.to_string(), "`f` could not be lowered: `+` finds no value");
}

#[test]
fn a_batch_gives_each_unit_its_own_result() {
    let jit = jit(&memory_store());
    let units = [words("f", "a b +"), words("bad", "nonsense"), words("g", "a b @f")];
    let results = jit.compile_batch(&units, lower);
    assert!(matches!(results[1], Err(Error::Lower { .. })));
    assert_eq!(call(results[2].as_ref().unwrap(), 1, 2), 3);
}

#[test]
fn a_disabled_jit_neither_asks_nor_writes_its_store() {
    let store = memory_store();
    let jit = jit(&store);
    jit.set_enabled(false);
    assert!(!jit.is_enabled());
    jit.compile(&words("f", "a"), lower).unwrap();
    let stats = store.stats();
    assert_eq!((stats.hits, stats.misses, stats.puts), (0, 0, 0));
}

#[test]
fn clear_forgets_the_store_and_retires_the_code() {
    let store = memory_store();
    let jit = jit(&store);
    let unit = words("f", "a b +");
    let code = jit.compile(&unit, lower).unwrap();
    jit.clear().unwrap();
    assert!(store.entries().is_empty());
    assert!(jit.current("f").is_none());
    assert_eq!(call(&code, 1, 2), 3);
    jit.compile(&unit, lower).unwrap();
    assert_eq!(jit.stats().compiles, 2);
}

#[test]
fn a_removed_unit_has_no_code() {
    let jit = jit(&memory_store());
    let f = jit.compile(&words("f", "a"), lower).unwrap();
    assert!(jit.remove("f") && !jit.remove("f") && !jit.remove("g"));
    assert!(jit.current("f").is_none());
    assert_eq!((call(&f, 3, 0), jit.undefined()), (3, vec!["f".to_owned()]));
}

#[test]
fn a_hot_unit_gets_the_better_tier_and_a_warm_start_has_it_at_once() {
    let store = memory_store();
    let tiered = || {
        let builder = Jit::builder(isa(&[("opt_level", "none")])).tier(isa(&[("opt_level", "speed")]));
        with_imports(builder)
            .store(Arc::new(CodeStore::over(store.clone())))
            .tier_policy(HotAfter { uses: 3 })
            .build()
            .unwrap()
    };
    let jit = tiered();
    let unit = words("f", "a 0 + b 0 + +");
    let pointers: Vec<_> = (0..5).map(|_| jit.compile(&unit, lower).unwrap()).collect();
    assert_eq!(pointers[0].as_ptr(), pointers[1].as_ptr());
    assert_ne!(pointers[1].as_ptr(), pointers[2].as_ptr());
    assert_eq!(pointers[2].as_ptr(), pointers[4].as_ptr());
    assert!(pointers.iter().all(|code| call(code, 20, 22) == 42));
    assert_eq!((jit.stats().compiles, store.entries().len()), (2, 2));
    let warm = tiered();
    let code = warm.compile(&unit, lower).unwrap();
    assert_eq!(code.range().len(), pointers[4].range().len());
    assert_eq!(warm.stats().compiles, 0);
}

#[test]
fn a_verifying_store_verifies_code_of_a_better_tier_than_was_asked_for() {
    struct Forgetful(i64);
    impl Unit for Forgetful {
        fn name(&self) -> &str {
            "f"
        }

        fn key(&self, key: FingerprintBuilder) -> FingerprintBuilder {
            key
        }
    }
    let adds: Lower<Forgetful> =
        |unit, lowering, function| lower(&words("f", &format!("a {} +", unit.0)), lowering, function);
    let store = memory_store();
    let tiered = |uses: u64, verify_every: u64| {
        let builder = Jit::builder(isa(&[("opt_level", "none")])).tier(isa(&[("opt_level", "speed")]));
        let store = CodeStore::over(store.clone()).verify_every(verify_every);
        builder.build_id("tests 1").store(Arc::new(store)).tier_policy(HotAfter { uses }).build().unwrap()
    };
    tiered(1, 0).compile(&Forgetful(1), adds).unwrap();
    let verifying = tiered(100, 1);
    assert_eq!(call(&verifying.compile(&Forgetful(1), adds).unwrap(), 3, 0), 4);
    assert_eq!((verifying.stats().store_hits, store.entries().len()), (1, 1), "it came from the better tier");
    match tiered(100, 1).compile(&Forgetful(2), adds) {
        Err(Error::Store { function, message }) => {
            assert!(&*function == "f" && message.contains("fingerprint"), "{message}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn threads_that_want_the_same_unit_compile_it_once() {
    let jit = jit(&memory_store());
    let unit = words("f", &"a b + ".to_string().clone());
    let barrier = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                let code = jit.compile(&unit, lower).unwrap();
                assert_eq!(call(&code, 1, 2), 3);
            });
        }
    });
    assert_eq!(jit.stats().compiles, 1);
}

#[test]
fn compiling_from_inside_lower_is_refused() {
    static JIT: std::sync::OnceLock<Jit> = std::sync::OnceLock::new();
    fn nested(
        unit: &common::Words,
        _: &mut hapax_cranelift::Lowering<'_>,
        _: &mut cranelift_codegen::ir::Function,
    ) -> Result<(), hapax_cranelift::LowerError> {
        JIT.get().unwrap().compile(&words("inner", &unit.body), lower)?;
        Ok(())
    }
    let jit = JIT.get_or_init(|| jit(&memory_store()));
    match jit.compile(&words("outer", "a"), nested) {
        Err(Error::Nested { function }) => assert_eq!(&*function, "inner"),
        other => panic!("{other:?}"),
    }
    jit.compile(&words("after", "a"), lower).unwrap();
}

/// The checksum of an envelope says that bytes are as they were written, not that they are an artifact.
#[test]
fn whatever_the_store_holds_the_code_is_right() {
    let store = memory_store();
    let unit = words("f", "a b !host_mul 7 +");
    jit(&store).compile(&unit, lower).unwrap();
    let key = store.entries()[0].key;
    let good = store.get(&key).unwrap().to_vec();
    let mut rounds = 0;
    for at in 0..good.len() {
        // What a flipped bit of code does is the code's business; all else must be noticed.
        let in_code = (32..32 + u32::from_le_bytes(good[12..16].try_into().unwrap()) as usize).contains(&at);
        if in_code {
            continue;
        }
        let mut bad = good.clone();
        bad.truncate(at);
        store.put(&key, &hapax::Meta::default(), &bad).unwrap();
        let jit = jit(&store);
        let code = jit.compile(&unit, lower).unwrap();
        assert_eq!(call(&code, 6, 7), 49, "cut at {at}");
        assert_eq!((jit.stats().unusable, jit.stats().compiles), (1, 1), "cut at {at}");
        rounds += 1;
    }
    assert!(rounds > 32);
}

#[test]
fn a_store_that_must_hit_refuses_to_compile_by_name() {
    let store = memory_store();
    jit(&store).compile(&words("f", "a"), lower).unwrap();
    let must_hit = Arc::new(CodeStore::over(store.clone()).mode(CodeMode::MustHit));
    let jit = with_imports(Jit::builder(isa(&[]))).store(must_hit).build().unwrap();
    assert_eq!(call(&jit.compile(&words("f", "a"), lower).unwrap(), 3, 0), 3);
    match jit.compile(&words("g", "b"), lower) {
        Err(Error::Store { function, .. }) => assert_eq!(&*function, "g"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_artifact_that_wants_an_unlisted_symbol_is_not_loaded() {
    let store = memory_store();
    let unit = words("f", "a b !host_mul");
    jit(&store).compile(&unit, lower).unwrap();
    let key = store.entries()[0].key;
    let mut bytes = store.get(&key).unwrap().to_vec();
    let name = bytes.windows(8).position(|window| window == b"host_mul").unwrap();
    bytes[name..name + 8].copy_from_slice(b"host_sys");
    store.put(&key, &hapax::Meta::default(), &bytes).unwrap();
    let jit = jit(&store);
    assert_eq!(call(&jit.compile(&unit, lower).unwrap(), 6, 7), 42);
    assert_eq!((jit.stats().unusable, jit.stats().compiles), (1, 1));
    // And with the name restored and another ABI.
    bytes[name..name + 8].copy_from_slice(b"host_mul");
    bytes[name - 3] ^= 1;
    store.put(&key, &hapax::Meta::default(), &bytes).unwrap();
    let jit = common::jit(&store);
    assert_eq!(call(&jit.compile(&unit, lower).unwrap(), 6, 7), 42);
    assert_eq!(jit.stats().unusable, 1);
}

#[test]
fn code_is_stored_under_the_kind_code_with_its_name_and_time() {
    let store = memory_store();
    jit(&store).compile(&words("named", "a"), lower).unwrap();
    let entry = &store.entries()[0];
    assert_eq!(entry.key, Key::new(Kind::CODE, entry.key.fingerprint));
    let record = store.get(&entry.key).unwrap();
    assert_eq!(record.meta().label, "named");
    assert!(record.meta().compile_ns > 0 && record.meta().written_unix_s > 0);
}

#[test]
fn an_isa_for_another_machine_is_refused_with_its_name() {
    use cranelift_codegen::settings;
    let other = if cfg!(target_arch = "aarch64") { "x86_64-unknown-linux-gnu" } else { "aarch64-unknown-linux-gnu" };
    let isa = cranelift_codegen::isa::lookup_by_name(other).unwrap();
    let isa = isa.finish(settings::Flags::new(settings::builder())).unwrap();
    match Jit::builder(isa).build() {
        Err(Error::Platform { triple, .. }) => assert!(other.starts_with(&triple[..6])),
        _ => panic!("it cannot run here"),
    }
}

/// The next build of the front end would run what this one made.
#[test]
fn a_store_without_a_build_id_is_refused() {
    let store = || Arc::new(CodeStore::over(memory_store()));
    let refused = |builder: hapax_cranelift::JitBuilder| matches!(builder.build(), Err(Error::NoBuildId));
    assert!(refused(Jit::builder(isa(&[])).store(store())));
    assert!(refused(Jit::builder(isa(&[])).store(store()).build_id("")));
    assert!(!refused(Jit::builder(isa(&[])).store(store()).build_id("1")));
    assert!(!refused(Jit::builder(isa(&[]))), "what ends with the process needs none");
}

#[test]
fn a_full_code_space_is_an_error_that_says_what_to_do() {
    let jit = builder(&memory_store()).code_space_bytes(64 << 10).build().unwrap();
    let units: Vec<_> = (0..64).map(|n| words(&format!("f{n}"), "a b +")).collect();
    let mut codes = Vec::new();
    let error = units.iter().find_map(|unit| jit.compile(unit, lower).map(|code| codes.push(code)).err()).unwrap();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert!(codes.iter().all(|code| call(code, 1, 2) == 3));
}

#[test]
fn threads_call_on_while_the_callee_is_redefined() {
    let jit = jit(&memory_store());
    let caller = jit.compile(&words("caller", "a b @f"), lower).unwrap();
    jit.compile(&words("f", "a b +"), lower).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let begun = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let (mut sums, mut products) = (0u64, 0u64);
                    begun.wait();
                    // At least once, however late the thread comes to run.
                    while sums + products == 0 || !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        match call(&caller, 5, 6) {
                            11 => sums += 1,
                            30 => products += 1,
                            other => panic!("{other} is neither"),
                        }
                    }
                    sums + products
                })
            })
            .collect();
        begun.wait();
        for round in 0..100 {
            let body = if round % 2 == 0 { "a b *" } else { "a b +" };
            jit.compile(&words("f", body), lower).unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(threads.into_iter().all(|thread| thread.join().unwrap() > 0));
    });
    assert_eq!(jit.stats().retired, 100);
    // SAFETY: The threads have ended, and this one is in no compiled code.
    #[allow(unsafe_code)]
    let freed = unsafe { jit.free_retired() };
    assert_eq!(freed, 100);
    assert_eq!(call(&caller, 5, 6), 11);
    // Two bodies, compiled once each: every other definition came from the store.
    assert_eq!(jit.stats().compiles, 3);
}

static HOSTS: [i64; 2] = [17, 25];

#[test]
fn data_of_the_host_is_read_where_it_is_and_only_if_it_is_listed() {
    use cranelift_codegen::ir::{Function, InstBuilder, MemFlagsData, types::I64};
    use hapax_cranelift::{LowerError, Lowering};
    fn second(_: &common::Words, lowering: &mut Lowering<'_>, function: &mut Function) -> Result<(), LowerError> {
        function.signature = common::binary();
        let mut context = cranelift_frontend::FunctionBuilderContext::new();
        let mut builder = cranelift_frontend::FunctionBuilder::new(function, &mut context);
        let block = builder.create_block();
        builder.append_block_params_for_function_params(block);
        builder.switch_to_block(block);
        let hosts = lowering.import_data("hosts", builder.func)?;
        let at = builder.ins().symbol_value(I64, hosts);
        let value = builder.ins().load(I64, MemFlagsData::trusted(), at, 8);
        builder.ins().return_(&[value]);
        builder.seal_all_blocks();
        builder.finalize(lowering.isa().frontend_config());
        Ok(())
    }
    let store = memory_store();
    for compiles in [1, 0] {
        let jit = builder(&store).import_data("hosts", HOSTS.as_ptr().cast()).build().unwrap();
        assert_eq!(call(&jit.compile(&words("f", "hosts"), second).unwrap(), 0, 0), 25);
        assert_eq!(jit.stats().compiles, compiles);
    }
    match jit(&store).compile(&words("f", "hosts"), second) {
        Err(Error::NotListed { symbol, .. }) => assert_eq!(&*symbol, "hosts"),
        other => panic!("{other:?}"),
    }
}
