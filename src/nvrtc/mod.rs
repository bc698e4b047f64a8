//! CUDA C++ kernels that are compiled once: from the store on a hit, by NVRTC on a miss.
//!
//! A hit does not even load NVRTC: the fingerprint needs to know which compiler it would be, and reads that from the
//! library's file. Nothing here needs a GPU.
//!
//! ```no_run
//! use hapax::nvrtc::{Kernel, KernelCompiler, Nvrtc};
//!
//! # let store = hapax::MemoryStore::new(64 << 20);
//! let compiler = KernelCompiler::new(Nvrtc::find()?, store);
//! let source = r#"extern "C" __global__ void twice(float *x) { x[threadIdx.x] *= 2; }"#;
//! let image = compiler.image(&Kernel::new("twice.cu", source, "sm_90".parse()?))?; // a CUBIN, ready to be loaded
//! # Ok::<(), hapax::nvrtc::NvrtcError>(())
//! ```
//!
//! # What belongs to a kernel's fingerprint
//! Source, name, architecture, options in order, name expressions, all headers by content, and the compiler's own build.
//! What would let something else in is refused or closed: include paths (give the headers, which go to NVRTC in memory),
//! the current directory, files written beside the image.

mod error;
mod headers;
mod identity;
mod image;
mod kernel;
mod library;

pub use crate::nvrtc::error::{Diagnostic, NvrtcError, Severity};
pub use crate::nvrtc::headers::Headers;
pub use crate::nvrtc::identity::CompilerId;
pub use crate::nvrtc::image::KernelImage;
pub use crate::nvrtc::kernel::{Arch, Kernel};

use crate::nvrtc::identity::{absent, find_library};
use crate::nvrtc::library::Functions;
use crate::persist::envelope::{Key, Kind, Meta};
use crate::persist::store::{Record, Store};
use crate::sync::Mutex;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

/// The compiler of this machine, or the identity of one elsewhere. It is loaded when it first compiles.
pub struct Nvrtc {
    id: CompilerId,
    library: Option<PathBuf>,
    /// Loaded at most once. Held while a kernel compiles only if NVRTC must be loaded for it.
    loaded: std::sync::OnceLock<Functions>,
    loading: Mutex<()>,
}

impl Nvrtc {
    /// The libnvrtc of this machine: the file that `HAPAX_NVRTC` names, or else the first in `CUDA_PATH`, `CUDA_HOME`,
    /// `LD_LIBRARY_PATH` and the places where the toolkit and distributions put it. Reads its identity and does not load
    /// it.
    ///
    /// # Errors
    /// [`NvrtcError::Absent`], which says where it was looked for.
    pub fn find() -> Result<Nvrtc, NvrtcError> {
        Nvrtc::at(find_library()?)
    }

    /// The libnvrtc in this file.
    ///
    /// # Errors
    /// [`NvrtcError::Absent`] if it cannot be read.
    pub fn at(path: impl Into<PathBuf>) -> Result<Nvrtc, NvrtcError> {
        let path = path.into();
        match CompilerId::of_library(&path) {
            Ok(id) => Ok(Nvrtc::new(id, Some(path))),
            Err(error) => Err(absent(format!("{} cannot be read: {error}", path.display()))),
        }
    }

    /// A compiler that is not here: kernels come from the store, which was filled elsewhere, and a miss is
    /// [`NvrtcError::Absent`].
    pub fn elsewhere(id: CompilerId) -> Nvrtc {
        Nvrtc::new(id, None)
    }

    /// Its identity, part of every fingerprint.
    pub fn id(&self) -> CompilerId {
        self.id
    }

    /// Whether it had to be loaded yet.
    pub fn is_loaded(&self) -> bool {
        self.loaded.get().is_some()
    }

    /// Its version, such as `12.8`. Loads it.
    ///
    /// # Errors
    /// [`NvrtcError::Absent`] or [`NvrtcError::Replaced`].
    pub fn version(&self) -> Result<String, NvrtcError> {
        self.functions().map(Functions::version_text)
    }

    fn new(id: CompilerId, library: Option<PathBuf>) -> Nvrtc {
        Nvrtc { id, library, loaded: std::sync::OnceLock::new(), loading: Mutex::new(()) }
    }

