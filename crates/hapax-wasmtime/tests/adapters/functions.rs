//! Function-incremental compilation through Wasmtime, over stores in every state.

use crate::common::{Damaged, SETTINGS, assert_right, edited, files, open, options, program};
use hapax::{CodeMode, CodeStore, MemoryStore, StoreStats};
use hapax_wasmtime::FunctionCache;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use wasmtime::{CacheStore, Config, Engine, Module};

/// The module, compiled by an engine of its own with those settings.
fn compile(mut config: Config, cache: Option<Arc<dyn CacheStore>>, wasm: &[u8]) -> Module {
    if let Some(cache) = cache {
        config.enable_incremental_compilation(cache).unwrap();
    }
    Module::new(&Engine::new(&config).unwrap(), wasm).unwrap()
}

fn through(store: &Arc<CodeStore>, wasm: &[u8]) -> (Module, StoreStats) {
    let before = store.stats().store;
    let module = compile(Config::new(), Some(Arc::new(FunctionCache::new(store))), wasm);
    let mut since = store.stats().store;
    since.hits -= before.hits;
    since.misses -= before.misses;
    since.puts -= before.puts;
    (module, since)
}

fn fresh(wasm: &[u8]) -> Vec<u8> {
    compile(Config::new(), None, wasm).serialize().unwrap()
}

/// Most, since some of Wasmtime's keys depend on whether the functions before were compiled or found. What is missed for that reason is compiled once more, under a key that
/// the next process finds, where in turn the function behind it may be missed.
#[test]
fn the_next_process_finds_most_functions_a_later_one_all_and_each_comes_to_the_same_module() {
    let folder = tempfile::tempdir().unwrap();
    let wasm = &program().wasm;
    let expected = fresh(wasm);
    let (cold, first) = through(&open(folder.path()), wasm);
    assert!(first.misses as usize > program().functions && first.puts == first.misses, "{first:?}");
    assert!(cold.serialize().unwrap() == expected);
    let lookups = first.hits + first.misses;
    let mut missed = Vec::new();
    while missed.last() != Some(&0) {
        let store = open(folder.path());
        let (warm, stats) = through(&store, wasm);
        assert_eq!(stats.hits + stats.misses, lookups);
        assert!(warm.serialize().unwrap() == expected);
        assert_right(&warm, program());
        assert!(store.stats().saved_ns > 0, "what compiling took is known");
        missed.push(stats.misses);
        assert!(missed[0] < lookups / 10 && missed.len() < 20, "of {lookups} lookups {missed:?} were missed");
    }
    println!("of {lookups} lookups, these were missed by one process after the other: {missed:?}");
}

#[test]
fn after_an_edit_little_more_than_what_changed_is_compiled() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    through(&store, &program().wasm);
    let (module, stats) = through(&store, &edited().wasm);
    assert!(stats.misses >= 1 && stats.misses < stats.hits / 10, "{stats:?}");
    assert!(module.serialize().unwrap() == fresh(&edited().wasm));
    assert_right(&module, edited());
}

#[test]
fn functions_that_only_move_are_found() {
    let module = |more: &str| {
        let own = "(func $f (export \"f\") (param i32) (result i32) (call $g (i32.mul (local.get 0) (i32.const 3))))
                   (func $g (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))";
        wat::parse_str(format!("(module {more} {own})")).unwrap()
    };
    let store = Arc::new(CodeStore::over(Arc::new(MemoryStore::new(1 << 20))));
    through(&store, &module(""));
    let (moved, stats) = through(&store, &module("(func $new (param i32) (result i32) (i32.clz (local.get 0)))"));
    assert_eq!(stats.misses, 1, "{stats:?}");
    let mut wasm_store = wasmtime::Store::new(moved.engine(), ());
    let instance = wasmtime::Instance::new(&mut wasm_store, &moved, &[]).unwrap();
    let f = instance.get_typed_func::<i32, i32>(&mut wasm_store, "f").unwrap();
    assert_eq!(f.call(&mut wasm_store, 5).unwrap(), 16);
}

/// Wasmtime's key covers settings: of two engines each gets the functions that it would have compiled itself.
#[test]
fn engines_of_different_settings_get_their_own_code_from_one_store() {
    let store = Arc::new(CodeStore::over(Arc::new(MemoryStore::new(64 << 20))));
    let wasm = &program().wasm;
    let mut modules = Vec::new();
    for (name, set) in SETTINGS {
        let config = || {
            let mut config = Config::new();
            set(&mut config);
            config
        };
        let own = compile(config(), None, wasm).serialize().unwrap();
        for _ in 0..2 {
            let module = compile(config(), Some(Arc::new(FunctionCache::new(&store))), wasm);
            assert!(module.serialize().unwrap() == own, "{name}: other code than without a store");
            assert_right(&module, program());
        }
        assert!(!modules.contains(&own), "{name}: these settings change nothing");
        modules.push(own);
    }
    assert!(store.stats().store.hits > 0);
}

