//! Runs the representation, instruction by instruction: the slow oracle beside compiled code. Knows no code generator.

use crate::back::machine::{Failure, Fault, Machine};
use crate::ir::{Binary, End, Function, Host, Instruction, Place, Register, Unary};
use crate::program::Program;

/// Calls a function, with a word for each parameter. The result of one that returns nothing is 0.
pub fn run(program: &Program, machine: &mut Machine, name: &str, arguments: &[u64]) -> Result<u64, Failure> {
    let callees = program.functions.iter().map(|function| {
        let number = |name: &str| program.number(name).expect("the front end has checked the names");
        function.callees.iter().map(|callee| number(&callee.name)).collect()
    });
    let function = program.number(name).expect("whoever calls it knows that it is there");
    machine.depth_limit = program.depth().calls;
    let mut interpreter =
        Interpreter { program, machine, callees: callees.collect(), registers: Vec::new(), frames: Vec::new() };
    let begin = Place { line: 0, column: 1 };
    interpreter
        .enter(function, None, arguments.iter().copied())
        .map_err(|fault| interpreter.failure(function, fault, begin))?;
    interpreter.go()
}

struct Interpreter<'p, 'm> {
    program: &'p Program,
    machine: &'m mut Machine,
    /// The numbers of each function's callees.
    callees: Vec<Vec<usize>>,
    /// Of all frames, one after the other.
    registers: Vec<u64>,
    frames: Vec<Frame<'p>>,
}

struct Frame<'p> {
    number: usize,
    function: &'p Function,
    block: usize,
    next: usize,
    first_register: usize,
    /// Where the caller wants the result.
    result: Option<Register>,
}

impl<'p> Interpreter<'p, '_> {
    fn enter(
        &mut self,
        number: usize,
        result: Option<Register>,
        arguments: impl Iterator<Item = u64>,
    ) -> Result<(), Fault> {
        if self.frames.len() as u64 >= self.machine.depth_limit {
            return Err(Fault::Depth);
        }
        let function = &self.program.functions[number];
        let first_register = self.registers.len();
        self.registers.extend(arguments);
        self.registers.resize(first_register + function.registers.len(), 0);
        self.frames.push(Frame { number, function, block: 0, next: 0, first_register, result });
        Ok(())
    }

    fn failure(&self, number: usize, fault: Fault, place: Place) -> Failure {
        Failure { fault, function: self.program.functions[number].name.clone(), place }
    }

    fn go(&mut self) -> Result<u64, Failure> {
        loop {
            let frame = self.frames.last_mut().expect("a frame is left until the first function returns");
            let block: &'p crate::ir::Block = &frame.function.blocks[frame.block];
            let first = frame.first_register;
            let number = frame.number;
            let Some(instruction) = block.instructions.get(frame.next) else {
                match block.end {
                    End::Jump(to) => (frame.block, frame.next) = (to as usize, 0),
                    End::Branch { condition, yes, no } => {
                        let to = if self.registers[first + condition as usize] != 0 { yes } else { no };
                        (frame.block, frame.next) = (to as usize, 0);
                    }
                    End::Return(value) => {
                        let value = value.map_or(0, |register| self.registers[first + register as usize]);
                        let ended = self.frames.pop().expect("it has just been there");
                        self.registers.truncate(ended.first_register);
                        let Some(caller) = self.frames.last() else { return Ok(value) };
                        if let Some(result) = ended.result {
                            self.registers[caller.first_register + result as usize] = value;
                        }
                    }
                }
                continue;
            };
            frame.next += 1;
            if let Instruction::Call { to, callee, arguments, .. } = instruction {
                let callee = self.callees[number][*callee as usize];
                let values: Vec<u64> = arguments.iter().map(|at| self.registers[first + *at as usize]).collect();
                // As in compiled code, it is the callee that finds that it is one too many.
                let begin = Place { line: 0, column: 1 };
                self.enter(callee, *to, values.into_iter()).map_err(|fault| self.failure(callee, fault, begin))?;
            } else {
                let registers = &mut self.registers[first..];
                step(instruction, frame.function, registers, self.machine)
                    .map_err(|(fault, place)| self.failure(number, fault, place))?;
            }
        }
    }
}

