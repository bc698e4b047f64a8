//! A front end for the bench: a bytecode of eight integers and a float, with loops, branches, calls and a table. Functions
//! are made by a generator with a fixed seed.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::immediates::Imm64;
use cranelift_codegen::ir::types::{F64, I64};
use cranelift_codegen::ir::{
    AbiParam, Block, Function, InstBuilder, MemFlagsData, Signature, StackSlotData, StackSlotKind,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Switch, Variable};
use hapax::FingerprintBuilder;
use hapax_cranelift::{Data, LowerError, Lowering, Unit};
use target_lexicon::Triple;

pub const FUNCTIONS: usize = 500;
const VARIABLES: u8 = 8;
const SLOTS: u8 = 8;

/// A function: its name and its bytecode, four bytes an instruction.
pub struct Method {
    pub name: String,
    pub code: Vec<u8>,
}

impl Unit for Method {
    fn name(&self) -> &str {
        &self.name
    }

    fn key(&self, key: FingerprintBuilder) -> FingerprintBuilder {
        key.part("bytecode", &self.code)
    }
}

/// Xorshift, by Marsaglia.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % limit) as u8
    }
}

/// Opcodes after the arithmetic, which are those below it.
const ARITHMETIC: u8 = 12;
const LOOP: u8 = 100;
const END: u8 = 101;
const SWITCH: u8 = 102;
const CALL: u8 = 103;
const CALL_FLOAT: u8 = 104;
const CALL_METHOD: u8 = 105;

/// The program: each function calls at most those before it, and not always.
pub fn program() -> Vec<Method> {
    (0..FUNCTIONS).map(|number| Method { name: format!("f{number}"), code: code(number) }).collect()
}

fn code(number: usize) -> Vec<u8> {
    let mut random = Random(0x1234_5678_9abc ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for _ in 0..8 {
        random.below(2);
    }
    let mut code = Vec::new();
    for chunk in 0..3 {
        match random.below(4) {
            0 => {
                push(&mut code, &mut random, LOOP);
                arithmetic(&mut code, &mut random, 16);
                push(&mut code, &mut random, CALL);
                push(&mut code, &mut random, END);
            }
            1 => {
                push(&mut code, &mut random, SWITCH);
                arithmetic(&mut code, &mut random, 14);
            }
            2 => {
                push(&mut code, &mut random, CALL_FLOAT);
                arithmetic(&mut code, &mut random, 18);
            }
            _ => arithmetic(&mut code, &mut random, 22),
        }
        if chunk == 1 && !number.is_multiple_of(16) {
            push(&mut code, &mut random, CALL_METHOD);
            // Whom: one of the sixteen before it.
            let back = 1 + random.below(number.min(16) as u64);
            code.extend([back, 0, 0, 0]);
        }
    }
    code
}

/// An instruction with operands of its own.
fn push(code: &mut Vec<u8>, random: &mut Random, opcode: u8) {
    let variables = u64::from(VARIABLES);
    code.extend([opcode, random.below(variables), random.below(variables), random.below(250)]);
}

fn arithmetic(code: &mut Vec<u8>, random: &mut Random, count: u8) {
    for _ in 0..count {
        let opcode = random.below(u64::from(ARITHMETIC));
        push(code, random, opcode);
    }
}

pub fn signature() -> Signature {
    let mut signature = Signature::new(CallConv::triple_default(&Triple::host()));
    signature.params = vec![AbiParam::new(I64), AbiParam::new(I64), AbiParam::new(F64)];
    signature.returns = vec![AbiParam::new(I64)];
    signature
}

pub fn mix_signature() -> Signature {
    let mut signature = signature();
    signature.params.pop();
    signature
}

pub fn float_signature() -> Signature {
    let mut signature = signature();
    signature.params = vec![AbiParam::new(F64), AbiParam::new(I64)];
    signature.returns = vec![AbiParam::new(F64)];
    signature
}

pub extern "C" fn mix(a: i64, b: i64) -> i64 {
    a.rotate_left(13) ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64)
}

pub extern "C" fn float(x: f64, a: i64) -> f64 {
    (x * 0.5 + (a & 1023) as f64).sqrt()
}

fn table() -> Vec<u8> {
    (0..64u64).flat_map(|number| number.wrapping_mul(0xd1b5_4a32_d192_ed03).to_le_bytes()).collect()
}

