//! Where code lies: what is found at an address, and what happens when there is no more room.
#![allow(unsafe_code, reason = "frees compiled code")]

mod common;

use common::{jit, lower, memory_store, words};

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
