//! The program that is compiled: kernels written by hand and generated functions, in one module, and what each of its exports
//! must return. Knows no Wasmtime.

mod expected;
mod generated;

use generated::Generated;

/// Generated functions, in the program that is measured.
pub const FUNCTIONS: usize = 400;

const KERNELS: &[&str] = &[
    include_str!("kernels/common.wat"),
    include_str!("kernels/sorting.wat"),
    include_str!("kernels/hashing.wat"),
    include_str!("kernels/floats.wat"),
    include_str!("kernels/tables.wat"),
    include_str!("kernels/machine.wat"),
    include_str!("kernels/json.wat"),
];

/// The export that calls them all, and how often it does.
const GENERATED: (&str, u32) = ("generated", 2);

/// A module, and the calls that show that it works.
pub struct Program {
    /// The module.
    pub wasm: Vec<u8>,
    /// Functions in it.
    pub functions: usize,
    /// An export, what it is given, and what it must return.
    pub calls: Vec<(&'static str, u32, u64)>,
}

/// The program with so many generated functions. `edited`, one of them has another body.
pub fn program(functions: usize, edited: bool) -> Program {
    let generated = Generated::new(functions, edited);
    let mut text = String::from("(module\n");
    text.extend(KERNELS.iter().copied());
    for (at, bytes) in expected::tables() {
        let escaped: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        text += &format!("(data (i32.const {at}) \"{escaped}\")\n");
    }
    text += &generated.text();
    text += ")\n";
    let wasm = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"));
    let mut calls: Vec<_> =
        expected::CALLS.iter().map(|(name, argument, expected)| (*name, *argument, expected(*argument))).collect();
    calls.push((GENERATED.0, GENERATED.1, generated.expected(GENERATED.1)));
    Program { wasm, functions: text.matches("(func").count(), calls }
}

/// The exports, in the order in which they must be called, and what they are given.
pub fn exports() -> impl Iterator<Item = (&'static str, u32)> {
    expected::CALLS.iter().map(|(name, argument, _)| (*name, *argument)).chain([GENERATED])
}
