//! Compiling before it is asked for: a thread that begins with what is worth most. Knows the `Jit` from outside.

use crate::jit::Jit;
use crate::table::Purpose;
use crate::unit::{Lower, Unit};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Units that are compiled together: enough to fill pages, few enough that the hottest does not wait for long.
const AT_ONCE: usize = 8;

/// Of the thread.
const STACK_BYTES: usize = 8 << 20;

/// A thread that precompiles. To drop it tells the thread to stop after what it is at, and does not wait for it.
///
/// Before a process ends, [`stop`](Precompile::stop) the thread and [`wait`](Precompile::wait) for it. Until then it has a
/// clone of the `Jit`, and with it the store and the hints: what hints were told is written when the last clone is dropped, so
/// a process that ends before loses it.
///
/// ```
/// # use cranelift_codegen::ir::{AbiParam, Function, InstBuilder, types::I64};
/// # use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
/// # use hapax_cranelift::{LowerError, Lowering, Unit};
/// # struct Constant(String, i64);
/// # impl Unit for Constant {
/// #     fn name(&self) -> &str {
/// #         &self.0
/// #     }
/// #     fn key(&self, key: hapax::FingerprintBuilder) -> hapax::FingerprintBuilder {
/// #         key.part("number", self.1.to_le_bytes())
/// #     }
/// # }
/// # fn lower(unit: &Constant, lowering: &mut Lowering<'_>, function: &mut Function) -> Result<(), LowerError> {
/// #     function.signature.returns.push(AbiParam::new(I64));
/// #     let mut context = FunctionBuilderContext::new();
/// #     let mut builder = FunctionBuilder::new(function, &mut context);
/// #     let block = builder.create_block();
/// #     builder.switch_to_block(block);
/// #     builder.seal_block(block);
/// #     let number = builder.ins().iconst(I64, unit.1);
/// #     builder.ins().return_(&[number]);
/// #     builder.finalize(lowering.isa().frontend_config());
/// #     Ok(())
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let isa = cranelift_native::builder()?.finish(cranelift_codegen::settings::Flags::new(cranelift_codegen::settings::builder()))?;
/// use hapax::{CodeStore, DirectoryOptions, HintOptions, HintStore};
/// use hapax_cranelift::Jit;
/// use std::sync::Arc;
///
/// let directory = DirectoryOptions::new("my-language").dir(folder.path());
/// let hints = HintStore::open(HintOptions::new(&directory).version("my-language 7"));
/// let jit = Jit::builder(isa)
///     .build_id("my-language 7")
///     .store(Arc::new(CodeStore::open(&directory)))
///     .hints(Arc::new(hints.clone()))
///     .build()?;
/// let units: Vec<Constant> = (0..10).map(|n| Constant(format!("f{n}"), n)).collect(); // `Unit`s of yours
/// let ahead = jit.precompile(units, lower); // in the background, beside requests
/// let wanted = jit.compile(&Constant("f7".to_owned(), 7), lower)?; // compiled once, by whoever comes first
/// assert_eq!(ahead.wait().done, 10);
/// hints.flush()?; // unless everything that holds a clone of the hints goes before the process ends
/// # drop(wanted);
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it stops the thread"]
pub struct Precompile {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    total: u64,
    done: AtomicU64,
    failed: AtomicU64,
    stop: AtomicBool,
}

/// How far a [`Precompile`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Units that it was given.
    pub total: u64,
    /// Units that it is done with, whether they could be compiled or not.
    pub done: u64,
    /// Of those, the ones that could not; asking for one gives the error again.
    pub failed: u64,
}

impl Jit {
    /// Compiles or loads the units in a thread of its own, the most worthwhile first by the
    /// [hints](crate::JitBuilder::hints); in the order given without hints. This is no use of the units: requests are. It
    /// never changes what calls lead to: a unit that has been defined with another body, or was removed since this was
    /// called, stays as it is.
    ///
    /// The thread has 8 MiB of stack, as much as a main thread usually has, for front ends that recurse.
    pub fn precompile<U: Unit + Send + 'static>(&self, units: Vec<U>, lower: Lower<U>) -> Precompile {
        let jit = self.clone();
        self.precompile_by(units, lower, move |unit| jit.worth(unit))
    }

    /// As [`precompile`](Jit::precompile), in the order of `worth`, the largest first. It is asked once for each unit, in the
    /// thread.
    pub fn precompile_by<U: Unit + Send + 'static>(
        &self,
        units: Vec<U>,
        lower: Lower<U>,
        mut worth: impl FnMut(&U) -> f64 + Send + 'static,
    ) -> Precompile {
        let total = units.len() as u64;
        let shared = Arc::new(Shared {
            total,
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let (jit, at) = (self.clone(), shared.clone());
        let purpose = Purpose::Ahead(self.ticket());
        let work = move || {
            let mut ranked: Vec<(f64, U)> = units.into_iter().map(|unit| (worth(&unit), unit)).collect();
            ranked.sort_by(|(left, _), (right, _)| right.total_cmp(left));
            let units: Vec<U> = ranked.into_iter().map(|(_, unit)| unit).collect();
            for units in units.chunks(AT_ONCE) {
                if at.stop.load(Ordering::Relaxed) {
                    return;
                }
                let results = jit.compile_all(units, lower, purpose);
                let failed = results.iter().filter(|result| result.is_err()).count();
                at.failed.fetch_add(failed as u64, Ordering::Relaxed);
                at.done.fetch_add(units.len() as u64, Ordering::Release);
            }
        };
        let thread =
            std::thread::Builder::new().name("hapax-precompile".to_owned()).stack_size(STACK_BYTES).spawn(work);
        // Without a thread nothing is compiled ahead, and everything when it is asked for.
        Precompile { shared, thread: thread.ok() }
    }
}

impl Precompile {
    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress {
            total: self.shared.total,
            done: self.shared.done.load(Ordering::Acquire),
            failed: self.shared.failed.load(Ordering::Relaxed),
        }
    }

    /// Tells the thread to stop after what it is at.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Waits until it is through, or has stopped.
    ///
    /// # Panics
    ///
    /// If `lower` or the order did, with the same panic.
    pub fn wait(mut self) -> Progress {
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
        self.progress()
    }
}

impl Drop for Precompile {
    fn drop(&mut self) {
        self.stop();
    }
}
