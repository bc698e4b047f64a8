//! Compiled code against the interpreter: the programs that come with the language, and random ones.

use hapax::{CodeStore, HintOptions, HintStore, MemoryJournal, MemoryStore};
use mica::back::engine::{Engine, Order, Parts};
use mica::back::interpreter;
use mica::back::machine::Machine;
use mica::program::Program;
use mica::programs;
use std::fmt::Write as _;
use std::sync::Arc;

fn compare(name: &str, program: Program) {
    let program = Arc::new(program);
    let mut slow = Machine::new();
    let expected = interpreter::run(&program, &mut slow, "main", &[]).map(|word| word as i64);
    let store = Arc::new(MemoryStore::new(64 << 20));
    let hints = HintStore::open(HintOptions::in_journal(Arc::new(MemoryJournal::new())));
    // Compiled; from the store, all at once; and compiled ahead by others while it runs.
    for (round, is_stored) in [(0, true), (1, true), (2, false)] {
        let store = is_stored.then(|| Arc::new(CodeStore::over(store.clone())));
        let parts = Parts { store, hints: Some(hints.clone()), launcher: None };
        let engine = Engine::new(program.clone(), parts).unwrap();
        let hinted = engine.hinted(if round == 1 { Order::HotFirst } else { Order::NeededFirst });
        assert_eq!(hinted.is_empty(), round == 0, "{name}: hints come from the round before");
        let background = if round == 1 {
            engine.preload(&hinted);
            None
        } else {
            Some(engine.in_background(&hinted, 2))
        };
        let mut fast = Machine::new();
        assert_eq!(engine.run(&mut fast), expected, "{name}, round {round}");
        assert_eq!(fast.output(), slow.output(), "{name}, round {round}");
        if let Some(background) = background {
            background.stop();
        }
        engine.record();
        let stats = engine.stats();
        match round {
            0 => assert!(stats.compiles == engine.needed() as u64 && stats.store_hits == 0, "{name}: {stats:?}"),
            1 => assert!(stats.compiles == 0 && stats.store_hits == hinted.len() as u64, "{name}: {stats:?}"),
            _ => assert!(stats.compiles >= engine.needed() as u64, "{name}: {stats:?}"),
        }
    }
}

#[test]
fn the_programs_that_come_with_the_language() {
    let mut functions = 0;
    for name in programs::names() {
        let program = programs::load(name).unwrap().unwrap_or_else(|problem| panic!("{problem}"));
        functions += program.functions.len();
        compare(name, program);
    }
    assert!(functions >= 300, "{functions} functions are too few to feel a compiler");
}

#[test]
fn random_programs() {
    for seed in 1..=120 {
        let text = Writer { state: seed * 0x9e37_79b9, text: String::new() }.program();
        let program = Program::load("random.mica", text.clone(), &|_| None);
        compare(&text, program.unwrap_or_else(|problem| panic!("{problem}\n{text}")));
    }
}

/// Writes programs that end: loops count, and functions call those before them only. They may fail, both alike.
struct Writer {
    state: u64,
    text: String,
}

