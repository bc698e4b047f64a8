//! What compiled code calls: the runtime's functions, each with the signature that the allow-list gives it. Knows machines and
//! engines, and no code generator but for that list.

#![expect(unsafe_code, reason = "compiled code passes the machine by its address")]

use crate::back::engine::Engine;
use crate::back::lower::from_failure_code;
use crate::back::machine::{Failure, Fault, Machine};
use crate::ir::Place;
use cranelift_codegen::ir::types::{F64, I64, Type};
use cranelift_codegen::ir::{AbiParam, Signature};
use cranelift_codegen::isa::CallConv;
use hapax_cranelift::JitBuilder;
use std::panic::resume_unwind;

type Text = (*const u8, u64);

/// Puts all of them on the allow-list.
pub fn imports(mut builder: JitBuilder, convention: CallConv) -> JitBuilder {
    const WORD: &[Type] = &[I64];
    const FLOAT: &[Type] = &[F64];
    let functions: [(&str, &[Type], &[Type], *const u8); 14] = [
        ("mica_fail", &[I64, I64, I64, I64], &[], fail as *const u8),
        ("mica_ensure", &[I64, I64, I64], &[], ensure as *const u8),
        ("mica_launch", &[I64, I64, I64, I64, I64], WORD, launch as *const u8),
        ("mica_array", &[I64, I64, I64], WORD, array as *const u8),
        ("mica_text", &[I64, I64, I64], WORD, text as *const u8),
        ("mica_print_int", &[I64, I64], &[], print_int as *const u8),
        ("mica_print_float", &[I64, F64], &[], print_float as *const u8),
        ("mica_print_bool", &[I64, I64], &[], print_bool as *const u8),
        ("mica_print_text", &[I64, I64], &[], print_text as *const u8),
        ("mica_sin", FLOAT, FLOAT, sin as *const u8),
        ("mica_cos", FLOAT, FLOAT, cos as *const u8),
        ("mica_exp", FLOAT, FLOAT, exp as *const u8),
        ("mica_log", FLOAT, FLOAT, log as *const u8),
        ("mica_power", &[F64, F64], FLOAT, power as *const u8),
    ];
    for (name, takes, gives, address) in functions {
        let mut signature = Signature::new(convention);
        signature.params = takes.iter().copied().map(AbiParam::new).collect();
        signature.returns = gives.iter().copied().map(AbiParam::new).collect();
        builder = builder.import(name, signature, address);
    }
    builder
}

/// The machine that compiled code runs on.
///
/// # Safety
///
/// `machine` is what [`Engine::run`] gave the code, and no other reference to it is in use: compiled code holds addresses
/// only, and each function here ends its borrow before it returns.
unsafe fn on<'m>(machine: *mut Machine) -> &'m mut Machine {
    // SAFETY: The caller's promise.
    unsafe { &mut *machine }
}

/// # Safety
///
/// Address and length are those of a text in the data of compiled code, which lives while that code runs.
unsafe fn bytes<'t>((begin, length): Text) -> &'t [u8] {
    // SAFETY: The caller's promise.
    unsafe { std::slice::from_raw_parts(begin, length as usize) }
}

fn name((begin, length): Text) -> String {
    // SAFETY: Lowering passes texts of the function's own data.
    let bytes = unsafe { bytes((begin, length)) };
    String::from_utf8_lossy(bytes).into_owned()
}

/// Leaves compiled code: through its frames where they can be unwound, else with the process.
fn leave(failure: Failure) -> ! {
    if cfg!(all(target_os = "linux", target_env = "gnu")) {
        resume_unwind(Box::new(failure));
    }
    eprintln!("{}: {}", failure.function, failure.fault);
    std::process::exit(1);
}

extern "C-unwind" fn fail(_: *mut Machine, code: u64, begin: *const u8, length: u64) {
    let (fault, place) = from_failure_code(code);
    leave(Failure { fault, function: name((begin, length)), place });
}

extern "C-unwind" fn ensure(machine: *mut Machine, begin: *const u8, length: u64) {
    // SAFETY: The machine of running code.
    let engine: *const Engine = unsafe { on(machine) }.engine;
    // SAFETY: `Engine::run` has set it to itself, and waits for this code.
    let engine = unsafe { &*engine };
    let function = name((begin, length));
    if let Err(error) = engine.ensure(&function) {
        eprintln!("{error}");
        leave(Failure { fault: Fault::NotCompiled, function, place: Place { line: 0, column: 1 } });
    }
}

extern "C-unwind" fn launch(
    machine: *mut Machine,
    begin: *const u8,
    length: u64,
    count: u64,
    words: *const u64,
) -> u64 {
    // SAFETY: The machine of running code.
    let machine = unsafe { on(machine) };
    // SAFETY: `Engine::run` has set it to itself, and waits for this code.
    let engine = unsafe { &*machine.engine };
    let kernel = name((begin, length));
    let arguments = engine.program().function(&kernel).map_or(0, |kernel| kernel.parameters.saturating_sub(1));
    // SAFETY: Lowering puts one word for each argument into a slot of the caller's frame.
    let words = unsafe { std::slice::from_raw_parts(words, arguments as usize) };
    u64::from(engine.launch(&kernel, count, words, machine))
}

fn reference(result: Result<u64, Fault>) -> i64 {
    match result {
        Ok(at) => at as i64,
        Err(fault) => -i64::from(fault as u8),
    }
}

extern "C-unwind" fn array(machine: *mut Machine, fill: u64, length: u64) -> i64 {
    // SAFETY: The machine of running code.
    reference(unsafe { on(machine) }.new_array(fill, length))
}

extern "C-unwind" fn text(machine: *mut Machine, begin: *const u8, length: u64) -> i64 {
    // SAFETY: A text of the calling function's data.
    let text = unsafe { bytes((begin, length)) };
    // SAFETY: The machine of running code.
    reference(unsafe { on(machine) }.new_text(text))
}

extern "C-unwind" fn print_int(machine: *mut Machine, number: i64) {
    // SAFETY: The machine of running code.
    unsafe { on(machine) }.print(number);
}

extern "C-unwind" fn print_float(machine: *mut Machine, number: f64) {
    // SAFETY: The machine of running code.
    unsafe { on(machine) }.print(number);
}

extern "C-unwind" fn print_bool(machine: *mut Machine, truth: u64) {
    // SAFETY: The machine of running code.
    unsafe { on(machine) }.print(truth != 0);
}

extern "C-unwind" fn print_text(machine: *mut Machine, array: u64) {
    // SAFETY: The machine of running code.
    unsafe { on(machine) }.print_text(array);
}

extern "C-unwind" fn sin(x: f64) -> f64 {
    x.sin()
}
extern "C-unwind" fn cos(x: f64) -> f64 {
    x.cos()
}
extern "C-unwind" fn exp(x: f64) -> f64 {
    x.exp()
}
extern "C-unwind" fn log(x: f64) -> f64 {
    x.ln()
}
extern "C-unwind" fn power(x: f64, y: f64) -> f64 {
    x.powf(y)
}
