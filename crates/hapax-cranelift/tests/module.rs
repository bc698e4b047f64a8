//! What an existing front end relies on: `cranelift_module::Module`, with code from a store.

mod common;

use common::{binary, host_mul, memory_store};
use cranelift_codegen::Context;
use cranelift_codegen::ir::{AbiParam, InstBuilder, MemFlagsData, types::I64};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{DataDescription, DataId, FuncId, Linkage, Module, ModuleError, ModuleReloc};
use hapax::{CodeStore, FingerprintBuilder, Store};
use hapax_cranelift::{Error, Jit, JitModule, Unit};
use std::sync::Arc;

fn jit(store: &Arc<dyn Store>, flags: &[(&str, &str)]) -> Jit {
    let builder = common::with_imports(Jit::builder(common::isa(flags)));
    builder.store(Arc::new(CodeStore::over(store.clone()))).build().unwrap()
}

#[allow(unsafe_code, reason = "calls compiled code")]
fn call(module: &JitModule, id: FuncId, a: i64, b: i64) -> i64 {
    let function = module.get_finalized_function(id);
    // SAFETY: The tests define their functions as `(i64, i64) -> i64`, and never free a module that they call.
    let function = unsafe { std::mem::transmute::<*const u8, extern "C" fn(i64, i64) -> i64>(function) };
    function(a, b)
}

/// What a front end does, whatever the module: a function that multiplies by way of the host, one that adds a number from a
/// table, one that calls both through a table of functions.
struct Program {
    outer: FuncId,
    counter: DataId,
}

