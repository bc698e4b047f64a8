//! Names the shared library as the driver's own file is named, so that `dlopen("libcuda.so")` finds it once it is
//! loaded, and keeps it loaded: it leaves a signal handler and a thread behind. Its own names mean its own functions,
//! whatever the program that loads it exports.
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if target == "linux" {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
        println!("cargo:rustc-cdylib-link-arg=-Wl,-Bsymbolic");
    }
}
