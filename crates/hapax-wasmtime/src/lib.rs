//! Wasmtime that starts warm: what one process compiled, the next one finds in a [`CodeStore`](hapax::CodeStore).
//!
//! There are two ways, and they go together:
//!
//! - [`FunctionCache`] is a Wasmtime [`CacheStore`](wasmtime::CacheStore): each function is kept by itself, so a module of which one function changed compiles
//!   one function. Wasmtime still reads, validates and translates the module.
//! - [`ModuleCache`] keeps whole modules: a hit does none of this, and a module that changed anywhere is another one.
//!
//! ```
//! use hapax::{CodeStore, DirectoryOptions, Source};
//! use hapax_wasmtime::{FunctionCache, ModuleCache};
//! use std::sync::Arc;
//! use wasmtime::{Config, Engine, Instance, Store};
//!
//! # let folder = tempfile::tempdir()?;
//! # let options = DirectoryOptions::new("my-app").dir(folder.path());
//! # /*
//! let options = DirectoryOptions::new("my-app");
//! # */
//! # for source in [Source::Compiled, Source::Stored] {
//! let store = Arc::new(CodeStore::open(&options));
//! let mut config = Config::new();
//! config.enable_incremental_compilation(Arc::new(FunctionCache::new(&store)))?;
//! let engine = Engine::new(&config)?;
//! // SAFETY: nobody but this program writes to the directory, and it puts nothing under the adapter's keys.
//! let modules = unsafe { ModuleCache::new(&store) };
//!
//! # let wasm = b"\0asm\x01\0\0\0\x01\x05\x01\x60\0\x01\x7f\x03\x02\x01\0\x07\x05\x01\x01f\0\0\x0a\x06\x01\x04\0\x41\x2a\x0b";
//! let loaded = modules.compile(&engine, "answer.wasm", wasm)?;
//! let mut wasm_store = Store::new(&engine, ());
//! let instance = Instance::new(&mut wasm_store, &loaded.module, &[])?;
//! let answer = instance.get_typed_func::<(), i32>(&mut wasm_store, "f")?.call(&mut wasm_store, ())?;
//! assert_eq!(answer, 42);
//! # assert_eq!(loaded.source, source);
//! # }
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```
//!
//! A store that is off, full, read-only or damaged makes both of them slow and neither of them fail. The README has figures.

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod functions;
mod modules;

pub use crate::functions::FunctionCache;
pub use crate::modules::{LoadedModule, ModuleCache};
