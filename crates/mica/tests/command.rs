//! The command, as a person runs it, and its processes with what can happen to them and to their cache.

use mica::kernels::cuda;
use mica::program::Program;
use mica::session::Findings;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Enough functions for a start to be felt, and few enough for a test.
const PROGRAMS: &[&str] = &["calculator", "regex", "mandelbrot"];

fn mica(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mica")).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn child(cache: &Path, more: &[&str]) -> Findings {
    let output = Command::new(env!("CARGO_BIN_EXE_mica"))
        .args(["--child", "--device", "host", "--cache"])
        .arg(cache)
        .args(more)
        .args(PROGRAMS)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let mut findings = Findings::default();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        findings.read(line).unwrap_or_else(|| panic!("{line}"));
    }
    findings
}

fn results(findings: &Findings) -> Vec<(i64, u64)> {
    findings.results.iter().map(|result| (result.value, result.output)).collect()
}

#[test]
fn cold_warm_hints_alone_and_the_interpreter_agree() {
    let mut arguments = vec!["--device", "host"];
    arguments.extend(PROGRAMS);
    let output = mica(&arguments);
    assert!(output.status.success(), "{}", text(&output));
    let text = text(&output);
    for name in ["first run", "hints alone", "warm"] {
        assert!(text.contains(&format!("check        {name}: 3 results")), "{text}");
    }
    assert!(text.contains("first result warm takes") && !text.contains("FAILED"), "{text}");
    assert!(!text.contains('\r') && !text.contains('\x1b'), "progress is for terminals: {text}");
}

#[test]
fn a_warm_process_compiles_nothing_and_what_is_off_stays_off() {
    let cache = tempfile::tempdir().unwrap();
    // Within it the second program finds what both import, so it is not without hits and hints.
    let cold = child(cache.path(), &[]);
    assert!(cold.count("compiles") > 100 && cold.count("store hits") < cold.count("compiles") / 2, "{cold:?}");
    let warm = child(cache.path(), &[]);
    assert_eq!((warm.count("compiles"), warm.count("store hits")), (0, warm.count("hinted")));
    assert!(warm.count("hinted") >= warm.count("needed") && warm.count("hinted") > cold.count("hinted"), "{warm:?}");
    assert_eq!(warm.count("needed"), cold.count("needed"));
    let unhinted = child(cache.path(), &["--hints", "off"]);
    assert_eq!((unhinted.count("compiles"), unhinted.count("hinted")), (0, 0));
    let unstored = child(cache.path(), &["--store", "off"]);
    assert!(unstored.count("compiles") >= cold.count("compiles") && unstored.count("stored bytes") == 0);
    let interpreted = child(cache.path(), &["--interpret"]);
    for other in [&warm, &unhinted, &unstored, &interpreted] {
        assert_eq!(results(other), results(&cold));
    }
}

#[test]
fn resident_artifacts_stay_within_their_budget() {
    let cache = tempfile::tempdir().unwrap();
    let cold = child(cache.path(), &["--budget", "64KiB"]);
    for findings in [&cold, &child(cache.path(), &["--budget", "64KiB"])] {
        assert_eq!(findings.count("resident budget"), 64 << 10);
        assert!(findings.count("resident bytes") <= 64 << 10);
        assert!(findings.count("evictions") > 0, "{findings:?}");
        assert_eq!(results(findings), results(&cold));
    }
    assert_eq!(child(cache.path(), &["--budget", "64MiB"]).count("evictions"), 0);
}

#[test]
fn a_first_run_that_is_killed_leaves_a_usable_cache() {
    let cache = tempfile::tempdir().unwrap();
    let mut first = Command::new(env!("CARGO_BIN_EXE_mica"))
        .args(["--child", "--device", "host", "--cache"])
        .arg(cache.path())
        .args(PROGRAMS)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Its first result: the code of that program is stored, and it is at the next one.
    let mut line = String::new();
    BufReader::new(first.stdout.take().unwrap()).read_line(&mut line).unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    let next = child(cache.path(), &[]);
    assert!(next.count("store hits") > 50 && next.count("compiles") > 0, "{next:?}");
    let fresh = tempfile::tempdir().unwrap();
    assert_eq!(results(&next), results(&child(fresh.path(), &[])));
    assert_eq!(child(cache.path(), &[]).count("compiles"), 0);
}

#[test]
fn a_damaged_cache_costs_time_and_nothing_else() {
    let cache = tempfile::tempdir().unwrap();
    let cold = child(cache.path(), &[]);
    let mut damaged = 0;
    let mut folders = vec![cache.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let mut bytes = std::fs::read(entry.path()).unwrap();
            bytes.iter_mut().skip(64).step_by(97).for_each(|byte| *byte ^= 0x55);
            damaged += bytes.len();
            std::fs::write(entry.path(), bytes).unwrap();
        }
    }
    assert!(damaged > 100_000, "{damaged} bytes are not what was stored");
    let next = child(cache.path(), &[]);
    assert!(next.count("compiles") > 50, "{next:?}");
    assert_eq!(results(&next), results(&cold));
}