pub fn lower(method: &Method, lowering: &mut Lowering<'_>, function: &mut Function) -> Result<(), LowerError> {
    function.signature = signature();
    let mut context = FunctionBuilderContext::new();
    let mut body = Body::new(FunctionBuilder::new(function, &mut context), lowering)?;
    let mut operations = method.code.as_chunks::<4>().0.iter();
    while let Some(&[opcode, a, b, c]) = operations.next() {
        match opcode {
            LOOP => body.begin_loop(c),
            END => body.end_loop(),
            SWITCH => body.switch(a, b),
            CALL => {
                let callee = lowering.import("mix", body.builder.func)?;
                let arguments = [body.get(a), body.get(b)];
                let call = body.builder.ins().call(callee, &arguments);
                let result = body.builder.inst_results(call)[0];
                body.set(a, result);
            }
            CALL_FLOAT => {
                let callee = lowering.import("float", body.builder.func)?;
                let arguments = [body.builder.use_var(body.float), body.get(a)];
                let call = body.builder.ins().call(callee, &arguments);
                let result = body.builder.inst_results(call)[0];
                body.builder.def_var(body.float, result);
            }
            CALL_METHOD => {
                let back = operations.next().ok_or("a call names its callee")?[0];
                let own: usize = method.name[1..].parse()?;
                let name = format!("f{}", own - usize::from(back));
                let callee = lowering.function(&name, &signature(), body.builder.func);
                body.call_sometimes(callee, a, b);
            }
            _ => body.arithmetic(opcode, a, b, c),
        }
    }
    body.finish(lowering)
}

struct Body<'f> {
    builder: FunctionBuilder<'f>,
    variables: Vec<Variable>,
    float: Variable,
    slots: cranelift_codegen::ir::StackSlot,
    table: cranelift_codegen::ir::GlobalValue,
    /// The count, the head and the exit of each loop that is open.
    loops: Vec<(Variable, Block, Block)>,
}

type Value = cranelift_codegen::ir::Value;

