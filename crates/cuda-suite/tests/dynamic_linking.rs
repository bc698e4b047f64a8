//! hapax builds beside a crate that selects cudarc's `dynamic-linking`, which removes a part of cudarc and needs no toolkit to
//! be type-checked.

use std::path::Path;
use std::process::Command;

#[test]
fn hapax_type_checks_beside_a_crate_that_links_the_driver() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("dynamic-linking");
    let cargo = std::env::var_os("CARGO").expect("cargo runs tests");
    let mut check = Command::new(cargo);
    check.args(["check", "--offline", "--locked", "--workspace", "--quiet"]).current_dir(&workspace);
    check.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("dynamic-linking"));
    // The flags of this build are not that one's, and no toolkit must be needed.
    for variable in
        ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDA_TOOLKIT_ROOT_DIR"]
    {
        check.env_remove(variable);
    }
    let output = check.output().expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let features = Command::new(std::env::var_os("CARGO").expect("cargo runs tests"))
        .args(["tree", "--offline", "--locked", "-p", "embedder", "-e", "features", "-i", "cudarc"])
        .current_dir(&workspace)
        .output()
        .expect("cargo starts");
    let features = String::from_utf8_lossy(&features.stdout).into_owned();
    assert!(features.contains("cudarc feature \"dynamic-linking\""), "the other crate selects it:\n{features}");
    assert!(features.contains("cudarc feature \"fallback-dynamic-loading\""), "and hapax this:\n{features}");
}