impl Writer {
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % bound
    }

    fn program(mut self) -> String {
        let functions = 2 + self.below(4);
        for number in 0..functions {
            let _ = writeln!(self.text, "fn f{number}(a: int, b: int, x: float, c: [int]) -> int {{");
            self.text.push_str("  var s = a;\n  var y = x;\n");
            for _ in 0..2 + self.below(5) {
                self.statement(number, 2);
            }
            self.text.push_str("  print(y);\n  return s ^ b;\n}\n");
        }
        self.text.push_str("fn main() -> int {\n  let c = [3, 1, 4, 1, 5, 9, 2, 6];\n  var s = 0;\n");
        for number in 0..functions {
            let _ = writeln!(self.text, "  s = s * 31 + f{number}({number}, s, {number}.75, c);\n  print(s);");
        }
        self.text.push_str("  return s;\n}\n");
        self.text
    }

    fn statement(&mut self, number: u64, depth: u32) {
        match self.below(if depth == 0 { 4 } else { 7 }) {
            0 | 1 => {
                let value = self.int(number, 3);
                let _ = writeln!(self.text, "  s = {value};");
            }
            2 => {
                let value = self.float(number, 3);
                let _ = writeln!(self.text, "  y = {value};");
            }
            3 => {
                let (index, value) = (self.int(number, 1), self.int(number, 2));
                // Mostly inside, sometimes not.
                let mask = if self.below(40) == 0 { 15 } else { 7 };
                let _ = writeln!(self.text, "  c[({index}) & {mask}] += {value};");
            }
            4 => {
                let condition = self.truth(number);
                let _ = writeln!(self.text, "  if {condition} {{");
                self.statement(number, depth - 1);
                self.text.push_str("  } else {\n");
                self.statement(number, depth - 1);
                self.text.push_str("  }\n");
            }
            _ => {
                let times = self.below(6);
                let _ = writeln!(self.text, "  for i in 0..{times} {{");
                self.statement(number, depth - 1);
                let condition = self.truth(number);
                let leave = if self.below(2) == 0 { "break" } else { "continue" };
                let _ = writeln!(self.text, "  if {condition} {{ {leave}; }}\n  s += i;\n  }}");
            }
        }
    }

    fn int(&mut self, number: u64, depth: u32) -> String {
        if depth == 0 {
            return match self.below(6) {
                0 => "a".into(),
                1 => "b".into(),
                2 => "s".into(),
                3 => "len(c)".into(),
                4 => format!("{}", self.below(1000)),
                _ => format!("0x{:x}", u64::MAX / (1 + self.below(1 << 20))),
            };
        }
        let (l, r) = (self.int(number, depth - 1), self.int(number, depth - 1));
        match self.below(16) {
            0 => format!("({l} + {r})"),
            1 => format!("({l} - {r})"),
            2 => format!("({l} * {r})"),
            3 => format!("({l} / ({r} | 1))"),
            4 => format!("({l} % ({r} | 1))"),
            5 if self.below(8) == 0 => format!("({l} / {r})"),
            6 => format!("({l} << {r})"),
            7 => format!("({l} >> {r})"),
            8 => format!("({l} >>> {r})"),
            9 => format!("({l} ^ {r} & {l} | {r})"),
            10 => format!("c[({l}) & 7]"),
            11 => format!("int({})", self.float(number, depth - 1)),
            12 => format!("bits({})", self.float(number, depth - 1)),
            13 => format!("(-{l})"),
            14 if number > 0 => {
                let callee = self.below(number);
                let x = self.float(number, depth - 1);
                format!("f{callee}({l} & 15, {r}, {x}, c)")
            }
            _ => format!("abs({l})"),
        }
    }

    fn float(&mut self, number: u64, depth: u32) -> String {
        if depth == 0 {
            return if self.below(2) == 0 { "y".into() } else { format!("{}.5", self.below(100)) };
        }
        let (l, r) = (self.float(number, depth - 1), self.float(number, depth - 1));
        match self.below(8) {
            0 => format!("({l} + {r})"),
            1 => format!("({l} - {r})"),
            2 => format!("({l} * {r})"),
            3 => format!("({l} / ({r} * {r} + 1.0))"),
            4 => format!("sqrt(abs({l}))"),
            5 => format!("floor({l})"),
            6 => format!("float({} & 0xffff)", self.int(number, depth - 1)),
            _ => format!("sin({l})"),
        }
    }

    fn truth(&mut self, number: u64) -> String {
        let (l, r) = (self.int(number, 1), self.int(number, 1));
        match self.below(5) {
            0 => format!("{l} < {r}"),
            1 => format!("{l} == {r}"),
            2 => format!("{l} >= {r} && {} <= {}", self.float(number, 1), self.float(number, 1)),
            3 => format!("!({l} != {r}) || s > 5"),
            _ => format!("(({l}) & 1) == 0"),
        }
    }
}
