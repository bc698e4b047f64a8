//! What the next process finds: a real directory, other addresses, and panics and traps in code that it did not compile.

#![allow(clippy::multiple_unsafe_ops_per_block, reason = "signal handlers are set in one go")]

mod common;

use common::{again, call, line_after, lower, words};
use cranelift_codegen::ir::TrapCode;
use hapax::{CodeStore, DirectoryOptions};
use hapax_cranelift::{CodePtr, Jit};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn jit_in(directory: &Path) -> Jit {
    let options = DirectoryOptions::new("hapax-cranelift-tests").dir(directory);
    let store = CodeStore::open_strict(&options).unwrap();
    let builder = common::with_imports(Jit::builder(common::isa(&[]))).store(Arc::new(store));
    builder.import("panics", common::binary(), panics as *const u8).build().unwrap()
}

extern "C-unwind" fn panics(a: i64, b: i64) -> i64 {
    if a == b {
        panic!("from the host, {a}");
    }
    a
}

fn units() -> Vec<common::Words> {
    let mut units = vec![
        words("outer", "a b @middle 1 +"),
        words("middle", "a b 2 + !panics b *"),
        words("traps", "a b - trap"),
        words("divides", "a b /"),
        words("sums", "a b + b 1 - self"),
        words("other", "a b -"),
        words("through", "a b + 1 table a b . *"),
    ];
    units.extend((0..50).map(|n| words(&format!("f{n}"), &format!("a {n} * b + a b @f{} -", (n + 1) % 50))));
    units[7 + 49].body = "a b +".into();
    units
}

/// The role of this process, and its directory, if it was started by a test.
fn role() -> Option<(String, std::path::PathBuf)> {
    Some((std::env::var("HAPAX_ROLE").ok()?, std::env::var_os("HAPAX_DIRECTORY")?.into()))
}

#[test]
fn the_next_process_runs_what_this_one_compiled() {
    let results = |codes: &[CodePtr]| -> i64 {
        let run = codes[4..].iter().enumerate().map(|(at, code)| call(code, at as i64 * 7, 9));
        run.fold(0, |sum, value| sum.wrapping_mul(31).wrapping_add(value))
    };
    if let Some((_, directory)) = role() {
        let jit = jit_in(&directory);
        let codes: Vec<_> = jit.compile_batch(&units(), lower).into_iter().map(Result::unwrap).collect();
        let stats = jit.stats();
        let lowered = common::LOWERED.load(Ordering::Relaxed);
        println!("RESULT {} {} {} {lowered}", results(&codes), stats.compiles, stats.store_hits);
        println!("ADDRESS {:?}", codes[0].as_ptr());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let first = again("the_next_process_runs_what_this_one_compiled", "cold", folder.path());
    let cold = line_after(&first, "RESULT ");
    let fields: Vec<&str> = cold.split(' ').collect();
    assert_eq!(fields[1..], ["57", "0", "57"]);
    let mut addresses = vec![line_after(&first, "ADDRESS ")];
    for _ in 0..3 {
        let next = again("the_next_process_runs_what_this_one_compiled", "warm", folder.path());
        assert_eq!(line_after(&next, "RESULT "), format!("{} 0 57 0", fields[0]));
        addresses.push(line_after(&next, "ADDRESS "));
    }
    if std::fs::read_to_string("/proc/sys/kernel/randomize_va_space").is_ok_and(|mode| mode.trim() != "0") {
        addresses.dedup();
        assert!(addresses.len() > 1, "the kernel chooses addresses anew for each process: {addresses:?}");
    }
}

/// The host's panic passes through two frames of stored code, and out of the first.
#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn a_panic_of_the_host_unwinds_through_stored_code() {
    if let Some((_, directory)) = role() {
        let jit = jit_in(&directory);
        let codes: Vec<_> = jit.compile_batch(&units(), lower).into_iter().map(Result::unwrap).collect();
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| call(&codes[0], 7, 5))).unwrap_err();
        println!("CAUGHT {} {}", panic.downcast_ref::<String>().unwrap(), jit.stats().compiles);
        // And again, after pages with tables have come and gone.
        drop((codes, jit));
        let jit = jit_in(&directory);
        let codes: Vec<_> = jit.compile_batch(&units(), lower).into_iter().map(Result::unwrap).collect();
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| call(&codes[0], 7, 5))).is_err());
        assert_eq!(call(&codes[0], 4, 5), 21);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for compiles in [57, 0] {
        let output = again("a_panic_of_the_host_unwinds_through_stored_code", "panic", folder.path());
        assert_eq!(line_after(&output, "CAUGHT "), format!("from the host, 7 {compiles}"));
        assert!(output.status.success());
    }
}

