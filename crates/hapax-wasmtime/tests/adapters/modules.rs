//! Whole modules through stores in every state.

#![expect(unsafe_code, reason = "makes module caches, over stores of its own")]

use crate::common::{Damaged, SETTINGS, assert_right, edited, files, open, options, program};
use hapax::{
    CodeError, CodeMode, CodeStore, Collected, Key, MemoryStore, Meta, Miss, Record, Refusal, Source, Store,
    StoreStats, StoredEntry,
};
use hapax_wasmtime::{FunctionCache, LoadedModule, ModuleCache};
use std::path::Path;
use std::sync::Arc;
use wasmtime::{Config, Engine};

fn modules(store: &Arc<CodeStore>) -> ModuleCache {
    // SAFETY: every store of these tests is the test's own, and all that is put under the keys comes from this type or is no ELF file,
    // which Wasmtime refuses.
    unsafe { ModuleCache::new(store) }
}

fn compile(store: &Arc<CodeStore>, engine: &Engine, wasm: &[u8]) -> LoadedModule {
    modules(store).compile(engine, "test", wasm).unwrap()
}

fn in_memory() -> Arc<CodeStore> {
    Arc::new(CodeStore::over(Arc::new(MemoryStore::new(256 << 20))))
}

#[test]
fn the_next_process_finds_the_module() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::default();
    let fresh = engine.precompile_module(&program().wasm).unwrap();
    let cold = compile(&open(folder.path()), &engine, &program().wasm);
    let store = open(folder.path());
    let warm = compile(&store, &engine, &program().wasm);
    assert_eq!((cold.source, warm.source), (Source::Compiled, Source::Stored));
    assert_eq!((cold.refusal, warm.refusal), (None, None));
    for module in [&cold.module, &warm.module] {
        assert!(module.serialize().unwrap() == fresh);
        assert_right(module, program());
    }
    assert!(store.stats().saved_ns > 0 && store.stats().compiles == 0);
    let label = store.get(&store.entries()[0].key).unwrap().meta().label.clone();
    assert_eq!(label, "test");
}

#[test]
fn a_changed_module_is_another_one() {
    let store = in_memory();
    let engine = Engine::default();
    compile(&store, &engine, &program().wasm);
    let changed = compile(&store, &engine, &edited().wasm);
    assert_eq!(changed.source, Source::Compiled);
    assert_right(&changed.module, edited());
    let first = compile(&store, &engine, &program().wasm);
    assert_eq!(first.source, Source::Stored);
    assert_right(&first.module, program());
}

#[test]
fn an_engine_of_other_settings_compiles_for_itself() {
    let store = in_memory();
    for (name, set) in SETTINGS {
        let engine = || {
            let mut config = Config::new();
            set(&mut config);
            Engine::new(&config).unwrap()
        };
        let first = compile(&store, &engine(), &program().wasm);
        let again = compile(&store, &engine(), &program().wasm);
        assert_eq!((first.source, again.source), (Source::Compiled, Source::Stored), "{name}");
        assert_right(&again.module, program());
    }
    assert_eq!(store.stats().store.entries as usize, SETTINGS.len());
}

#[test]
fn builds_of_different_ids_share_nothing() {
    let store = in_memory();
    let engine = Engine::default();
    compile(&store, &engine, &program().wasm);
    let patched = modules(&store).build_id("patched");
    for source in [Source::Compiled, Source::Stored] {
        assert_eq!(patched.compile(&engine, "test", &program().wasm).unwrap().source, source);
    }
}

#[test]
fn compiling_again_gives_what_is_stored() {
    let store = Arc::new(CodeStore::over(Arc::new(MemoryStore::new(256 << 20))).verify_every(1));
    for (_, set) in SETTINGS {
        let mut config = Config::new();
        set(&mut config);
        for _ in 0..2 {
            compile(&store, &Engine::new(&config).unwrap(), &program().wasm);
        }
    }
    let stats = store.stats();
    assert_eq!((stats.verified as usize, stats.differing), (SETTINGS.len(), 0));
}

#[test]
fn a_miss_is_compiled_function_by_function_where_the_engine_does() {
    let store = in_memory();
    let engine = || {
        let mut config = Config::new();
        config.enable_incremental_compilation(Arc::new(FunctionCache::new(&store))).unwrap();
        Engine::new(&config).unwrap()
    };
    compile(&store, &engine(), &program().wasm);
    let before = store.stats().store;
    let changed = compile(&store, &engine(), &edited().wasm);
    let now = store.stats().store;
    assert_eq!(changed.source, Source::Compiled);
    let (hits, misses) = (now.hits - before.hits, now.misses - before.misses);
    assert!(misses >= 2 && misses < hits / 10, "{misses} misses, {hits} hits: at least the module and a function");
    assert_right(&changed.module, edited());
}

