//! The main example on a card, or on the stand-in: `--device cuda:0`, and the choice that it makes by itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/rebuild/units/lz.rs");

/// On the stand-in, which ends the process at the first access that nothing orders.
fn rebuild(settings: &str, arguments: &[&str]) -> Output {
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test.parent().and_then(Path::parent).expect("a test lies in target/<profile>/deps");
    let example: PathBuf = profile.join("examples").join("rebuild_on_cuda");
    assert!(example.is_file(), "{} is missing: a plain `cargo test` builds it", example.display());
    let driver = cuda_standin::Control::search_dir().expect("the stand-in was built with this test");
    let mut command = Command::new(example);
    command.env("LD_LIBRARY_PATH", driver).env("CUDA_STANDIN", format!("report=on;abort=on;{settings}"));
    command.args(["--rebuilds", "1"]).args(arguments).arg(UNIT).output().expect("it runs")
}

fn assert_all_is_well(ran: &Output, device: &str) {
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{}: {text}\n{}", ran.status, String::from_utf8_lossy(&ran.stderr));
    for expected in [device, "byte-identical to what the compiler wrote", "\nbytes live at the end: 0\n"] {
        assert!(text.contains(expected), "not there: {expected}\n{text}");
    }
}

#[test]
fn a_session_on_a_card_gives_back_what_the_compiler_wrote() {
    for mode in ["mode=late:2", "mode=lazy"] {
        assert_all_is_well(&rebuild(mode, &["--device", "cuda:0"]), "CUDA stand-in (GPU-");
    }
}

#[test]
fn a_card_is_taken_where_there_is_one_and_the_host_where_there_is_none() {
    assert_all_is_well(&rebuild("", &[]), "the first NVIDIA card that this process may use");
    assert_all_is_well(&rebuild("driver=no-device", &[]), "memory comes from the host: the CUDA driver sees no device");
    assert_all_is_well(&rebuild("", &["--device", "host"]), "host memory: it was asked for");
}

#[test]
fn a_card_that_is_not_there_is_a_clear_error() {
    for (settings, device, expected) in [
        ("driver=no-device", "cuda:0", "--device cuda:0: the CUDA driver sees no device"),
        ("driver=too-old", "cuda:0", "install one for CUDA"),
        ("", "cuda:3", "--device cuda:3: "),
    ] {
        let ran = rebuild(settings, &["--device", device]);
        let error = String::from_utf8_lossy(&ran.stderr);
        assert!(!ran.status.success() && error.contains(expected), "{error}");
    }
}