static TRAPPED_AT: AtomicUsize = AtomicUsize::new(0);
static JIT: std::sync::OnceLock<Jit> = std::sync::OnceLock::new();

/// Reads where the signal came from, and leaves the process: what follows takes a lock, which a handler may do only
/// because the thread that trapped was in compiled code.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[allow(unsafe_code, reason = "a signal handler")]
extern "C" fn on_trap(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: The kernel gives a handler that was set with `SA_SIGINFO` a pointer to the context.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    let at = context.uc_mcontext.gregs[libc::REG_RIP as usize] as usize;
    TRAPPED_AT.store(at, Ordering::Relaxed);
    let location = JIT.get().unwrap().locate(at).unwrap();
    println!("TRAPPED {} {:?}", location.function, location.trap.map(|trap| trap.as_raw().get()));
    std::process::exit(0);
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[allow(unsafe_code, reason = "sets a signal handler")]
fn a_trap_in_stored_code_is_found_by_its_address() {
    if let Some((role, directory)) = role() {
        let jit = JIT.get_or_init(|| jit_in(&directory));
        let codes: Vec<_> = jit.compile_batch(&units(), lower).into_iter().map(Result::unwrap).collect();
        if role == "compile" {
            return;
        }
        assert_eq!(jit.stats().compiles, 0);
        for signal in [libc::SIGILL, libc::SIGFPE] {
            // SAFETY: Zeros are a valid `sigaction`; the handler has the signature that `SA_SIGINFO` asks for.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_trap as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO;
                assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
            }
        }
        if role == "user" {
            call(&codes[2], 5, 5);
        } else {
            call(&codes[3], 5, 0);
        }
        unreachable!("it traps");
    }
    let name = "a_trap_in_stored_code_is_found_by_its_address";
    let folder = tempfile::tempdir().unwrap();
    assert!(again(name, "compile", folder.path()).status.success());
    let user = again(name, "user", folder.path());
    assert_eq!(line_after(&user, "TRAPPED "), format!("traps Some({})", common::TRAP));
    let divide = again(name, "divide", folder.path());
    let by_zero = TrapCode::INTEGER_DIVISION_BY_ZERO.as_raw();
    assert_eq!(line_after(&divide, "TRAPPED "), format!("divides Some({by_zero})"));
}

#[test]
fn calling_a_unit_without_code_ends_the_process_with_a_message() {
    if let Some((_, directory)) = role() {
        let jit = jit_in(&directory);
        call(&jit.compile(&words("caller", "a b @nobody"), lower).unwrap(), 1, 2);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = again("calling_a_unit_without_code_ends_the_process_with_a_message", "call", folder.path());
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("a unit that is not compiled") && told.contains(r#"["nobody"]"#), "{told}");
}

/// Two processes at once on one directory: whoever compiles, both run the same.
#[test]
fn processes_share_a_directory_while_both_compile() {
    if let Some((_, directory)) = role() {
        let jit = jit_in(&directory);
        let codes = jit.compile_batch(&units(), lower);
        println!("SUM {}", codes[4..].iter().map(|code| call(code.as_ref().unwrap(), 3, 4)).sum::<i64>());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = || again("processes_share_a_directory_while_both_compile", "both", folder.path());
    let sums: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| line_after(&run(), "SUM "))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(sums.iter().all(|sum| *sum == sums[0]), "{sums:?}");
}