fn build(
    context: &mut Context,
    fill: impl FnOnce(&mut FunctionBuilder<'_>, &[cranelift_codegen::ir::Value]),
    module: &JitModule,
) {
    context.func.signature = binary();
    let mut own = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(&mut context.func, &mut own);
    let block = builder.create_block();
    builder.append_block_params_for_function_params(block);
    builder.switch_to_block(block);
    let parameters = builder.block_params(block).to_vec();
    fill(&mut builder, &parameters);
    builder.seal_all_blocks();
    builder.finalize(module.target_config());
}

fn program(module: &mut JitModule) -> Program {
    let mul = module.declare_function("host_mul", Linkage::Import, &binary()).unwrap();
    // Declared before what is used, so that numbers of names differ from their order of use.
    let outer = module.declare_function("outer", Linkage::Export, &binary()).unwrap();
    let scale = module.declare_function("scale", Linkage::Local, &binary()).unwrap();
    let shift = module.declare_anonymous_function(&binary()).unwrap();
    let table = module.declare_data("table", Linkage::Local, false, false).unwrap();
    let numbers = module.declare_anonymous_data(false, false).unwrap();
    let counter = module.declare_data("counter", Linkage::Export, true, false).unwrap();

    let mut description = DataDescription::new();
    description.define(vec![0; 24].into());
    let (in_scale, in_shift) =
        (module.declare_func_in_data(scale, &mut description), module.declare_func_in_data(shift, &mut description));
    description.write_function_addr(0, in_scale);
    description.write_function_addr(8, in_shift);
    let in_numbers = module.declare_data_in_data(numbers, &mut description);
    description.write_data_addr(16, in_numbers, 8);
    module.define_data(table, &description).unwrap();
    description.clear();
    description.define([5i64, 11].iter().flat_map(|number| number.to_le_bytes()).collect());
    module.define_data(numbers, &description).unwrap();
    description.clear();
    description.define_zeroinit(16);
    module.define_data(counter, &description).unwrap();

    let mut context = module.make_context();
    let callee = module.declare_func_in_func(mul, &mut context.func);
    build(
        &mut context,
        |builder, values| {
            let call = builder.ins().call(callee, values);
            let result = builder.inst_results(call)[0];
            builder.ins().return_(&[result]);
        },
        module,
    );
    module.define_function(scale, &mut context).unwrap();
    module.clear_context(&mut context);

    let (table_in, counter_in) = (
        module.declare_data_in_func(table, &mut context.func),
        module.declare_data_in_func(counter, &mut context.func),
    );
    build(
        &mut context,
        |builder, values| {
            let at = builder.ins().symbol_value(I64, table_in);
            let number = builder.ins().load(I64, MemFlagsData::trusted(), at, 16);
            let number = builder.ins().load(I64, MemFlagsData::trusted(), number, 0);
            let counter = builder.ins().symbol_value(I64, counter_in);
            let before = builder.ins().load(I64, MemFlagsData::trusted(), counter, 0);
            let after = builder.ins().iadd(before, number);
            builder.ins().store(MemFlagsData::trusted(), after, counter, 0);
            let sum = builder.ins().iadd(values[0], number);
            builder.ins().return_(&[sum]);
        },
        module,
    );
    module.define_function(shift, &mut context).unwrap();
    module.clear_context(&mut context);

    let (table_in, scale_in) =
        (module.declare_data_in_func(table, &mut context.func), module.declare_func_in_func(scale, &mut context.func));
    build(
        &mut context,
        |builder, values| {
            let at = builder.ins().symbol_value(I64, table_in);
            let shift = builder.ins().load(I64, MemFlagsData::trusted(), at, 8);
            let signature = builder.import_signature(binary());
            let shifted = builder.ins().call_indirect(signature, shift, values);
            let shifted = builder.inst_results(shifted)[0];
            let scaled = builder.ins().call(scale_in, &[shifted, values[1]]);
            let scaled = builder.inst_results(scaled)[0];
            builder.ins().return_(&[scaled]);
        },
        module,
    );
    module.define_function(outer, &mut context).unwrap();
    module.finalize_definitions().unwrap();
    Program { outer, counter }
}

#[test]
fn a_front_end_for_any_module_starts_warm() {
    for flags in [
        &[("is_pic", "false")][..],
        &[("is_pic", "true")],
        &[("use_colocated_libcalls", "true"), ("opt_level", "speed")],
    ] {
        let store = memory_store();
        for (compiles, store_hits) in [(3, 0), (0, 3)] {
            let jit = jit(&store, flags);
            let mut module = JitModule::new(&jit);
            let program = program(&mut module);
            assert_eq!(call(&module, program.outer, 2, 3), (2 + 11) * 3, "{flags:?}");
            assert_eq!(call(&module, program.outer, -11, 3), 0);
            let (counter, bytes) = module.get_finalized_data(program.counter);
            // SAFETY: The module's data lives as long as the module, and nothing writes to it now.
            #[allow(unsafe_code)]
            let counted = unsafe { counter.cast::<i64>().read() };
            assert_eq!((counted, bytes), (22, 16));
            let stats = jit.stats();
            assert_eq!((stats.compiles, stats.store_hits), (compiles, store_hits), "{flags:?}");
        }
    }
}

/// Functions are known by what they refer to by name, so other numbers for the same names are the same function.
#[test]
fn numbers_of_functions_are_no_part_of_the_key() {
    let store = memory_store();
    let run = |extra: usize| {
        let jit = jit(&store, &[]);
        let mut module = JitModule::new(&jit);
        for n in 0..extra {
            module.declare_function(&format!("other{n}"), Linkage::Import, &binary()).unwrap();
        }
        let mul = module.declare_function("host_mul", Linkage::Import, &binary()).unwrap();
        let f = module.declare_function("f", Linkage::Export, &binary()).unwrap();
        let mut context = module.make_context();
        let callee = module.declare_func_in_func(mul, &mut context.func);
        build(
            &mut context,
            |builder, values| {
                let call = builder.ins().call(callee, values);
                let result = builder.inst_results(call)[0];
                builder.ins().return_(&[result]);
            },
            &module,
        );
        module.define_function(f, &mut context).unwrap();
        module.finalize_definitions().unwrap();
        (call(&module, f, 6, 7), jit.stats().compiles)
    };
    assert_eq!(run(0), (42, 1));
    assert_eq!(run(9), (42, 0));
}

/// And the same body with another callee is another function.
#[test]
fn names_of_callees_are_part_of_the_key() {
    let store = memory_store();
    let run = |callee: &str| {
        let jit = jit(&store, &[]);
        let mut module = JitModule::new(&jit);
        for name in ["one", "two"] {
            let id = module.declare_function(name, Linkage::Export, &binary()).unwrap();
            let mut context = module.make_context();
            build(
                &mut context,
                |builder, values| {
                    builder.ins().return_(&[values[usize::from(name == "two")]]);
                },
                &module,
            );
            module.define_function(id, &mut context).unwrap();
        }
        let callee = module.declare_function(callee, Linkage::Export, &binary()).unwrap();
        let f = module.declare_function("f", Linkage::Export, &binary()).unwrap();
        let mut context = module.make_context();
        let callee = module.declare_func_in_func(callee, &mut context.func);
        build(
            &mut context,
            |builder, values| {
                let call = builder.ins().call(callee, values);
                let result = builder.inst_results(call)[0];
                builder.ins().return_(&[result]);
            },
            &module,
        );
        module.define_function(f, &mut context).unwrap();
        module.finalize_definitions().unwrap();
        call(&module, f, 6, 7)
    };
    assert_eq!((run("one"), run("two"), run("one")), (6, 7, 6));
}

struct Source(&'static str);

impl Unit for Source {
    fn name(&self) -> &str {
        "f"
    }

    fn key(&self, key: FingerprintBuilder) -> FingerprintBuilder {
        key.part("source", self.0)
    }
}

#[test]
fn a_front_end_that_asks_first_builds_nothing_the_second_time() {
    let store = memory_store();
    for built in [true, false] {
        let jit = jit(&store, &[]);
        let mut module = JitModule::new(&jit);
        let mul = module.declare_function("host_mul", Linkage::Import, &binary()).unwrap();
        let f = module.declare_function("f", Linkage::Export, &binary()).unwrap();
        let source = Source("a * b");
        let found = module.define_stored(f, &source).unwrap();
        assert_eq!(found, !built);
        if !found {
            let mut context = module.make_context();
            let callee = module.declare_func_in_func(mul, &mut context.func);
            build(
                &mut context,
                |builder, values| {
                    let call = builder.ins().call(callee, values);
                    let result = builder.inst_results(call)[0];
                    builder.ins().return_(&[result]);
                },
                &module,
            );
            module.define_function_as(f, &source, &mut context).unwrap();
        }
        module.finalize_definitions().unwrap();
        assert_eq!(call(&module, f, 6, 7), 42);
    }
    // What it refers to is not declared: it is not found, and nothing is wrong.
    let mut module = JitModule::new(&jit(&store, &[]));
    let f = module.declare_function("f", Linkage::Export, &binary()).unwrap();
    assert!(!module.define_stored(f, &Source("a * b")).unwrap());
}

#[test]
fn batches_of_a_module_refer_to_each_other() {
    let jit = jit(&memory_store(), &[]);
    let mut module = JitModule::new(&jit);
    let program = program(&mut module);
    let later = module.declare_function("later", Linkage::Export, &binary()).unwrap();
    let mut context = module.make_context();
    let callee = module.declare_func_in_func(program.outer, &mut context.func);
    build(
        &mut context,
        |builder, values| {
            let call = builder.ins().call(callee, values);
            let result = builder.inst_results(call)[0];
            builder.ins().return_(&[result]);
        },
        &module,
    );
    module.define_function(later, &mut context).unwrap();
    module.finalize_definitions().unwrap();
    assert_eq!(call(&module, later, 2, 3), 39);
    let location = jit.locate(module.get_finalized_function(later) as usize).unwrap();
    assert_eq!((&*location.function, location.offset), ("later", 0));
}

#[test]
fn an_import_is_refused_by_name_unless_it_is_listed_with_its_signature() {
    let jit = jit(&memory_store(), &[]);
    let mut module = JitModule::new(&jit);
    let mut other = binary();
    other.params.push(AbiParam::new(I64));
    match module.declare_function("host_mul", Linkage::Import, &other) {
        Err(ModuleError::IncompatibleSignature(name, ..)) => assert_eq!(name, "host_mul"),
        result => panic!("{result:?}"),
    }
    let unlisted = module.declare_function("getenv", Linkage::Import, &binary()).unwrap();
    let f = module.declare_function("f", Linkage::Export, &binary()).unwrap();
    let mut context = module.make_context();
    let callee = module.declare_func_in_func(unlisted, &mut context.func);
    build(
        &mut context,
        |builder, values| {
            let call = builder.ins().call(callee, values);
            let result = builder.inst_results(call)[0];
            builder.ins().return_(&[result]);
        },
        &module,
    );
    module.define_function(f, &mut context).unwrap();
    let error = module.finalize_definitions().unwrap_err();
    let ModuleError::Backend(error) = &error else { panic!("{error:?}") };
    match error.downcast_ref::<Error>() {
        Some(Error::NotListed { function, symbol }) => assert_eq!((&**function, &**symbol), ("f", "getenv")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_declared_and_not_defined_is_an_error_that_names_both() {
    let jit = jit(&memory_store(), &[]);
    let mut module = JitModule::new(&jit);
    let missing = module.declare_function("missing", Linkage::Local, &binary()).unwrap();
    let data = module.declare_data("holder", Linkage::Export, false, false).unwrap();
    let mut description = DataDescription::new();
    description.define_zeroinit(8);
    let in_data = module.declare_func_in_data(missing, &mut description);
    description.write_function_addr(0, in_data);
    module.define_data(data, &description).unwrap();
    let message = module.finalize_definitions().unwrap_err().to_string();
    assert!(message.contains("`holder`") && message.contains("`missing`"), "{message}");
    // Once it is defined, all is well.
    let mut context = module.make_context();
    build(
        &mut context,
        |builder, values| {
            builder.ins().return_(&[values[0]]);
        },
        &module,
    );
    module.define_function(missing, &mut context).unwrap();
    module.finalize_definitions().unwrap();
    // SAFETY: The data is 8 bytes, and nothing writes to it.
    #[allow(unsafe_code)]
    let held = unsafe { module.get_finalized_data(data).0.cast::<*const u8>().read() };
    assert_eq!(held, module.get_finalized_function(missing));
}

#[test]
fn a_second_definition_is_refused() {
    let jit = jit(&memory_store(), &[]);
    let mut module = JitModule::new(&jit);
    let f = module.declare_function("f", Linkage::Export, &binary()).unwrap();
    let mut context = module.make_context();
    build(
        &mut context,
        |builder, values| {
            builder.ins().return_(&[values[0]]);
        },
        &module,
    );
    module.define_function(f, &mut context).unwrap();
    assert!(matches!(module.define_function(f, &mut context), Err(ModuleError::DuplicateDefinition(_))));
    let import = module.declare_function("host_mul", Linkage::Import, &binary()).unwrap();
    assert!(matches!(module.define_function(import, &mut context), Err(ModuleError::InvalidImportDefinition(_))));
}

/// `mov rax, rdi; imul rax, rsi; ret`, and a jump to a function of the host.
#[test]
#[cfg(target_arch = "x86_64")]
fn bytes_and_relocations_of_ones_own_are_linked() {
    use cranelift_codegen::binemit::Reloc;
    let jit = jit(&memory_store(), &[]);
    let mut module = JitModule::new(&jit);
    let f = module.declare_function("f", Linkage::Export, &binary()).unwrap();
    let g = module.declare_function("g", Linkage::Export, &binary()).unwrap();
    let mul = module.declare_function("host_mul", Linkage::Import, &binary()).unwrap();
    module.define_function_bytes(f, 16, &[0x48, 0x89, 0xf8, 0x48, 0x0f, 0xaf, 0xc6, 0xc3], &[]).unwrap();
    let jump = ModuleReloc { offset: 1, kind: Reloc::X86PCRel4, name: mul.into(), addend: -4 };
    module.define_function_bytes(g, 1, &[0xe9, 0, 0, 0, 0], std::slice::from_ref(&jump)).unwrap();
    let h = module.declare_function("h", Linkage::Export, &binary()).unwrap();
    let outside = ModuleReloc { offset: 2, ..jump };
    assert!(module.define_function_bytes(h, 1, &[0xe9, 0, 0, 0, 0], &[outside]).is_err());
    module.finalize_definitions().unwrap();
    assert_eq!((call(&module, f, 6, 7), call(&module, g, 6, 7)), (42, host_mul(6, 7)));
}

#[test]
fn freeing_the_memory_gives_it_back_and_dropping_does_not() {
    let jit = jit(&memory_store(), &[]);
    let mut module = JitModule::new(&jit);
    let program_of_module = program(&mut module);
    let bytes = jit.stats().page_bytes;
    assert!(bytes > 0);
    let mut other = JitModule::new(&jit);
    program(&mut other);
    // SAFETY: Nothing of it is running, or called after this.
    #[allow(unsafe_code)]
    unsafe {
        other.free_memory();
    }
    assert_eq!(jit.stats().page_bytes, bytes);
    let outer = module.get_finalized_function(program_of_module.outer);
    drop((module, jit));
    // SAFETY: The module was dropped and not freed, so its code is where it was.
    #[allow(unsafe_code)]
    let function = unsafe { std::mem::transmute::<*const u8, extern "C" fn(i64, i64) -> i64>(outer) };
    assert_eq!(function(2, 3), 39);
}
