//! What the source of this crate promises about itself.

use std::path::Path;

/// Where `unsafe` may appear; DESIGN.md says why.
const UNSAFE: &[&str] = &["memory.rs", "frames.rs", "code.rs", "imports.rs", "jit.rs", "module/mod.rs"];
const LINES_AT_MOST: usize = 550;

fn files(folder: &Path, out: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push((path.to_string_lossy().replace('\\', "/"), std::fs::read_to_string(&path).unwrap()));
        }
    }
}

fn all(folder: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut out);
    assert!(!out.is_empty(), "{folder} has no files");
    out
}

#[test]
fn unsafe_stays_where_the_table_says() {
    let mut used = Vec::new();
    for (path, text) in all("src") {
        let production = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let code = production.lines().filter(|line| !line.trim_start().starts_with("//"));
        if code
            .flat_map(|line| line.split(|letter: char| !letter.is_alphanumeric() && letter != '_'))
            .any(|word| word == "unsafe")
        {
            let place = UNSAFE.iter().find(|place| path.ends_with(&format!("src/{place}")));
            used.push(*place.unwrap_or_else(|| panic!("{path} is unsafe, and UNSAFE does not name it")));
        }
    }
    used.sort_unstable();
    let mut named = UNSAFE.to_vec();
    named.sort_unstable();
    assert_eq!(used, named, "a row of UNSAFE is idle");
}

#[test]
fn no_file_outgrows_a_reader() {
    for folder in ["src", "tests", "examples", "benches"] {
        for (path, text) in all(folder) {
            let lines = text.lines().count();
            assert!(lines <= LINES_AT_MOST, "{path} has {lines} lines: does a second idea live here?");
        }
    }
}
