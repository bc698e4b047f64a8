//! Stack probes: which kind needs a helper, and what is said if it is missing.

mod common;

use common::{Words, isa, lower, with_imports, words};
use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::ir::{Function, InstBuilder, StackSlotData, StackSlotKind, types::I64};
use hapax_cranelift::{Error, Jit, LowerError, Lowering};

/// A function with a frame of 1 MiB.
fn large_frame(_: &Words, lowering: &mut Lowering<'_>, function: &mut Function) -> Result<(), LowerError> {
    lower(&words("x", "a"), lowering, function)?;
    let slot = function.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, 1 << 20, 4));
    let entry = function.layout.entry_block().unwrap();
    let first = function.layout.first_inst(entry).unwrap();
    let mut cursor = FuncCursor::new(function);
    cursor.goto_inst(first);
    cursor.ins().stack_addr(I64, slot, 0);
    Ok(())
}

#[test]
#[cfg(target_arch = "x86_64")] // aarch64 has no probes of that kind
fn a_missing_helper_is_said_with_what_to_do() {
    let isa = isa(&[("enable_probestack", "true"), ("probestack_strategy", "outline")]);
    let jit = with_imports(Jit::builder(isa)).build().unwrap();
    let error = jit.compile(&words("large", "large"), large_frame).unwrap_err();
    assert!(matches!(error, Error::NoLibCall { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("`JitBuilder::lib_call`") && text.contains("`inline`"), "{text}");
}

#[test]
fn inline_probes_need_no_helper() {
    let isa = isa(&[("enable_probestack", "true"), ("probestack_strategy", "inline")]);
    let jit = with_imports(Jit::builder(isa)).build().unwrap();
    let code = jit.compile(&words("large", "large"), large_frame).unwrap();
    assert_eq!(common::call(&code, 3, 4), 3);
}
