//! Functions from a seed: loops, branches, memory, floats, calls and calls through a table. Each is a small tree, which is written down as WebAssembly
//! and evaluated in Rust, so that what they return is known.

use super::expected::mix;
use std::fmt::{self, Write};

/// Locals of a function that statements may set; the first two are its parameters. One more counts each level of loops.
const LOCALS: u32 = 6;
const LOOP_DEPTH: u32 = 2;
/// Words of the generated functions' own memory, and where it is.
const WORDS: u64 = 8192;
const MEMORY_AT: u64 = 0x10_0000;
/// Functions that call nothing, and those that call only them, per hundred. The rest call these.
const LEAVES: usize = 60;
const MIDDLE: usize = 30;

pub struct Generated {
    functions: Vec<Vec<Statement>>,
}

enum Statement {
    Set(u32, Value),
    Store(Value, Value),
    /// So often, at that depth.
    Loop(u32, u32, Vec<Statement>),
    If(Value, Vec<Statement>, Vec<Statement>),
}

enum Value {
    Constant(u64),
    Local(u32),
    Load(Box<Value>),
    Integer(&'static Integer, Box<Value>, Box<Value>),
    /// Two integers as floats, and back.
    Float(&'static Float, Box<Value>, Box<Value>),
    Call(usize, Box<Value>, Box<Value>),
    /// From the first of these on, as many as the second says: the one that the last value, a leaf, chooses.
    Indirect(usize, usize, Box<Value>, Box<Value>),
}

struct Integer {
    text: &'static str,
    evaluate: fn(u64, u64) -> u64,
}

struct Float {
    text: &'static str,
    evaluate: fn(f64, f64) -> f64,
}

/// On the operands `a` and `b` on the stack.
#[rustfmt::skip]
const INTEGERS: &[Integer] = &[
    Integer { text: "i64.add", evaluate: u64::wrapping_add },
    Integer { text: "i64.sub", evaluate: u64::wrapping_sub },
    Integer { text: "i64.mul", evaluate: u64::wrapping_mul },
    Integer { text: "i64.xor", evaluate: |a, b| a ^ b },
    Integer { text: "i64.and", evaluate: |a, b| a & b },
    Integer { text: "i64.or", evaluate: |a, b| a | b },
    Integer { text: "i64.shl", evaluate: |a, b| a.wrapping_shl(b as u32) },
    Integer { text: "i64.shr_s", evaluate: |a, b| (a as i64).wrapping_shr(b as u32) as u64 },
    Integer { text: "i64.rotl", evaluate: |a, b| a.rotate_left((b & 63) as u32) },
    Integer { text: "i64.lt_s i64.extend_i32_u", evaluate: |a, b| ((a as i64) < b as i64).into() },
    Integer { text: "i64.const 1 i64.or i64.div_u", evaluate: |a, b| a / (b | 1) },
    Integer { text: "i64.const 1 i64.or i64.rem_u", evaluate: |a, b| a % (b | 1) },
];

#[rustfmt::skip]
const FLOATS: &[Float] = &[
    Float { text: "f64.add", evaluate: |a, b| a + b },
    Float { text: "f64.mul", evaluate: |a, b| a * b },
    Float { text: "f64.div", evaluate: |a, b| a / b },
    Float { text: "f64.sub f64.abs f64.sqrt", evaluate: |a, b| (a - b).abs().sqrt() },
    Float { text: "f64.const 0.37 f64.mul f64.add f64.floor", evaluate: |a, b| (a + b * 0.37).floor() },
];

impl Generated {
    /// `edited`, the last function has one statement more.
    pub fn new(count: usize, edited: bool) -> Generated {
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        let mut functions: Vec<_> = (0..count).map(|number| Writer::new(&mut random, number, count).body()).collect();
        if let (true, Some(last)) = (edited, functions.last_mut()) {
            last.push(Statement::Set(2, Value::Constant(0xed17)));
        }
        Generated { functions }
    }

    /// The functions, their table, and the export that calls those that others do not call.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (number, body) in self.functions.iter().enumerate() {
            let _ = writeln!(text, "(func $f{number} (param i64 i64) (result i64) (local i64 i64 i64 i64 i32 i32)");
            for statement in body {
                let _ = write!(text, "{statement}");
            }
            text += "local.get 2 local.get 3 call $mix local.get 4 i64.xor local.get 5 i64.add)\n";
        }
        let names: Vec<String> = (0..self.functions.len()).map(|number| format!("$f{number}")).collect();
        let first = self.first_uncalled();
        let _ = write!(
            text,
            "(type $generated (func (param i64 i64) (result i64)))\n\
             (table $all funcref (elem {}))\n\
             (func (export \"generated\") (param $rounds i32) (result i64) (local $at i32) (local $digest i64)\n\
             i64.const 11 local.set $digest\n\
             loop $again i32.const {first} local.set $at\n\
             block $done loop $next local.get $at i32.const {} i32.ge_u br_if $done\n\
             local.get $digest\n\
             local.get $digest local.get $at i64.extend_i32_u local.get $at call_indirect $all (type $generated)\n\
             call $mix local.set $digest\n\
             local.get $at i32.const 1 i32.add local.set $at br $next end end\n\
             local.get $rounds i32.const 1 i32.sub local.tee $rounds br_if $again end\n\
             local.get $digest)\n",
            names.join(" "),
            self.functions.len(),
        );
        text
    }

