//! `cuCtx*`.
#![expect(unsafe_code, reason = "exports C functions")]

use crate::api::argument::Out;
use crate::api::entry::{self, Call};
use crate::code::Code;
use std::ffi::{c_int, c_uint, c_ulonglong, c_void};

calls! {
    cuCtxCreate_v2(context: Out<u64>, flags: c_uint, device: c_int) Initialized |call| {
        create(call, context, flags, device)
    }

    cuCtxCreate_v3(context: Out<u64>, _affinity: *mut c_void, _count: c_int, flags: c_uint, device: c_int) Initialized |call| {
        create(call, context, flags, device)
    }

    cuCtxCreate_v4(context: Out<u64>, _parameters: *mut c_void, flags: c_uint, device: c_int) Initialized |call| {
        create(call, context, flags, device)
    }

    cuCtxDestroy_v2(context: u64) Initialized |call| {
        let known = call.contexts.get(&context).map(|context| context.is_primary);
        match known {
            None => return Err(Code::INVALID_CONTEXT),
            Some(true) => {
                call.violation(format!("invalid free: cuCtxDestroy_v2 of primary context {context:#x}"));
                return Err(Code::INVALID_CONTEXT);
            }
            Some(false) => {}
        }
        let _ = call.wait_for_context(context);
        let name = call.name;
        call.end_context(context, name);
        if entry::current() == context {
            entry::pop_current()?;
        }
        Ok(())
    }

    cuCtxGetCurrent(context: Out<u64>) Initialized |_call| {
        context.put(entry::current())
    }

    cuCtxSetCurrent(context: u64) Initialized |call| {
        known(call, context)?;
        entry::set_current(context);
        Ok(())
    }

    cuCtxPushCurrent_v2(context: u64) Initialized |call| {
        known(call, context)?;
        entry::push_current(context)
    }

    cuCtxPopCurrent_v2(context: Out<u64>) Initialized |_call| {
        let popped = entry::pop_current()?;
        context.put_if_asked(popped);
        Ok(())
    }

    cuCtxGetDevice(device: Out<c_int>) Current |call| {
        device.put(call.contexts[&call.context].device as c_int)
    }

    cuCtxGetId(context: u64, id: Out<c_ulonglong>) Initialized |call| {
        let context = if context == 0 { entry::current() } else { context };
        known(call, context)?;
        id.put(context)
    }

    cuCtxGetApiVersion(_context: u64, version: Out<c_uint>) Initialized |_call| {
        version.put(4_000)
    }

    cuCtxGetFlags(flags: Out<c_uint>) Current |call| {
        flags.put(call.contexts[&call.context].flags)
    }

    cuCtxSetFlags(flags: c_uint) Current |call| {
        let context = call.context;
        call.contexts.get_mut(&context).expect("checked on entry").flags = flags;
        Ok(())
    }

    cuCtxSynchronize() Current |call| {
        let (context, name) = (call.context, call.name);
        call.refuse_while_any_captures(context, name)?;
        call.wait_for_context(context)
    }

    cuCtxGetStreamPriorityRange(least: Out<c_int>, greatest: Out<c_int>) Current |_call| {
        least.put_if_asked(0);
        greatest.put_if_asked(-5);
        Ok(())
    }

    cuCtxGetLimit(value: Out<usize>, limit: c_uint) Current |call| {
        value.put(call.contexts[&call.context].limits.get(&limit).copied().unwrap_or(default_limit(limit)?))
    }

    cuCtxSetLimit(limit: c_uint, value: usize) Current |call| {
        default_limit(limit)?;
        let context = call.context;
        call.contexts.get_mut(&context).expect("checked on entry").limits.insert(limit, value);
        Ok(())
    }

    cuCtxGetCacheConfig(config: Out<c_uint>) Current |call| {
        config.put(call.contexts[&call.context].cache_config)
    }

    cuCtxSetCacheConfig(config: c_uint) Current |call| {
        let context = call.context;
        call.contexts.get_mut(&context).expect("checked on entry").cache_config = config;
        Ok(())
    }

    cuCtxResetPersistingL2Cache() Current |_call| {
        Ok(())
    }

    cuProfilerStart() Current |_call| {
        Ok(())
    }

    cuProfilerStop() Current |_call| {
        Ok(())
    }
}

fn create(call: &mut Call, context: Out<u64>, flags: c_uint, device: c_int) -> Result<(), Code> {
    let device = call.check_device(device)?;
    let created = call.create_context(device, false, flags)?;
    context.put(created)?;
    entry::push_current(created)
}

/// A context that a thread may make current; 0 is none.
fn known(call: &mut Call, context: u64) -> Result<(), Code> {
    if context == 0 || call.contexts.contains_key(&context) {
        return Ok(());
    }
    let name = call.name;
    call.violation(format!("context: {name} of context {context:#x}, which is destroyed or was never one"));
    Err(Code::CONTEXT_IS_DESTROYED)
}

fn default_limit(limit: c_uint) -> Result<usize, Code> {
    Ok(match limit {
        0 => 1_024,
        1 => 1 << 20,
        2 => 8 << 20,
        3 => 2,
        4 => 2_048,
        5 => 128,
        6 => 0,
        _ => return Err(Code::UNSUPPORTED_LIMIT),
    })
}
