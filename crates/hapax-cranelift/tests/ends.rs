//! What ends when: hints are written when the last `Jit` goes, whatever else is left.

mod common;

use common::{Words, builder, jit, lower, memory_store, words};
use cranelift_codegen::ir::Function;
use hapax::{DirectoryOptions, HintOptions, HintStore};
use hapax_cranelift::{JitModule, LowerError, Lowering};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn open_hints(folder: &Path) -> HintStore {
    HintStore::open(HintOptions::new(&DirectoryOptions::new("ends").dir(folder)).version("1"))
}

#[test]
fn a_dropped_module_does_not_keep_hints_from_being_written() {
    for with_module in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let hints = Arc::new(open_hints(folder.path()));
        let jit = builder(&memory_store()).hints(hints.clone()).build().unwrap();
        jit.compile(&words("f", "a b +"), lower).unwrap();
        let module = with_module.then(|| JitModule::new(&jit));
        drop((module, jit, hints));
        assert_eq!(open_hints(folder.path()).hottest(10).len(), 1, "with a module: {with_module}");
    }
}

#[test]
fn a_precompilation_that_was_stopped_and_waited_for_does_not_keep_hints_from_being_written() {
    static BEGUN: AtomicBool = AtomicBool::new(false);
    fn slow(unit: &Words, lowering: &mut Lowering<'_>, function: &mut Function) -> Result<(), LowerError> {
        BEGUN.store(true, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(300));
        lower(unit, lowering, function)
    }
    if let Some(folder) = std::env::var_os("HAPAX_DIRECTORY") {
        let hints = Arc::new(open_hints(folder.as_ref()));
        let jit = builder(&memory_store()).hints(hints.clone()).build().unwrap();
        jit.compile(&words("f", "a b +"), lower).unwrap();
        let ahead = jit.precompile((0..1000).map(|n| words(&format!("g{n}"), "a b *")).collect(), slow);
        let asked = Instant::now();
        while !BEGUN.load(Ordering::SeqCst) && asked.elapsed() < Duration::from_secs(60) {
            std::thread::yield_now();
        }
        assert!(BEGUN.load(Ordering::SeqCst), "the thread does not begin");
        ahead.stop();
        ahead.wait();
        drop((jit, hints));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let name = "a_precompilation_that_was_stopped_and_waited_for_does_not_keep_hints_from_being_written";
    let output = common::again(name, "hints", folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!open_hints(folder.path()).hottest(10).is_empty());
}

static DEEP: AtomicU64 = AtomicU64::new(0);

/// What compiles when it is asked for compiles ahead, too. In a process of its own, since a stack that is too small ends it.
#[test]
fn deep_units_compile_in_the_background() {
    #[inline(never)]
    fn descend(depth: u64) -> u64 {
        let frame = std::hint::black_box([depth; 384]);
        if depth == 0 { frame[0] } else { descend(depth - 1) + std::hint::black_box(frame)[1] }
    }
    /// Some MiB of stack, as a front end over a deep tree.
    fn deep(unit: &Words, lowering: &mut Lowering<'_>, function: &mut Function) -> Result<(), LowerError> {
        DEEP.store(descend(350), Ordering::Relaxed);
        lower(unit, lowering, function)
    }
    if std::env::var_os("HAPAX_ROLE").is_some() {
        let run = || {
            let jit = jit(&memory_store());
            jit.compile(&words("asked", "a b +"), deep).unwrap();
            println!("ASKED ok");
            jit.precompile(vec![words("ahead", "a b *")], deep).wait();
            println!("AHEAD ok");
        };
        // As much as a main thread has.
        std::thread::Builder::new().stack_size(8 << 20).spawn(run).unwrap().join().unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = common::again("deep_units_compile_in_the_background", "deep", folder.path());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("ASKED ok"), "{text}");
    assert!(text.contains("AHEAD ok"), "{} {}", output.status, String::from_utf8_lossy(&output.stderr));
}