impl<'f> Body<'f> {
    fn new(mut builder: FunctionBuilder<'f>, lowering: &mut Lowering<'_>) -> Result<Body<'f>, LowerError> {
        let table = lowering.data(Data::bytes(table()), builder.func)?;
        let slots = StackSlotData::new(StackSlotKind::ExplicitSlot, u32::from(SLOTS) * 8, 3);
        let slots = builder.create_sized_stack_slot(slots);
        let entry = builder.create_block();
        builder.append_block_params_for_function_params(entry);
        builder.switch_to_block(entry);
        builder.seal_block(entry);
        let parameters = builder.block_params(entry).to_vec();
        let variables: Vec<Variable> = (0..VARIABLES).map(|_| builder.declare_var(I64)).collect();
        for (number, variable) in variables.iter().enumerate() {
            let constant = builder.ins().iconst(I64, Imm64::new(number as i64 * 0x5bd1_e995 + 1));
            let value = builder.ins().iadd(parameters[number % 2], constant);
            builder.def_var(*variable, value);
        }
        let zero = builder.ins().iconst(I64, 0);
        for slot in 0..SLOTS {
            builder.ins().stack_store(I64, zero, slots, i32::from(slot) * 8);
        }
        let float = builder.declare_var(F64);
        builder.def_var(float, parameters[2]);
        Ok(Body { builder, variables, float, slots, table, loops: Vec::new() })
    }

    fn get(&mut self, number: u8) -> Value {
        self.builder.use_var(self.variables[usize::from(number)])
    }

    fn set(&mut self, number: u8, value: Value) {
        self.builder.def_var(self.variables[usize::from(number)], value);
    }

    fn arithmetic(&mut self, opcode: u8, a: u8, b: u8, c: u8) {
        let (x, y) = (self.get(a), self.get(b));
        let slot = i32::from(c % SLOTS) * 8;
        let constant = self.builder.ins().iconst(I64, i64::from(c) * 0x1_0001 + 1);
        let ins = self.builder.ins();
        let value = match opcode {
            0 => ins.iadd(x, y),
            1 => ins.isub(x, y),
            2 => ins.imul(x, constant),
            3 => ins.bxor(x, y),
            4 => ins.rotl(x, constant),
            5 => {
                let odd = self.builder.ins().bor(y, constant);
                self.builder.ins().udiv(x, odd)
            }
            6 => {
                let less = self.builder.ins().icmp(IntCC::UnsignedLessThan, x, y);
                self.builder.ins().select(less, x, constant)
            }
            7 => ins.popcnt(x),
            8 => {
                self.builder.ins().stack_store(I64, x, self.slots, slot);
                y
            }
            9 => ins.stack_load(I64, I64, self.slots, slot),
            10 => {
                let before = self.builder.use_var(self.float);
                let step = self.builder.ins().f64const(f64::from(c) * 0.37);
                let sum = self.builder.ins().fadd(before, step);
                let root = self.builder.ins().sqrt(sum);
                self.builder.def_var(self.float, root);
                self.builder.ins().fcvt_to_sint_sat(I64, root)
            }
            _ => {
                let mask = self.builder.ins().iconst(I64, 63 * 8);
                let offset = self.builder.ins().band(x, mask);
                let start = self.builder.ins().symbol_value(I64, self.table);
                let at = self.builder.ins().iadd(start, offset);
                self.builder.ins().load(I64, MemFlagsData::trusted(), at, 0)
            }
        };
        self.set(a, value);
    }

    fn begin_loop(&mut self, c: u8) {
        let count = self.builder.declare_var(I64);
        let times = self.builder.ins().iconst(I64, i64::from(c % 9) + 2);
        self.builder.def_var(count, times);
        let (head, inside, exit) =
            (self.builder.create_block(), self.builder.create_block(), self.builder.create_block());
        self.builder.ins().jump(head, &[]);
        self.builder.switch_to_block(head);
        let left = self.builder.use_var(count);
        self.builder.ins().brif(left, inside, &[], exit, &[]);
        self.builder.switch_to_block(inside);
        self.builder.seal_block(inside);
        self.loops.push((count, head, exit));
    }

    fn end_loop(&mut self) {
        let (count, head, exit) = self.loops.pop().expect("the generator closes what it opens");
        let left = self.builder.use_var(count);
        let one = self.builder.ins().iconst(I64, 1);
        let left = self.builder.ins().isub(left, one);
        self.builder.def_var(count, left);
        self.builder.ins().jump(head, &[]);
        self.builder.seal_block(head);
        self.builder.switch_to_block(exit);
        self.builder.seal_block(exit);
    }

    fn switch(&mut self, a: u8, b: u8) {
        let mask = self.builder.ins().iconst(I64, 7);
        let value = self.get(a);
        let choice = self.builder.ins().band(value, mask);
        let (join, otherwise) = (self.builder.create_block(), self.builder.create_block());
        let cases: Vec<Block> = (0..6).map(|_| self.builder.create_block()).collect();
        let mut switch = Switch::new();
        for (number, case) in cases.iter().enumerate() {
            switch.set_entry(number as u128, *case);
        }
        switch.emit(&mut self.builder, choice, otherwise);
        for (number, case) in cases.into_iter().chain([otherwise]).enumerate() {
            self.builder.switch_to_block(case);
            self.builder.seal_block(case);
            self.arithmetic(number as u8 % 4, a, b, number as u8 * 3);
            self.arithmetic(11, b, a, 0);
            self.builder.ins().jump(join, &[]);
        }
        self.builder.switch_to_block(join);
        self.builder.seal_block(join);
    }

    /// Calls another method once in sixteen times, so that the depth of calls stays small.
    fn call_sometimes(&mut self, callee: cranelift_codegen::ir::FuncRef, a: u8, b: u8) {
        let mask = self.builder.ins().iconst(I64, 15);
        let (x, y, float) = (self.get(a), self.get(b), self.builder.use_var(self.float));
        let guard = self.builder.ins().band(x, mask);
        let (go, on) = (self.builder.create_block(), self.builder.create_block());
        self.builder.ins().brif(guard, on, &[], go, &[]);
        self.builder.switch_to_block(go);
        self.builder.seal_block(go);
        let call = self.builder.ins().call(callee, &[x, y, float]);
        let result = self.builder.inst_results(call)[0];
        self.set(b, result);
        self.builder.ins().jump(on, &[]);
        self.builder.switch_to_block(on);
        self.builder.seal_block(on);
    }

    fn finish(mut self, lowering: &Lowering<'_>) -> Result<(), LowerError> {
        let mut sum = self.get(0);
        for number in 1..VARIABLES {
            let value = self.get(number);
            let mixed = self.builder.ins().bxor(sum, value);
            let shift = self.builder.ins().iconst(I64, 7);
            let shifted = self.builder.ins().ushr(mixed, shift);
            sum = self.builder.ins().iadd(mixed, shifted);
        }
        let float = self.builder.use_var(self.float);
        let bits = self.builder.ins().bitcast(I64, MemFlagsData::new(), float);
        let sum = self.builder.ins().iadd(sum, bits);
        self.builder.ins().return_(&[sum]);
        self.builder.finalize(lowering.isa().frontend_config());
        Ok(())
    }
}
