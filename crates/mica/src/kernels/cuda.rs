//! From the representation to CUDA C++: blocks become labels, registers variables. Knows no compiler and no card.
//!
//! Numbers come out as on the processor: integers wrap around, and the caller forbids fused multiply-adds. What fails says so in a
//! word and returns; the launch then counts for nothing.

use crate::ir::{Binary, End, Function, Instruction, Kind, Register, Unary};
use crate::program::Program;
use std::fmt::Write as _;

const HEAD: &str = "\
typedef long long i64;
typedef unsigned long long u64;
struct Array { u64 *words; i64 length; };
static __device__ i64 divided(i64 a, i64 b) { return b == -1 ? (i64)(0 - (u64)a) : a / b; }
static __device__ i64 remainder_of(i64 a, i64 b) { return b == -1 ? 0 : a % b; }
static __device__ i64 whole(double x) { return x != x ? 0 : __double2ll_rz(x); }
";

/// The source of a kernel and of all that it calls, or what in it runs on no card.
pub fn source(program: &Program, kernel: &Function) -> Result<String, String> {
    let mut needed = vec![kernel];
    let mut next = 0;
    while let Some(function) = needed.get(next) {
        for callee in &function.callees {
            let callee = program.function(&callee.name).expect("the front end has checked the names");
            if !needed.iter().any(|known| known.name == callee.name) {
                needed.push(callee);
            }
        }
        next += 1;
    }
    let mut text = HEAD.to_owned();
    for function in &needed {
        let _ = writeln!(text, "{};", declaration(function)?);
    }
    for function in &needed {
        text.push_str(&definition(function)?);
    }
    text.push_str(&entry(kernel)?);
    Ok(text)
}

/// The name of a kernel in its image.
pub fn entry_name(kernel: &Function) -> String {
    format!("mica_{}", kernel.name)
}

fn type_of(kind: Kind, function: &Function) -> Result<&'static str, String> {
    match kind {
        Kind::Int => Ok("i64"),
        Kind::Float => Ok("double"),
        Kind::Bool => Ok("bool"),
        Kind::Array => Ok("Array"),
        Kind::Other => Err(format!("`{}` uses a struct, or an array of arrays", function.name)),
    }
}

fn declaration(function: &Function) -> Result<String, String> {
    let returns = function.returns.map_or(Ok("void"), |kind| type_of(kind, function))?;
    let mut text = format!("static __device__ {returns} f_{}(", function.name);
    for register in 0..function.parameters {
        let kind = type_of(function.registers[register as usize], function)?;
        let _ = write!(text, "{kind} r{register}, ");
    }
    text.push_str("int *failed)");
    Ok(text)
}

fn definition(function: &Function) -> Result<String, String> {
    let mut text = format!("{} {{\n", declaration(function)?);
    for (register, kind) in function.registers.iter().enumerate().skip(function.parameters as usize) {
        let _ = writeln!(text, "  {} r{register};", type_of(*kind, function)?);
    }
    for (number, block) in function.blocks.iter().enumerate() {
        // A block before the label: what C++ may not jump over is inside.
        let _ = writeln!(text, "b{number}: {{");
        for instruction in &block.instructions {
            let _ = writeln!(text, "    {}", statement(function, instruction)?);
        }
        let end = match block.end {
            End::Jump(to) => format!("goto b{to};"),
            End::Branch { condition, yes, no } => format!("if (r{condition}) goto b{yes}; else goto b{no};"),
            End::Return(Some(value)) => format!("return r{value};"),
            End::Return(None) => leave(function),
        };
        let _ = writeln!(text, "    {end}\n  }}");
    }
    text.push_str("}\n");
    Ok(text)
}

/// A return whose value nobody looks at.
fn leave(function: &Function) -> String {
    match function.returns {
        None => "return;".to_owned(),
        Some(Kind::Array) => "return Array{nullptr, 0};".to_owned(),
        Some(_) => "return 0;".to_owned(),
    }
}

fn fail_unless(condition: &str, function: &Function) -> String {
    format!("if (!({condition})) {{ *failed = 1; {} }}", leave(function))
}

