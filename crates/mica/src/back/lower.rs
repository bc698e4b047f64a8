//! From the representation to Cranelift's, on a miss. Sees one function and nothing else, so that its bytes name the code.
//!
//! A function takes the machine first. Every check that can fail leads to one cold block at its end, with what failed and where in
//! a word; from there the runtime unwinds the stack. A callee may not be compiled yet: each caller has a byte per callee that
//! says whether it has asked for it, and asks the runtime once.

use crate::back::machine::{Fault, offset};
use crate::ir::{self, Binary, Callee, End, Instruction, Kind, Place, Register, Unary};
use crate::program::Program;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F64, I8, I64, Type};
use cranelift_codegen::ir::{
    AbiParam, Block, BlockArg, Function, GlobalValue, InstBuilder, MemFlagsData, Signature, StackSlotData,
    StackSlotKind, TrapCode, Value,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};
use hapax::{Fingerprint, FingerprintBuilder};
use hapax_cranelift::{Data, Error, LowerError, Lowering, Unit};
use std::cell::Cell;
use std::sync::Arc;

/// A function on its way to code.
pub struct FunctionUnit {
    program: Arc<Program>,
    number: usize,
    ir: Fingerprint,
}

impl FunctionUnit {
    /// The unit of the function of that number, whose representation has that name.
    pub fn new(program: &Arc<Program>, number: usize, ir: Fingerprint) -> FunctionUnit {
        FunctionUnit { program: program.clone(), number, ir }
    }

    fn function(&self) -> &ir::Function {
        &self.program.functions[self.number]
    }
}

impl Unit for FunctionUnit {
    fn name(&self) -> &str {
        &self.function().name
    }

    fn key(&self, key: FingerprintBuilder) -> FingerprintBuilder {
        key.part("ir", self.ir.as_bytes())
    }
}

thread_local! {
    /// Functions that this thread has lowered: tells a compilation from a hit.
    static LOWERED: Cell<u64> = const { Cell::new(0) };
}

/// How many functions this thread has lowered.
pub fn lowered_here() -> u64 {
    LOWERED.get()
}

/// The machine-level type of a register.
fn machine_type(kind: Kind) -> Type {
    if kind == Kind::Float { F64 } else { I64 }
}

/// The signature of a function with these parameters.
fn signature_of(callee: &Callee, mut signature: Signature) -> Signature {
    signature.params.push(AbiParam::new(I64));
    signature.params.extend(callee.parameters.iter().map(|kind| AbiParam::new(machine_type(*kind))));
    signature.returns.extend(callee.returns.map(|kind| AbiParam::new(machine_type(kind))));
    signature
}

/// Builds the function; what a `Jit` calls on a miss.
pub fn lower(unit: &FunctionUnit, lowering: &mut Lowering<'_>, function: &mut Function) -> Result<(), LowerError> {
    LOWERED.set(LOWERED.get() + 1);
    let of = unit.function();
    function.signature = signature_of(&of.as_callee(), lowering.make_signature());
    let mut context = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(function, &mut context);
    let strings = Strings::of(of);
    let bytes = lowering.data(Data::bytes(strings.bytes.clone()).align(1), builder.func)?;
    let asked = match of.callees.len() {
        0 => None,
        callees => Some(lowering.data(Data::zeroed(callees as u64).align(1).writable(), builder.func)?),
    };
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    let machine = builder.block_params(entry)[0];
    let base = builder.ins().load(I64, MemFlagsData::trusted(), machine, offset::BASE);
    let depth = builder.ins().load(I64, MemFlagsData::trusted(), machine, offset::DEPTH);
    let failed = builder.create_block();
    builder.append_block_param(failed, I64);
    builder.set_cold_block(failed);
    let registers: Vec<Variable> = of.registers.iter().map(|kind| builder.declare_var(machine_type(*kind))).collect();
    for (number, register) in registers.iter().take(of.parameters as usize).enumerate() {
        let value = builder.block_params(entry)[number + 1];
        builder.def_var(*register, value);
    }
    let blocks = of.blocks.iter().map(|_| builder.create_block()).collect();
    let mut lower =
        Lower { of, lowering, builder, strings, bytes, asked, machine, base, depth, failed, registers, blocks };
    lower.function()?;
    let Lower { mut builder, lowering, .. } = lower;
    builder.seal_all_blocks();
    builder.finalize(lowering.isa().frontend_config());
    Ok(())
}