    fn functions(&self) -> Result<&Functions, NvrtcError> {
        if let Some(functions) = self.loaded.get() {
            return Ok(functions);
        }
        let _one_at_a_time = self.loading.lock();
        if let Some(functions) = self.loaded.get() {
            return Ok(functions);
        }
        let Some(path) = &self.library else {
            return Err(absent(format!("the compiler {:?} is elsewhere", self.id)));
        };
        let functions = Functions::load(path)?;
        self.check_not_replaced(path)?;
        Ok(self.loaded.get_or_init(|| functions))
    }

    /// Between the reading of its identity and its loading, an update may have put another compiler there.
    fn check_not_replaced(&self, path: &Path) -> Result<(), NvrtcError> {
        match CompilerId::of_library(path) {
            Ok(id) if id == self.id => Ok(()),
            _ => Err(NvrtcError::Replaced { path: path.to_owned() }),
        }
    }
}

/// Compiles kernels through a store: what it compiled once it takes from there. Shared by threads.
pub struct KernelCompiler<S> {
    nvrtc: Nvrtc,
    store: S,
    stats: Mutex<KernelStats>,
}

/// What a [`KernelCompiler`] did since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct KernelStats {
    /// Images from the store.
    pub hits: u64,
    /// Images compiled.
    pub compiles: u64,
    /// Kernels that did not compile.
    pub failures: u64,
    /// Images that the store would not take; they were used all the same.
    pub refused: u64,
    /// Time spent compiling.
    pub compile_ns: u64,
    /// Compile time that hits saved, as measured when they were compiled.
    pub saved_ns: u64,
}

impl<S: Store> KernelCompiler<S> {
    /// One with this compiler and store.
    pub fn new(nvrtc: Nvrtc, store: S) -> KernelCompiler<S> {
        KernelCompiler { nvrtc, store, stats: Mutex::new(KernelStats::default()) }
    }

    /// The kernel's image, from the store or compiled now and stored.
    ///
    /// Threads that miss the same kernel at once each compile it, and store the same.
    ///
    /// # Errors
    /// What the compiler says, as [`NvrtcError`]. Never the store's troubles: they are misses, or are counted as refused.
    pub fn image(&self, kernel: &Kernel) -> Result<KernelImage, NvrtcError> {
        let key = Key::new(Kind::CODE, kernel.fingerprint(&self.nvrtc.id));
        let stored =
            self.store.get(&key).ok().and_then(|record| KernelImage::from_record(record, &kernel.name_expressions));
        if let Some(image) = stored {
            let mut stats = self.stats.lock();
            stats.hits += 1;
            stats.saved_ns += image.compile_ns();
            return Ok(image);
        }
        self.compile(&key, kernel)
    }

    /// The compiler.
    pub fn nvrtc(&self) -> &Nvrtc {
        &self.nvrtc
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// What it did so far.
    pub fn stats(&self) -> KernelStats {
        *self.stats.lock()
    }

    fn compile(&self, key: &Key, kernel: &Kernel) -> Result<KernelImage, NvrtcError> {
        let functions = self.nvrtc.functions()?;
        let begun = Instant::now();
        let compiled = functions.compile(kernel, &kernel.headers.prepared());
        let compile_ns = begun.elapsed().as_nanos().try_into().unwrap_or(u64::MAX);
        let mut stats = self.stats.lock();
        stats.compile_ns += compile_ns;
        let compiled = compiled.inspect_err(|_| stats.failures += 1)?;
        stats.compiles += 1;
        drop(stats);
        let meta = Meta { label: kernel.name.clone(), compile_ns, written_unix_s: unix_seconds() };
        let artifact = KernelImage::to_artifact(&compiled.image, compiled.lowered, compiled.log);
        if self.store.put(key, &meta, &artifact).is_err() {
            self.stats.lock().refused += 1; // a store that cannot write is slow, not broken
        }
        let image = KernelImage::from_record(Record::from_vec(artifact, meta), &kernel.name_expressions);
        Ok(image.expect("an artifact reads back"))
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl fmt::Debug for Nvrtc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Nvrtc");
        debug.field("id", &self.id).field("library", &self.library).field("loaded", &self.is_loaded()).finish()
    }
}

impl<S> fmt::Debug for KernelCompiler<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelCompiler").field("nvrtc", &self.nvrtc).finish_non_exhaustive()
    }
}
