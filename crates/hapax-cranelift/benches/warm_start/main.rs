//! Compiling 500 functions, Cranelift's incremental cache over the same functions, and loading them from a store: in one
//! process, in turn, so that all three meet the same machine.
//!
//! ```text
//! cargo bench -p hapax-cranelift --features incremental --bench warm_start
//! ```
//!
//! Each row is the time until the code of all functions can be called: by the clock, and of the processor, which is what
//! counts on a machine that has other things to do. The ratios are of processor time. `HAPAX_ROUNDS` sets how often
//! each is measured.

#![allow(unsafe_code, reason = "calls compiled code")]

mod program;

use cranelift_codegen::Context;
use cranelift_codegen::incremental_cache::CacheKvStore;
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable, Flags};
use hapax::{CodeStore, DirectoryOptions, MemoryStore};
use hapax_cranelift::{CodePtr, Jit, JitBuilder};
use program::{FUNCTIONS, Method, lower};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

fn isa(opt_level: &str) -> OwnedTargetIsa {
    let mut flags = settings::builder();
    flags.set("opt_level", opt_level).unwrap();
    flags.set("enable_verifier", "false").unwrap();
    cranelift_native::builder().unwrap().finish(Flags::new(flags)).unwrap()
}

fn builder(opt_level: &str) -> JitBuilder {
    Jit::builder(isa(opt_level))
        .build_id("bench 1")
        .import("mix", program::mix_signature(), program::mix as *const u8)
        .import("float", program::float_signature(), program::float as *const u8)
        .import_data("table", program::TABLE.as_ptr().cast())
}

/// What all functions return for three inputs each, joined.
fn run(codes: &[CodePtr]) -> u64 {
    let mut sum = 0u64;
    for (number, code) in codes.iter().enumerate() {
        // SAFETY: Every method is lowered with this signature, and `codes` outlives the calls.
        let function = unsafe { code.as_fn::<extern "C" fn(i64, i64, f64) -> i64>() };
        for (a, b, x) in [(1, 2, 3.5), (-77, 0x1_2345_6789, 1e9), (number as i64 * 31, i64::MAX, 2.25)] {
            sum = sum.rotate_left(7) ^ function(a, b, x) as u64;
        }
    }
    sum
}

fn load(jit: &Jit, methods: &[Method]) -> Vec<CodePtr> {
    jit.compile_batch(methods, lower).into_iter().map(Result::unwrap).collect()
}

/// Milliseconds by the clock, and of the processor's time that this process took.
#[derive(Clone, Copy, Default)]
struct Took {
    wall: f64,
    cpu: f64,
}

impl std::ops::AddAssign for Took {
    fn add_assign(&mut self, other: Took) {
        self.wall += other.wall;
        self.cpu += other.cpu;
    }
}

struct Begun(Instant, f64);

impl Begun {
    fn now() -> Begun {
        Begun(Instant::now(), cpu_ms())
    }

    fn took(&self) -> Took {
        Took { wall: self.0.elapsed().as_secs_f64() * 1e3, cpu: cpu_ms() - self.1 }
    }
}

