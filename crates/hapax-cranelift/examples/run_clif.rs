//! Runs Cranelift run tests (`.clif` with `; run:` lines) twice, in two processes: the first compiles and stores, the second
//! loads. Says where their results differ from each other, or from what the files expect.
//!
//! ```text
//! cargo run -p hapax-cranelift --example run_clif -- path [directory of the store]
//! ```

#[path = "../tests/clif/call.rs"]
mod call;
#[path = "../tests/clif/runner.rs"]
mod runner;

use hapax::{CodeStore, DirectoryOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::sync::Arc;

fn main() {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    match &arguments[..] {
        [path] => {
            let folder = tempfile::tempdir().unwrap();
            both(path, folder.path());
        }
        [path, directory] if std::env::var_os("HAPAX_RUN_CLIF_ONCE").is_some() => once(path, directory),
        [path, directory] => both(path, directory),
        _ => {
            eprintln!("usage: run_clif path [directory of the store]");
            exit(2);
        }
    }
}

fn both(path: &Path, directory: &Path) {
    let run = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(path).arg(directory).env("HAPAX_RUN_CLIF_ONCE", "1").stderr(std::process::Stdio::inherit());
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (calls, rest): (Vec<String>, Vec<String>) =
            text.lines().map(str::to_owned).partition(|line| line.starts_with("call "));
        println!("{}", rest.join("\n"));
        (calls, output.status.success())
    };
    println!("first process");
    let (fresh, fresh_ok) = run();
    println!("second process");
    let (stored, stored_ok) = run();
    let differing: Vec<_> = fresh.iter().zip(&stored).filter(|(fresh, stored)| fresh != stored).collect();
    for (fresh, stored) in &differing {
        println!("differs\n  fresh  {fresh}\n  stored {stored}");
    }
    let same = differing.is_empty() && fresh.len() == stored.len();
    println!("{} calls, {}", fresh.len(), if same { "the same in both" } else { "DIFFERENT" });
    exit(i32::from(!(same && fresh_ok && stored_ok)));
}

fn once(path: &Path, directory: &Path) {
    let options = DirectoryOptions::new("hapax-run-clif").dir(directory);
    let store = Arc::new(CodeStore::open_strict(&options).unwrap_or_else(|error| panic!("{error}")));
    let report = runner::run_path(path, &store);
    for result in &report.results {
        println!("call {result}");
    }
    for (reason, count) in &report.skipped {
        println!("  skipped {count}: {reason}");
    }
    for failure in &report.failures {
        println!("  FAILED {failure}");
    }
    println!(
        "  {} files, {} functions, {} calls, {} failures; {} compiled, {} from the store",
        report.files,
        report.functions,
        report.results.len(),
        report.failures.len(),
        report.compiles,
        report.store_hits
    );
    exit(i32::from(!report.failures.is_empty()));
}
