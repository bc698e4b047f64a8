//! A function's representation as bytes: everything that lowering reads, so that a fingerprint over them names the code.
//! Written only, never read back.

use crate::ir::{Block, End, Function, Instruction, Kind, Place, Register};
use hapax::Fingerprint;

/// Changes when these bytes mean something else.
const FORMAT: &str = "mica ir 2";

/// The name of a function's representation: what it is compiled by, and what hints know it by.
pub fn name(function: &Function) -> Fingerprint {
    Fingerprint::of(FORMAT).part("ir", bytes(function)).finish()
}

/// The bytes of a function.
pub fn bytes(function: &Function) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(function.instructions() * 8));
    // The name is in the code: it is what an error names.
    out.bytes(function.name.as_bytes());
    out.number(function.parameters);
    out.number(function.registers.len() as u32);
    function.registers.iter().for_each(|kind| out.byte(*kind as u8));
    out.kind(function.returns);
    out.number(function.callees.len() as u32);
    for callee in &function.callees {
        out.bytes(callee.name.as_bytes());
        out.number(callee.parameters.len() as u32);
        callee.parameters.iter().for_each(|kind| out.byte(*kind as u8));
        out.kind(callee.returns);
    }
    out.number(function.texts.len() as u32);
    function.texts.iter().for_each(|text| out.bytes(text));
    out.number(function.blocks.len() as u32);
    function.blocks.iter().for_each(|block| out.block(block));
    out.0
}

struct Writer(Vec<u8>);

impl Writer {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    /// Seven bits a byte, the lowest first, the eighth where more follow. Most numbers are below 128, and what is written is
    /// hashed at each start.
    fn number(&mut self, number: u32) {
        self.number_u64(u64::from(number));
    }

    fn number_u64(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.byte(number as u8 | 0x80);
            number >>= 7;
        }
        self.byte(number as u8);
    }

    fn numbers<const N: usize>(&mut self, tag: u8, numbers: [u32; N]) {
        self.byte(tag);
        numbers.into_iter().for_each(|number| self.number(number));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
    }

    fn kind(&mut self, kind: Option<Kind>) {
        self.byte(kind.map_or(255, |kind| kind as u8));
    }

    fn registers(&mut self, registers: &[Register]) {
        self.number(registers.len() as u32);
        registers.iter().for_each(|register| self.number(*register));
    }

    fn place(&mut self, place: Place) {
        self.number(place.line);
        self.number(place.column);
    }

    fn block(&mut self, block: &Block) {
        self.number(block.instructions.len() as u32);
        block.instructions.iter().for_each(|instruction| self.instruction(instruction));
        match block.end {
            End::Jump(to) => self.numbers(0, [to]),
            End::Branch { condition, yes, no } => self.numbers(1, [condition, yes, no]),
            End::Return(value) => self.numbers(2, [value.map_or(u32::MAX, |value| value)]),
        }
    }

    fn instruction(&mut self, instruction: &Instruction) {
        match instruction {
            Instruction::Constant { to, word } => {
                self.numbers(0, [*to]);
                self.number_u64(*word);
            }
            Instruction::Copy { to, from } => self.numbers(1, [*to, *from]),
            Instruction::Unary { operation, to, from } => self.numbers(2, [*operation as u32, *to, *from]),
            Instruction::Binary { operation, to, left, right } => {
                self.numbers(3, [*operation as u32, *to, *left, *right]);
            }
            Instruction::Divide { is_remainder, to, left, right, place } => {
                self.numbers(4, [u32::from(*is_remainder), *to, *left, *right]);
                self.place(*place);
            }
            Instruction::Length { to, array } => self.numbers(5, [*to, *array]),
            Instruction::Get { to, array, index, place } => {
                self.numbers(6, [*to, *array, *index]);
                self.place(*place);
            }
            Instruction::Set { array, index, value, place } => {
                self.numbers(7, [*array, *index, *value]);
                self.place(*place);
            }
            Instruction::NewArray { to, fill, length, place } => {
                self.numbers(8, [*to, *fill, *length]);
                self.place(*place);
            }
            Instruction::NewText { to, text, place } => {
                self.numbers(9, [*to, *text]);
                self.place(*place);
            }
            Instruction::NewRecord { to, fields, place } => {
                self.numbers(10, [*to]);
                self.registers(fields);
                self.place(*place);
            }
            Instruction::GetField { to, record, field } => self.numbers(11, [*to, *record, *field]),
            Instruction::SetField { record, field, value } => self.numbers(12, [*record, *field, *value]),
            Instruction::Call { to, callee, arguments, place } => {
                self.numbers(13, [to.map_or(u32::MAX, |to| to), *callee]);
                self.registers(arguments);
                self.place(*place);
            }
            Instruction::Host { to, function, arguments } => {
                self.numbers(14, [to.map_or(u32::MAX, |to| to), *function as u32]);
                self.registers(arguments);
            }
            Instruction::Launch { to, kernel, count, arguments } => {
                self.numbers(15, [*to, *kernel, *count]);
                self.registers(arguments);
            }
            Instruction::Assert { condition, place } => {
                self.numbers(16, [*condition]);
                self.place(*place);
            }
        }
    }
}
