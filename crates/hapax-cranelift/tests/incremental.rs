//! Cranelift's own incremental cache on a directory, over a restart.
#![cfg(feature = "incremental")]

mod common;

use cranelift_codegen::Context;
use cranelift_reader::parse_functions;
use hapax::{CodeStore, DirectoryOptions};
use hapax_cranelift::IncrementalCache;
use std::sync::Arc;

#[test]
fn cranelifts_cache_hits_after_a_restart_and_gives_the_same_code() {
    let text = "function %f(i64) -> i64 {\nblock0(v0: i64):\n  v1 = imul v0, v0\n  return v1\n}\n\
                function %g(i64) -> i64 {\nblock0(v0: i64):\n  v1 = iadd v0, v0\n  return v1\n}";
    let isa = common::isa(&[("opt_level", "speed")]);
    let folder = tempfile::tempdir().unwrap();
    let options = DirectoryOptions::new("incremental").dir(folder.path());
    let run = |build: &str| -> (Vec<Vec<u8>>, usize) {
        let store = Arc::new(CodeStore::open_strict(&options).unwrap());
        let mut cache = IncrementalCache::new(&store, build);
        let mut hits = 0;
        let codes = parse_functions(text).unwrap().into_iter().map(|function| {
            let mut context = Context::for_function(function);
            let (code, hit) = context.compile_with_cache(&*isa, &mut cache, &mut Default::default()).unwrap();
            hits += usize::from(hit);
            code.code_buffer().to_vec()
        });
        (codes.collect(), hits)
    };
    let (cold, none) = run("build 1");
    let (warm, all) = run("build 1");
    assert_eq!((none, all), (0, 2));
    assert_eq!(cold, warm);
    assert_eq!(run("build 2").1, 0, "another build of the embedder");
}
