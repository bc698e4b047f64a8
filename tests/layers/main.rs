//! What the source tree promises about itself: no import points up a layer, `unsafe` and the lock
//! crates stay where they belong, and no file outgrows a reader.
//!
//! Knows tokens, not types: it reads the text of every file, skips comments and string literals, and
//! follows paths that start at the crate root. Test code may name anything: the `#[cfg(test)]`
//! modules that end a file, and files declared as `#[cfg(test)] mod name;`, count for length alone.

mod paths;
mod planted;
mod source;

use paths::{names_after_the_root, opens_with_expect_unsafe, production_files};
use source::{Finding, SourceFile, rust_files};

/// The modules of the crate root by layer, lowest first. A file may name its own layer and those
/// before it; `lib.rs` stands on top and may name all.
const LAYERS: &[&[&str]] = &[
    &["error", "observe", "stats", "sync", "suballoc"],
    &["device", "persist"],
    &["heap", "code", "hints"],
    &["handle"],
    &["cache"],
    &["linear", "nvrtc", "warm"],
];

/// Programs: crates of their own, which see the library's public interface and nothing else. What they name after their root is
/// theirs.
const PROGRAMS: &str = "src/bin/";

/// Named in one file, so that a model checker can stand in for the locks everywhere at once.
const LOCK_CRATES: &[&str] = &["parking_lot", "loom"];
const LOCK_FILE: &str = "src/sync.rs";

/// Where `unsafe` may appear, and why. A place that ends in `/` covers the folder.
#[rustfmt::skip]
const UNSAFE: &[(&str, &str)] = &[
    ("src/sync/raw.rs", "the trait of locks is unsafe: an implementation promises that one holder at a time gets in"),
    ("src/device/", "`Device` is an unsafe trait: each implementation argues its own case"),
    ("src/heap/bytes.rs", "reads and writes the memory behind a block"),
    ("src/heap/page_locked.rs", "owns host buffers that the device allocated"),
    ("src/heap/staging.rs", "copies between device memory and chunks that it owns"),
    ("src/heap/outside.rs", "loads modules, and gives them and foreign memory back"),
    ("src/handle/cuda.rs", "takes raw parts from cudarc and gives them back; cudarc's trait for arguments is unsafe"),
    ("src/handle/launch.rs", "`launch` believes its caller about the kernel"),
    ("src/handle/module.rs", "looks kernels up in modules that a borrow keeps loaded"),
    ("src/cache/slot.rs", "slots are read without the lock by whoever has leased them"),
    ("src/cache/front/mod.rs", "reads a slot that it has leased"),
    ("src/cache/published.rs", "reads the current one of values that live as long as their owner"),
    ("src/cache/cuda.rs", "cudarc's trait for launch arguments is unsafe"),
    ("src/handle/export.rs", "`reclaim` believes the raw parts it is given"),
    ("src/nvrtc/library.rs", "calls the foreign functions of NVRTC"),
    ("src/linear/transfer.rs", "`written_on` believes the same inside a scope"),
    ("src/handle/transfer.rs", "`written_on` believes that a kernel has filled the block"),
];

/// The device trait, and the devices that stand in front of another. A method with a default that one of them does not
/// pass on is lost: so was the question whether a stream is being captured.
const DEVICE_TRAIT: &str = "src/device/mod.rs";
const IN_FRONT_OF_ANOTHER: &[&str] = &["src/device/fault.rs", "crates/cuda-suite/tests/device/bytewise.rs"];

/// A file above this holds a second idea.
const LINES_AT_MOST: usize = 550;
const MEASURED_FOLDERS: &[&str] = &["src", "tests", "examples", "benches"];

#[test]
fn no_import_points_up() {
    assert_none(&imports_that_point_up(&rust_files("src")));
}

#[test]
fn only_the_shim_names_the_lock_crates() {
    assert_none(&lock_crates_outside_the_shim(&rust_files("src")));
}

#[test]
fn unsafe_stays_where_the_table_says() {
    assert_none(&unsafe_out_of_place(&rust_files("src")));
}

#[test]
fn no_file_outgrows_a_reader() {
    let files: Vec<SourceFile> = MEASURED_FOLDERS.iter().flat_map(|folder| rust_files(folder)).collect();
    assert_none(&overlong_files(&files));
}

