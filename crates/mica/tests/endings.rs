//! A program of a person ends with a message, never with the process.

use std::fmt::Write as _;
use std::process::Command;

fn run(text: &str, interpret: bool) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.mica");
    std::fs::write(&path, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mica"));
    if interpret {
        command.args(["--child", "--interpret"]);
    } else {
        command.arg("--run");
    }
    let output = command.arg("--cache").arg(folder.path().join("cache")).arg(&path).output().unwrap();
    let mut said = String::from_utf8_lossy(&output.stderr).into_owned();
    said.truncate(300);
    (output.status.code().is_some(), format!("{} {said}", output.status))
}

/// Many values live across a recursive call: frames are large, and 10,000 of them do not fit the stack.
#[test]
fn deep_recursion_with_large_frames_is_a_failure_with_a_place() {
    let mut text = String::from("fn h(x: int) -> int { return x * 3 + 1; }\nfn f(n: int) -> int {\n");
    for v in 0..1_500 {
        let _ = writeln!(text, "  let v{v} = h(n + {v});");
    }
    text.push_str("  let r = f(n + 1);\n  var s = r;\n");
    for v in 0..1_500 {
        let _ = writeln!(text, "  s += v{v};");
    }
    text.push_str("  return s;\n}\nfn main() -> int { return f(0); }\n");
    let (ended, said) = run(&text, true);
    assert!(ended && said.contains("too many calls"), "interpreter: {said}");
    let (ended, said) = run(&text, false);
    assert!(ended && said.contains("too many calls"), "compiled: {said}");
}

/// A sum of many terms is a deep tree, without a bracket; and so is an index of an index.
#[test]
fn a_long_sum_is_a_program_or_a_problem() {
    let program = |terms: usize| format!("fn main() -> int {{ return {}1; }}\n", "1 + ".repeat(terms));
    let (ended, said) = run(&program(500), false);
    assert!(ended && !said.contains("operations"), "{said}");
    for text in [program(501), program(400_000), format!("fn main() -> int {{ return a{}; }}\n", "[0]".repeat(100_000))]
    {
        let (ended, said) = run(&text, false);
        assert!(ended && said.contains("more than 500 operations in one expression"), "{said}");
    }
}

/// `recompile`, and the Jit with an artifact that does not fit, replace what is stored: the resident copy must go with it.
#[test]
fn a_put_replaces_what_is_resident() {
    use hapax::{Fingerprint, Key, Kind, MemoryStore, Meta, Store};
    use mica::resident::{Place, ResidentStore};
    use std::sync::Arc;
    let key = Key::new(Kind::CODE, Fingerprint::of("tests/endings").finish());
    let meta = Meta::default();
    // Open before, and opened after.
    for early in [false, true] {
        let behind = Arc::new(MemoryStore::new(1 << 20));
        let store = ResidentStore::new(behind.clone(), Place::Host, 1 << 20);
        if !early {
            store.report().map(|_| ()).unwrap();
        }
        behind.put(&key, &meta, b"does not fit").unwrap();
        assert_eq!(&*store.get(&key).unwrap(), b"does not fit");
        store.put(&key, &meta, b"compiled anew").unwrap();
        store.report().map(|_| ()).unwrap();
        assert_eq!(&*behind.get(&key).unwrap(), b"compiled anew");
        assert_eq!(&*store.get(&key).unwrap(), b"compiled anew", "early: {early}");
    }
}
