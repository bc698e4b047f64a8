//! Compiling once: over threads, over restarts, and in the modes that forbid or check it.

use crate::options;
use hapax::{CodeError, CodeMode, CodeStore, Fingerprint, Key, Kind, MemoryStore, Refusal, Source, Store, Unit};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

static COMPILED: AtomicU64 = AtomicU64::new(0);

struct Text(&'static str);

impl Unit for Text {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("tests/code").part("text", self.0).finish()
    }

    fn label(&self) -> String {
        self.0.to_owned()
    }
}

fn upper(unit: &Text) -> Result<Vec<u8>, String> {
    if unit.0.is_empty() { Err("nothing to compile".to_owned()) } else { Ok(unit.0.to_uppercase().into_bytes()) }
}

#[test]
fn a_unit_is_compiled_by_the_first_process_only() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let store = CodeStore::open_strict(&options(&folder)).unwrap();
        let compiled = store.get_or_compile(&Text("once"), upper).unwrap();
        assert_eq!(&*compiled, b"ONCE");
        assert_eq!(compiled.source, if round == 0 { Source::Compiled } else { Source::Stored });
        assert_eq!(compiled.record.meta().label, "once");
        let stats = store.stats();
        assert_eq!((stats.compiles, stats.saved_ns > 0), if round == 0 { (1, false) } else { (0, true) });
    }
}

