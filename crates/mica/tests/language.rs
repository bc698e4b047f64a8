//! What the front end refuses, with the place and the words; and what a program can do wrong while it runs, by both back ends.

use mica::back::engine::{Engine, Parts};
use mica::back::interpreter;
use mica::back::machine::{Failure, Fault, Machine};
use mica::program::Program;
use std::sync::Arc;

fn load(text: &str) -> Result<Program, String> {
    Program::load("p.mica", text.to_owned(), &|_| None).map_err(|problem| problem.to_string())
}

/// Both back ends' outcome, which must be the same, with what was printed.
fn run(text: &str) -> (Result<i64, Failure>, String) {
    let program = Arc::new(load(text).unwrap_or_else(|problem| panic!("{problem}")));
    let mut slow = Machine::new();
    let expected = interpreter::run(&program, &mut slow, "main", &[]).map(|word| word as i64);
    let engine = Engine::new(program.clone(), Parts::default()).unwrap();
    let mut fast = Machine::new();
    assert_eq!(engine.run(&mut fast), expected, "{text}");
    assert_eq!(fast.output(), slow.output(), "{text}");
    assert_eq!(fast.used_words(), slow.used_words(), "{text}");
    (expected, String::from_utf8(slow.output().to_vec()).unwrap())
}

#[test]
fn what_is_wrong_is_told_with_line_and_column() {
    for (text, expected) in [
        ("fn main() -> int { return x; }", "p.mica:1:27: there is no variable `x`"),
        (
            "fn main() -> int {\n  let x = 1;\n  x = 2;\n  return x;\n}",
            "p.mica:3:3: `x` cannot change; declare it with `var`",
        ),
        ("fn main() -> int { return 1.5; }", "p.mica:1:27: expected an int, found a float"),
        ("fn main() -> int { return 1 + 2.0; }", "p.mica:1:29: `+` does not work on an int and a float"),
        ("fn main() -> int { }", "p.mica:1:20: `main` can end without returning an int"),
        ("fn main() -> int { if true { return 1; } }", "p.mica:1:42: `main` can end without returning an int"),
        ("fn main() -> int { return f(1); }", "p.mica:1:27: there is no function `f`"),
        ("fn f(a: int) { } fn main() -> int { f(); return 0; }", "p.mica:1:37: `f` takes 1 arguments, and there are 0"),
        ("fn f() { } fn main() -> int { return f(); }", "p.mica:1:38: this function returns nothing"),
        ("fn f() { } fn f() { } fn main() -> int { return 0; }", "p.mica:1:15: there are two functions `f`"),
        ("fn main() -> int { break; }", "p.mica:1:20: `break` outside of a loop"),
        ("fn main() -> int { let a = [1, 2.0]; return 0; }", "p.mica:1:32: expected an int, found a float"),
        (
            "fn main() -> int { let a = []; return 0; }",
            "p.mica:1:29: an empty array does not say of what; write `[0; 0]`",
        ),
        ("fn main() -> int { return 1[0]; }", "p.mica:1:27: this is no array but an int"),
        ("struct P { x: int } fn main() -> int { let p = P { y: 1 }; return 0; }", "p.mica:1:55: `P` has no field `y`"),
        ("struct P { x: int } fn main() -> int { let p = P { }; return 0; }", "p.mica:1:48: the field `x` is missing"),
        ("struct P { x: int } fn main() -> int { return P { x: 1 }.y; }", "p.mica:1:57: `P` has no field `y`"),
        ("struct p { x: int }", "p.mica:1:8: the name of a struct begins with a capital letter"),
        ("fn f(a: Nothing) { }", "p.mica:1:9: there is no type `Nothing`"),
        ("fn main() -> int { return 99999999999999999999; }", "p.mica:1:27: this number needs more than 64 bits"),
        ("fn main() -> int { print(\"open); }", "p.mica:1:26: this text has no end on its line"),
        ("fn main() -> int { return 1 $ 2; }", "p.mica:1:29: `$` begins nothing in this language"),
        ("fn main() -> int { return 1 }", "p.mica:1:29: expected `;`, found `}`"),
        ("fn main() -> int {", "p.mica:1:19: expected an expression, found the end of the file"),
        ("let x = 1;", "p.mica:1:1: expected `fn`, `kernel`, `struct` or `import`, found `let`"),
        ("import \"lost\"; fn main() -> int { return 0; }", "p.mica:1:1: there is no file `lost` to import"),
        ("fn f() { }", "p.mica:1:1: a program has a `fn main() -> int`"),
        ("fn print() { } fn main() -> int { return 0; }", "p.mica:1:4: `print` is built in"),
        ("fn main() -> int { return sqrt(2); }", "p.mica:1:27: `sqrt` does not take (int)"),
        (
            "kernel k(a: [int]) { } fn main() -> int { return 0; }",
            "p.mica:1:8: a kernel takes the number of its thread first, an int, and returns nothing",
        ),
        (
            "kernel k(i: int) { } fn main() -> int { k(1); return 0; }",
            "p.mica:1:41: a kernel is launched: `launch k[n](..);`",
        ),
        ("fn main() -> int { launch k[1](); return 0; }", "p.mica:1:20: there is no kernel `k`"),
    ] {
        let problem = load(text).err().unwrap_or_else(|| panic!("accepted: {text}"));
        assert_eq!(problem.lines().next(), Some(expected), "{text}");
    }
}