#[test]
fn a_damaged_module_is_compiled_again_and_never_used() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::default();
    let small =
        wat::parse_str("(module (func (export \"f\") (param i32) (result i32) local.get 0 i32.const 3 i32.mul))")
            .unwrap();
    for wasm in [&program().wasm, &small] {
        compile(&open(folder.path()), &engine, wasm);
    }
    let fresh = [&program().wasm, &small].map(|wasm| engine.precompile_module(wasm).unwrap());
    let files = files(folder.path());
    let (mut random, mut compiled) = (11, 0);
    for _ in 0..40 {
        let damaged = Damaged::new(&files, &mut random);
        let store = Arc::new(CodeStore::open_strict(&options(folder.path()).read_only(true)).unwrap());
        for (wasm, fresh) in [&program().wasm, &small].into_iter().zip(&fresh) {
            let loaded = compile(&store, &engine, wasm);
            assert!(loaded.module.serialize().unwrap() == *fresh, "damage became code");
            compiled += usize::from(loaded.source == Source::Compiled);
        }
        drop(damaged);
    }
    assert!(compiled >= 20, "of 40 damages {compiled} were met");
}

#[test]
fn a_store_that_refuses_makes_loading_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::default();
    compile(&open(folder.path()), &engine, &edited().wasm);
    let read_only = CodeStore::open_strict(&options(folder.path()).read_only(true)).unwrap();
    let off = CodeStore::open(&options(Path::new("relative")));
    assert!(off.off_reason().is_some());
    for (name, store) in
        [("read-only", read_only), ("too small", CodeStore::over(Arc::new(MemoryStore::new(8)))), ("off", off)]
    {
        let store = Arc::new(store);
        let loaded = compile(&store, &engine, &program().wasm);
        assert!(loaded.source == Source::Compiled && loaded.refusal.is_some(), "{name}: {loaded:?}");
        assert_right(&loaded.module, program());
        let known = compile(&store, &engine, &edited().wasm);
        assert_eq!(known.source == Source::Stored, name == "read-only");
        assert_right(&known.module, edited());
    }
}

#[test]
fn a_store_that_must_hit_names_what_it_lacks() {
    let behind = Arc::new(MemoryStore::new(256 << 20));
    let engine = Engine::default();
    compile(&Arc::new(CodeStore::over(behind.clone())), &engine, &program().wasm);
    let store = Arc::new(CodeStore::over(behind).mode(CodeMode::MustHit));
    assert_eq!(compile(&store, &engine, &program().wasm).source, Source::Stored);
    let refused = modules(&store).compile(&engine, "edited.wasm", &edited().wasm).unwrap_err();
    assert!(matches!(&refused, CodeError::MustHit(missing) if missing.label == "edited.wasm"), "{refused}");
}

#[test]
fn what_is_no_module_is_wasmtimes_error_and_is_not_stored() {
    let store = in_memory();
    let engine = Engine::default();
    for wasm in [&b"no module"[..], &program().wasm[..program().wasm.len() / 2]] {
        let refused = modules(&store).compile(&engine, "broken", wasm).unwrap_err();
        assert!(matches!(refused, CodeError::Compile(_)), "{refused}");
    }
    assert_eq!(store.stats().store.entries, 0);
}

#[test]
fn an_engine_for_another_machine_is_wasmtimes_error() {
    let mut config = Config::new();
    let other = if cfg!(target_os = "linux") { "x86_64-apple-darwin" } else { "x86_64-unknown-linux-gnu" };
    config.target(other).unwrap();
    let engine = Engine::new(&config).unwrap();
    let refused = modules(&in_memory()).compile(&engine, "foreign", &program().wasm).unwrap_err();
    assert!(matches!(refused, CodeError::Compile(_)), "{refused}");
}

#[test]
fn threads_that_want_a_module_compile_it_once() {
    let store = in_memory();
    let engine = Engine::default();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_right(&compile(&store, &engine, &program().wasm).module, program()));
        }
    });
    assert_eq!(store.stats().compiles, 1);
}

#[test]
fn what_wasmtime_refuses_is_compiled_again_and_put_in_its_place() {
    let engine = Engine::default();
    let behind = MemoryStore::new(256 << 20);
    let store = Arc::new(CodeStore::over(Arc::new(Garbage(behind.clone()))));
    compile(&store, &engine, &program().wasm);
    let puts = behind.stats().puts;
    // It is there, and what is read is nothing that Wasmtime has written.
    let loaded = compile(&store, &engine, &program().wasm);
    assert_eq!((loaded.source, behind.stats().puts), (Source::Compiled, puts + 1));
    assert_right(&loaded.module, program());
}

/// Has forgotten what its entries were.
struct Garbage(MemoryStore);

impl Store for Garbage {
    fn get(&self, key: &Key) -> Result<Record, Miss> {
        self.0.get(key).map(|_| Record::from_vec(b"something else".to_vec(), Meta::default()))
    }

    fn put(&self, key: &Key, meta: &Meta, payload: &[u8]) -> Result<(), Refusal> {
        self.0.put(key, meta, payload)
    }

    fn entries(&self) -> Vec<StoredEntry> {
        self.0.entries()
    }

    fn sync(&self) -> Result<(), Refusal> {
        self.0.sync()
    }

    fn clear(&self) -> Result<(), Refusal> {
        self.0.clear()
    }

    fn gc(&self) -> Result<Collected, Refusal> {
        self.0.gc()
    }

    fn stats(&self) -> StoreStats {
        self.0.stats()
    }
}
