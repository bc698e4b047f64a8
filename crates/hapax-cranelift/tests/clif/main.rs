//! Cranelift's run-test format through compile, store, new process, load, run: what stored code returns is what fresh code
//! returns, bit for bit, whatever its addresses.

#[path = "../common/mod.rs"]
mod common;

mod call;
mod runner;

use common::{again, line_after};
use hapax::{CodeStore, DirectoryOptions};
use std::path::Path;
use std::sync::Arc;

#[test]
#[cfg(target_os = "linux")]
fn stored_code_returns_what_fresh_code_returned() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clif/cases");
    if std::env::var_os("HAPAX_ROLE").is_some() {
        let directory = std::env::var_os("HAPAX_DIRECTORY").unwrap();
        let options = DirectoryOptions::new("hapax-cranelift-clif").dir(directory);
        let report = runner::run_path(&cases, &Arc::new(CodeStore::open_strict(&options).unwrap()));
        // The harness has begun a line.
        println!();
        for failure in &report.failures {
            println!("FAILURE {failure}");
        }
        for (reason, count) in &report.skipped {
            println!("SKIPPED {reason}: {count}");
        }
        for result in &report.results {
            println!("CALL {result}");
        }
        println!("FUNCTIONS {}", report.functions);
        println!("COMPILES {}", report.compiles);
        println!("HITS {}", report.store_hits);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = |role| again("stored_code_returns_what_fresh_code_returned", role, folder.path());
    let (cold, warm) = (run("cold"), run("warm"));
    let lines = |output: &std::process::Output, mark: &str| -> Vec<String> {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter(|line| line.starts_with(mark)).map(str::to_owned).collect()
    };
    for output in [&cold, &warm] {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        assert_eq!(lines(output, "FAILURE"), [""; 0]);
        assert_eq!(lines(output, "SKIPPED"), [""; 0]);
    }
    let number = |output, mark| line_after(output, mark).parse::<u64>().unwrap();
    assert!(number(&cold, "FUNCTIONS ") >= 200, "{} functions", number(&cold, "FUNCTIONS "));
    assert!(number(&cold, "COMPILES ") >= 200);
    assert_eq!(number(&warm, "COMPILES "), 0, "the second process compiles nothing");
    assert_eq!(number(&warm, "HITS "), number(&cold, "COMPILES ") + number(&cold, "HITS "));
    let calls = lines(&cold, "CALL");
    assert!(calls.len() >= 400, "{} calls", calls.len());
    assert_eq!(calls, lines(&warm, "CALL"));
}
