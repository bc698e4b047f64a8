//! Misuse that the types refuse: each case in `ui-tests/fail` must fail to compile, with the recorded text.
//!
//! The other half is in `ui_twins.rs`: each case has a twin that compiles and runs, and differs in one line.
//! The recorded texts are of the compiler that `rust-toolchain.toml` names. `TRYBUILD=overwrite` records anew.

#[test]
fn every_misuse_fails_to_compile_as_recorded() {
    // Failing cases alone: trybuild then runs `cargo check` once over all of them.
    trybuild::TestCases::new().compile_fail("ui-tests/fail/*.rs");
}
