//! Wasmtime's function-incremental compilation, on a store. Knows Wasmtime's keys as bytes, and no module.

use hapax::{CodeStore, Fingerprint, FingerprintBuilder, Key, Kind, Meta};
use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;
use wasmtime::CacheStore;

/// The kind of its entries: Cranelift's serialized functions.
const KIND: Kind = Kind::custom(2);

/// A [`CacheStore`] over a [`CodeStore`], for
/// [`Config::enable_incremental_compilation`](wasmtime::Config::enable_incremental_compilation).
///
/// Wasmtime's key is a hash of the function as translated, the target and all code generation flags, so engines of any settings may share a store; functions
/// that come out the same for several settings are shared between them, as they should be. Neither Cranelift's version nor its build is in that hash, and so
/// the version goes into the fingerprint here, and [`build_id`](FunctionCache::build_id) can name a build.
///
/// Wasmtime takes what is found for its own: the bytes are decoded without a checksum, and become machine code. So it matters that a
/// [`CodeStore`] gives back the bytes that were put under the full key, or nothing.
///
/// Clones share the store.
#[derive(Debug, Clone)]
pub struct FunctionCache {
    store: Arc<CodeStore>,
    base: FingerprintBuilder,
}

thread_local! {
    /// What this thread last missed, and when: it compiles that before it asks for anything else.
    static MISSED: Cell<Option<(Key, Instant)>> = const { Cell::new(None) };
}

impl FunctionCache {
    /// Over a store.
    pub fn new(store: &Arc<CodeStore>) -> FunctionCache {
        let base = Fingerprint::of("hapax-wasmtime functions 1").part("cranelift", cranelift_codegen::VERSION);
        FunctionCache { store: store.clone(), base }
    }

    /// Names what version numbers do not: a Wasmtime or Cranelift that was patched without raising them. Entries of other ids are not seen.
    pub fn build_id(self, build_id: impl AsRef<[u8]>) -> FunctionCache {
        FunctionCache { base: self.base.part("build", build_id), ..self }
    }

    fn key(&self, key: &[u8]) -> Key {
        Key::new(KIND, self.base.clone().part("key", key).finish())
    }
}

impl CacheStore for FunctionCache {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let key = self.key(key);
        match self.store.get(&key) {
            Ok(record) => Some(Cow::Owned(record.into_vec())),
            Err(_) => {
                MISSED.set(Some((key, Instant::now())));
                None
            }
        }
    }

    /// Whether it is stored now. Wasmtime goes on with what it has compiled either way.
    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        let key = self.key(key);
        let compile_ns = match MISSED.take() {
            Some((missed, when)) if missed == key => when.elapsed().as_nanos() as u64,
            _ => 0,
        };
        self.store.put(&key, &Meta { compile_ns, ..Meta::default() }, &value).is_ok()
    }
}