#[test]
fn a_problem_shows_its_line_with_a_mark_below_the_place() {
    let problem = load("fn main() -> int {\n\treturn wrong;\n}").err().unwrap();
    assert_eq!(problem, "p.mica:2:9: there is no variable `wrong`\n  \treturn wrong;\n  \t       ^");
}

#[test]
fn brackets_inside_each_other_do_not_overflow_the_stack() {
    let text = format!("fn main() -> int {{ return {}1{}; }}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(load(&text).err().unwrap().contains("more than 200 brackets inside each other"));
    let text = format!("fn main() -> int {{ return {}1; }}", "-".repeat(100_000));
    assert!(load(&text).err().unwrap().contains("more than 200 brackets inside each other"));
}

#[test]
fn both_back_ends_fail_at_the_same_place() {
    for (body, fault, column) in [
        ("let a = [1, 2]; return a[2];", Fault::Bounds, 44),
        ("let a = [1, 2]; a[-1] = 0; return 0;", Fault::Bounds, 37),
        ("let z = 0; return 1 / z;", Fault::DivisionByZero, 40),
        ("let z = 0; return 1 % z;", Fault::DivisionByZero, 40),
        ("assert(1 > 2); return 0;", Fault::Assertion, 20),
        ("let n = -1; let a = [0; n]; return 0;", Fault::NegativeLength, 40),
        ("let a = [0; 1 << 40]; return 0;", Fault::Memory, 28),
        ("return main() + 1;", Fault::Depth, 1),
    ] {
        let (outcome, _) = run(&format!("fn main() -> int {{ {body} }}"));
        let failure = outcome.unwrap_err();
        assert_eq!((failure.fault, failure.place.line, failure.place.column), (fault, 0, column), "{body}");
    }
}

#[test]
fn a_failure_in_another_function_names_its_own_line() {
    let text = "fn f(a: [int]) -> int {\n  return a[7];\n}\n\nfn main() -> int { return f([0; 3]); }";
    let failure = run(text).0.unwrap_err();
    let problem = load(text).unwrap().problem(&failure.function, failure.place, failure.fault.to_string());
    assert!(problem.to_string().starts_with("p.mica:2:11: the index lies outside of the array"), "{problem}");
}

#[test]
fn numbers_are_what_the_documentation_says() {
    let (outcome, output) = run(
        "fn least() -> int { return 1 << 63; }
         fn main() -> int {
           print(least() / -1); print(least() % -1); print(-7 / 2); print(-7 % 2); print(-8 >>> 60); print(-8 >> 1);
           print(1 << 65); print(int(1e300)); print(int(0.0 / 0.0)); print(int(-1.9)); print(float(3)); print(1.0 / 0.0);
           print(0.0 / 0.0 == 0.0 / 0.0); print(floor(-0.5)); print(abs(-3)); print(from_bits(bits(0.1)) == 0.1);
           print(2 > 1 || 1 / 0 == 0); print(false && 1 / 0 == 0); print(1 | 2 ^ 3 & 2); print('\\n'); print(\"t\\\"x\");
           return 0; }",
    );
    assert_eq!(outcome, Ok(0));
    let expected =
        "-9223372036854775808 0 -3 -1 15 -4 2 9223372036854775807 0 -1 3 inf false -1 3 true true false 1 10 t\"x";
    assert_eq!(output.split_whitespace().collect::<Vec<_>>().join(" "), expected);
}

#[test]
fn a_kernel_runs_on_the_processor_where_nothing_else_does() {
    let (outcome, _) = run("kernel square(i: int, a: [int], k: int) { a[i] = i * i + k; }
         fn main() -> int { let a = [0; 10]; launch square[len(a)](a, 5); return a[9]; }");
    assert_eq!(outcome, Ok(86));
}