    /// What that export returns, called first of all.
    pub fn expected(&self, rounds: u32) -> u64 {
        let mut machine = Machine { functions: &self.functions, memory: vec![0; WORDS as usize] };
        let mut digest = 11;
        for _ in 0..rounds {
            for number in self.first_uncalled()..self.functions.len() {
                digest = mix(digest, machine.call(number, digest, number as u64));
            }
        }
        digest
    }

    fn first_uncalled(&self) -> usize {
        let count = self.functions.len();
        leaves(count) + count * MIDDLE / 100
    }
}

fn leaves(count: usize) -> usize {
    (count * LEAVES).div_ceil(100)
}

/// Xorshift in 64 bits.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 20) as usize % bound
    }

    fn of<T>(&mut self, all: &'static [T]) -> &'static T {
        &all[self.below(all.len())]
    }
}

/// Makes up one function.
struct Writer<'a> {
    random: &'a mut Random,
    /// What it may call: the functions one level below.
    callees: std::ops::Range<usize>,
    calls_left: usize,
}

impl<'a> Writer<'a> {
    fn new(random: &'a mut Random, number: usize, count: usize) -> Writer<'a> {
        let (leaves, middle) = (leaves(count), leaves(count) + count * MIDDLE / 100);
        let callees = match number {
            _ if number < leaves => 0..0,
            _ if number < middle => 0..leaves,
            _ if middle > leaves => leaves..middle,
            _ => 0..leaves,
        };
        Writer { random, callees, calls_left: 4 }
    }

    fn body(&mut self) -> Vec<Statement> {
        let count = 8 + self.random.below(6);
        self.statements(count, 0)
    }

    fn statements(&mut self, count: usize, depth: u32) -> Vec<Statement> {
        (0..count).map(|_| self.statement(depth)).collect()
    }

    fn statement(&mut self, depth: u32) -> Statement {
        match self.random.below(10) {
            0 if depth < LOOP_DEPTH => {
                let (times, count) = (2 + self.random.below(4) as u32, 2 + self.random.below(3));
                Statement::Loop(times, depth, self.statements(count, depth + 1))
            }
            1 | 2 if depth < LOOP_DEPTH => {
                let condition = self.value(2);
                let (yes, no) = (1 + self.random.below(3), 1 + self.random.below(2));
                Statement::If(condition, self.statements(yes, depth + 1), self.statements(no, depth + 1))
            }
            3 => Statement::Store(self.value(2), self.value(3)),
            _ => {
                // Mostly those that the result is made of.
                let local = 2 + self.random.below(LOCALS as usize - 2) as u32;
                Statement::Set(local, self.value(4))
            }
        }
    }

    fn value(&mut self, depth: u32) -> Value {
        if depth == 0 {
            return match self.random.below(4) {
                0 => Value::Constant(self.random.next() >> self.random.below(60)),
                _ => Value::Local(self.random.below(LOCALS as usize) as u32),
            };
        }
        match self.random.below(12) {
            0 => Value::Load(self.boxed(depth - 1)),
            1 | 2 => Value::Float(self.random.of(FLOATS), self.boxed(depth - 1), self.boxed(depth - 1)),
            3 | 4 if self.calls_left > 0 && !self.callees.is_empty() => {
                self.calls_left -= 1;
                let callee = self.callees.start + self.random.below(self.callees.len());
                Value::Call(callee, self.boxed(1), self.boxed(1))
            }
            5 if self.calls_left > 0 && !self.callees.is_empty() => {
                self.calls_left -= 1;
                Value::Indirect(self.callees.start, self.callees.len(), self.boxed(1), self.boxed(0))
            }
            6 => self.value(0),
            _ => Value::Integer(self.random.of(INTEGERS), self.boxed(depth - 1), self.boxed(depth - 1)),
        }
    }

    fn boxed(&mut self, depth: u32) -> Box<Value> {
        Box::new(self.value(depth))
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |f: &mut fmt::Formatter<'_>, body: &[Statement]| body.iter().try_for_each(|one| write!(f, "{one}"));
        match self {
            Statement::Set(local, value) => writeln!(f, "{value}local.set {local}"),
            Statement::Store(at, value) => {
                writeln!(f, "{at}i64.const {} i64.and i32.wrap_i64 i32.const 3 i32.shl", WORDS - 1)?;
                writeln!(f, "{value}i64.store offset={MEMORY_AT}")
            }
            Statement::Loop(times, depth, body) => {
                let counter = LOCALS + depth;
                writeln!(f, "i32.const {times} local.set {counter} loop")?;
                all(f, body)?;
                writeln!(f, "local.get {counter} i32.const 1 i32.sub local.tee {counter} br_if 0 end")
            }
            Statement::If(condition, yes, no) => {
                writeln!(f, "{condition}i64.const 1 i64.and i32.wrap_i64 if")?;
                all(f, yes)?;
                writeln!(f, "else")?;
                all(f, no)?;
                writeln!(f, "end")
            }
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Constant(value) => write!(f, "i64.const {} ", *value as i64),
            Value::Local(local) => write!(f, "local.get {local} "),
            Value::Load(at) => write!(
                f,
                "{at}i64.const {} i64.and i32.wrap_i64 i32.const 3 i32.shl i64.load offset={MEMORY_AT} ",
                WORDS - 1
            ),
            Value::Integer(operation, a, b) => write!(f, "{a}{b}{} ", operation.text),
            Value::Float(operation, a, b) => {
                write!(f, "{a}f64.convert_i64_s {b}f64.convert_i64_s {} i64.trunc_sat_f64_s ", operation.text)
            }
            Value::Call(number, a, b) => write!(f, "{a}{b}call $f{number} "),
            Value::Indirect(first, count, a, b) => write!(
                f,
                "{a}{b}{b}i64.const {count} i64.rem_u i32.wrap_i64 i32.const {first} i32.add \
                 call_indirect $all (type $generated) "
            ),
        }
    }
}

/// Evaluates them.
struct Machine<'a> {
    functions: &'a [Vec<Statement>],
    memory: Vec<u64>,
}