fn cpu_ms() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` has room for what is written.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) }, 0);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

/// Whether this process gets huge pages where it asks for them, if the system has any.
fn switch_huge_pages(on: bool) {
    #[cfg(target_os = "linux")]
    // SAFETY: It changes what pages later mappings are made of, and no memory.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, libc::c_ulong::from(!on), 0, 0, 0) }, 0);
    #[cfg(not(target_os = "linux"))]
    let _ = on;
}

/// Cranelift's cache in memory, where it is fastest.
#[derive(Default)]
struct Blobs(HashMap<Vec<u8>, Vec<u8>>);

impl CacheKvStore for Blobs {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        self.0.get(key).map(|blob| Cow::Borrowed(&blob[..]))
    }

    fn insert(&mut self, key: &[u8], blob: Vec<u8>) {
        self.0.insert(key.to_vec(), blob);
    }
}

/// Lowers all functions and takes them from Cranelift's cache; what linking them costs afterwards is not counted.
fn incremental(opt_level: &str, functions: &[cranelift_codegen::ir::Function], blobs: &mut Blobs) -> (Took, usize) {
    let isa = isa(opt_level);
    let mut hits = 0;
    let mut took = Took::default();
    for function in functions {
        let mut context = Context::for_function(function.clone());
        let begun = Begun::now();
        let (code, hit) = context.compile_with_cache(&*isa, blobs, &mut Default::default()).unwrap();
        std::hint::black_box(code.code_buffer());
        took += begun.took();
        hits += usize::from(hit);
    }
    (took, hits)
}

struct Row {
    name: &'static str,
    times: Vec<Took>,
}

/// Least, middle and most.
fn spread(times: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    [times[0], times[times.len() / 2], times[times.len() - 1]]
}

impl Row {
    fn cpu(&self) -> [f64; 3] {
        spread(self.times.iter().map(|took| took.cpu))
    }

    fn print(&self, base: f64, incremental: f64) {
        let ([_, wall, _], [low, cpu, high]) = (spread(self.times.iter().map(|took| took.wall)), self.cpu());
        println!(
            "{:<58} {wall:>9.3} ms, {cpu:>8.3} ms of processor ({low:.3} .. {high:.3}): {:>6.1}x compile, {:>5.1}x incremental",
            self.name,
            base / cpu,
            incremental / cpu
        );
    }
}

/// The functions as Cranelift is given them, caught on their way.
fn lowered(opt_level: &str, methods: &[Method]) -> (Vec<cranelift_codegen::ir::Function>, Took) {
    static CAUGHT: std::sync::Mutex<Vec<cranelift_codegen::ir::Function>> = std::sync::Mutex::new(Vec::new());
    fn catch(
        method: &Method,
        lowering: &mut hapax_cranelift::Lowering<'_>,
        function: &mut cranelift_codegen::ir::Function,
    ) -> Result<(), hapax_cranelift::LowerError> {
        lower(method, lowering, function)?;
        CAUGHT.lock().unwrap().push(function.clone());
        Err("caught".into())
    }
    let jit = builder(opt_level).build().unwrap();
    let begun = Begun::now();
    for result in jit.compile_batch(methods, catch) {
        assert!(result.is_err());
    }
    let took = begun.took();
    (std::mem::take(&mut *CAUGHT.lock().unwrap()), took)
}

fn measure(opt_level: &str, rounds: usize, directory: &Path) {
    let methods = program::program();
    let (functions, _) = lowered(opt_level, &methods);
    let instructions: usize = functions.iter().map(|function| function.dfg.num_insts()).sum();
    let bytecode: usize = methods.iter().map(|method| method.code.len()).sum();

    let options = DirectoryOptions::new("bench").dir(directory.join(opt_level)).budget_bytes(256 << 20);
    let filled = builder(opt_level).store(Arc::new(CodeStore::open_strict(&options).unwrap())).build().unwrap();
    let expected = run(&load(&filled, &methods));
    let code_bytes = filled.stats().code_bytes;
    println!(
        "opt_level={opt_level}: {FUNCTIONS} functions, {} instructions each, {} bytes of code and {} of bytecode each",
        instructions / FUNCTIONS,
        code_bytes as usize / FUNCTIONS,
        bytecode / FUNCTIONS
    );

    let memory = Arc::new(CodeStore::over(Arc::new(MemoryStore::new(256 << 20))));
    load(&builder(opt_level).store(memory.clone()).build().unwrap(), &methods);
    let mut blobs = Blobs::default();
    incremental(opt_level, &functions, &mut blobs);

    let row = |name| Row { name, times: Vec::new() };
    let mut compile = row("compile: lower, compile, link");
    let mut store = row("compile and store in a directory");
    let mut cached = row("Cranelift's incremental cache, in memory, IR given");
    let mut with_ir = row("  the same, with building the IR, which it needs");
    let mut warm = row("warm: load from the directory");
    let mut small_pages = row("  the same, with huge pages switched off");
    let mut opened = row("  the same, with opening the store and building the Jit");
    let mut in_memory = row("warm: load from a store in memory");
    let mut one_by_one = row("warm: from the directory, one call for each function");
    let mut again = row("all in memory already");
    for round in 0..rounds {
        let jit = builder(opt_level).build().unwrap();
        jit.set_enabled(false);
        let begun = Begun::now();
        let codes = load(&jit, &methods);
        compile.times.push(begun.took());
        assert_eq!(run(&codes), expected);
        let begun = Begun::now();
        load(&jit, &methods);
        again.times.push(begun.took());
        drop((codes, jit));

        let fresh = DirectoryOptions::new("bench").dir(directory.join(format!("{opt_level}-{round}")));
        let jit = builder(opt_level).store(Arc::new(CodeStore::open_strict(&fresh).unwrap())).build().unwrap();
        let begun = Begun::now();
        load(&jit, &methods);
        store.times.push(begun.took());
        drop(jit);

        let (mut took, hits) = incremental(opt_level, &functions, &mut blobs);
        assert_eq!(hits, FUNCTIONS);
        cached.times.push(took);
        let (_, lowering) = lowered(opt_level, &methods);
        took += lowering;
        with_ir.times.push(took);

        for _ in 0..5 {
            let opening = Begun::now();
            let jit = builder(opt_level).store(Arc::new(CodeStore::open_strict(&options).unwrap())).build().unwrap();
            let begun = Begun::now();
            let codes = load(&jit, &methods);
            warm.times.push(begun.took());
            opened.times.push(opening.took());
            assert_eq!((run(&codes), jit.stats().compiles), (expected, 0));

            let jit = builder(opt_level).store(Arc::new(CodeStore::open_strict(&options).unwrap())).build().unwrap();
            switch_huge_pages(false);
            let begun = Begun::now();
            let codes = load(&jit, &methods);
            small_pages.times.push(begun.took());
            switch_huge_pages(true);
            assert_eq!((run(&codes), jit.stats().compiles), (expected, 0));

            let jit = builder(opt_level).store(Arc::new(CodeStore::open_strict(&options).unwrap())).build().unwrap();
            let begun = Begun::now();
            let codes: Vec<CodePtr> = methods.iter().map(|method| jit.compile(method, lower).unwrap()).collect();
            one_by_one.times.push(begun.took());
            assert_eq!((run(&codes), jit.stats().compiles), (expected, 0));

            let jit = builder(opt_level).store(memory.clone()).build().unwrap();
            let begun = Begun::now();
            let codes = load(&jit, &methods);
            in_memory.times.push(begun.took());
            assert_eq!((run(&codes), jit.stats().compiles), (expected, 0));
        }
        eprintln!("round {} of {rounds}", round + 1);
    }
    let ([_, base, _], [_, incremental, _]) = (compile.cpu(), cached.cpu());
    for row in [compile, store, cached, with_ir, warm, small_pages, opened, one_by_one, in_memory, again] {
        row.print(base, incremental);
    }
    println!();
}

fn main() {
    // `cargo test --benches` asks for nothing.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let rounds = std::env::var("HAPAX_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(7);
    let folder = tempfile::tempdir().unwrap();
    for opt_level in ["speed", "none"] {
        measure(opt_level, rounds, folder.path());
    }
}
