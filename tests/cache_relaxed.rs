//! The rules of `cache.rs` in relaxed mode.

#[path = "cache.rs"]
mod relaxed;
