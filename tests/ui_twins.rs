//! Keeps `ui-tests` honest: no case may fail to compile for another reason than the one it is there for.
//!
//! Each misuse `ui-tests/fail/X.rs` has a twin `ui-tests/pass/X.rs` that differs in one line, compiles and
//! runs. Line 1 of both announces the error, line 2 says why the misuse must not compile.
//!
//! Runs no compiler: it reads the cases and the texts that `compile_fail.rs` holds the compiler to.
#![expect(unsafe_code, reason = "some twins show where `unsafe` is asked for")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Fewer means that cases were lost.
const PAIRS_AT_LEAST: usize = 80;

/// One misuse: its source, what the compiler said of it, and the source of its twin.
struct Case {
    name: String,
    fail: String,
    stderr: String,
    pass: String,
}

/// An error or a warning in a recorded text.
struct Diagnostic<'a> {
    /// `E0382`, `lint:unused_must_use`, or the whole headline of what is neither.
    kind: String,
    /// `path:line:column` of what it is about.
    place: &'a str,
}

macro_rules! twins {
    ($($name:ident)*) => {
        const TWINS_RUN: &[&str] = &[$(stringify!($name)),*];

        $(mod $name {
            include!(concat!("../ui-tests/pass/", stringify!($name), ".rs"));

            #[test]
            fn twin_compiles_and_runs() -> Result<(), Error> {
                main()
            }
        })*
    };
}

twins! {
    buffer_read_while_downloaded
    buffer_written_while_uploaded
    bundle_with_a_stranger
    cache_ended_while_leased
    cast_to_bool
    clone_of_a_handle
    copy_of_a_handle
    device_data_implemented_outside
    double_free
    double_insert
    elements_of_bool
    elements_of_raw_pointers
    elements_of_references
    elements_of_strings
    elements_with_padding
    evicted_as_ready
    evicted_inserted_again
    evicted_on_a_stream
    export_of_evicted
    filler_without_a_value
    forged_state
    free_of_exported
    free_through_a_lease
    free_while_in_flight
    ignored_evictions
    ignored_export
    ignored_free
    ignored_handle
    ignored_landed
    ignored_lease
    ignored_miss
    ignored_removed
    ignored_reservation
    ignored_returned
    insert_of_uninit
    insert_while_in_flight
    kernel_outlives_its_module
    launch_without_unsafe
    lease_in_a_spawned_thread
    lease_outlives_its_cache
    linear_cloned_proof
    linear_double_free
    linear_evicted_kept_for_the_next
    linear_evicted_leaked
    linear_evictions_leaked
    linear_forged_proof
    linear_free_while_in_flight
    linear_handle_escapes
    linear_handle_swapped_out
    linear_leaked_by_drop
    linear_leaked_by_forget
    linear_leaked_by_let_underscore
    linear_leaked_by_overwriting
    linear_leaked_by_question_mark
    linear_leaked_on_one_branch
    linear_leaked_on_return
    linear_leaked_when_refused
    linear_moved_out_of_its_wrapper
    linear_proof_escapes
    linear_proof_used_twice
    linear_refusal_by_question_mark
    linear_spent_in_a_loop
    linear_wrong_brand
    move_out_of_a_lease
    mutable_view_beside_a_shared_one
    number_as_kernel_memory
    parent_view_beside_its_slice
    read_of_uninit
    read_while_in_flight
    reclaim_without_unsafe
    reservation_used_twice
    resident_implemented_outside
    sealed_method_called
    state_implemented_outside
    state_of_ones_own
    stream_dropped_while_leased
    two_mutable_views
    upload_into_ready
    use_after_close
    use_after_free
    use_after_insert
    use_after_upload
    vacancy_filled_twice
    vacancy_in_another_thread
    view_outlives_its_handle
    view_outlives_its_lease
    write_through_a_shared_view
    written_on_without_unsafe
}

#[test]
fn each_misuse_differs_from_its_twin_in_the_line_that_the_compiler_refuses() {
    let cases: Vec<Case> = stems("fail", ".rs").iter().map(|name| read(name)).collect();
    assert_none(cases.iter().flat_map(|case| faults(case).into_iter().map(|fault| format!("{}: {fault}", case.name))));
    assert!(cases.len() >= PAIRS_AT_LEAST, "{} pairs, at least {PAIRS_AT_LEAST}", cases.len());
}

#[test]
fn no_file_is_without_its_counterparts() {
    let twins_run: BTreeSet<String> = TWINS_RUN.iter().map(|&name| name.to_owned()).collect();
    let fail = stems("fail", ".rs");
    assert_none(orphans("fail/*.rs", &fail, "pass/*.rs", &stems("pass", ".rs")));
    assert_none(orphans("fail/*.rs", &fail, "fail/*.stderr", &stems("fail", ".stderr")));
    assert_none(orphans("fail/*.rs", &fail, "twins!", &twins_run));
}

