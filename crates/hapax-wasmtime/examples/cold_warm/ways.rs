//! The ways to keep compiled code that are compared, each as its users would set it up.
#![expect(unsafe_code, reason = "loads compiled code from folders that this example made")]

use crate::AnyError;
use hapax::{CodeStore, DirectoryOptions};
use hapax_wasmtime::{FunctionCache, ModuleCache};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use wasmtime::{Cache, CacheConfig, CacheStore, Config, Engine, Module};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Nothing,
    MapOfFunctions,
    Functions,
    Modules,
    ModulesAndFunctions,
    WasmtimesCache,
    File,
}

impl Way {
    pub const ALL: [Way; 7] = [
        Way::Nothing,
        Way::MapOfFunctions,
        Way::Functions,
        Way::Modules,
        Way::ModulesAndFunctions,
        Way::WasmtimesCache,
        Way::File,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Way::Nothing => "nothing kept",
            Way::MapOfFunctions => "functions, map in memory",
            Way::Functions => "functions, hapax",
            Way::Modules => "module, hapax",
            Way::ModulesAndFunctions => "module and functions, hapax",
            Way::WasmtimesCache => "module, Wasmtime's cache",
            Way::File => "module, a file, unchecked",
        }
    }

    pub fn named(name: &str) -> Result<Way, AnyError> {
        Way::ALL.into_iter().find(|way| way.name() == name).ok_or_else(|| format!("no such way: {name}").into())
    }

    /// Warm is then another engine of the same process.
    pub fn ends_with_its_process(self) -> bool {
        self == Way::MapOfFunctions
    }
}

/// What a process keeps, or finds kept.
pub struct Kept {
    way: Way,
    folder: PathBuf,
    map: Arc<Map>,
    open: Option<Open>,
}

/// What is open during a session.
enum Open {
    Nothing,
    Map { hits: u64, lookups: u64 },
    Store(Arc<CodeStore>),
    Wasmtimes(Cache),
    File { found: bool },
}

impl Kept {
    pub fn new(way: Way, folder: &Path) -> Kept {
        Kept { way, folder: folder.to_owned(), map: Arc::default(), open: None }
    }

    /// The module of that name, ready to be instantiated.
    pub fn module(&mut self, name: &str, wasm: &[u8]) -> Result<Module, AnyError> {
        let mut config = Config::new();
        let (open, module) = match self.way {
            Way::Nothing => (Open::Nothing, Module::new(&Engine::new(&config)?, wasm)?),
            Way::MapOfFunctions => {
                let (hits, lookups) = self.map.counts();
                config.enable_incremental_compilation(self.map.clone())?;
                (Open::Map { hits, lookups }, Module::new(&Engine::new(&config)?, wasm)?)
            }
            Way::Functions => {
                let store = self.store()?;
                config.enable_incremental_compilation(Arc::new(FunctionCache::new(&store)))?;
                (Open::Store(store), Module::new(&Engine::new(&config)?, wasm)?)
            }
            Way::Modules | Way::ModulesAndFunctions => {
                let store = self.store()?;
                if self.way == Way::ModulesAndFunctions {
                    config.enable_incremental_compilation(Arc::new(FunctionCache::new(&store)))?;
                }
                // SAFETY: the folder was made for this run, in a place of this user's, and holds what this type put there.
                let modules = unsafe { ModuleCache::new(&store) };
                let module = modules.compile(&Engine::new(&config)?, name, wasm)?.module;
                (Open::Store(store), module)
            }
            Way::WasmtimesCache => {
                let mut own = CacheConfig::new();
                own.with_directory(&self.folder);
                let cache = Cache::new(own)?;
                config.cache(Some(cache.clone()));
                (Open::Wasmtimes(cache), Module::new(&Engine::new(&config)?, wasm)?)
            }
            Way::File => self.file(&Engine::new(&config)?, name, wasm)?,
        };
        self.open = Some(open);
        Ok(module)
    }

    /// Ends the session: hits, lookups and entries.
    pub fn close(&mut self) -> (u64, u64, u64) {
        match self.open.take() {
            None | Some(Open::Nothing) => (0, 0, 0),
            Some(Open::Map { hits, lookups }) => {
                let (hits_now, lookups_now) = self.map.counts();
                (hits_now - hits, lookups_now - lookups, self.map.len())
            }
            Some(Open::Store(store)) => {
                let stats = store.stats().store;
                (stats.hits, stats.hits + stats.misses, stats.entries)
            }
            Some(Open::Wasmtimes(cache)) => {
                let (hits, misses) = (cache.cache_hits() as u64, cache.cache_misses() as u64);
                (hits, hits + misses, 1)
            }
            Some(Open::File { found }) => (found.into(), 1, 1),
        }
    }

    fn store(&self) -> Result<Arc<CodeStore>, AnyError> {
        Ok(Arc::new(CodeStore::open_strict(&DirectoryOptions::new("cold-warm").dir(&self.folder))?))
    }

    /// The least that a warm start can do: nobody checks that the file is whole, and its name is all that says whose it is.
    fn file(&self, engine: &Engine, name: &str, wasm: &[u8]) -> Result<(Open, Module), AnyError> {
        let path = self.folder.join(name).with_extension("cwasm");
        let found = path.exists();
        if !found {
            std::fs::write(&path, engine.precompile_module(wasm)?)?;
        }
        // SAFETY: this example wrote the file, in a folder that it made for this run, and nobody changes it.
        let module = unsafe { Module::deserialize_file(engine, &path) }?;
        Ok((Open::File { found }, module))
    }
}

/// The simplest store of functions.
#[derive(Debug, Default)]
struct Map {
    functions: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
    hits: AtomicU64,
    lookups: AtomicU64,
}

impl Map {
    fn counts(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.lookups.load(Ordering::Relaxed))
    }

    fn len(&self) -> u64 {
        self.functions.lock().expect("no holder panics").len() as u64
    }
}

impl CacheStore for Map {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let found = self.functions.lock().expect("no holder panics").get(key).cloned();
        self.lookups.fetch_add(1, Ordering::Relaxed);
        self.hits.fetch_add(found.is_some().into(), Ordering::Relaxed);
        found.map(Cow::Owned)
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        self.functions.lock().expect("no holder panics").insert(key.to_owned(), value);
        true
    }
}
