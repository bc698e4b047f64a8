//! Calls code of any signature, with values in memory, and finds out how it traps.
#![allow(unsafe_code, clippy::multiple_unsafe_ops_per_block, reason = "calls compiled code, and forks to see it trap")]

use cranelift_codegen::data_value::DataValue;
use cranelift_codegen::ir::{AbiParam, Function, InstBuilder, MemFlagsData, Signature, types::I64};
use cranelift_codegen::isa::{CallConv, TargetIsa};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use hapax_cranelift::{CodePtr, Jit};
use std::sync::atomic::{AtomicI32, Ordering};

/// A place in memory for any value.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(16))]
struct Slot([u8; 16]);

/// `(callee, slots)`: loads the arguments from the slots, calls, and stores the results over them.
pub fn trampoline(signature: &Signature, isa: &dyn TargetIsa) -> Function {
    let mut function = Function::new();
    function.signature = Signature::new(CallConv::triple_default(isa.triple()));
    function.signature.params = vec![AbiParam::new(I64); 2];
    let mut context = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(&mut function, &mut context);
    let block = builder.create_block();
    builder.append_block_params_for_function_params(block);
    builder.switch_to_block(block);
    builder.seal_block(block);
    let (callee, slots) = (builder.block_params(block)[0], builder.block_params(block)[1]);
    let callee_signature = builder.import_signature(signature.clone());
    let place = |at: usize| i32::try_from(at * size_of::<Slot>()).unwrap();
    let mut arguments = Vec::new();
    for (at, parameter) in signature.params.iter().enumerate() {
        let value = builder.ins().load(parameter.value_type, MemFlagsData::trusted(), slots, place(at));
        arguments.push(value);
    }
    let call = builder.ins().call_indirect(callee_signature, callee, &arguments);
    let results = builder.inst_results(call).to_vec();
    for (at, result) in results.into_iter().enumerate() {
        builder.ins().store(MemFlagsData::trusted(), result, slots, place(at));
    }
    builder.ins().return_(&[]);
    builder.finalize(isa.frontend_config());
    function
}

/// Calls the code with these arguments.
pub fn call(trampoline: &CodePtr, code: &CodePtr, signature: &Signature, arguments: &[DataValue]) -> Vec<DataValue> {
    assert_eq!(arguments.len(), signature.params.len());
    let mut slots = vec![Slot::default(); signature.params.len().max(signature.returns.len()).max(1)];
    for (slot, argument) in slots.iter_mut().zip(arguments) {
        argument.write_to_slice_le(&mut slot.0);
    }
    // SAFETY: `trampoline` has made a function of two pointers in the platform's calling convention, which outlives the
    // call. It reads and writes as many slots as the signature has parameters and results, and calls code of exactly
    // that signature. What that code does is the file's business.
    let enter = unsafe { trampoline.as_fn::<extern "C" fn(*const u8, *mut Slot)>() };
    enter(code.as_ptr(), slots.as_mut_ptr());
    let typed = signature.returns.iter().zip(&slots);
    typed.map(|(result, slot)| DataValue::read_from_slice_le(&slot.0, result.value_type)).collect()
}

static PIPE: AtomicI32 = AtomicI32::new(-1);

/// Where in a context the instruction pointer is.
fn instruction_pointer(context: &libc::ucontext_t) -> usize {
    #[cfg(target_arch = "x86_64")]
    return context.uc_mcontext.gregs[libc::REG_RIP as usize] as usize;
    #[cfg(target_arch = "aarch64")]
    return context.uc_mcontext.pc as usize;
}

/// Sends the address of the instruction that trapped, and ends the process.
extern "C" fn on_trap(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: The kernel gives a pointer to the context to handlers that were set with `SA_SIGINFO`.
    let at = instruction_pointer(unsafe { &*context.cast() });
    // SAFETY: `write` and `_exit` may be called in a handler; the bytes live on this stack.
    unsafe {
        libc::write(PIPE.load(Ordering::Relaxed), (&raw const at).cast(), size_of::<usize>());
        libc::_exit(0);
    }
}

/// How the call ends: `%function trap`, or what it returns. The call is made in a process of its own.
pub fn trap_of(
    jit: &Jit,
    trampoline: &CodePtr,
    code: &CodePtr,
    signature: &Signature,
    arguments: &[DataValue],
) -> String {
    let mut pipe = [0; 2];
    // SAFETY: `pipe` has room for two descriptors.
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
    PIPE.store(pipe[1], Ordering::Relaxed);
    // SAFETY: The child calls compiled code and functions that may be called in a handler, and ends.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        for signal in [libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSEGV] {
            // SAFETY: Zeros are a valid `sigaction`; the handler has the signature that `SA_SIGINFO` asks for.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_trap as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO;
                libc::sigaction(signal, &action, std::ptr::null_mut());
            }
        }
        call(trampoline, code, signature, arguments);
        // SAFETY: Ends the child without running what its parent registered.
        unsafe { libc::_exit(1) };
    }
    let mut at = 0usize;
    // SAFETY: `at` has room for the bytes; the descriptors are this function's own; the child is its child.
    let read = unsafe {
        libc::close(pipe[1]);
        let read = libc::read(pipe[0], (&raw mut at).cast(), size_of::<usize>());
        libc::close(pipe[0]);
        libc::waitpid(child, std::ptr::null_mut(), 0);
        read
    };
    if read != size_of::<usize>() as isize {
        return "returned".to_owned();
    }
    match jit.locate(at) {
        Some(location) => {
            format!("{} {}", location.function, location.trap.map_or("no trap".to_owned(), |trap| trap.to_string()))
        }
        None => format!("trapped outside, at {at:#x}"),
    }
}
