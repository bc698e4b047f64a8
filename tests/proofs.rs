//! The golden files are what the proofs say: compiles the proofs, checks that they rest on no axiom, extracts the oracle and compares what
//! it writes with `tests/golden`, on which `src/golden` relies.
//!
//! Needs Coq, and skips without it; `HAPAX_REQUIRE_COQ=1` makes its absence a failure.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn the_golden_files_are_what_the_proofs_say() {
    if Command::new("coqc").arg("--version").output().is_err() {
        assert!(std::env::var_os("HAPAX_REQUIRE_COQ").is_none(), "HAPAX_REQUIRE_COQ is set, and there is no coqc");
        println!("skipped: there is no coqc; Debian has it as `coq`");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // A copy, so that the checkout stays as it is.
    let copy = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("proofs");
    let _ = fs::remove_dir_all(&copy);
    copy_sources(&root.join("proofs"), &copy);
    let written = copy.join("golden");
    let make = Command::new("make")
        .arg("-C")
        .arg(&copy)
        .arg(format!("GOLDEN={}", written.display()))
        .args(["-j2", "check", "golden"])
        .output()
        .expect("make runs");
    let (out, err) = (String::from_utf8_lossy(&make.stdout), String::from_utf8_lossy(&make.stderr));
    assert!(make.status.success(), "make check golden: {}\n{out}\n{err}", make.status);
    assert!(out.contains("headline theorems are closed") && out.contains("no file holds an axiom"), "{out}");

    let (committed, written) = (files(&root.join("tests/golden")), files(&written));
    assert!(!written.is_empty());
    assert_eq!(committed.keys().collect::<Vec<_>>(), written.keys().collect::<Vec<_>>(), "run `make -C proofs golden`");
    for (name, text) in &written {
        assert!(
            committed[name] == *text,
            "tests/golden/{} is not what the proofs say: run `make -C proofs golden`",
            name.display()
        );
    }
}

fn copy_sources(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("oracle")).expect("the target folder is ours");
    for folder in ["", "oracle"] {
        for entry in fs::read_dir(from.join(folder)).expect("proofs are part of the repository") {
            let path = entry.expect("the folder can be read").path();
            let name = path.file_name().expect("an entry has a name");
            let is_source = path.extension().is_some_and(|extension| extension == "v" || extension == "ml");
            if is_source || name == "Makefile" {
                fs::copy(&path, to.join(folder).join(name)).expect("the target folder is ours");
            }
        }
    }
}

fn files(folder: &Path) -> BTreeMap<PathBuf, String> {
    let entries = fs::read_dir(folder).expect("golden files");
    let read =
        |path: PathBuf| (PathBuf::from(path.file_name().expect("a name")), fs::read_to_string(&path).expect("text"));
    entries.map(|entry| read(entry.expect("the folder can be read").path())).collect()
}
