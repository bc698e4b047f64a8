//! A JIT that starts warm.

mod artifact;
mod baked;
mod builder;
mod code;
mod compile;
mod environment;
mod error;
mod frames;
mod imports;
mod jit;
mod link;
mod memory;
mod reloc;
mod stats;
mod stubs;
mod table;
mod tier;
mod unit;
mod unwind;

pub use crate::builder::JitBuilder;
pub use crate::code::{CodePtr, Location};
pub use crate::compile::BakedAddresses;
pub use crate::error::Error;
pub use crate::jit::Jit;
pub use crate::stats::JitStats;
pub use crate::tier::{Hints, HotAfter, TierPolicy, UnitUse};
pub use crate::unit::{Data, Lower, LowerError, Lowering, Unit};