impl Machine<'_> {
    fn call(&mut self, number: usize, a: u64, b: u64) -> u64 {
        let mut locals = [a, b, 0, 0, 0, 0];
        let functions = self.functions;
        self.run(&functions[number], &mut locals);
        (mix(locals[2], locals[3]) ^ locals[4]).wrapping_add(locals[5])
    }

    fn run(&mut self, body: &[Statement], locals: &mut [u64; LOCALS as usize]) {
        for statement in body {
            match statement {
                Statement::Set(local, value) => locals[*local as usize] = self.value(value, locals),
                Statement::Store(at, value) => {
                    let at = self.value(at, locals) % WORDS;
                    self.memory[at as usize] = self.value(value, locals);
                }
                Statement::Loop(times, _, body) => (0..*times).for_each(|_| self.run(body, locals)),
                Statement::If(condition, yes, no) => {
                    let taken = if self.value(condition, locals) & 1 == 1 { yes } else { no };
                    self.run(taken, locals);
                }
            }
        }
    }

    fn value(&mut self, value: &Value, locals: &[u64; LOCALS as usize]) -> u64 {
        match value {
            Value::Constant(value) => *value,
            Value::Local(local) => locals[*local as usize],
            Value::Load(at) => {
                let at = self.value(at, locals) % WORDS;
                self.memory[at as usize]
            }
            Value::Integer(operation, a, b) => {
                let (a, b) = (self.value(a, locals), self.value(b, locals));
                (operation.evaluate)(a, b)
            }
            Value::Float(operation, a, b) => {
                let (a, b) = (self.value(a, locals) as i64, self.value(b, locals) as i64);
                (operation.evaluate)(a as f64, b as f64) as i64 as u64
            }
            Value::Call(number, a, b) => {
                let (a, b) = (self.value(a, locals), self.value(b, locals));
                self.call(*number, a, b)
            }
            Value::Indirect(first, count, a, b) => {
                let (a, b) = (self.value(a, locals), self.value(b, locals));
                self.call(first + (b % *count as u64) as usize, a, b)
            }
        }
    }
}
