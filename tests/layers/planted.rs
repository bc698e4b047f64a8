//! Text that the rules must catch, and text that they must leave alone.

use super::*;

type Rule = fn(&[SourceFile]) -> Vec<Finding>;

const TOKEN_RULES: [Rule; 3] = [imports_that_point_up, lock_crates_outside_the_shim, unsafe_out_of_place];

#[test]
fn a_finding_names_the_line_and_both_layers() {
    let found = imports_that_point_up(&[file("src/heap/ledger.rs", "\nuse crate::cache::Cache;")]);
    let (heap, cache) = (layer_of("heap").unwrap(), layer_of("cache").unwrap());
    let expected = format!(
        "src/heap/ledger.rs:2: `heap` on layer {heap} names `crate::cache` on layer {cache}, which is above it"
    );
    assert_eq!(found.iter().map(Finding::to_string).collect::<Vec<_>>(), [expected]);
}

#[test]
fn an_upward_path_is_caught_in_every_spelling() {
    for text in [
        "use crate::cache::Cache;",
        "pub(crate) use crate::cache::Cache;",
        "use crate :: cache\n::Cache;",
        "use {std::fmt, crate::cache::Cache};",
        "use super::cache::Cache;",
        "use self::super::cache::Cache;",
        "mod inner { use super::super::cache::Cache; }",
        "mod inner { struct S {} } use super::cache::Cache;",
        "pub(in crate::cache) struct Hidden;",
        "fn peek(cache: &crate::cache::Cache) {}",
        "macro_rules! peek { () => { $crate::cache::peek() } }",
        "#[cfg(test)] use crate::cache::Cache;",
    ] {
        assert_found(imports_that_point_up, "src/heap/mod.rs", text, &[":1: `heap` on layer"]);
    }
    assert_found(imports_that_point_up, "src/heap/bytes.rs", "use super::super::cache::Cache;", &["`crate::cache`"]);
    assert_found(imports_that_point_up, "src/error.rs", "use crate::device::Device;", &["`crate::device`"]);
}

#[test]
fn a_program_has_a_root_of_its_own_and_no_unsafe_code() {
    let program = [file("src/bin/hapax/top.rs", "use crate::show;\nunsafe fn f() {}")];
    assert!(imports_that_point_up(&program).is_empty());
    assert!(!unsafe_out_of_place(&program).is_empty());
    assert!(!imports_that_point_up(&[file("src/binary.rs", "use crate::show;")]).is_empty());
}

#[test]
fn a_method_that_is_not_passed_on_is_caught() {
    let device = "/// Has `fn three`.\npub unsafe trait Device: Send {\n    fn one(&self);\n    unsafe fn two(&self) {\n    }\n}\nfn four() {}";
    assert_eq!(methods_not_passed_on(device, "fn one(&self) { self.0.one() }"), ["two"]);
    assert!(methods_not_passed_on(device, "fn one() {}\nunsafe fn two() {}").is_empty());
}

#[test]
fn every_branch_of_a_brace_group_is_read() {
    let text = "use crate::{\nerror::Error,\ncache::{policy::{Lru, Camp}, lease::Lease},\ndevice,\nhandle::{self, DevBox},\n};";
    assert_found(imports_that_point_up, "src/heap/mod.rs", text, &[":3: `heap`", ":5: `heap`"]);
    assert_found(
        imports_that_point_up,
        "src/heap/mod.rs",
        &text.replace("crate", "super"),
        &[":3: `heap`", ":5: `heap`"],
    );
}

#[test]
fn paths_that_stay_or_point_down_pass() {
    let text = "use crate::{error::Error, sync::{Mutex, Arc}};\npub(crate) use crate::device::Device;\nuse crate::heap::block::Block;\n\
                use super::{Span, cache};\nmod inner { pub(super) fn f() { super::super::grow() } }\npub(crate) struct Cache;";
    assert_found(imports_that_point_up, "src/heap/bytes.rs", text, &[]);
    assert_found(imports_that_point_up, "src/lib.rs", "mod cache;\npub use crate::cache::Cache;", &[]);
}

#[test]
fn a_module_without_a_layer_is_caught() {
    assert_found(
        imports_that_point_up,
        "src/magic.rs",
        "",
        &["magic.rs:1: LAYERS has no module `magic`: say which layer it is on"],
    );
    assert_found(
        imports_that_point_up,
        "src/cache/mod.rs",
        "use crate::magic::Wand;",
        &["LAYERS has no module `magic`"],
    );
    assert_found(
        imports_that_point_up,
        "src/cache/mod.rs",
        "use crate::Error;",
        &["import the item from its home module"],
    );
    assert_found(imports_that_point_up, "src/cache/mod.rs", "use crate::*;", &["LAYERS has no module `*`"]);
}

