//! The programs that come with the language. They are in the binary, so that it needs nothing beside it.

use crate::front::source::Problem;
use crate::program::Program;

macro_rules! programs {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../programs/", $name, ".mica")))),*]
    };
}

/// In the order in which they run: first many functions that run briefly, as a compiler's own start is.
const PROGRAMS: &[(&str, &str)] = programs![
    "toolchain",
    "calculator",
    "json",
    "regex",
    "compress",
    "digest",
    "sorting",
    "graph",
    "matrix",
    "nbody",
    "rays",
    "mandelbrot"
];
/// What they import.
const LIBRARIES: &[(&str, &str)] = programs!["text", "expressions", "json_tree", "automaton", "codes"];

/// Their names.
pub fn names() -> impl Iterator<Item = &'static str> {
    PROGRAMS.iter().map(|(name, _)| *name)
}

/// The text of the program or library of that name.
pub fn text(name: &str) -> Option<&'static str> {
    PROGRAMS.iter().chain(LIBRARIES).find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The program of that name; `None` if there is none.
pub fn load(name: &str) -> Option<Result<Program, Problem>> {
    let text = text(name)?;
    Some(Program::load(&format!("{name}.mica"), text.to_owned(), &|name| self::text(name).map(str::to_owned)))
}