#[test]
fn settings_of_code_generation_share_nothing() {
    let store = Arc::new(CodeStore::over(Arc::new(MemoryStore::new(64 << 20))));
    for (_, set) in &SETTINGS[..4] {
        let mut config = Config::new();
        set(&mut config);
        let before = store.stats().store;
        compile(config, Some(Arc::new(FunctionCache::new(&store))), &program().wasm);
        let now = store.stats().store;
        assert_eq!(now.puts - before.puts, now.misses - before.misses);
        assert_eq!(now.entries - before.entries, now.puts - before.puts, "an entry was put over another");
    }
}

#[test]
fn builds_of_different_ids_share_nothing() {
    let store = Arc::new(CodeStore::over(Arc::new(MemoryStore::new(64 << 20))));
    let compile_as = |build: Option<&str>| {
        let cache = FunctionCache::new(&store);
        let cache = build.into_iter().fold(cache, |cache, build| cache.build_id(build));
        let before = store.stats().store.misses;
        compile(Config::new(), Some(Arc::new(cache)), &program().wasm);
        store.stats().store.misses - before
    };
    let all = compile_as(None);
    assert_eq!((compile_as(Some("patched 1")), compile_as(Some("patched 2"))), (all, all));
    assert!(compile_as(None) < all / 5 && compile_as(Some("patched 1")) < all / 5);
}

#[test]
fn a_damaged_function_is_compiled_again_and_never_used() {
    let folder = tempfile::tempdir().unwrap();
    let wasm = &program().wasm;
    let expected = fresh(wasm);
    through(&open(folder.path()), wasm);
    let files = files(folder.path());
    let (mut random, mut missed) = (7, 0);
    for _ in 0..100 {
        let damaged = Damaged::new(&files, &mut random);
        let store = Arc::new(CodeStore::open_strict(&options(folder.path()).read_only(true)).unwrap());
        let (module, stats) = through(&store, wasm);
        assert!(module.serialize().unwrap() == expected, "damage became code");
        missed += stats.misses;
        drop(damaged);
    }
    assert!(missed >= 50, "of 100 damages {missed} were met");
}

/// Why a checksum is the store's business: nobody else looks.
#[test]
fn without_a_check_a_changed_bit_becomes_code() {
    let wasm = &program().wasm;
    let map = Arc::new(Map::default());
    let module = compile(Config::new(), Some(map.clone()), wasm).serialize().unwrap();
    {
        let mut functions = map.0.lock().unwrap();
        let longest = functions.values_mut().max_by_key(|value| value.len()).unwrap();
        // Amid the machine code, which is most of it.
        let middle = longest.len() / 2;
        longest[middle] ^= 1;
    }
    assert!(compile(Config::new(), Some(map), wasm).serialize().unwrap() != module);
}

#[test]
fn a_store_that_refuses_makes_compiling_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let wasm = &program().wasm;
    through(&open(folder.path()), &edited().wasm);
    let read_only = CodeStore::open_strict(&options(folder.path()).read_only(true)).unwrap();
    let stores = [
        ("read-only", read_only),
        ("told to store nothing", CodeStore::over(Arc::new(MemoryStore::new(1 << 20))).mode(CodeMode::ReadOnly)),
        ("too small", CodeStore::over(Arc::new(MemoryStore::new(8)))),
        ("off", CodeStore::open(&options(std::path::Path::new("relative")))),
    ];
    for (name, store) in stores {
        let store = Arc::new(store);
        let cache = FunctionCache::new(&store);
        assert!(!cache.insert(b"a key", vec![0; 100]), "{name}: says that it has stored something");
        let (module, stats) = through(&store, wasm);
        assert_eq!((stats.puts, stats.misses > 0), (0, true), "{name}: {stats:?}");
        assert_eq!(stats.hits > 0, name == "read-only", "{name}: {stats:?}");
        assert_right(&module, program());
    }
}

#[test]
fn an_insert_is_what_the_next_get_gives() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (FunctionCache::new(&open(folder.path())), FunctionCache::new(&open(folder.path())));
    assert_eq!(a.get(b"key"), None);
    assert!(a.insert(b"key", b"value".to_vec()) && a.insert(b"", Vec::new()));
    assert_eq!(a.get(b"key").as_deref(), Some(&b"value"[..]));
    assert_eq!(a.get(b"").as_deref(), Some(&b""[..]));
    assert_eq!(a.get(b"ke"), None);
    // Another process would look within 100 ms.
    let found = (0..100).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        b.get(b"key")
    });
    assert_eq!(found.as_deref(), Some(&b"value"[..]));
}

#[derive(Debug, Default)]
struct Map(Mutex<HashMap<Vec<u8>, Vec<u8>>>);

impl CacheStore for Map {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        self.0.lock().unwrap().get(key).cloned().map(Cow::Owned)
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        self.0.lock().unwrap().insert(key.to_owned(), value);
        true
    }
}
