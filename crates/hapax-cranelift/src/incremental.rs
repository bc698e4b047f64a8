//! Cranelift's incremental cache, on a store: for embedders that call `Context::compile_with_cache` and want its entries to
//! outlive the process. Knows what Cranelift's key leaves out.

use cranelift_codegen::incremental_cache::CacheKvStore;
use hapax::{CodeStore, Fingerprint, FingerprintBuilder, Key, Kind, Meta};
use std::borrow::Cow;
use std::sync::Arc;

/// The kind of its entries, which are Cranelift's own blobs and no artifacts of this crate.
const KIND: Kind = Kind::custom(1);

/// A [`CacheKvStore`] over a [`CodeStore`].
///
/// Cranelift's key is a hash of the function and the ISA; its version marker adds nothing to that hash, so the
/// version, the embedder's build and this adapter's schema go into the fingerprint here.
///
/// ```
/// use cranelift_codegen::{Context, isa::OwnedTargetIsa};
/// use hapax::CodeStore;
/// use hapax_cranelift::IncrementalCache;
/// use std::sync::Arc;
///
/// fn compile(context: &mut Context, isa: &OwnedTargetIsa, store: &Arc<CodeStore>) -> Vec<u8> {
///     let mut cache = IncrementalCache::new(store, "my-compiler 7");
///     let (code, _hit) = context.compile_with_cache(&**isa, &mut cache, &mut Default::default()).unwrap();
///     code.code_buffer().to_vec()
/// }
/// ```
///
/// It saves code generation and neither lowering nor decoding; a [`Jit`](crate::Jit) saves them too. The README has figures.
#[derive(Clone)]
pub struct IncrementalCache {
    store: Arc<CodeStore>,
    base: FingerprintBuilder,
}

impl IncrementalCache {
    /// Over a store. `build_id` changes whenever the embedder passes other options to Cranelift than the ISA says.
    pub fn new(store: &Arc<CodeStore>, build_id: impl AsRef<[u8]>) -> IncrementalCache {
        let base = Fingerprint::of("hapax-cranelift incremental 1")
            .part("cranelift", cranelift_codegen::VERSION)
            .part("embedder", build_id);
        IncrementalCache { store: store.clone(), base }
    }

    fn key(&self, key: &[u8]) -> Key {
        Key::new(KIND, self.base.clone().part("key", key).finish())
    }
}

impl CacheKvStore for IncrementalCache {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        self.store.get(&self.key(key)).ok().map(|record| Cow::Owned(record.into_vec()))
    }

    fn insert(&mut self, key: &[u8], value: Vec<u8>) {
        // A store that refuses is slow, not broken.
        let _ = self.store.put(&self.key(key), &Meta::default(), &value);
    }
}