/// One instruction that is no call.
fn step(
    instruction: &Instruction,
    function: &Function,
    registers: &mut [u64],
    machine: &mut Machine,
) -> Result<(), (Fault, Place)> {
    match instruction {
        Instruction::Constant { to, word } => registers[*to as usize] = *word,
        Instruction::Copy { to, from } => registers[*to as usize] = registers[*from as usize],
        Instruction::Unary { operation, to, from } => {
            registers[*to as usize] = unary(*operation, registers[*from as usize]);
        }
        Instruction::Binary { operation, to, left, right } => {
            registers[*to as usize] = binary(*operation, registers[*left as usize], registers[*right as usize]);
        }
        Instruction::Divide { is_remainder, to, left, right, place } => {
            let (left, right) = (registers[*left as usize] as i64, registers[*right as usize] as i64);
            if right == 0 {
                return Err((Fault::DivisionByZero, *place));
            }
            let result = if *is_remainder { left.wrapping_rem(right) } else { left.wrapping_div(right) };
            registers[*to as usize] = result as u64;
        }
        Instruction::Length { to, array } => registers[*to as usize] = machine.word(registers[*array as usize]),
        Instruction::Get { to, array, index, place } => {
            let at = machine.element(registers[*array as usize], registers[*index as usize]);
            registers[*to as usize] = machine.word(at.map_err(|fault| (fault, *place))?);
        }
        Instruction::Set { array, index, value, place } => {
            let at = machine.element(registers[*array as usize], registers[*index as usize]);
            machine.set_word(at.map_err(|fault| (fault, *place))?, registers[*value as usize]);
        }
        Instruction::NewArray { to, fill, length, place } => {
            let array = machine.new_array(registers[*fill as usize], registers[*length as usize]);
            registers[*to as usize] = array.map_err(|fault| (fault, *place))?;
        }
        Instruction::NewText { to, text, place } => {
            let array = machine.new_text(&function.texts[*text as usize]);
            registers[*to as usize] = array.map_err(|fault| (fault, *place))?;
        }
        Instruction::NewRecord { to, fields, place } => {
            let record = machine.allocate(fields.len() as u64).map_err(|fault| (fault, *place))?;
            for (at, field) in (record..).zip(fields) {
                machine.set_word(at, registers[*field as usize]);
            }
            registers[*to as usize] = record;
        }
        Instruction::GetField { to, record, field } => {
            registers[*to as usize] = machine.word(registers[*record as usize] + u64::from(*field));
        }
        Instruction::SetField { record, field, value } => {
            machine.set_word(registers[*record as usize] + u64::from(*field), registers[*value as usize]);
        }
        Instruction::Host { to, function, arguments } => {
            let argument = |number: usize| registers[arguments[number] as usize];
            let result = host(*function, machine, argument);
            if let Some(to) = to {
                registers[*to as usize] = result;
            }
        }
        Instruction::Launch { to, .. } => registers[*to as usize] = 0,
        Instruction::Assert { condition, place } => {
            if registers[*condition as usize] == 0 {
                return Err((Fault::Assertion, *place));
            }
        }
        Instruction::Call { .. } => unreachable!("calls are made elsewhere"),
    }
    Ok(())
}

fn unary(operation: Unary, word: u64) -> u64 {
    let float = f64::from_bits(word);
    match operation {
        Unary::Not => word ^ 1,
        Unary::IntNegate => (word as i64).wrapping_neg() as u64,
        Unary::FloatNegate => (-float).to_bits(),
        Unary::FloatToInt => float as i64 as u64,
        Unary::IntToFloat => (word as i64 as f64).to_bits(),
        Unary::Sqrt => float.sqrt().to_bits(),
        Unary::Floor => float.floor().to_bits(),
        Unary::FloatAbs => float.abs().to_bits(),
        Unary::Bits | Unary::FromBits => word,
    }
}

fn binary(operation: Binary, left: u64, right: u64) -> u64 {
    let (a, b) = (left as i64, right as i64);
    let (x, y) = (f64::from_bits(left), f64::from_bits(right));
    match operation {
        Binary::Add => left.wrapping_add(right),
        Binary::Subtract => left.wrapping_sub(right),
        Binary::Multiply => left.wrapping_mul(right),
        Binary::And => left & right,
        Binary::Or => left | right,
        Binary::Xor => left ^ right,
        Binary::ShiftLeft => left.wrapping_shl(right as u32),
        Binary::ShiftRight => a.wrapping_shr(right as u32) as u64,
        Binary::ShiftRightUnsigned => left.wrapping_shr(right as u32),
        Binary::Equal => u64::from(left == right),
        Binary::NotEqual => u64::from(left != right),
        Binary::Less => u64::from(a < b),
        Binary::LessEqual => u64::from(a <= b),
        Binary::FloatAdd => (x + y).to_bits(),
        Binary::FloatSubtract => (x - y).to_bits(),
        Binary::FloatMultiply => (x * y).to_bits(),
        Binary::FloatDivide => (x / y).to_bits(),
        Binary::FloatEqual => u64::from(x == y),
        Binary::FloatNotEqual => u64::from(x != y),
        Binary::FloatLess => u64::from(x < y),
        Binary::FloatLessEqual => u64::from(x <= y),
    }
}

fn host(function: Host, machine: &mut Machine, argument: impl Fn(usize) -> u64) -> u64 {
    let float = |number: usize| f64::from_bits(argument(number));
    let given = match function {
        Host::PrintInt => {
            machine.print(argument(0) as i64);
            return 0;
        }
        Host::PrintFloat => {
            machine.print(float(0));
            return 0;
        }
        Host::PrintBool => {
            machine.print(argument(0) != 0);
            return 0;
        }
        Host::PrintText => {
            machine.print_text(argument(0));
            return 0;
        }
        Host::Sin => float(0).sin(),
        Host::Cos => float(0).cos(),
        Host::Exp => float(0).exp(),
        Host::Log => float(0).ln(),
        Host::Power => float(0).powf(float(1)),
    };
    given.to_bits()
}
