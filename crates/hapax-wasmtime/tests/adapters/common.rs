//! What the suites share: the example's program, small enough for tests, and engines of many settings.

#[path = "../../examples/cold_warm/program/mod.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
pub mod program;

use hapax::{CodeStore, DirectoryOptions};
use program::Program;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use wasmtime::{Config, Engine, Instance, Module, OptLevel, Store};

type Setting = fn(&mut Config) -> &mut Config;

/// Settings of which each gives other code, or other code for some functions.
pub const SETTINGS: &[(&str, Setting)] = &[
    ("as they come", |config| config),
    ("no optimization", |config| config.cranelift_opt_level(OptLevel::None)),
    ("optimized for size", |config| config.cranelift_opt_level(OptLevel::SpeedAndSize)),
    ("canonical NaNs", |config| config.cranelift_nan_canonicalization(true)),
    ("fuel", |config| config.consume_fuel(true)),
    ("epochs", |config| config.epoch_interruption(true)),
    ("bounds checked by code", |config| config.memory_reservation(0).memory_guard_size(0)),
    ("no traps by signals", |config| config.signals_based_traps(false)),
];

/// The program of the tests, compiled from text once.
pub fn program() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| program::program(20, false))
}

pub fn edited() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| program::program(20, true))
}

pub fn options(folder: &Path) -> DirectoryOptions {
    DirectoryOptions::new("wasm").dir(folder)
}

pub fn open(folder: &Path) -> Arc<CodeStore> {
    Arc::new(CodeStore::open_strict(&options(folder)).unwrap())
}

/// The program comes to the results that Rust comes to.
pub fn assert_right(module: &Module, program: &Program) {
    let engine: &Engine = module.engine();
    let mut store = Store::new(engine, ());
    // Where it is not counted, there is no fuel to set.
    let _ = store.set_fuel(u64::MAX);
    store.set_epoch_deadline(1);
    let instance = Instance::new(&mut store, module, &[]).unwrap();
    for (name, argument, expected) in &program.calls {
        let export = instance.get_typed_func::<u32, u64>(&mut store, name).unwrap();
        assert_eq!(export.call(&mut store, *argument).unwrap(), *expected, "{name}");
    }
}

/// All files that a store has written, with what is in them.
pub fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            files.push((path, bytes));
        }
    }
    files.sort();
    files
}

/// One bit of all the files changed, given back as they were when it is dropped.
pub struct Damaged<'a>(&'a (PathBuf, Vec<u8>));

impl Damaged<'_> {
    pub fn new<'a>(files: &'a [(PathBuf, Vec<u8>)], random: &mut u64) -> Damaged<'a> {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        let total: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut bit = *random as usize % (total * 8);
        let mut files = files.iter();
        let file = loop {
            let file = files.next().expect("the bit is in one of them");
            match bit.checked_sub(file.1.len() * 8) {
                None => break file,
                Some(rest) => bit = rest,
            }
        };
        let mut bytes = file.1.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&file.0, bytes).unwrap();
        Damaged(file)
    }
}

impl Drop for Damaged<'_> {
    fn drop(&mut self) {
        std::fs::write(&self.0.0, &self.0.1).unwrap();
    }
}
