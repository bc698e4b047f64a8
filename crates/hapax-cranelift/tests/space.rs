//! Where code lies: what is found at an address, and what happens when there is no more room.
#![allow(unsafe_code, reason = "frees compiled code")]

mod common;

use common::{Words, builder, jit, lower, memory_store, words};
use cranelift_codegen::ir::Function;
use hapax::Meta;
use hapax_cranelift::{Error, LowerError, Lowering};
use std::sync::atomic::{AtomicU64, Ordering};

/// A batch may take the place of smaller ones that were freed.
#[test]
fn code_is_located_where_other_code_was_freed() {
    let jit = jit(&memory_store());
    for n in 0..8 {
        drop(jit.compile(&words(&format!("small{n}"), "a b +"), lower).unwrap());
        jit.remove(&format!("small{n}"));
    }
    // SAFETY: No thread is in compiled code.
    assert_eq!(unsafe { jit.free_retired() }, 8);
    let body = "a b * ".to_owned() + &"a * b + ".repeat(300);
    let units: Vec<_> = (0..32).map(|n| words(&format!("big{n}"), &format!("{body} {n} +"))).collect();
    let codes: Vec<_> = jit.compile_batch(&units, lower).into_iter().map(Result::unwrap).collect();
    for code in &codes {
        for address in [code.range().start, code.range().end - 1] {
            let found = jit.locate(address).map(|location| location.function);
            assert_eq!(found.as_deref(), Some(code.name()), "{address:#x}");
        }
    }
}

static LOWERED_FULL: AtomicU64 = AtomicU64::new(0);

/// When the space is full, what the store gave is not to blame: nothing is compiled again.
#[test]
fn a_full_space_does_not_blame_the_store() {
    fn counted(unit: &Words, lowering: &mut Lowering<'_>, function: &mut Function) -> Result<(), LowerError> {
        LOWERED_FULL.fetch_add(1, Ordering::Relaxed);
        lower(unit, lowering, function)
    }
    let store = memory_store();
    let units: Vec<_> = (0..64).map(|n| words(&format!("f{n}"), &format!("a b + {n} *"))).collect();
    jit(&store).compile_batch(&units, lower).into_iter().for_each(|code| drop(code.unwrap()));
    let jit = builder(&store).code_space_bytes(64 << 10).build().unwrap();
    let errors = units.iter().filter(|unit| matches!(jit.compile(*unit, counted), Err(Error::Full { .. }))).count();
    assert!(errors > 0);
    assert_eq!((LOWERED_FULL.load(Ordering::Relaxed), jit.stats().unusable), (0, 0), "{errors} times full");
}

/// But an artifact that wants more than there could ever be is none.
#[test]
fn an_artifact_that_no_space_could_hold_is_compiled_again() {
    let store = memory_store();
    let unit = words("f", "a b + count");
    jit(&store).compile(&unit, lower).unwrap();
    let key = store.entries()[0].key;
    let mut bytes = store.get(&key).unwrap().to_vec();
    // The size of the counter, before the lengths of its bytes and relocations, which it has none of.
    let size = bytes.len() - 16..bytes.len() - 8;
    assert_eq!(bytes[size.clone()], 8u64.to_le_bytes());
    bytes[size].copy_from_slice(&(1u64 << 40).to_le_bytes());
    store.put(&key, &Meta::default(), &bytes).unwrap();
    let jit = jit(&store);
    assert_eq!(common::call(&jit.compile(&unit, lower).unwrap(), 3, 4), 7);
    assert_eq!((jit.stats().unusable, jit.stats().compiles), (1, 1));
}

/// Bytes that an attacker or a bug may write, with a checksum that is right: no panic, and each unit is compiled again if need be.
#[test]
fn hostile_artifacts_are_compiled_again_and_never_panic() {
    let store = memory_store();
    let units =
        [words("f", "a b !host_mul 7 +"), words("g", "1 table a b . count"), words("h", "a b + b 1 - self trap")];
    let small = || builder(&store).code_space_bytes(2 << 20).build().unwrap();
    small().compile_batch(&units, lower).into_iter().for_each(|code| drop(code.unwrap()));
    let good: Vec<_> =
        store.entries().iter().map(|entry| (entry.key, store.get(&entry.key).unwrap().to_vec())).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let mut refused = 0u64;
    for _ in 0..300 {
        for (key, bytes) in &good {
            let mut bad = bytes.clone();
            for _ in 0..1 + next(6) {
                match next(8) {
                    0 => bad.truncate(next(bad.len()) + 1),
                    1 => bad.extend_from_slice(&bytes[..next(bytes.len())]),
                    2 => {
                        let at = next(bad.len());
                        let field: [u8; 4] = [0, 1, u32::MAX, 1 << 31][next(4)].to_le_bytes();
                        let end = (at + 4).min(bad.len());
                        bad[at..end].copy_from_slice(&field[..end - at]);
                    }
                    _ => {
                        let at = next(bad.len());
                        bad[at] = next(256) as u8;
                    }
                }
            }
            store.put(key, &Meta::default(), &bad).unwrap();
        }
        let jit = small();
        for result in jit.compile_batch(&units, lower) {
            refused += u64::from(result.is_err());
        }
        for (key, bytes) in &good {
            store.put(key, &Meta::default(), bytes).unwrap();
        }
    }
    assert_eq!(refused, 0);
}

/// What a system counts: runs of pages that are protected alike.
fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

/// A lazy JIT compiles one by one, and a system allows some 65,000 mappings. In a process of its own, for the count.
#[test]
fn functions_that_are_compiled_one_by_one_share_mappings() {
    const FUNCTIONS: usize = 2_000;
    let name = "functions_that_are_compiled_one_by_one_share_mappings";
    if std::env::var_os("HAPAX_ROLE").is_none() {
        let output = common::again(name, "mappings", std::path::Path::new(""));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let jit = jit(&memory_store());
    let compile = |n: usize, body: &str| jit.compile(&words(&format!("f{n}"), body), lower).unwrap();
    compile(0, "a b +");
    let before = mappings();
    // One artifact under many names, so that all but the first come from the store; with data that is written, too.
    let codes: Vec<_> = (0..FUNCTIONS).map(|n| compile(n, "a b + count")).collect();
    let more = mappings() - before;
    assert!(more < FUNCTIONS / 4, "{FUNCTIONS} functions took {more} mappings");
    assert!(codes.iter().all(|code| common::call(code, 3, 4) == 7), "each has a counter of its own");
    // What is freed among them is free, and what is compiled then lies there.
    let page_bytes = jit.stats().page_bytes;
    drop(codes);
    for n in (0..FUNCTIONS).filter(|n| n % 64 < 48) {
        jit.remove(&format!("f{n}"));
    }
    // SAFETY: No thread is in compiled code.
    unsafe { jit.free_retired() };
    assert!(jit.stats().page_bytes < page_bytes / 2);
    for n in 0..FUNCTIONS {
        assert_eq!(common::call(&compile(n, "a b - count"), 7, 3), 4, "f{n}");
    }
    assert!(mappings() - before < FUNCTIONS / 2);
}
