//! The whole-program gate: under `--cfg hapax_strict_linear`, a program with a path that drops a handle is not built.
//!
//! The gate speaks when a drop is instantiated, so `cargo check` does not see it: each case of `ui-tests/strict` is
//! built, as a program of a package of its own. Twins as in `ui_twins.rs`: they differ in one line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const MANIFEST: &str = r#"
[package]
name = "strict-cases"
version = "0.0.0"
edition = "2024"

[dependencies]
hapax = { path = "HAPAX" }

[profile.linear]
inherits = "dev"
panic = "abort"

[workspace]
"#;

/// Fewer means that cases were lost.
const CASES_AT_LEAST: usize = 17;

struct Cases {
    folder: PathBuf,
    names: Vec<String>,
}

#[test]
fn a_program_that_drops_a_handle_is_not_built_and_its_twin_is() {
    let cases = Cases::set_up("strict-cases");
    assert!(cases.names.len() >= CASES_AT_LEAST, "{:?}", cases.names);
    for name in &cases.names {
        let failed = cases.build(&format!("fail_{name}"), "linear");
        let text = String::from_utf8_lossy(&failed.stderr);
        assert!(!failed.status.success(), "{name}: the gate let it through");
        let codes: Vec<&str> = text.lines().filter(|line| line.starts_with("error[")).collect();
        assert!(
            codes
                .iter()
                .all(|line| line.starts_with("error[E0080]") && line.contains("a device handle is dropped here")),
            "{name} fails for another reason:\n{text}"
        );
        assert!(!codes.is_empty(), "{name} fails without the gate's error:\n{text}");
        let passed = cases.build(&format!("pass_{name}"), "linear");
        assert!(passed.status.success(), "{name}: the twin is refused:\n{}", String::from_utf8_lossy(&passed.stderr));
    }
}

#[test]
fn the_gate_asks_for_panics_that_abort() {
    let cases = Cases::set_up("strict-cases-unwinding");
    let refused = cases.build(&format!("pass_{}", cases.names[0]), "dev");
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && text.contains("hapax_strict_linear needs panic = \"abort\""), "{text}");
}

#[test]
fn twins_differ_in_one_line() {
    for name in names() {
        let [fail, pass] = ["fail", "pass"].map(|side| fs::read_to_string(case(side, &name)).unwrap());
        let differing = fail.lines().zip(pass.lines()).filter(|(a, b)| a != b).count();
        assert_eq!((differing, fail.lines().count()), (1, pass.lines().count()), "{name}");
        assert!(fail.starts_with("// expect: E0080\n"), "{name}");
    }
}

impl Cases {
    fn set_up(package: &str) -> Cases {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(package);
        let programs = folder.join("src/bin");
        fs::create_dir_all(&programs).unwrap();
        let root = env!("CARGO_MANIFEST_DIR");
        fs::write(folder.join("Cargo.toml"), MANIFEST.replace("HAPAX", root)).unwrap();
        // The same versions as the crate's own, so that nothing is fetched.
        fs::copy(Path::new(root).join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
        let names = names();
        for name in &names {
            for side in ["fail", "pass"] {
                fs::copy(case(side, name), programs.join(format!("{side}_{name}.rs"))).unwrap();
            }
        }
        Cases { folder, names }
    }

    fn build(&self, program: &str, profile: &str) -> Output {
        Command::new(env!("CARGO"))
            .current_dir(&self.folder)
            .args(["build", "--offline", "--profile", profile, "--bin", program])
            .env("CARGO_TARGET_DIR", self.folder.join("target"))
            .env("RUSTFLAGS", "--cfg hapax_strict_linear")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .output()
            .expect("cargo runs")
    }
}

fn names() -> Vec<String> {
    let stem = |entry: fs::DirEntry| entry.path().file_stem().unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<String> = fs::read_dir(folder("fail")).unwrap().map(|entry| stem(entry.unwrap())).collect();
    names.sort();
    names
}

fn case(side: &str, name: &str) -> PathBuf {
    folder(side).join(name).with_extension("rs")
}

fn folder(side: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ui-tests/strict").join(side)
}
