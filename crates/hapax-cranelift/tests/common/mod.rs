//! A front end small enough to read: postfix words over two integers, one function per unit.
#![allow(dead_code, reason = "each suite uses its own part")]

use cranelift_codegen::ir::{AbiParam, Function, InstBuilder, MemFlagsData, Signature, TrapCode, Value, types::I64};
use cranelift_codegen::isa::{CallConv, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use hapax::{CodeStore, FingerprintBuilder, MemoryStore, Store};
use hapax_cranelift::{CodePtr, Data, Jit, JitBuilder, LowerError, Lowering, Unit};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Words: `a` `b` and numbers push; `+ - * /` take two; `!name` calls a function of the host and `@name` a unit with two;
/// `%name` pushes a unit's address; `.` calls an address with two; `self` calls itself with two, unless the second is 0,
/// then it gives the first; `count` adds to a counter in the unit's data and pushes it; `trap` traps if the top is 0;
/// `table` pushes the element of a table of the host's and the unit's functions that the top names.
#[derive(Clone)]
pub struct Words {
    pub name: String,
    pub body: String,
}

pub fn words(name: &str, body: &str) -> Words {
    Words { name: name.into(), body: body.into() }
}

impl Unit for Words {
    fn name(&self) -> &str {
        &self.name
    }

    fn key(&self, key: FingerprintBuilder) -> FingerprintBuilder {
        key.part("body", &self.body)
    }
}

pub const TRAP: u8 = 42;

/// How often this process lowered anything; tests that compare it run alone in their process.
pub static LOWERED: AtomicU64 = AtomicU64::new(0);

pub fn binary() -> Signature {
    let mut signature = Signature::new(CallConv::triple_default(&target_lexicon_host()));
    signature.params = vec![AbiParam::new(I64); 2];
    signature.returns = vec![AbiParam::new(I64)];
    signature
}

fn target_lexicon_host() -> target_lexicon::Triple {
    target_lexicon::Triple::host()
}

pub fn lower(unit: &Words, lowering: &mut Lowering<'_>, function: &mut Function) -> Result<(), LowerError> {
    LOWERED.fetch_add(1, Ordering::Relaxed);
    function.signature = binary();
    let signature = binary();
    let mut context = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(function, &mut context);
    let block = builder.create_block();
    builder.append_block_params_for_function_params(block);
    builder.switch_to_block(block);
    let (a, b) = (builder.block_params(block)[0], builder.block_params(block)[1]);
    let mut stack: Vec<Value> = Vec::new();
    for word in unit.body.split_whitespace() {
        let mut pop = || stack.pop().ok_or_else(|| format!("`{word}` finds no value"));
        let value = match word {
            "a" => a,
            "b" => b,
            "+" | "-" | "*" | "/" => {
                let (right, left) = (pop()?, pop()?);
                match word {
                    "+" => builder.ins().iadd(left, right),
                    "-" => builder.ins().isub(left, right),
                    "*" => builder.ins().imul(left, right),
                    _ => builder.ins().sdiv(left, right),
                }
            }
            "self" => {
                let (right, left) = (pop()?, pop()?);
                let (call, done) = (builder.create_block(), builder.create_block());
                builder.append_block_param(done, I64);
                builder.ins().brif(right, call, &[], done, &[left.into()]);
                builder.switch_to_block(call);
                let itself = lowering.itself(builder.func);
                let call = builder.ins().call(itself, &[left, right]);
                let result = builder.inst_results(call)[0];
                builder.ins().jump(done, &[result.into()]);
                builder.switch_to_block(done);
                builder.block_params(done)[0]
            }
            "count" => {
                let cell = lowering.data(Data::zeroed(8).writable(), builder.func)?;
                let at = builder.ins().symbol_value(I64, cell);
                let before = builder.ins().load(I64, MemFlagsData::trusted(), at, 0);
                let top = pop()?;
                let after = builder.ins().iadd(before, top);
                builder.ins().store(MemFlagsData::trusted(), after, at, 0);
                after
            }
            "table" => {
                let table =
                    Data::bytes(vec![0; 16]).import_address(0, "host_mul").function_address(8, "other", &signature);
                let table = lowering.data(table, builder.func)?;
                let at = builder.ins().symbol_value(I64, table);
                let offset = pop()?;
                let offset = builder.ins().ishl_imm_u(offset, 3);
                let at = builder.ins().iadd(at, offset);
                builder.ins().load(I64, MemFlagsData::trusted(), at, 0)
            }
            "." => {
                let (right, left, callee) = (pop()?, pop()?, pop()?);
                let signature = builder.import_signature(signature.clone());
                let call = builder.ins().call_indirect(signature, callee, &[left, right]);
                builder.inst_results(call)[0]
            }
            "trap" => {
                let top = pop()?;
                builder.ins().trapz(top, TrapCode::unwrap_user(TRAP));
                top
            }
            _ if word.starts_with('!') || word.starts_with('@') => {
                let (right, left) = (pop()?, pop()?);
                let callee = if let Some(name) = word.strip_prefix('!') {
                    lowering.import(name, builder.func)?
                } else {
                    lowering.function(&word[1..], &signature, builder.func)
                };
                let call = builder.ins().call(callee, &[left, right]);
                builder.inst_results(call)[0]
            }
            _ if word.starts_with('%') => {
                let callee = lowering.function(&word[1..], &signature, builder.func);
                builder.ins().func_addr(I64, callee)
            }
            number => builder.ins().iconst(I64, number.parse::<i64>().map_err(|_| format!("`{number}` is no word"))?),
        };
        stack.push(value);
    }
    let result = stack.pop().ok_or("the body leaves nothing")?;
    builder.ins().return_(&[result]);
    builder.seal_all_blocks();
    builder.finalize(lowering.isa().frontend_config());
    Ok(())
}

pub extern "C" fn host_mul(a: i64, b: i64) -> i64 {
    a.wrapping_mul(b)
}

pub fn isa(flags: &[(&str, &str)]) -> OwnedTargetIsa {
    let mut shared = settings::builder();
    for (name, value) in flags {
        shared.set(name, value).unwrap();
    }
    cranelift_native::builder().unwrap().finish(settings::Flags::new(shared)).unwrap()
}

/// A builder with one function of the host.
pub fn builder(store: &Arc<dyn Store>) -> JitBuilder {
    with_imports(Jit::builder(isa(&[]))).store(Arc::new(CodeStore::over(store.clone())))
}

pub fn with_imports(builder: JitBuilder) -> JitBuilder {
    builder.build_id("tests 1").import("host_mul", binary(), host_mul as *const u8)
}

pub fn memory_store() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(16 << 20))
}

pub fn jit(store: &Arc<dyn Store>) -> Jit {
    builder(store).build().unwrap()
}

#[allow(unsafe_code, reason = "calls compiled code")]
pub fn call(code: &CodePtr, a: i64, b: i64) -> i64 {
    // SAFETY: Every unit of these tests is lowered as `(i64, i64) -> i64` in the platform's calling convention; `code`
    // outlives the call; the bodies touch no memory but their own data.
    let function = unsafe { code.as_fn::<extern "C-unwind" fn(i64, i64) -> i64>() };
    function(a, b)
}

/// Runs one test of this binary again, in a new process, with `HAPAX_ROLE` set.
pub fn again(test: &str, role: &str, directory: &std::path::Path) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("HAPAX_ROLE", role)
        .env("HAPAX_DIRECTORY", directory)
        .output()
        .unwrap()
}

/// The line that a child printed after `mark`.
pub fn line_after(output: &Output, mark: &str) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.lines().find_map(|line| Some(line.split_once(mark)?.1.to_owned()));
    found.unwrap_or_else(|| panic!("no `{mark}` in\n{text}\n{}", String::from_utf8_lossy(&output.stderr)))
}