fn statement(function: &Function, instruction: &Instruction) -> Result<String, String> {
    let kind = |register: Register| function.registers[register as usize];
    Ok(match instruction {
        Instruction::Constant { to, word } => match kind(*to) {
            Kind::Float => format!("r{to} = __longlong_as_double({});", decimal(*word)),
            _ => format!("r{to} = {};", decimal(*word)),
        },
        Instruction::Copy { to, from } => format!("r{to} = r{from};"),
        Instruction::Unary { operation, to, from } => format!("r{to} = {};", unary(*operation, *from)),
        Instruction::Binary { operation, to, left, right } => {
            format!("r{to} = {};", binary(*operation, *left, *right))
        }
        Instruction::Divide { is_remainder, to, left, right, .. } => {
            let name = if *is_remainder { "remainder_of" } else { "divided" };
            format!("{} r{to} = {name}(r{left}, r{right});", fail_unless(&format!("r{right} != 0"), function))
        }
        Instruction::Length { to, array } => format!("r{to} = r{array}.length;"),
        Instruction::Get { to, array, index, .. } => {
            let inside = fail_unless(&format!("(u64)r{index} < (u64)r{array}.length"), function);
            let word = format!("r{array}.words[r{index}]");
            let value = if kind(*to) == Kind::Float { format!("__longlong_as_double((i64){word})") } else { word };
            format!("{inside} r{to} = {value};")
        }
        Instruction::Set { array, index, value, .. } => {
            let inside = fail_unless(&format!("(u64)r{index} < (u64)r{array}.length"), function);
            let word = match kind(*value) {
                Kind::Float => format!("__double_as_longlong(r{value})"),
                _ => format!("r{value}"),
            };
            format!("{inside} r{array}.words[r{index}] = (u64){word};")
        }
        Instruction::Call { to, callee, arguments, .. } => {
            let arguments: String = arguments.iter().map(|register| format!("r{register}, ")).collect();
            let result = to.map_or(String::new(), |to| format!("r{to} = "));
            let name = &function.callees[*callee as usize].name;
            format!("{result}f_{name}({arguments}failed); if (*failed) {{ {} }}", leave(function))
        }
        Instruction::Assert { condition, .. } => fail_unless(&format!("r{condition}"), function),
        Instruction::NewArray { .. } | Instruction::NewText { .. } | Instruction::NewRecord { .. } => {
            return Err(format!("`{}` allocates memory", function.name));
        }
        Instruction::GetField { .. } | Instruction::SetField { .. } => {
            return Err(format!("`{}` uses a struct", function.name));
        }
        Instruction::Host { function: host, .. } => {
            return Err(format!("`{}` calls {}, which only the processor has", function.name, host.symbol()));
        }
        Instruction::Launch { .. } => return Err(format!("`{}` launches a kernel", function.name)),
    })
}

/// The least number has no literal of its own.
fn decimal(word: u64) -> String {
    match word as i64 {
        i64::MIN => "(-9223372036854775807ll - 1)".to_owned(),
        number => format!("{number}ll"),
    }
}

fn unary(operation: Unary, from: Register) -> String {
    match operation {
        Unary::Not => format!("!r{from}"),
        Unary::IntNegate => format!("(i64)(0 - (u64)r{from})"),
        Unary::FloatNegate => format!("-r{from}"),
        Unary::FloatToInt => format!("whole(r{from})"),
        Unary::IntToFloat => format!("(double)r{from}"),
        Unary::Sqrt => format!("sqrt(r{from})"),
        Unary::Floor => format!("floor(r{from})"),
        Unary::FloatAbs => format!("fabs(r{from})"),
        Unary::Bits => format!("__double_as_longlong(r{from})"),
        Unary::FromBits => format!("__longlong_as_double(r{from})"),
    }
}

fn binary(operation: Binary, a: Register, b: Register) -> String {
    let wrapping = |sign: &str| format!("(i64)((u64)r{a} {sign} (u64)r{b})");
    let plain = |sign: &str| format!("r{a} {sign} r{b}");
    match operation {
        Binary::Add => wrapping("+"),
        Binary::Subtract => wrapping("-"),
        Binary::Multiply => wrapping("*"),
        Binary::And => plain("&"),
        Binary::Or => plain("|"),
        Binary::Xor => plain("^"),
        Binary::ShiftLeft => format!("(i64)((u64)r{a} << (r{b} & 63))"),
        Binary::ShiftRight => format!("r{a} >> (r{b} & 63)"),
        Binary::ShiftRightUnsigned => format!("(i64)((u64)r{a} >> (r{b} & 63))"),
        Binary::Equal | Binary::FloatEqual => plain("=="),
        Binary::NotEqual | Binary::FloatNotEqual => plain("!="),
        Binary::Less | Binary::FloatLess => plain("<"),
        Binary::LessEqual | Binary::FloatLessEqual => plain("<="),
        Binary::FloatAdd => plain("+"),
        Binary::FloatSubtract => plain("-"),
        Binary::FloatMultiply => plain("*"),
        Binary::FloatDivide => plain("/"),
    }
}

/// What the host launches: an array is two parameters, where it is and how long.
fn entry(kernel: &Function) -> Result<String, String> {
    let mut parameters = String::from("u64 count, int *failed");
    let mut arguments = String::from("(i64)thread, ");
    for register in 1..kernel.parameters {
        match kernel.registers[register as usize] {
            Kind::Array => {
                let _ = write!(parameters, ", u64 *w{register}, i64 l{register}");
                let _ = write!(arguments, "Array{{w{register}, l{register}}}, ");
            }
            kind => {
                // Bools come as whole words.
                let name = if kind == Kind::Bool { "i64" } else { type_of(kind, kernel)? };
                let _ = write!(parameters, ", {name} w{register}");
                let _ = write!(arguments, "w{register}, ");
            }
        }
    }
    Ok(format!(
        "extern \"C\" __global__ void {}({parameters}) {{\n  u64 thread = blockIdx.x * (u64)blockDim.x + threadIdx.x;\n  \
         if (thread < count) f_{}({arguments}failed);\n}}\n",
        entry_name(kernel),
        kernel.name
    ))
}