#[test]
fn a_device_in_front_of_another_passes_every_method_on() {
    let text = |path| std::fs::read_to_string(path).unwrap_or_else(|problem| panic!("{path}: {problem}"));
    let trait_text = text(DEVICE_TRAIT);
    for path in IN_FRONT_OF_ANOTHER {
        let missing = methods_not_passed_on(&trait_text, &text(path));
        assert!(missing.is_empty(), "{path} does not pass on {missing:?}");
    }
}

/// Also shows that the walk found the files at all.
#[test]
fn no_row_of_the_layer_table_is_idle() {
    let files = rust_files("src");
    for module in LAYERS.concat() {
        let exists = files.iter().any(|file| file.module().first() == Some(&module));
        assert!(exists, "LAYERS names `{module}`, which has no file: remove it");
    }
}

#[test]
fn no_row_of_the_unsafe_table_is_idle() {
    let files = rust_files("src");
    for (place, reason) in UNSAFE {
        let used = production_files(&files)
            .any(|(file, tokens)| covers(place, &file.path) && tokens.iter().any(|token| token.text == "unsafe"));
        assert!(used, "UNSAFE names `{place}` ({reason}), and nothing there is unsafe: remove the row");
    }
}

fn imports_that_point_up(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, tokens) in production_files(files).filter(|(file, _)| !covers(PROGRAMS, &file.path)) {
        let module = file.module();
        let Some(&home) = module.first() else {
            continue;
        };
        let Some(layer) = layer_of(home) else {
            findings.push(file.finding(1, format!("LAYERS has no module `{home}`: say which layer it is on")));
            continue;
        };
        for (line, name) in names_after_the_root(&tokens, &module) {
            match layer_of(name) {
                None => findings.push(file.finding(
                    line,
                    format!("LAYERS has no module `{name}`: say which layer it is on, or import the item from its home module"),
                )),
                Some(named) if named > layer => findings.push(file.finding(
                    line,
                    format!("`{home}` on layer {layer} names `crate::{name}` on layer {named}, which is above it"),
                )),
                Some(_) => {}
            }
        }
    }
    findings
}

fn lock_crates_outside_the_shim(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, tokens) in production_files(files).filter(|(file, _)| file.path != LOCK_FILE) {
        for token in tokens.iter().filter(|token| LOCK_CRATES.contains(&token.text)) {
            findings.push(
                file.finding(token.line, format!("`{}` belongs in {LOCK_FILE} alone: use `crate::sync`", token.text)),
            );
        }
    }
    findings
}

fn unsafe_out_of_place(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, tokens) in production_files(files) {
        let Some(first) = tokens.iter().find(|token| token.text == "unsafe") else {
            continue;
        };
        if !UNSAFE.iter().any(|(place, _)| covers(place, &file.path)) {
            findings.push(file.finding(first.line, "`unsafe` in a file that UNSAFE does not name".to_owned()));
        }
        if !opens_with_expect_unsafe(&tokens) {
            let what = "`unsafe` in a file that does not open with `#![expect(unsafe_code, reason = \"..\")]`";
            findings.push(file.finding(first.line, what.to_owned()));
        }
    }
    findings
}

fn methods_not_passed_on(trait_text: &str, device_text: &str) -> Vec<String> {
    let (_, body) = trait_text.split_once("pub unsafe trait Device").expect("the trait is there");
    let (body, _) = body.split_once("\n}").expect("it ends");
    let defined: Vec<String> = methods(device_text);
    methods(body).into_iter().filter(|name| !defined.contains(name)).collect()
}

/// The names behind each `fn`.
fn methods(text: &str) -> Vec<String> {
    let tokens = source::tokens(text);
    tokens.windows(2).filter(|pair| pair[0].text == "fn").map(|pair| pair[1].text.to_owned()).collect()
}

fn overlong_files(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        let lines = file.text.lines().count();
        if lines > LINES_AT_MOST {
            findings.push(
                file.finding(lines, format!("{LINES_AT_MOST} lines are the most: does a second idea live here?")),
            );
        }
    }
    findings
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

fn covers(place: &str, path: &str) -> bool {
    path == place || (place.ends_with('/') && path.starts_with(place))
}

fn assert_none(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}
