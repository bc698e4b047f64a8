//! The adapters with the real Wasmtime. One binary, since each links all of it.

mod common;
mod functions;
mod modules;
