//! Compiling 500 functions, Cranelift's incremental cache over the same functions, and loading them from a store: in one
//! process, in turn, so that all three meet the same machine.
//!
//! ```text
//! cargo bench -p hapax-cranelift --features incremental --bench warm_start
//! ```
//!
//! Each row is the time until the code of all functions can be called. `HAPAX_ROUNDS` sets how often each is measured.

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

fn ms(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
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
fn incremental(opt_level: &str, functions: &[cranelift_codegen::ir::Function], blobs: &mut Blobs) -> (f64, usize) {
    let isa = isa(opt_level);
    let mut hits = 0;
    let mut took = 0.0;
    for function in functions {
        let mut context = Context::for_function(function.clone());
        let begun = Instant::now();
        let (code, hit) = context.compile_with_cache(&*isa, blobs, &mut Default::default()).unwrap();
        std::hint::black_box(code.code_buffer());
        took += ms(begun);
        hits += usize::from(hit);
    }
    (took, hits)
}

struct Row {
    name: &'static str,
    times: Vec<f64>,
}

impl Row {
    fn median(&self) -> f64 {
        let mut times = self.times.clone();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }

    fn print(&self, base: f64, incremental: f64) {
        let (low, high) =
            self.times.iter().fold((f64::MAX, 0f64), |(low, high), time| (low.min(*time), high.max(*time)));
        let median = self.median();
        println!(
            "{:<58} {median:>9.3} ms ({low:.3} .. {high:.3})  {:>7.1}x compile  {:>6.1}x incremental",
            self.name,
            base / median,
            incremental / median
        );
    }
}

/// The functions as Cranelift is given them, caught on their way.
fn lowered(opt_level: &str, methods: &[Method]) -> (Vec<cranelift_codegen::ir::Function>, f64) {
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
    let begun = Instant::now();
    for result in jit.compile_batch(methods, catch) {
        assert!(result.is_err());
    }
    let took = ms(begun);
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
    let mut opened = row("  the same, with opening the store and building the Jit");
    let mut in_memory = row("warm: load from a store in memory");
    let mut one_by_one = row("warm: from the directory, one call for each function");
    let mut again = row("all in memory already");
    for round in 0..rounds {
        let jit = builder(opt_level).build().unwrap();
        jit.set_enabled(false);
        let begun = Instant::now();
        let codes = load(&jit, &methods);
        compile.times.push(ms(begun));
        assert_eq!(run(&codes), expected);
        let begun = Instant::now();
        load(&jit, &methods);
        again.times.push(ms(begun));
        drop((codes, jit));

        let fresh = DirectoryOptions::new("bench").dir(directory.join(format!("{opt_level}-{round}")));
        let jit = builder(opt_level).store(Arc::new(CodeStore::open_strict(&fresh).unwrap())).build().unwrap();
        let begun = Instant::now();
        load(&jit, &methods);
        store.times.push(ms(begun));
        drop(jit);

        let (took, hits) = incremental(opt_level, &functions, &mut blobs);
        assert_eq!(hits, FUNCTIONS);
        cached.times.push(took);
        let (_, lowering) = lowered(opt_level, &methods);
        with_ir.times.push(took + lowering);

        for _ in 0..5 {
            let opening = Instant::now();
            let jit = builder(opt_level).store(Arc::new(CodeStore::open_strict(&options).unwrap())).build().unwrap();
            let begun = Instant::now();
            let codes = load(&jit, &methods);
            warm.times.push(ms(begun));
            opened.times.push(ms(opening));
            assert_eq!((run(&codes), jit.stats().compiles), (expected, 0));

            let jit = builder(opt_level).store(Arc::new(CodeStore::open_strict(&options).unwrap())).build().unwrap();
            let begun = Instant::now();
            let codes: Vec<CodePtr> = methods.iter().map(|method| jit.compile(method, lower).unwrap()).collect();
            one_by_one.times.push(ms(begun));
            assert_eq!((run(&codes), jit.stats().compiles), (expected, 0));

            let jit = builder(opt_level).store(memory.clone()).build().unwrap();
            let begun = Instant::now();
            let codes = load(&jit, &methods);
            in_memory.times.push(ms(begun));
            assert_eq!((run(&codes), jit.stats().compiles), (expected, 0));
        }
        eprintln!("round {} of {rounds}", round + 1);
    }
    let (base, incremental) = (compile.median(), cached.median());
    for row in [compile, store, cached, with_ir, warm, opened, one_by_one, in_memory, again] {
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