/// What is wrong with a pair; nothing if it shows what it announces.
fn faults(case: &Case) -> Vec<String> {
    let mut faults = Vec::new();
    let (fail, pass): (Vec<&str>, Vec<&str>) = (case.fail.lines().collect(), case.pass.lines().collect());
    let announced = fail.first().and_then(|line| line.strip_prefix("// expect: "));
    if announced.is_none() {
        faults.push("line 1 is not `// expect: <error code or lint:name>`".to_owned());
    }
    if !fail.get(1).is_some_and(|line| line.starts_with("// ") && line.ends_with('.')) {
        faults.push("line 2 does not say in a sentence why this must not compile".to_owned());
    }
    if fail.len() != pass.len() {
        faults.push(format!("{} lines, its twin has {}", fail.len(), pass.len()));
        return faults;
    }
    let differing: Vec<usize> =
        (1..).zip(fail.iter().zip(&pass)).filter(|(_, (f, p))| f != p).map(|(at, _)| at).collect();
    let &[line] = differing.as_slice() else {
        faults.push(format!("differs from its twin in the lines {differing:?}, not in one"));
        return faults;
    };
    let diagnostics = diagnostics(&case.stderr);
    if diagnostics.is_empty() {
        faults.push("no error was recorded".to_owned());
    }
    for Diagnostic { kind, place } in diagnostics {
        if Some(kind.as_str()) != announced {
            faults.push(format!("fails with `{kind}`, but announces `{}`", announced.unwrap_or_default()));
        }
        if !place.starts_with(&format!("ui-tests/fail/{}.rs:{line}:", case.name)) {
            faults.push(format!("differs from its twin in line {line}, but the compiler points at {place}"));
        }
    }
    for path in machine_paths(&case.stderr) {
        faults.push(format!("the recorded text names a path of a machine: {path}"));
    }
    faults
}

/// The errors and warnings of a recorded text, in order.
fn diagnostics(stderr: &str) -> Vec<Diagnostic<'_>> {
    let mut found: Vec<Diagnostic> = Vec::new();
    for line in stderr.lines() {
        let headline = line.starts_with("error") || line.starts_with("warning");
        if headline {
            let code = line.strip_prefix("error[").and_then(|rest| rest.split(']').next());
            let lint = line.starts_with("error: unused") && line.ends_with("that must be used");
            let kind = if lint { "lint:unused_must_use" } else { code.unwrap_or(line) };
            found.push(Diagnostic { kind: kind.to_owned(), place: "" });
        } else if let (Some(last), Some(place)) = (found.last_mut(), line.trim_start().strip_prefix("--> ")) {
            if last.place.is_empty() {
                last.place = place;
            }
        }
    }
    found
}

/// Absolute paths, which trybuild replaces by `$DIR`, `$RUST` and the like where it knows them.
fn machine_paths(stderr: &str) -> impl Iterator<Item = &str> {
    let lines = stderr.lines().map(str::trim_start);
    let places = lines.filter_map(|line| line.strip_prefix("--> ").or_else(|| line.strip_prefix("::: ")));
    places.filter(|place| place.starts_with('/') || place.contains(":\\"))
}

/// Names that one side has and the other lacks.
fn orphans(here: &str, in_here: &BTreeSet<String>, there: &str, in_there: &BTreeSet<String>) -> Vec<String> {
    let missing = |name: &String, side: &str| format!("{name}: not in {side}");
    let not_there = in_here.difference(in_there).map(|name| missing(name, there));
    let not_here = in_there.difference(in_here).map(|name| missing(name, here));
    not_there.chain(not_here).collect()
}

fn read(name: &str) -> Case {
    let text = |file: String| fs::read_to_string(ui_tests().join(file)).unwrap_or_default();
    Case {
        fail: text(format!("fail/{name}.rs")),
        stderr: text(format!("fail/{name}.stderr")),
        pass: text(format!("pass/{name}.rs")),
        name: name.to_owned(),
    }
}

fn stems(side: &str, suffix: &str) -> BTreeSet<String> {
    let files = fs::read_dir(ui_tests().join(side)).unwrap().map(|file| file.unwrap().file_name());
    files.filter_map(|file| Some(file.to_str()?.strip_suffix(suffix)?.to_owned())).collect()
}

fn ui_tests() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/ui-tests"))
}

