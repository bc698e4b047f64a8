//! mica: a small language, and a JIT for it that starts warm.
//!
//! It stands for the compiler into which hapax is built: [`front`] goes from text to [`ir`], [`back`] from there to code that
//! `hapax-cranelift` compiles, keeps and loads. [`session`] is one process's work, [`show`] compares processes.

pub mod ablation;
pub mod back;
pub mod depth;
pub mod front;
pub mod ir;
mod ir_bytes;
pub mod kernels;
pub mod options;
pub mod processes;
pub mod program;
pub mod programs;
pub mod report;
pub mod resident;
pub mod session;
pub mod show;
pub mod starts;