#[test]
fn a_lock_crate_outside_the_shim_is_caught() {
    let text = "use parking_lot::Mutex;\n#[cfg(hapax_loom)] use loom::sync::Arc;";
    assert_found(lock_crates_outside_the_shim, "src/cache/mod.rs", text, &[":1: `parking_lot`", ":2: `loom`"]);
    assert_found(lock_crates_outside_the_shim, "src/sync.rs", text, &[]);
    assert_found(lock_crates_outside_the_shim, "src/cache/mod.rs", "#[cfg(hapax_loom)] fn looms() {}", &[]);
}

#[test]
fn unsafe_out_of_place_is_caught() {
    let opening = "//! Bytes.\n#![warn(missing_docs)]\n#![expect(unsafe_code, reason = \"reads memory\")]\n";
    let code = "unsafe fn f() {}\n";
    let (unnamed, unopened) = ("that UNSAFE does not name", "does not open with");
    assert_found(unsafe_out_of_place, "src/device/cuda/mod.rs", &[opening, code].concat(), &[]);
    assert_found(unsafe_out_of_place, "src/cache/mod.rs", "#![deny(unsafe_code)]", &[]);
    assert_found(unsafe_out_of_place, "src/cache/mod.rs", &[opening, code].concat(), &[unnamed]);
    assert_found(unsafe_out_of_place, "src/cache/mod.rs", code, &[unnamed, unopened]);
    for not_opening in [
        code,
        &[code, "#[expect(unsafe_code, reason = \"\")] mod m {}"].concat(),
        &["#![expect(unsafe_code)]\n", code].concat(),
    ] {
        assert_found(unsafe_out_of_place, "src/device/mod.rs", not_opening, &[unopened]);
    }
}

#[test]
fn an_overlong_file_is_caught() {
    assert_found(overlong_files, "src/heap/mod.rs", &"\n".repeat(LINES_AT_MOST), &[]);
    assert_found(overlong_files, "src/heap/mod.rs", &"\n".repeat(LINES_AT_MOST + 1), &["a second idea"]);
}

#[test]
fn comments_and_strings_are_not_read_and_what_follows_them_is() {
    let hides = [
        "//! See [`crate::cache::Cache`], loom, unsafe.",
        "/* crate::cache /* loom */ unsafe */",
        r#"const A: &str = "\" unsafe loom crate::cache";"#,
        r##"const B: &str = r#"" unsafe loom crate::cache"#;"##,
        r#"const C: &[u8] = b"unsafe loom \\";"#,
        r#"const D: [char; 5] = ['"', '\"', '\'', '\\', 'é'];"#,
        r##"const E: (u8, &[u8]) = (b'"', br"unsafe \");"##,
        "fn f<'unsafe_, 'r>(_: &'r &'unsafe_ str) { r#loop(0..1) }",
    ];
    let follows = "unsafe { parking_lot::f(crate::cache::g) }";
    for rule in TOKEN_RULES {
        for text in hides {
            assert_found(rule, "src/heap/mod.rs", text, &[]);
            let read = rule(&[file("src/heap/mod.rs", &format!("{text}\n{follows}"))]);
            assert!(
                read.iter().any(|finding| finding.to_string().contains("mod.rs:2: ")),
                "what follows {text:?} was not read"
            );
        }
    }
}

#[test]
fn test_modules_are_left_out_only_where_they_end_the_file() {
    let code = "use crate::cache::Cache;\nfn f() { unsafe { loom::model(g) } }";
    let tests = format!("#[cfg(test)]\nmod tests {{ {code} }}\n");
    let models = format!("#[cfg(all(test, hapax_loom))]\n#[expect(unsafe_code)]\nmod loom_models {{ {code} }}\n");
    for rule in TOKEN_RULES {
        assert_found(rule, "src/heap/mod.rs", &format!("fn f() {{}}\n{tests}{models}"), &[]);
        for counted in [
            format!("{tests}fn f() {{}}"),
            tests.replace("(test)", "(any(test, hapax_loom))"),
            tests.replace("(test)", "(not(test))"),
            tests.replace("(test)", "(all(unix, not(test)))"),
        ] {
            assert!(!rule(&[file("src/heap/mod.rs", &counted)]).is_empty(), "not read: {counted}");
        }
    }
}

#[test]
fn files_declared_for_tests_are_left_out() {
    let model = || file("src/heap/model.rs", "use crate::cache::Cache; use loom::model; unsafe fn f() {}");
    for rule in TOKEN_RULES {
        assert_none(&rule(&[file("src/heap/mod.rs", "#[cfg(test)] pub(crate) mod model;"), model()]));
        assert!(!rule(&[file("src/heap/mod.rs", "mod model;"), model()]).is_empty());
    }
}

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile { path: path.to_owned(), text: text.to_owned() }
}

/// Exactly as many findings as parts, each with its part in order.
fn assert_found(rule: Rule, path: &str, text: &str, parts: &[&str]) {
    let found: Vec<String> = rule(&[file(path, text)]).iter().map(Finding::to_string).collect();
    let matches = found.len() == parts.len() && found.iter().zip(parts).all(|(finding, part)| finding.contains(part));
    assert!(matches, "in {text:?}: found {found:#?}, expected {parts:#?}");
}