fn assert_none(faults: impl IntoIterator<Item = String>) {
    let faults: Vec<String> = faults.into_iter().collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// The checker catches what it is there for: each test plants one violation in a sound pair.
mod planted {
    use super::{Case, faults, orphans};

    fn sound() -> Case {
        let body =
            |line: &str| format!("// expect: E0382\n// Freed once.\nfn main() {{\n    a.free();\n    {line}\n}}\n");
        Case {
            name: "double_free".to_owned(),
            fail: body("a.free();"),
            stderr: "error[E0382]: use of moved value: `a`\n --> ui-tests/fail/double_free.rs:5:5\n  |\n\
                     note: `free` takes ownership\n --> src/handle/mod.rs\n"
                .to_owned(),
            pass: body("b.free();"),
        }
    }

    /// The only fault found after `plant`.
    #[track_caller]
    fn only_fault(plant: impl FnOnce(&mut Case)) -> String {
        let mut case = sound();
        plant(&mut case);
        let mut faults = faults(&case);
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults.remove(0)
    }

    #[test]
    fn a_sound_pair_passes() {
        assert_eq!(faults(&sound()), [""; 0]);
    }

    #[test]
    fn twins_that_do_not_differ_are_caught() {
        assert!(only_fault(|case| case.pass = case.fail.clone()).contains("lines [], not in one"));
    }

    #[test]
    fn twins_that_differ_in_two_lines_are_caught() {
        let fault = only_fault(|case| case.pass = case.pass.replace("a.free()", "c.free()"));
        assert!(fault.contains("lines [4, 5], not in one"));
    }

    #[test]
    fn twins_of_different_length_are_caught() {
        assert!(only_fault(|case| case.pass.push_str("// more\n")).contains("6 lines, its twin has 7"));
    }

    #[test]
    fn an_error_of_another_kind_is_caught() {
        let fault = only_fault(|case| case.stderr = case.stderr.replace("E0382", "E0599"));
        assert!(fault.contains("fails with `E0599`, but announces `E0382`"));
    }

    #[test]
    fn a_second_error_of_another_kind_is_caught() {
        let second = "\nerror[E0425]: cannot find value `b`\n --> ui-tests/fail/double_free.rs:5:5\n";
        assert!(only_fault(|case| case.stderr.push_str(second)).contains("fails with `E0425`"));
    }

    #[test]
    fn an_error_without_a_code_is_caught() {
        let fault =
            only_fault(|case| case.stderr = case.stderr.replace("error[E0382]: use", "error: expected `;`, found use"));
        assert!(fault.contains("fails with `error: expected `;`"));
    }

    #[test]
    fn a_warning_beside_the_error_is_caught() {
        let warning = "\nwarning: unused variable: `b`\n --> ui-tests/fail/double_free.rs:5:5\n";
        assert!(only_fault(|case| case.stderr.push_str(warning)).contains("fails with `warning: unused variable"));
    }

    #[test]
    fn an_ignored_value_counts_as_its_lint_and_as_no_other() {
        let mut case = sound();
        case.stderr = "error: unused `DevBox` that must be used\n --> ui-tests/fail/double_free.rs:5:5\n".to_owned();
        assert_eq!(faults(&case), ["fails with `lint:unused_must_use`, but announces `E0382`"]);
        let announce = |text: &str| text.replace("E0382", "lint:unused_must_use");
        (case.fail, case.pass) = (announce(&case.fail), announce(&case.pass));
        assert_eq!(faults(&case), [""; 0]);
    }

    #[test]
    fn an_error_in_another_line_is_caught() {
        let fault = only_fault(|case| case.stderr = case.stderr.replace("rs:5:5", "rs:4:5"));
        assert!(fault.contains("differs from its twin in line 5, but the compiler points at"));
    }

    #[test]
    fn an_error_in_another_file_is_caught() {
        let fault =
            only_fault(|case| case.stderr = case.stderr.replace("ui-tests/fail/double_free.rs:5:5", "src/lib.rs:5:5"));
        assert!(fault.contains("points at src/lib.rs"));
    }

    #[test]
    fn a_case_without_a_recorded_error_is_caught() {
        assert_eq!(only_fault(|case| case.stderr.clear()), "no error was recorded");
    }

    #[test]
    fn a_case_that_announces_nothing_is_caught() {
        let mut case = sound();
        let silence = |text: &str| text.replace("// expect: E0382", "// fails");
        (case.fail, case.pass) = (silence(&case.fail), silence(&case.pass));
        assert_eq!(faults(&case)[0], "line 1 is not `// expect: <error code or lint:name>`");
    }

    #[test]
    fn a_case_that_gives_no_reason_is_caught() {
        let fault = only_fault(|case| {
            for text in [&mut case.fail, &mut case.pass] {
                *text = text.replace("// Freed once.", "");
            }
        });
        assert!(fault.contains("line 2 does not say"));
    }

    #[test]
    fn a_path_of_a_machine_is_caught() {
        let fault = only_fault(|case| case.stderr = case.stderr.replace("--> src", "--> /somewhere/src"));
        assert!(fault.contains("names a path of a machine: /somewhere/src/handle/mod.rs"));
    }

    #[test]
    fn orphans_of_both_sides_are_caught() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let found = orphans("fail", &names(&["a", "b"]), "pass", &names(&["b", "c"]));
        assert_eq!(found, ["a: not in pass", "c: not in fail"]);
    }
}