#[test]
fn the_starts_of_each_program_are_compared() {
    let output = mica(&["--starts", "--rounds", "1", "--device", "host", "calculator", "digest"]);
    assert!(output.status.success(), "{}", text(&output));
    let text = text(&output);
    for program in ["calculator", "digest"] {
        let row = text.lines().find(|line| line.starts_with(program)).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(row.matches("x (").count(), 2, "{text}");
    }
}

#[test]
fn the_ablation_shows_hints_on_and_off() {
    let output = mica(&["--ablation", "--rounds", "1", "calculator"]);
    let text = text(&output);
    assert!(output.status.success() && text.contains("all results, wall") && text.contains("hints made"), "{text}");
}

#[test]
fn a_program_runs_as_in_any_language_and_its_problems_have_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    write("greeting.mica", "fn greeting() -> [int] { return \"hello\"; }");
    let good = write("good.mica", "import \"greeting\";\nfn main() -> int { print(greeting()); return 0; }");
    let cache = folder.path().join("cache").display().to_string();
    for _ in 0..2 {
        let output = mica(&["--run", "--cache", &cache, &good]);
        assert!(output.status.success() && text(&output) == "hello\n", "{}", text(&output));
    }
    let bad = write("bad.mica", "fn main() -> int {\n  return 1 +;\n}");
    let failing = write("failing.mica", "fn main() -> int {\n  print(1);\n  return [1][1];\n}");
    for (program, expected) in [
        (
            bad.as_str(),
            format!("mica: {bad}:2:13: expected an expression, found `;`\n    return 1 +;\n              ^\n"),
        ),
        (
            &failing,
            format!(
                "1\nmica: {failing}:3:13: the index lies outside of the array\n    return [1][1];\n              ^\n"
            ),
        ),
        ("no/such.mica", "mica: no/such.mica: No such file or directory (os error 2)\n".to_owned()),
    ] {
        let output = mica(&["--run", "--cache", &cache, program]);
        assert!(!output.status.success());
        assert_eq!(text(&output), expected);
        // The comparison says the same.
        let output = mica(&["--device", "host", program]);
        assert!(!output.status.success());
        assert!(text(&output).contains(expected.trim_start_matches("1\n")), "{}", text(&output));
    }
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for (arguments, expected) in [
        (["--frobnicate"].as_slice(), "no such option: --frobnicate; try --help"),
        (&["--budget"], "--budget needs a value; try --help"),
        (&["--budget", "much"], "--budget is a number of bytes such as"),
        (&["--hints", "maybe"], "--hints is on or off, not maybe"),
        (&["--threads", "1000"], "--threads is a number from 0 to 256"),
    ] {
        let output = mica(arguments);
        assert!(!output.status.success() && text(&output).starts_with("mica: "), "{}", text(&output));
        assert!(text(&output).contains(expected), "{}", text(&output));
    }
    let help = mica(&["--help"]);
    assert!(help.status.success() && text(&help).contains("usage: cargo run --release -p mica"));
}

/// Without a card; `mica` itself compares with the processor where there is one.
#[test]
#[cfg(feature = "nvrtc")]
fn kernels_are_compiled_once_where_there_is_a_compiler() {
    let output = mica(&["--device", "host", "mandelbrot"]);
    let text = text(&output);
    assert!(output.status.success() && text.contains("\nkernels      run on "), "{text}");
    if text.contains("NVRTC, which compiles kernels that are not in the store, was not found") {
        assert!(std::env::var_os("HAPAX_REQUIRE_NVRTC").is_none(), "{text}");
        println!("skipped: there is no NVRTC here");
        return;
    }
    assert!(text.contains("launches; ") || text.contains("2 kernels, ") && text.contains("NVRTC not loaded"), "{text}");
}

#[test]
fn what_no_card_can_run_is_told() {
    for (kernel, expected) in [
        ("kernel k(i: int) { let a = [i; 3]; }", "`k` allocates memory"),
        ("struct P { x: int } kernel k(i: int, p: P) { p.x = i; }", "`k` uses a struct, or an array of arrays"),
        ("kernel k(i: int) { print(i); }", "`k` calls mica_print_int, which only the processor has"),
        ("fn f() -> float { return sin(1.0); } kernel k(i: int, a: [float]) { a[i] = f(); }", "`f` calls mica_sin"),
    ] {
        let program = Program::load_parts("k.mica", kernel.to_owned(), &|_| None).unwrap();
        let refused = cuda::source(&program, program.function("k").unwrap()).unwrap_err();
        assert!(refused.starts_with(expected), "{refused}");
    }
}

#[test]
fn the_readme_names_this_command_first() {
    let readme = include_str!("../../../README.md");
    let commands = readme.split("## Two commands").nth(1).unwrap();
    let first = commands.lines().find(|line| line.starts_with("cargo ")).unwrap();
    assert!(first.starts_with("cargo run --release -p mica "), "{first}");
}
