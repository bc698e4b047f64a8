//! `JitModule::define_stored`: what a function that was stored under a front end's own key may stand for.
#![allow(unsafe_code, reason = "calls compiled code")]

mod common;

use common::{binary, memory_store, with_imports};
use cranelift_codegen::ir::types::{F64, I64};
use cranelift_codegen::ir::{AbiParam, InstBuilder, MemFlagsData};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{DataDescription, DataId, FuncId, Linkage, Module, ModuleError};
use hapax::{CodeStore, FingerprintBuilder, Store};
use hapax_cranelift::{Jit, JitModule, Unit};
use std::sync::Arc;

struct Source(&'static str);

impl Unit for Source {
    fn name(&self) -> &str {
        "source"
    }

    fn key(&self, key: FingerprintBuilder) -> FingerprintBuilder {
        key.part("source", self.0)
    }
}

fn module_jit(store: &Arc<dyn Store>) -> Jit {
    with_imports(Jit::builder(common::isa(&[]))).store(Arc::new(CodeStore::over(store.clone()))).build().unwrap()
}

/// A literal's data: anonymous, or named by its contents.
fn literal(module: &mut JitModule, number: i64, named: bool) -> DataId {
    let name = format!("literal {number}");
    if named && let Some(cranelift_module::FuncOrDataId::Data(known)) = module.get_name(&name) {
        return known;
    }
    let data = match named {
        true => module.declare_data(&name, Linkage::Local, false, false).unwrap(),
        false => module.declare_anonymous_data(false, false).unwrap(),
    };
    let mut description = DataDescription::new();
    description.define(number.to_le_bytes().into());
    module.define_data(data, &description).unwrap();
    data
}

/// A front end in the manner of `JitModule`'s documentation: asks first, and on a miss builds the sum of its literals.
fn define(module: &mut JitModule, source: &'static str, literals: &[i64], named: bool) -> (FuncId, bool) {
    let name = source.split(' ').next().unwrap();
    let f = module.declare_function(name, Linkage::Export, &binary()).unwrap();
    let known: Vec<DataId> =
        if named { literals.iter().map(|one| literal(module, *one, named)).collect() } else { vec![] };
    if module.define_stored(f, &Source(source)).unwrap() {
        return (f, true);
    }
    let literals = if named { known } else { literals.iter().map(|one| literal(module, *one, named)).collect() };
    let mut context = module.make_context();
    let globals: Vec<_> = literals.iter().map(|data| module.declare_data_in_func(*data, &mut context.func)).collect();
    context.func.signature = binary();
    let mut own = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(&mut context.func, &mut own);
    let block = builder.create_block();
    builder.append_block_params_for_function_params(block);
    builder.switch_to_block(block);
    let mut sum = builder.ins().iconst(I64, 0);
    for global in globals {
        let at = builder.ins().symbol_value(I64, global);
        let value = builder.ins().load(I64, MemFlagsData::trusted(), at, 0);
        sum = builder.ins().iadd(sum, value);
    }
    builder.ins().return_(&[sum]);
    builder.seal_all_blocks();
    builder.finalize(module.target_config());
    module.define_function_as(f, &Source(source), &mut context).unwrap();
    (f, false)
}

fn call(module: &JitModule, id: FuncId) -> i64 {
    // SAFETY: `define` makes functions of this signature, and the module is not freed.
    let f =
        unsafe { std::mem::transmute::<*const u8, extern "C" fn(i64, i64) -> i64>(module.get_finalized_function(id)) };
    f(0, 0)
}

#[test]
fn an_edit_of_one_function_does_not_change_what_another_computes() {
    for named in [false, true] {
        let store = memory_store();
        {
            let jit = module_jit(&store);
            let mut module = JitModule::new(&jit);
            let (f, _) = define(&mut module, "f 1", &[1], named);
            let (g, _) = define(&mut module, "g 2", &[2], named);
            module.finalize_definitions().unwrap();
            assert_eq!((call(&module, f), call(&module, g)), (1, 2));
            assert_eq!(jit.stats().unkept, if named { 0 } else { 2 });
        }
        // The next process: `f` was edited and has two literals now; `g` is as it was.
        let mut module = JitModule::new(&module_jit(&store));
        let (f, f_found) = define(&mut module, "f 100 1000", &[100, 1000], named);
        let (g, g_found) = define(&mut module, "g 2", &[2], named);
        module.finalize_definitions().unwrap();
        assert_eq!((f_found, call(&module, f)), (false, 1100));
        assert_eq!((g_found, call(&module, g)), (named, 2), "named by their contents: {named}");
    }
}

/// Whoever wrote the store, and with whichever version.
#[test]
fn a_stored_function_that_refers_to_anonymous_data_is_not_accepted() {
    let store = memory_store();
    let mut module = JitModule::new(&module_jit(&store));
    define(&mut module, "f 5", &[5], true);
    let key = store.entries()[0].key;
    let mut bytes = store.get(&key).unwrap().to_vec();
    let name = bytes.windows(9).position(|window| window == b"literal 5").unwrap();
    bytes.splice(name - 2..name + 9, [&7u16.to_le_bytes()[..], b".Ldata0"].concat());
    store.put(&key, &hapax::Meta::default(), &bytes).unwrap();
    let jit = module_jit(&store);
    let mut module = JitModule::new(&jit);
    literal(&mut module, 6, false);
    let (f, found) = define(&mut module, "f 5", &[5], true);
    module.finalize_definitions().unwrap();
    assert_eq!((found, jit.stats().unusable, call(&module, f)), (false, 2, 5));
}

#[test]
fn stored_functions_have_the_declared_signature() {
    let store = memory_store();
    let mut module = JitModule::new(&module_jit(&store));
    define(&mut module, "f 1", &[], true);
    let jit = module_jit(&store);
    let mut module = JitModule::new(&jit);
    let mut other = binary();
    other.params = vec![AbiParam::new(F64)];
    other.returns = vec![AbiParam::new(F64)];
    let f = module.declare_function("f", Linkage::Export, &other).unwrap();
    assert!(!module.define_stored(f, &Source("f 1")).unwrap(), "an (i64, i64) -> i64 stands for an (f64) -> f64");
    assert_eq!(jit.stats().unusable, 1);
    let mut context = module.make_context();
    context.func.signature = binary();
    match module.define_function_as(f, &Source("f 1"), &mut context) {
        Err(ModuleError::IncompatibleSignature(name, ..)) => assert_eq!(name, "f"),
        result => panic!("{result:?}"),
    }
}

/// As `JITModule` says of it.
#[test]
fn empty_data_has_no_bytes() {
    let mut module = JitModule::new(&module_jit(&memory_store()));
    let mut description = DataDescription::new();
    description.define_zeroinit(0);
    let [one, other] = ["one", "other"].map(|name| {
        let data = module.declare_data(name, Linkage::Export, false, false).unwrap();
        module.define_data(data, &description).unwrap();
        data
    });
    module.finalize_definitions().unwrap();
    let (one, other) = (module.get_finalized_data(one), module.get_finalized_data(other));
    assert_eq!((one.1, other.1), (0, 0));
    assert_ne!(one.0, other.0, "each has an address of its own");
}
