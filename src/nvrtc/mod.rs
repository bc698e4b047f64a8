//! CUDA C++ kernels that are compiled once a machine: from the store on a hit, by NVRTC on a miss; and their modules,
//! resident on the card under a budget.
//!
//! A hit does not even load NVRTC: the fingerprint needs to know which compiler it would be, and that is read from the
//! library's file. To compile needs no GPU.
//!
//! ```no_run
//! use hapax::nvrtc::{Arch, Kernel, KernelCache, KernelCompiler, Nvrtc};
//! use hapax::{CodeStore, CudaDevice, DirectoryOptions, Heap, HeapOptions, Launch, LaunchShape};
//!
//! let card = CudaDevice::open(0)?;
//! let arch = Arch::of_compute_capability(card.info().compute_capability);
//! let heap = Heap::new(card, HeapOptions::new(64 << 20))?;
//! let stream = heap.new_stream()?;
//!
//! let store = CodeStore::open(&DirectoryOptions::new("my-compiler"));
//! let kernels = KernelCache::new(KernelCompiler::new(Nvrtc::find()?, store), &heap, 16 << 20)?;
//! let source = r#"extern "C" __global__ void twice(float *x) { x[threadIdx.x] *= 2; }"#;
//! let twice = kernels.get(&Kernel::new("twice.cu", source, arch), &stream)?; // resident, and kept while it is leased
//!
//! let mut x = heap.alloc_slice::<f32>(32)?.upload_from(&[1.0; 32])?;
//! let mut view = x.on_mut(&stream)?;
//! let function = twice.function("twice")?;
//! // SAFETY: `twice` takes one pointer, to as many numbers as it has threads.
//! unsafe { Launch::new(&function, LaunchShape::linear(32, 32)).memory(&mut view).launch() }?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
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
mod includes;
mod kernel;
mod library;
mod resident;

pub use crate::nvrtc::error::{Diagnostic, NvrtcError, Severity};
pub use crate::nvrtc::headers::Headers;
pub use crate::nvrtc::identity::CompilerId;
pub use crate::nvrtc::image::KernelImage;
pub use crate::nvrtc::kernel::{Arch, Kernel};
pub use crate::nvrtc::resident::{KernelCache, KernelError, KernelLease};

use crate::code::error::CodeError;
use crate::code::{CodeStore, Unit};
use crate::nvrtc::identity::{absent, find_library};
use crate::nvrtc::library::Functions;
use crate::persist::fingerprint::Fingerprint;
use crate::sync::Mutex;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The compiler of this machine, or the identity of one elsewhere. It is loaded when it first compiles.
pub struct Nvrtc {
    id: CompilerId,
    library: Option<PathBuf>,
    /// Loaded at most once. Held while a kernel compiles only if NVRTC must be loaded for it.
    loaded: OnceLock<Functions>,
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
        // By its whole path: the system's loader would look for a mere name in folders of its own, and find another file.
        match std::fs::canonicalize(&path).and_then(|path| Ok((CompilerId::of_library(&path)?, path))) {
            Ok((id, path)) => Ok(Nvrtc::new(id, Some(path))),
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
        Nvrtc { id, library, loaded: OnceLock::new(), loading: Mutex::new(()) }
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

/// Compiles kernels through a [`CodeStore`]: what was compiled once comes from there. Shared by threads; several that miss
/// the same kernel at once compile it once.
///
/// It needs no card, and for what is stored no compiler either. On a machine that has none, such as one of a fleet whose store was
/// filled elsewhere:
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use hapax::nvrtc::{CompilerId, Kernel, KernelCompiler, Nvrtc, NvrtcError};
/// use hapax::{CodeStore, MemoryStore};
/// use std::sync::Arc;
///
/// let where_filled = CompilerId::from_hex(&"07".repeat(32)).expect("what `Nvrtc::id` printed there");
/// let store = CodeStore::over(Arc::new(MemoryStore::new(1 << 20))); // yours is a directory, or a pack of it
/// let compiler = KernelCompiler::new(Nvrtc::elsewhere(where_filled), store);
/// let kernel = Kernel::new("f.cu", "__global__ void f() {}", "sm_90".parse()?);
/// match compiler.image(&kernel) {
///     Ok(image) => println!("{} bytes, which took {} ns to compile", image.len(), image.compile_ns()),
///     Err(NvrtcError::Compile { log, .. }) => println!("{log}"), // all errors; `Display` has the first
///     Err(error) => {
///         assert!(matches!(error, NvrtcError::Absent { .. })); // nothing is stored here
///         println!("{error}"); // and what to do
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct KernelCompiler {
    nvrtc: Nvrtc,
    store: CodeStore,
}

/// A kernel and the compiler that it is for.
struct Job<'a> {
    nvrtc: &'a Nvrtc,
    kernel: &'a Kernel,
}

impl KernelCompiler {
    /// One with this compiler and store.
    pub fn new(nvrtc: Nvrtc, store: CodeStore) -> KernelCompiler {
        KernelCompiler { nvrtc, store }
    }

    /// The kernel's image, from the store or compiled now and stored.
    ///
    /// # Errors
    /// What the compiler says, as [`NvrtcError`]. The store's troubles are misses, and are counted there. An intact artifact under
    /// the kernel's fingerprint that is no image is compiled anew and replaced.
    pub fn image(&self, kernel: &Kernel) -> Result<KernelImage, NvrtcError> {
        let job = Job { nvrtc: &self.nvrtc, kernel };
        let compiled = self.store.get_or_compile(&job, compile).map_err(nvrtc_error)?;
        if let Some(image) = KernelImage::from_record(compiled.record, &kernel.name_expressions) {
            return Ok(image);
        }
        let again = self.store.recompile(&job, compile).map_err(nvrtc_error)?;
        let image = KernelImage::from_record(again.record, &kernel.name_expressions);
        image.ok_or_else(|| NvrtcError::Differs { message: format!("{:?} was compiled to no image", kernel.name) })
    }

    /// The kernel's fingerprint with this compiler.
    pub fn fingerprint(&self, kernel: &Kernel) -> Fingerprint {
        kernel.fingerprint(&self.nvrtc.id)
    }

    /// The compiler.
    pub fn nvrtc(&self) -> &Nvrtc {
        &self.nvrtc
    }

    /// The store. Its figures tell hits, compilations and the time saved.
    pub fn store(&self) -> &CodeStore {
        &self.store
    }
}

impl Unit for Job<'_> {
    fn fingerprint(&self) -> Fingerprint {
        self.kernel.fingerprint(&self.nvrtc.id)
    }

    fn label(&self) -> String {
        self.kernel.name.clone()
    }
}

fn nvrtc_error(error: CodeError<NvrtcError>) -> NvrtcError {
    match error {
        CodeError::Compile(error) => error,
        CodeError::MustHit(_) => absent(error.to_string()),
        _ => NvrtcError::Differs { message: error.to_string() },
    }
}

fn compile(job: &Job<'_>) -> Result<Vec<u8>, NvrtcError> {
    let functions = job.nvrtc.functions()?;
    let compiled = functions.compile(job.kernel, &job.kernel.headers.prepared())?;
    Ok(KernelImage::to_artifact(&compiled.image, compiled.lowered, compiled.log))
}

impl fmt::Debug for Nvrtc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Nvrtc");
        debug.field("id", &self.id).field("library", &self.library).field("loaded", &self.is_loaded()).finish()
    }
}

impl fmt::Debug for KernelCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelCompiler").field("nvrtc", &self.nvrtc).finish_non_exhaustive()
    }
}
