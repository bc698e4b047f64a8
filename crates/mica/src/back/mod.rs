//! From the representation to results: an interpreter, a JIT, and kernels for cards. Knows no text.

pub mod engine;
pub mod host;
pub mod interpreter;
mod lower;
pub mod machine;
