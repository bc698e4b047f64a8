//! Misuse that the types refuse: each case in `ui-tests/fail` must fail to compile, with the recorded text.
//!
//! The other half is in `ui_twins.rs`: each case has a twin that compiles and runs, and differs in one line.
//!
//! The texts are those of the compiler that `rust-toolchain.toml` names, without its `rust-src` component, which
//! would add lines of the standard library. `TRYBUILD=overwrite` records them anew.

#[test]
fn every_misuse_fails_to_compile_as_recorded() {
    // Failing cases alone: trybuild then runs one `cargo check` over all of them.
    trybuild::TestCases::new().compile_fail("ui-tests/fail/*.rs");
}
