//! The command line, the exit codes, and where a store is looked for.

use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const COMMANDS: [&str; 8] = ["stats", "top", "verify", "gc", "clear", "export", "import", "report"];

#[test]
fn every_command_explains_itself_with_examples() {
    for name in COMMANDS {
        let ran = ran(command().args([name, "--help"]).output());
        assert!(ran.code == 0 && ran.stdout.contains(&format!("hapax {name} my-compiler")), "{ran:?}");
        assert!(ran.stdout.contains("Examples:") && ran.stdout.contains("--json"), "{ran:?}");
    }
    let ran = ran(command().arg("--help").output());
    assert!(COMMANDS.iter().all(|name| ran.stdout.contains(&format!("\n  {name} "))), "{ran:?}");
    assert!(ran.stdout.contains("Exit codes:") && ran.stdout.contains("HAPAX_CACHE_DIR"), "{ran:?}");
}

#[test]
fn a_command_line_that_makes_no_sense_exits_with_2() {
    for arguments in [
        &[][..],
        &["polish"],
        &["stats"],
        &["stats", "a", "b"],
        &["stats", "../escape"],
        &["stats", "app", "--budget", "lots"],
        &["top", "app", "-n", "-1"],
        &["clear", "app", "--only", "ir"],
        &["export", "app"],
        &["stats", "app", "--no-such-option"],
    ] {
        let ran = ran(command().args(arguments).output());
        assert!(ran.code == 2 && !ran.stderr.is_empty() && ran.stdout.is_empty(), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn a_store_that_is_not_there_exits_with_3_and_is_not_made() {
    let site = Site::empty();
    for name in COMMANDS.into_iter().filter(|name| *name != "import") {
        let pack = site.root().join("pack");
        let last = if name == "export" { vec![name, pack.to_str().unwrap()] } else { vec![name] };
        let ran = site.run(&last);
        assert!(ran.code == 3 && ran.stderr.contains("there is no store of \"test-compiler\""), "{name}: {ran:?}");
    }
    assert_eq!(fs::read_dir(site.root()).unwrap().count(), 0);
}

#[test]
fn a_wrong_name_is_answered_with_the_names_that_are_there() {
    let site = Site::furnished();
    let ran = ran(command().args(["stats", "test-compilr", "--dir"]).arg(site.root()).output());
    assert!(ran.code == 3 && ran.stderr.contains("there are stores of test-compiler"), "{ran:?}");
}

#[test]
fn a_program_gets_an_object_also_for_a_failure() {
    let ran = Site::empty().run(&["stats", "--json"]);
    assert_eq!(ran.code, 3);
    assert!(ran.json()["error"].as_str().unwrap().contains("there is no store"));
}

#[test]
fn a_store_that_others_can_write_to_is_not_trusted() {
    let site = Site::furnished();
    let folder = site.files("code", ".seg")[0].parent().unwrap().to_owned();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    for name in ["stats", "clear"] {
        let ran = site.run(&[name]);
        assert!(ran.code == 3 && ran.stderr.contains("can be written by others"), "{ran:?}");
    }
}

#[test]
fn the_environment_says_where_and_dir_overrides_it() {
    let site = Site::furnished();
    let nowhere = Site::empty();
    let run = |variables: &[(&str, &Path)], arguments: &[&str]| {
        let mut command = command();
        command.args(["stats", NAME, "--json"]).args(arguments).envs(variables.iter().copied());
        ran(command.output()).code
    };
    assert_eq!(run(&[("HAPAX_CACHE_DIR", site.root())], &[]), 0);
    assert_eq!(run(&[("HAPAX_CACHE_DIR", nowhere.root())], &[]), 3);
    assert_eq!(run(&[("HAPAX_CACHE_DIR", nowhere.root())], &["--dir", site.root().to_str().unwrap()]), 0);
    assert_eq!(run(&[], &[]), 3, "no home");
    let cache = tempfile::tempdir().unwrap();
    let options = DirectoryOptions::new(NAME).dir(cache.path().join("hapax"));
    drop(DirectoryStore::open_strict(&options).unwrap());
    assert_eq!(run(&[("XDG_CACHE_HOME", cache.path())], &[]), 0);
}

#[test]
fn a_relative_directory_is_one_from_here() {
    let site = Site::furnished();
    let (parent, name) = (site.root().parent().unwrap(), site.root().file_name().unwrap());
    let ran = ran(command().current_dir(parent).args(["stats", NAME, "--dir"]).arg(name).output());
    assert_eq!(ran.code, 0, "{ran:?}");
}
