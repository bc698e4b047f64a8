//! Whole modules, on a store. The one place where stored bytes become a module, and so the one with unsafe code.
#![expect(unsafe_code, reason = "Module::deserialize believes its caller about where the bytes come from")]

use hapax::{CodeError, CodeStore, Fingerprint, FingerprintBuilder, Kind, Refusal, Source, Unit};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use wasmtime::{Engine, Module};

/// The kind of its entries: modules as Wasmtime serializes them.
const KIND: Kind = Kind::custom(3);

/// Keeps compiled modules in a [`CodeStore`].
///
/// The fingerprint is over the WebAssembly bytes and what Wasmtime says makes its artifacts compatible
/// ([`Engine::precompile_compatibility_hash`]: target, flags, features, tunables, version), so engines of any settings may share a store. Cranelift's version goes
/// in once more, since an engine may be told to leave Wasmtime's out.
///
/// Clones share the store.
#[derive(Debug, Clone)]
pub struct ModuleCache {
    store: Arc<CodeStore>,
    base: FingerprintBuilder,
}

/// A module, and where it came from.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LoadedModule {
    /// The module.
    pub module: Module,
    /// Where its code came from.
    pub source: Source,
    /// Why it could not be stored, if it should have been. The module is as good as others.
    pub refusal: Option<Refusal>,
}

impl ModuleCache {
    /// Over a store.
    ///
    /// # Safety
    /// What is found there runs as machine code, and Wasmtime checks little of it. So the caller vouches that whatever can put entries into the store, in this process or
    /// another, may run code in this one, and that it puts nothing under the keys of this type but through this type.
    ///
    /// A directory as [`CodeStore::open`] makes it can be vouched for: it belongs to the user, nobody else can write to it, and each record is checked whole, its full key included,
    /// when it is read. An implementation of [`Store`](hapax::Store) of your own, or a pack that came over a network, is as good as you know it to be.
    pub unsafe fn new(store: &Arc<CodeStore>) -> ModuleCache {
        let base = Fingerprint::of("hapax-wasmtime modules 1").part("cranelift", cranelift_codegen::VERSION);
        ModuleCache { store: store.clone(), base }
    }

    /// Names what version numbers do not: a Wasmtime or Cranelift that was patched without raising them. Entries of other ids are not seen.
    pub fn build_id(self, build_id: impl AsRef<[u8]>) -> ModuleCache {
        ModuleCache { base: self.base.part("build", build_id), ..self }
    }

    /// The module of these WebAssembly bytes: from the store, or compiled now and stored. Threads that ask for the same one at once wait for one of them to compile it.
    ///
    /// `label` is a name for people, as the command `hapax top` shows it. What Wasmtime refuses to load although it is what was stored is compiled and stored again.
    /// Wasmtime's own cache, if the engine has one, is not asked; incremental compilation, if the engine does it, is used on a miss.
    ///
    /// # Errors
    /// [`CodeError::Compile`] with Wasmtime's error, if it is no valid module for this engine, or the engine compiles for another machine; in their modes
    /// [`CodeError::MustHit`] and [`CodeError::Differs`].
    pub fn compile(
        &self,
        engine: &Engine,
        label: &str,
        wasm: impl AsRef<[u8]>,
    ) -> Result<LoadedModule, CodeError<wasmtime::Error>> {
        let wasm = wasm.as_ref();
        let unit = WasmModule { engine, label, wasm, fingerprint: self.fingerprint(engine, wasm) };
        let compiled = self.store.get_or_compile(&unit, WasmModule::precompile)?;
        // SAFETY: the bytes are what `precompile_module` gave: just now, in this process; or they come from the store, which checked them and their
        // full key, and into which, by the word of who called `new`, only this function put anything under that key, after the same call.
        match unsafe { Module::deserialize(engine, &compiled[..]) } {
            Ok(module) => Ok(LoadedModule { module, source: compiled.source, refusal: compiled.refusal }),
            Err(_) if compiled.source == Source::Stored => self.replace(&unit),
            Err(error) => Err(CodeError::Compile(error)),
        }
    }

    /// The entry is intact and of no use.
    fn replace(&self, unit: &WasmModule<'_>) -> Result<LoadedModule, CodeError<wasmtime::Error>> {
        let compiled = self.store.recompile(unit, WasmModule::precompile)?;
        // SAFETY: `precompile_module` gave these bytes just now.
        let module = unsafe { Module::deserialize(unit.engine, &compiled[..]) }.map_err(CodeError::Compile)?;
        Ok(LoadedModule { module, source: compiled.source, refusal: compiled.refusal })
    }

    fn fingerprint(&self, engine: &Engine, wasm: &[u8]) -> Fingerprint {
        let mut compatibility = Written(Vec::new());
        engine.precompile_compatibility_hash().hash(&mut compatibility);
        self.base.clone().part("engine", compatibility.0).part("wasm", wasm).finish()
    }
}

struct WasmModule<'a> {
    engine: &'a Engine,
    label: &'a str,
    wasm: &'a [u8],
    fingerprint: Fingerprint,
}

impl WasmModule<'_> {
    fn precompile(&self) -> Result<Vec<u8>, wasmtime::Error> {
        self.engine.precompile_module(self.wasm)
    }
}

impl Unit for WasmModule<'_> {
    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    fn kind(&self) -> Kind {
        KIND
    }

    fn label(&self) -> String {
        self.label.to_owned()
    }
}

/// All that is hashed, instead of 64 bits of it.
struct Written(Vec<u8>);

impl Hasher for Written {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        unreachable!("what is hashed asks for no hash");
    }
}