#[test]
fn of_threads_that_want_a_unit_at_once_one_compiles() {
    fn slow(unit: &Text) -> Result<Vec<u8>, String> {
        COMPILED.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(std::time::Duration::from_millis(50));
        upper(unit)
    }
    let store = CodeStore::over(Arc::new(MemoryStore::new(1 << 20)));
    let barrier = Barrier::new(8);
    let sources: Vec<Source> = std::thread::scope(|scope| {
        let one = || {
            barrier.wait();
            store.get_or_compile(&Text("shared"), slow).unwrap().source
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(COMPILED.load(Ordering::Relaxed), 1);
    assert_eq!(sources.iter().filter(|source| **source == Source::Compiled).count(), 1);
    assert_eq!(store.stats().shared + store.stats().store.hits, 7);
}

#[test]
fn after_a_panic_or_an_error_the_next_thread_compiles() {
    static COMPILES: AtomicBool = AtomicBool::new(false);
    fn panics(_: &Text) -> Result<Vec<u8>, String> {
        COMPILES.store(true, Ordering::Relaxed);
        // Long enough for the other thread to wait for this one, most often; one that comes later compiles, too.
        std::thread::sleep(std::time::Duration::from_millis(50));
        panic!("in the compiler")
    }
    let store = CodeStore::over(Arc::new(MemoryStore::new(1 << 20)));
    std::thread::scope(|scope| {
        let panicking = scope.spawn(|| store.get_or_compile(&Text("p"), panics).map(|_| ()));
        while !COMPILES.load(Ordering::Relaxed) && !panicking.is_finished() {
            std::thread::yield_now();
        }
        assert_eq!(&*store.get_or_compile(&Text("p"), upper).unwrap(), b"P");
        assert!(panicking.join().is_err());
    });
    assert!(
        matches!(store.get_or_compile(&Text(""), upper), Err(CodeError::Compile(why)) if why == "nothing to compile")
    );
    assert!(store.get_or_compile(&Text(""), |_| Ok::<_, String>(vec![1])).is_ok());
}

#[test]
fn units_that_need_each_other_do_not_wait_for_each_other() {
    struct Nested(Arc<CodeStore>, &'static str, &'static str, Arc<Barrier>);
    impl Unit for Nested {
        fn fingerprint(&self) -> Fingerprint {
            Text(self.1).fingerprint()
        }
    }
    fn needs_other(unit: &Nested) -> Result<Vec<u8>, CodeError<String>> {
        unit.3.wait();
        Ok(unit.0.get_or_compile(&Text(unit.2), upper)?.to_vec())
    }
    let (store, barrier) = (Arc::new(CodeStore::over(Arc::new(MemoryStore::new(1 << 20)))), Arc::new(Barrier::new(2)));
    std::thread::scope(|scope| {
        for (own, other) in [("a", "b"), ("b", "a")] {
            let unit = Nested(store.clone(), own, other, barrier.clone());
            scope.spawn(move || store_result(&unit.0, &unit));
        }
    });
    fn store_result(store: &CodeStore, unit: &Nested) {
        assert_eq!(store.get_or_compile(unit, needs_other).unwrap().len(), 1);
    }
}

#[test]
fn where_everything_must_hit_nothing_is_compiled() {
    let memory = Arc::new(MemoryStore::new(1 << 20));
    CodeStore::over(memory.clone()).get_or_compile(&Text("known"), upper).unwrap();
    let store = CodeStore::over(memory).mode(CodeMode::MustHit);
    assert!(store.get_or_compile(&Text("known"), |_| Err("must not be called")).is_ok());
    let missed = store.get_or_compile(&Text("unknown"), |_| Err("must not be called")).unwrap_err();
    assert!(matches!(&missed, CodeError::MustHit(missing) if missing.label == "unknown"), "{missed}");
    let fingerprint = Text("unknown").fingerprint();
    assert!(missed.to_string().starts_with(&format!("\"unknown\" (fingerprint {fingerprint:?}) ")), "{missed}");
}

#[test]
fn what_its_reader_refuses_is_compiled_anew_and_replaced() {
    let memory = Arc::new(MemoryStore::new(1 << 20));
    let store = CodeStore::over(memory.clone());
    let key = Key::new(Kind::CODE, Text("x").fingerprint());
    store.put(&key, &Default::default(), b"intact, and nonsense").unwrap();
    let anew = store.recompile(&Text("x"), upper).unwrap();
    assert_eq!((&*anew, anew.source, anew.refusal.is_none()), (&b"X"[..], Source::Compiled, true));
    assert_eq!(*store.get(&key).unwrap(), *b"X");
    let must_hit = CodeStore::over(memory).mode(CodeMode::MustHit);
    assert!(matches!(must_hit.recompile(&Text("x"), upper), Err(CodeError::MustHit(_))));
}

#[test]
fn a_read_only_store_compiles_and_keeps_nothing() {
    let memory = Arc::new(MemoryStore::new(1 << 20));
    let store = CodeStore::over(memory.clone()).mode(CodeMode::ReadOnly);
    let compiled = store.get_or_compile(&Text("x"), upper).unwrap();
    assert_eq!((compiled.source, compiled.refusal.is_none(), memory.stats().entries), (Source::Compiled, true, 0));
    let key = Key::new(Kind::CODE, Text("x").fingerprint());
    assert_eq!(store.put(&key, compiled.record.meta(), b"X"), Err(Refusal::ReadOnly));
    assert_eq!((store.clear(), store.gc().map(drop)), (Err(Refusal::ReadOnly), Err(Refusal::ReadOnly)));
}

#[test]
fn verifying_finds_what_the_fingerprint_leaves_out() {
    let store = CodeStore::over(Arc::new(MemoryStore::new(1 << 20))).verify_every(2);
    store.get_or_compile(&Text("x"), upper).unwrap();
    let other = |_: &Text| Ok::<_, String>(b"other".to_vec());
    let differs = store.get_or_compile(&Text("x"), other).unwrap_err();
    assert!(matches!(&differs, CodeError::Differs(found) if *found.stored == *b"X" && *found.compiled == *b"other"));
    assert_eq!(store.get_or_compile(&Text("x"), other).unwrap().source, Source::Stored, "every second is verified");
    assert!(store.get_or_compile(&Text("x"), upper).is_ok());
    let stats = store.stats();
    assert_eq!((stats.verified, stats.differing), (2, 1));
}

#[test]
fn what_cannot_be_stored_is_used_all_the_same() {
    let store = CodeStore::over(Arc::new(MemoryStore::new(2)));
    let compiled = store.get_or_compile(&Text("too long"), upper).unwrap();
    assert!(matches!(compiled.refusal, Some(Refusal::Oversize { .. })));
    assert_eq!(&*compiled, b"TOO LONG");
}

#[test]
fn of_many_units_each_is_compiled_once_and_what_is_stored_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = CodeStore::open_strict(&options(&folder)).unwrap();
    store.get_or_compile(&Text("b"), upper).unwrap();
    let units = [Text("a"), Text("b"), Text(""), Text("c"), Text("a")];
    let all = store.get_or_compile_many(&units, upper);
    let sources: Vec<Option<Source>> = all.iter().map(|one| Some(one.as_ref().ok()?.source)).collect();
    let (stored, compiled) = (Some(Source::Stored), Some(Source::Compiled));
    assert_eq!(sources, [compiled, stored, None, compiled, stored]);
    assert!(matches!(&all[2], Err(CodeError::Compile(error)) if error == "nothing to compile"));
    assert_eq!((&**all[0].as_ref().unwrap(), &**all[4].as_ref().unwrap()), (&b"A"[..], &b"A"[..]));
    let stats = store.stats();
    // The second "a" missed with the others, and was looked up again.
    assert_eq!((stats.compiles, stats.store.hits, stats.store.misses), (3, 2, 5));

    let again = CodeStore::open_strict(&options(&folder)).unwrap();
    let all = again.get_or_compile_many(&[Text("c"), Text("a"), Text("b")], upper);
    let bytes: Vec<&[u8]> = all.iter().map(|one| &**one.as_ref().unwrap()).collect();
    assert_eq!(bytes, [b"C", b"A", b"B"]);
    assert_eq!((again.stats().compiles, again.stats().saved_ns > 0), (0, true));
    let mut given = Vec::new();
    again.get_or_compile_each(&[Text("d"), Text("a")], upper, |at, one| given.push((at, one.unwrap().source)));
    assert_eq!(given, [(1, Source::Stored), (0, Source::Compiled)], "what waits for no compiler comes first");
}

#[test]
fn of_many_units_each_obeys_the_mode() {
    let memory = Arc::new(MemoryStore::new(1 << 20));
    CodeStore::over(memory.clone()).get_or_compile(&Text("known"), upper).unwrap();
    let units = [Text("unknown"), Text("known")];
    let must_hit = CodeStore::over(memory.clone()).mode(CodeMode::MustHit).get_or_compile_many(&units, upper);
    assert!(matches!(&must_hit[0], Err(CodeError::MustHit(missing)) if missing.label == "unknown"));
    assert!(must_hit[1].is_ok());
    let other = |_: &Text| Ok::<_, String>(b"other".to_vec());
    let verified = CodeStore::over(memory).mode(CodeMode::ReadOnly).verify_every(1).get_or_compile_many(&units, other);
    assert_eq!(verified[0].as_ref().unwrap().source, Source::Compiled);
    assert!(matches!(&verified[1], Err(CodeError::Differs(_))));
}

#[test]
fn threads_that_want_the_same_units_at_once_compile_each_once() {
    static COMPILED: AtomicU64 = AtomicU64::new(0);
    fn slow(unit: &Text) -> Result<Vec<u8>, String> {
        COMPILED.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(std::time::Duration::from_millis(5));
        upper(unit)
    }
    let store = CodeStore::over(Arc::new(MemoryStore::new(1 << 20)));
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        for turn in 0..4 {
            let (store, barrier) = (&store, &barrier);
            scope.spawn(move || {
                let mut units = ["p", "q", "r", "s", "t", "u", "v", "w"].map(Text);
                units.rotate_left(turn * 2);
                barrier.wait();
                assert!(store.get_or_compile_many(&units, slow).iter().all(Result::is_ok));
            });
        }
    });
    assert_eq!(COMPILED.load(Ordering::Relaxed), 8);
}
