//! Kernels by their source, loaded and resident under a budget. Where the store of images meets the cache of modules.

use crate::cache::Cache;
use crate::cache::lease::Lease;
use crate::cache::vacancy::Lookup;
use crate::device::stream::Stream;
use crate::error::Error;
use crate::handle::module::{Function, Module, ModuleView};
use crate::heap::Heap;
use crate::nvrtc::error::NvrtcError;
use crate::nvrtc::kernel::Kernel;
use crate::nvrtc::{KernelCompiler, KernelImage};
use crate::persist::fingerprint::Fingerprint;
use crate::sync::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Kernels by their source: compiled once a machine, loaded once a process, resident under a budget of image bytes, and
/// leased while they are launched. Shared by threads.
///
/// The [module documentation](crate::nvrtc) has an example.
pub struct KernelCache {
    compiler: KernelCompiler,
    modules: Cache<Fingerprint, Module>,
    /// Mangled names, of kernels that asked for any. Not on the card, so not in the cache.
    names: Mutex<HashMap<Fingerprint, Arc<KernelImage>>>,
}

/// A kernel's module, kept on the card, for launches on the stream that it was leased for.
#[must_use = "the module can be evicted once the lease is dropped"]
pub struct KernelLease<'c> {
    module: Lease<'c, Fingerprint, Module>,
    names: Option<Arc<KernelImage>>,
}

/// Why there is no kernel to launch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// There is no image.
    #[error(transparent)]
    Compile(#[from] NvrtcError),
    /// There is one, and the card or the budget does not take it.
    #[error(transparent)]
    Device(#[from] Error),
}

impl KernelCache {
    /// A cache for the heap's device, with at most `budget_bytes` of images loaded.
    ///
    /// # Errors
    /// [`Error::BadOption`] if the budget is 0 or above the heap's limit.
    pub fn new(compiler: KernelCompiler, heap: &Heap, budget_bytes: u64) -> Result<KernelCache, Error> {
        let modules = Cache::new(heap, budget_bytes)?;
        Ok(KernelCache { compiler, modules, names: Mutex::new(HashMap::new()) })
    }

    /// The kernel, leased for launches on `stream`: resident already, or loaded from its stored image, or compiled first.
    /// What has to leave for it is unloaded once its own kernels are over. Several threads that miss the same kernel at
    /// once load it once.
    ///
    /// # Errors
    /// [`KernelError::Compile`]; [`KernelError::Device`] with what [`Cache::lookup`] and
    /// [`Vacancy::load`](crate::Vacancy::load) say: [`Error::is_refusal`] tells that the budget has no room for it, and
    /// then [`compiler`](KernelCache::compiler) and [`Heap::load_module`] use it uncached.
    pub fn get<'c>(&'c self, kernel: &Kernel, stream: &'c Stream) -> Result<KernelLease<'c>, KernelError> {
        let fingerprint = self.compiler.fingerprint(kernel);
        let module = match self.modules.lookup(&fingerprint, stream)? {
            Lookup::Hit(lease) => lease,
            Lookup::Miss(vacancy) => {
                let image = self.compiler.image(kernel)?;
                let filled = vacancy.load(&image).map_err(Error::from)?;
                if !kernel.name_expressions.is_empty() {
                    self.remember(fingerprint, image);
                }
                filled.lease
            }
        };
        let names = match kernel.name_expressions.is_empty() {
            true => None,
            false => Some(self.names_of(fingerprint, kernel)?),
        };
        Ok(KernelLease { module, names })
    }

    /// The images.
    pub fn compiler(&self) -> &KernelCompiler {
        &self.compiler
    }

    /// The loaded modules: their figures, budget and order; what is retired or removed there is loaded anew when it is asked for.
    pub fn modules(&self) -> &Cache<Fingerprint, Module> {
        &self.modules
    }

    fn names_of(&self, fingerprint: Fingerprint, kernel: &Kernel) -> Result<Arc<KernelImage>, NvrtcError> {
        if let Some(names) = self.names.lock().get(&fingerprint) {
            return Ok(names.clone());
        }
        // Forgotten, or loaded by another path: the store has them.
        let image = self.compiler.image(kernel)?;
        Ok(self.remember(fingerprint, image))
    }

    /// Keeps the names, and lets go of those whose modules have left.
    fn remember(&self, fingerprint: Fingerprint, image: KernelImage) -> Arc<KernelImage> {
        const SPARE: usize = 64;
        let image = Arc::new(image.names_alone());
        let mut names = self.names.lock();
        names.insert(fingerprint, image.clone());
        let stale = names.len() > SPARE && names.len() > 2 * self.modules.stats().entries;
        if stale {
            names.retain(|known, _| *known == fingerprint || self.modules.contains(known));
        }
        image
    }
}

impl<'c> KernelLease<'c> {
    /// The kernel of this name: as the image spells it, or a name expression that the [`Kernel`] asked for.
    ///
    /// # Errors
    /// [`Error::Device`] with the name if there is none; [`Error::DeviceLost`].
    pub fn function(&self, name: &str) -> Result<Function<'_>, Error> {
        let lowered = self.names.as_ref().and_then(|names| names.lowered_name(name));
        self.module().function(lowered.unwrap_or(name))
    }

    /// The module, for launches on the lease's stream.
    pub fn module(&self) -> ModuleView<'_> {
        self.module.view()
    }
}

impl fmt::Debug for KernelCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelCache").field("compiler", &self.compiler).field("modules", &self.modules).finish()
    }
}

impl fmt::Debug for KernelLease<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelLease").field("module", &self.module()).finish_non_exhaustive()
    }
}
