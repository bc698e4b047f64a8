//! What a person reads. Plain ASCII, no colours; progress goes to stderr, and only if that is a terminal.

use crate::session::AnyError;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// A line on the standard output.
pub fn line(text: impl Display) -> Result<(), AnyError> {
    Ok(writeln!(io::stdout(), "{text}")?)
}

/// A line with a name.
pub fn field(name: &str, text: impl Display) -> Result<(), AnyError> {
    line(format!("{name:<12} {text}").trim_end())
}

/// What holds, or does not.
pub fn check(holds: bool, text: impl Display) -> Result<bool, AnyError> {
    field(if holds { "check" } else { "FAILED" }, text)?;
    Ok(holds)
}

/// How far it is.
pub fn progress(what: &str, done: usize, of: usize) {
    if io::stderr().is_terminal() {
        eprint!("\r{what}: {done}/{of}\x1b[K");
    }
}

/// Takes the progress away.
pub fn progress_ends() {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

/// Bytes with a unit.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1_024.0),
        _ => format!("{:.2} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// Nanoseconds with a unit.
pub fn time(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{} us", ns / 1_000),
        1_000_000..10_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        10_000_000..10_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}
