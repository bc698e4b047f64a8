//! A JIT that starts warm.

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
mod link;
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
