//! A JIT over Cranelift that starts warm: machine code outlives the process that compiled it.
//!
//! - [`Jit`] compiles [`Unit`]s: from memory, else from a [`CodeStore`](hapax::CodeStore), else by lowering and compiling. A
//!   hit does neither.
//! - [`JitModule`] is the same behind `cranelift_module::Module`, for front ends that exist.
//! - [`CodePtr`] points to code and keeps it; [`Jit`] says when code is freed.
//! - [`TierPolicy`] decides which units are worth better code, [`Hints`] which are worth compiling first.
//!
//! # Embed it in three steps
//!
//! 1. Make your function a [`Unit`]: its name, and a key over everything that lowering reads.
//! 2. Write a [`Lower`]: a plain `fn` from the unit to Cranelift's IR, which names what it refers to by way of [`Lowering`].
//! 3. Build a [`Jit`] with the [allow-list](JitBuilder::import) and a store, and [`compile`](Jit::compile).
//!
//! ```
//! use cranelift_codegen::ir::{AbiParam, Function, InstBuilder, types::I64};
//! use cranelift_codegen::settings::{self, Flags};
//! use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
//! use hapax::FingerprintBuilder;
//! use hapax_cranelift::{Jit, LowerError, Lowering, Unit};
//!
//! struct Adds(i64);
//!
//! impl Unit for Adds {
//!     fn name(&self) -> &str {
//!         "adds"
//!     }
//!
//!     fn key(&self, key: FingerprintBuilder) -> FingerprintBuilder {
//!         key.part("number", self.0.to_le_bytes())
//!     }
//! }
//!
//! fn lower(unit: &Adds, lowering: &mut Lowering<'_>, function: &mut Function) -> Result<(), LowerError> {
//!     function.signature.params.push(AbiParam::new(I64));
//!     function.signature.returns.push(AbiParam::new(I64));
//!     let mut context = FunctionBuilderContext::new();
//!     let mut builder = FunctionBuilder::new(function, &mut context);
//!     let block = builder.create_block();
//!     builder.append_block_params_for_function_params(block);
//!     builder.switch_to_block(block);
//!     builder.seal_block(block);
//!     let number = builder.ins().iconst(I64, unit.0);
//!     let argument = builder.block_params(block)[0];
//!     let sum = builder.ins().iadd(argument, number);
//!     builder.ins().return_(&[sum]);
//!     builder.finalize(lowering.isa().frontend_config());
//!     Ok(())
//! }
//!
//! let isa = cranelift_native::builder()?.finish(Flags::new(settings::builder()))?;
//! let jit = Jit::builder(isa).build_id("example 1").build()?;
//! let code = jit.compile(&Adds(2), lower)?;
//! // SAFETY: `lower` gives every unit this signature, `code` outlives the call, and the code touches no memory.
//! let add = unsafe { code.as_fn::<extern "C" fn(i64) -> i64>() };
//! assert_eq!(add(40), 42);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The README has the list of what belongs in a key, with the mistakes that other caches made; DESIGN.md in the repository
//! has the reasons.

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!(
    "hapax-cranelift loads code on x86-64 and aarch64 Linux, and its store is for Linux; use cranelift-jit elsewhere, which \
     keeps nothing: depend on this crate under `[target.'cfg(target_os = \"linux\")'.dependencies]`"
);

/// The README's program compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod arenas;
mod artifact;
mod background;
mod baked;
mod builder;
mod code;
mod compile;
mod environment;
mod error;
mod frames;
mod imports;
#[cfg(feature = "incremental")]
mod incremental;
mod jit;
mod job;
mod link;
mod load;
mod memory;
mod module;
mod reloc;
mod stats;
mod stubs;
mod table;
mod tier;
mod unit;
mod unwind;

pub use crate::background::{Precompile, Progress};
pub use crate::builder::JitBuilder;
pub use crate::code::{CodePtr, Location};
pub use crate::compile::BakedAddresses;
pub use crate::error::Error;
#[cfg(feature = "incremental")]
pub use crate::incremental::IncrementalCache;
pub use crate::jit::Jit;
pub use crate::module::JitModule;
pub use crate::stats::JitStats;
pub use crate::tier::{Hints, HotAfter, TierPolicy, UnitUse};
pub use crate::unit::{Data, Lower, LowerError, Lowering, Unit};