/// The names and texts of a function, one behind the other.
struct Strings {
    bytes: Vec<u8>,
    name: (usize, usize),
    callees: Vec<(usize, usize)>,
    texts: Vec<(usize, usize)>,
}

impl Strings {
    fn of(function: &ir::Function) -> Strings {
        let mut bytes = Vec::new();
        let mut add = |string: &[u8]| {
            let begin = bytes.len();
            bytes.extend_from_slice(string);
            (begin, string.len())
        };
        let name = add(function.name.as_bytes());
        let callees = function.callees.iter().map(|callee| add(callee.name.as_bytes())).collect();
        let texts = function.texts.iter().map(|text| add(text)).collect();
        Strings { bytes, name, callees, texts }
    }
}

struct Lower<'a, 'l, 'e> {
    of: &'a ir::Function,
    lowering: &'a mut Lowering<'l>,
    builder: FunctionBuilder<'e>,
    strings: Strings,
    bytes: GlobalValue,
    /// A byte for each callee.
    asked: Option<GlobalValue>,
    machine: Value,
    base: Value,
    depth: Value,
    failed: Block,
    registers: Vec<Variable>,
    blocks: Vec<Block>,
}

impl Lower<'_, '_, '_> {
    fn function(&mut self) -> Result<(), Error> {
        let limit = self.load_machine(offset::DEPTH_LIMIT);
        let fits = self.builder.ins().icmp(IntCC::UnsignedLessThan, self.depth, limit);
        self.check(fits, Fault::Depth, Place { line: 0, column: 1 });
        let deeper = self.builder.ins().iadd_imm_s(self.depth, 1);
        self.store_machine(offset::DEPTH, deeper);
        self.builder.ins().jump(self.blocks[0], &[]);
        for (number, block) in self.of.blocks.iter().enumerate() {
            self.builder.switch_to_block(self.blocks[number]);
            for instruction in &block.instructions {
                self.instruction(instruction)?;
            }
            self.end(block.end);
        }
        self.builder.switch_to_block(self.failed);
        let code = self.builder.block_params(self.failed)[0];
        let name = self.string(self.strings.name);
        self.host("mica_fail", &[self.machine, code, name.0, name.1])?;
        self.builder.ins().trap(TrapCode::unwrap_user(1));
        Ok(())
    }

    fn end(&mut self, end: End) {
        match end {
            End::Jump(to) => {
                self.builder.ins().jump(self.blocks[to as usize], &[]);
            }
            End::Branch { condition, yes, no } => {
                let condition = self.get(condition);
                let (yes, no) = (self.blocks[yes as usize], self.blocks[no as usize]);
                self.builder.ins().brif(condition, yes, &[], no, &[]);
            }
            End::Return(value) => {
                self.store_machine(offset::DEPTH, self.depth);
                let value = value.map(|register| self.get(register));
                self.builder.ins().return_(value.as_slice());
            }
        }
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<(), Error> {
        match instruction {
            Instruction::Constant { to, word } => {
                let value = if self.kind(*to) == Kind::Float {
                    self.builder.ins().f64const(f64::from_bits(*word))
                } else {
                    self.builder.ins().iconst(I64, *word as i64)
                };
                self.set(*to, value);
            }
            Instruction::Copy { to, from } => {
                let value = self.get(*from);
                self.set(*to, value);
            }
            Instruction::Unary { operation, to, from } => self.unary(*operation, *to, *from),
            Instruction::Binary { operation, to, left, right } => self.binary(*operation, *to, *left, *right),
            Instruction::Divide { is_remainder, to, left, right, place } => {
                self.divide(*is_remainder, *to, (*left, *right), *place);
            }
            Instruction::Length { to, array } => {
                let at = self.address(*array);
                let length = self.builder.ins().load(I64, MemFlagsData::trusted(), at, 0);
                self.set(*to, length);
            }
            Instruction::Get { to, array, index, place } => {
                let at = self.element(*array, *index, *place);
                let kind = machine_type(self.kind(*to));
                let value = self.builder.ins().load(kind, MemFlagsData::trusted(), at, 8);
                self.set(*to, value);
            }
            Instruction::Set { array, index, value, place } => {
                let at = self.element(*array, *index, *place);
                let value = self.get(*value);
                self.builder.ins().store(MemFlagsData::trusted(), value, at, 8);
            }
            Instruction::NewArray { to, fill, length, place } => {
                let (fill, length) = (self.word(*fill), self.get(*length));
                let array = self.host("mica_array", &[self.machine, fill, length])?;
                self.allocated(*to, array, *place);
            }
            Instruction::NewText { to, text, place } => {
                let text = self.string(self.strings.texts[*text as usize]);
                let array = self.host("mica_text", &[self.machine, text.0, text.1])?;
                self.allocated(*to, array, *place);
            }
            Instruction::NewRecord { to, fields, place } => self.new_record(*to, fields, *place),
            Instruction::GetField { to, record, field } => {
                let at = self.address(*record);
                let kind = machine_type(self.kind(*to));
                let value = self.builder.ins().load(kind, MemFlagsData::trusted(), at, 8 * *field as i32);
                self.set(*to, value);
            }
            Instruction::SetField { record, field, value } => {
                let (at, value) = (self.address(*record), self.get(*value));
                self.builder.ins().store(MemFlagsData::trusted(), value, at, 8 * *field as i32);
            }
            Instruction::Call { to, callee, arguments, .. } => self.call(*to, *callee, arguments)?,
            Instruction::Host { to, function, arguments } => {
                let values: Vec<Value> = arguments.iter().map(|register| self.get(*register)).collect();
                match to {
                    Some(to) => {
                        let result = self.host(function.symbol(), &values)?;
                        self.set(*to, result.expect("functions of numbers give a number"));
                    }
                    None => {
                        let values = [&[self.machine], values.as_slice()].concat();
                        self.host(function.symbol(), &values)?;
                    }
                }
            }
            Instruction::Launch { to, kernel, count, arguments } => self.launch(*to, *kernel, *count, arguments)?,
            Instruction::Assert { condition, place } => {
                let holds = self.get(*condition);
                self.check(holds, Fault::Assertion, *place);
            }
        }
        Ok(())
    }

    fn unary(&mut self, operation: Unary, to: Register, from: Register) {
        let value = self.get(from);
        let ins = self.builder.ins();
        let result = match operation {
            Unary::Not => ins.bxor_imm_u(value, 1),
            Unary::IntNegate => ins.ineg(value),
            Unary::FloatNegate => ins.fneg(value),
            Unary::FloatToInt => ins.fcvt_to_sint_sat(I64, value),
            Unary::IntToFloat => ins.fcvt_from_sint(F64, value),
            Unary::Sqrt => ins.sqrt(value),
            Unary::Floor => ins.floor(value),
            Unary::FloatAbs => ins.fabs(value),
            Unary::Bits => ins.bitcast(I64, MemFlagsData::new(), value),
            Unary::FromBits => ins.bitcast(F64, MemFlagsData::new(), value),
        };
        self.set(to, result);
    }

    fn binary(&mut self, operation: Binary, to: Register, left: Register, right: Register) {
        let (left, right) = (self.get(left), self.get(right));
        let ins = self.builder.ins();
        let result = match operation {
            Binary::Add => ins.iadd(left, right),
            Binary::Subtract => ins.isub(left, right),
            Binary::Multiply => ins.imul(left, right),
            Binary::And => ins.band(left, right),
            Binary::Or => ins.bor(left, right),
            Binary::Xor => ins.bxor(left, right),
            Binary::ShiftLeft => ins.ishl(left, right),
            Binary::ShiftRight => ins.sshr(left, right),
            Binary::ShiftRightUnsigned => ins.ushr(left, right),
            Binary::FloatAdd => ins.fadd(left, right),
            Binary::FloatSubtract => ins.fsub(left, right),
            Binary::FloatMultiply => ins.fmul(left, right),
            Binary::FloatDivide => ins.fdiv(left, right),
            Binary::Equal => return self.compare(to, IntCC::Equal, left, right),
            Binary::NotEqual => return self.compare(to, IntCC::NotEqual, left, right),
            Binary::Less => return self.compare(to, IntCC::SignedLessThan, left, right),
            Binary::LessEqual => return self.compare(to, IntCC::SignedLessThanOrEqual, left, right),
            Binary::FloatEqual => return self.compare_floats(to, FloatCC::Equal, left, right),
            Binary::FloatNotEqual => return self.compare_floats(to, FloatCC::NotEqual, left, right),
            Binary::FloatLess => return self.compare_floats(to, FloatCC::LessThan, left, right),
            Binary::FloatLessEqual => return self.compare_floats(to, FloatCC::LessThanOrEqual, left, right),
        };
        self.set(to, result);
    }

    fn compare(&mut self, to: Register, condition: IntCC, left: Value, right: Value) {
        let truth = self.builder.ins().icmp(condition, left, right);
        let word = self.builder.ins().uextend(I64, truth);
        self.set(to, word);
    }

    fn compare_floats(&mut self, to: Register, condition: FloatCC, left: Value, right: Value) {
        let truth = self.builder.ins().fcmp(condition, left, right);
        let word = self.builder.ins().uextend(I64, truth);
        self.set(to, word);
    }

    /// The least number divided by -1 wraps around, where the processor would trap.
    fn divide(&mut self, is_remainder: bool, to: Register, (left, right): (Register, Register), place: Place) {
        let (left, right) = (self.get(left), self.get(right));
        self.check(right, Fault::DivisionByZero, place);
        let is_minus_one = self.builder.ins().icmp_imm_s(IntCC::Equal, right, -1);
        let one = self.builder.ins().iconst(I64, 1);
        let divisor = self.builder.ins().select(is_minus_one, one, right);
        let (divided, special) = if is_remainder {
            (self.builder.ins().srem(left, divisor), self.builder.ins().iconst(I64, 0))
        } else {
            (self.builder.ins().sdiv(left, divisor), self.builder.ins().ineg(left))
        };
        let result = self.builder.ins().select(is_minus_one, special, divided);
        self.set(to, result);
    }

    /// Where the word lies to which a register refers.
    fn address(&mut self, register: Register) -> Value {
        let reference = self.get(register);
        let bytes = self.builder.ins().ishl_imm_u(reference, 3);
        self.builder.ins().iadd(self.base, bytes)
    }

    /// One word before the element, with the index checked.
    fn element(&mut self, array: Register, index: Register, place: Place) -> Value {
        let at = self.address(array);
        let index = self.get(index);
        let length = self.builder.ins().load(I64, MemFlagsData::trusted(), at, 0);
        let inside = self.builder.ins().icmp(IntCC::UnsignedLessThan, index, length);
        self.check(inside, Fault::Bounds, place);
        let bytes = self.builder.ins().ishl_imm_u(index, 3);
        self.builder.ins().iadd(at, bytes)
    }

    fn new_record(&mut self, to: Register, fields: &[Register], place: Place) {
        let (used, limit) = (self.load_machine(offset::USED), self.load_machine(offset::LIMIT));
        let end = self.builder.ins().iadd_imm_s(used, fields.len() as i64);
        let fits = self.builder.ins().icmp(IntCC::UnsignedLessThanOrEqual, end, limit);
        self.check(fits, Fault::Memory, place);
        self.store_machine(offset::USED, end);
        let bytes = self.builder.ins().ishl_imm_u(used, 3);
        let at = self.builder.ins().iadd(self.base, bytes);
        for (number, field) in fields.iter().enumerate() {
            let value = self.get(*field);
            self.builder.ins().store(MemFlagsData::trusted(), value, at, 8 * number as i32);
        }
        self.set(to, used);
    }

    /// Negative results are the negated number of what went wrong.
    fn allocated(&mut self, to: Register, result: Option<Value>, place: Place) {
        let result = result.expect("an allocation gives a reference");
        let next = self.builder.create_block();
        let is_memory = self.builder.ins().icmp_imm_s(IntCC::Equal, result, -(Fault::Memory as i64));
        let codes = [Fault::Memory, Fault::NegativeLength].map(|fault| failure_code(fault, place));
        let codes = codes.map(|code| self.builder.ins().iconst(I64, code));
        let code = self.builder.ins().select(is_memory, codes[0], codes[1]);
        let is_negative = self.builder.ins().icmp_imm_s(IntCC::SignedLessThan, result, 0);
        self.builder.ins().brif(is_negative, self.failed, &[BlockArg::Value(code)], next, &[]);
        self.builder.switch_to_block(next);
        self.set(to, result);
    }

    fn call(&mut self, to: Option<Register>, number: u32, arguments: &[Register]) -> Result<(), Error> {
        let callee = &self.of.callees[number as usize];
        let asked = self.asked.expect("a function that calls has callees");
        let asked = self.builder.ins().symbol_value(I64, asked);
        let has_asked = self.builder.ins().load(I8, MemFlagsData::trusted(), asked, number as i32);
        let (ask, ready) = (self.builder.create_block(), self.builder.create_block());
        self.builder.set_cold_block(ask);
        self.builder.ins().brif(has_asked, ready, &[], ask, &[]);
        self.builder.switch_to_block(ask);
        let name = self.string(self.strings.callees[number as usize]);
        self.host("mica_ensure", &[self.machine, name.0, name.1])?;
        let yes = self.builder.ins().iconst(I8, 1);
        self.builder.ins().store(MemFlagsData::trusted(), yes, asked, number as i32);
        self.builder.ins().jump(ready, &[]);
        self.builder.switch_to_block(ready);
        let signature = signature_of(callee, self.lowering.make_signature());
        let function = self.lowering.function(&callee.name, &signature, self.builder.func);
        let mut values = vec![self.machine];
        values.extend(arguments.iter().map(|register| self.get(*register)));
        let call = self.builder.ins().call(function, &values);
        if let Some(to) = to {
            let result = self.builder.inst_results(call)[0];
            self.set(to, result);
        }
        Ok(())
    }

    fn launch(&mut self, to: Register, kernel: u32, count: Register, arguments: &[Register]) -> Result<(), Error> {
        let bytes = 8 * arguments.len().max(1) as u32;
        let slot = self.builder.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 3));
        for (number, argument) in arguments.iter().enumerate() {
            let word = self.word(*argument);
            self.builder.ins().stack_store(I64, word, slot, 8 * number as i32);
        }
        let words = self.builder.ins().stack_addr(I64, slot, 0);
        let name = self.string(self.strings.callees[kernel as usize]);
        let count = self.get(count);
        let done = self.host("mica_launch", &[self.machine, name.0, name.1, count, words])?;
        self.set(to, done.expect("it says whether it ran"));
        Ok(())
    }

    /// Goes on if the value is not 0, and fails otherwise.
    fn check(&mut self, holds: Value, fault: Fault, place: Place) {
        let code = self.builder.ins().iconst(I64, failure_code(fault, place));
        let next = self.builder.create_block();
        self.builder.ins().brif(holds, next, &[], self.failed, &[BlockArg::Value(code)]);
        self.builder.switch_to_block(next);
    }

    /// Calls a function of the runtime.
    fn host(&mut self, name: &str, arguments: &[Value]) -> Result<Option<Value>, Error> {
        let function = self.lowering.import(name, self.builder.func)?;
        let call = self.builder.ins().call(function, arguments);
        Ok(self.builder.inst_results(call).first().copied())
    }

    /// Address and length.
    fn string(&mut self, (begin, length): (usize, usize)) -> (Value, Value) {
        let bytes = self.builder.ins().symbol_value(I64, self.bytes);
        let at = self.builder.ins().iadd_imm_s(bytes, begin as i64);
        (at, self.builder.ins().iconst(I64, length as i64))
    }

    fn kind(&self, register: Register) -> Kind {
        self.of.registers[register as usize]
    }

    fn get(&mut self, register: Register) -> Value {
        self.builder.use_var(self.registers[register as usize])
    }

    /// A register as the word that it is.
    fn word(&mut self, register: Register) -> Value {
        let value = self.get(register);
        let is_float = self.kind(register) == Kind::Float;
        if is_float { self.builder.ins().bitcast(I64, MemFlagsData::new(), value) } else { value }
    }

    fn set(&mut self, register: Register, value: Value) {
        self.builder.def_var(self.registers[register as usize], value);
    }

    fn load_machine(&mut self, offset: i32) -> Value {
        self.builder.ins().load(I64, MemFlagsData::trusted(), self.machine, offset)
    }

    fn store_machine(&mut self, offset: i32, value: Value) {
        self.builder.ins().store(MemFlagsData::trusted(), value, self.machine, offset);
    }
}

/// What went wrong and where, in one word.
fn failure_code(fault: Fault, place: Place) -> i64 {
    (i64::from(fault as u8) << 56) | (i64::from(place.line & 0xff_ffff) << 24) | i64::from(place.column & 0xff_ffff)
}

/// What [`failure_code`] was made of.
pub fn from_failure_code(code: u64) -> (Fault, Place) {
    let place = Place { line: (code >> 24) as u32 & 0xff_ffff, column: code as u32 & 0xff_ffff };
    (Fault::from_number((code >> 56) as u8), place)
}
