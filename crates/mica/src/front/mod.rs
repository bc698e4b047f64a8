//! From text to the intermediate representation. Knows no code generator and no store.

pub mod ast;
mod build;
mod check;
mod expressions;
mod lexer;
mod parser;
pub mod source;
mod types;

pub use crate::front::check::{Compiled, compile, read};
