//! The example `rebuild`, run as a person runs it, and the programs that it compiles, tested like any other.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/rebuild/units");

#[test]
fn a_session_under_a_budget_gives_back_what_the_compiler_wrote() {
    let ran = rebuild(&[]);
    assert_all_is_well(&ran);
    assert!(counted(&ran, "hits") > 0 && counted(&ran, "misses") > 0, "{}", text(&ran));
    assert!(counted(&ran, "evictions") > 0, "the budget should be smaller than the working set: {}", text(&ran));
    assert!(
        text(&ran).contains("\nedits        15 of 15 units"),
        "each edit should change what is compiled: {}",
        text(&ran)
    );
}

#[test]
fn a_path_is_compiled_instead() {
    let ran = rebuild(&["--rebuilds", "1", &format!("{UNITS}/lz.rs")]);
    assert_all_is_well(&ran);
    assert!(text(&ran).contains("\nunits        3 of "), "{}", text(&ran));
}

#[test]
fn files_that_a_compiler_wrote_need_no_compiler() {
    let library = std::fs::read_dir(target_directory().join("deps")).expect("tests are built into deps");
    let library = library.filter_map(|entry| Some(entry.ok()?.path())).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libhapax-") && name.ends_with(".rlib")
    });
    let library = library.expect("this test is linked to hapax");
    let ran =
        command().env("RUSTC", "/no/such/rustc").args(["--rebuilds", "2", "--budget", "100%"]).arg(library).output();
    let ran = ran.expect("the example runs");
    assert_all_is_well(&ran);
    assert_eq!((counted(&ran, "hits"), counted(&ran, "misses")), (2, 1), "{}", text(&ran));
}

#[test]
fn a_unit_larger_than_the_budget_is_refused_and_built_uncached() {
    let ran = rebuild(&["--rebuilds", "1", "--budget", "60KiB", &format!("{UNITS}/lz.rs")]);
    assert_all_is_well(&ran);
    let refused = text(&ran).lines().find(|line| line.starts_with("refused")).map(str::to_owned);
    assert!(refused.is_some_and(|line| line.contains("lz.dev.o: oversize")), "{}", text(&ran));
}

#[test]
fn a_budget_below_every_unit_still_builds() {
    let ran = rebuild(&["--rebuilds", "1", "--budget", "1000", &format!("{UNITS}/lz.rs")]);
    assert!(ran.status.success() && text(&ran).contains("\nbytes live at the end: 0\n"), "{}", text(&ran));
    assert_eq!((counted(&ran, "hits"), counted(&ran, "evictions")), (0, 0), "{}", text(&ran));
}

#[test]
fn what_cannot_be_used_is_a_clear_error() {
    for (arguments, expected) in [
        (["/no/such/path"].as_slice(), "/no/such/path: "),
        (&[concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")], "neither a source nor a compiled file"),
        (&["--budget", "much"], "--budget is a share such as 60%"),
        (&["--budget"], "--budget needs a value"),
        (&["--device", "gpu"], "--device is host, or cuda:0 and so on"),
        (&["--frobnicate"], "no such option: --frobnicate"),
        // it needs the rest of the crate
        (&[concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs")], "nothing to cache (lib: error"),
    ] {
        let ran = rebuild(arguments);
        let error = String::from_utf8_lossy(&ran.stderr);
        assert!(!ran.status.success() && error.starts_with("rebuild: ") && error.contains(expected), "{error}");
        assert!(text(&ran).is_empty(), "{}", text(&ran));
    }
}

#[test]
fn the_host_can_be_asked_for() {
    let ran = rebuild(&["--device", "host", "--rebuilds", "1", &format!("{UNITS}/lz.rs")]);
    assert_all_is_well(&ran);
    assert!(text(&ran).contains("host memory: it was asked for"), "{}", text(&ran));
}

/// The package `cuda-suite` runs it where there is something like a card.
#[test]
fn a_card_that_cannot_be_had_is_a_clear_error() {
    let ran = rebuild(&["--device", "cuda:0", "--rebuilds", "0", &format!("{UNITS}/lz.rs")]);
    let error = String::from_utf8_lossy(&ran.stderr);
    if !cfg!(feature = "cuda") {
        assert!(!ran.status.success() && error.contains("--features cuda --example rebuild"), "{error}");
    } else if !ran.status.success() {
        assert!(error.contains("--device cuda:0: ") && error.contains("nstall"), "{error}");
    } else {
        assert_all_is_well(&ran);
    }
}

#[test]
fn without_a_compiler_it_says_what_to_install() {
    let ran = command().env("RUSTC", "/no/such/rustc").output().expect("the example runs");
    let error = String::from_utf8_lossy(&ran.stderr);
    assert!(
        !ran.status.success() && error.contains("/no/such/rustc does not run") && error.contains("rustup"),
        "{error}"
    );
}

fn rebuild(arguments: &[&str]) -> Output {
    command().args(arguments).output().expect("the example runs")
}

fn command() -> Command {
    let example = target_directory().join("examples").join(format!("rebuild{}", std::env::consts::EXE_SUFFIX));
    let advice = "run `cargo build --example rebuild` first (a plain `cargo test` does)";
    assert!(example.is_file(), "{} is missing: {advice}", example.display());
    Command::new(example)
}

/// Where cargo put this test's profile: the test itself lies in `deps` there.
fn target_directory() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    test.parent().and_then(Path::parent).expect("a test lies in target/<profile>/deps").to_path_buf()
}

fn assert_all_is_well(ran: &Output) {
    let text = text(ran);
    assert!(ran.status.success(), "{}: {text}\n{}", ran.status, String::from_utf8_lossy(&ran.stderr));
    assert!(text.contains("byte-identical to what the compiler wrote"), "{text}");
    assert!(text.contains("\nbytes live at the end: 0\n"), "{text}");
    assert!(!text.contains("FAILED"), "{text}");
}

/// The number before a word in the line of lookups.
fn counted(ran: &Output, what: &str) -> u64 {
    let text = text(ran);
    let line = text.lines().find(|line| line.starts_with("lookups")).unwrap_or_else(|| panic!("no lookups: {text}"));
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = words.windows(2).find(|pair| pair[1] == what).and_then(|pair| pair[0].parse().ok());
    number.unwrap_or_else(|| panic!("no {what}: {line}"))
}

fn text(ran: &Output) -> String {
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// The example only compiles these; here their own tests run.
#[allow(dead_code, reason = "each is a library for others, of which only the tests are used here")]
#[path = "../examples/rebuild/units"]
mod units {
    mod bignum;
    mod calculator;
    mod dominators;
    mod huffman;
    mod json;
    mod lexer;
    mod linear_scan;
    mod lz;
    mod matrix;
    mod pattern;
    mod sha256;
    mod sort;
}
