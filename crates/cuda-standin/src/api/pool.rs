//! Memory pools: each device has one, which takes and gives without limit; pools of a program's own are the same
//! pool by another name.
#![expect(unsafe_code, reason = "exports C functions")]

use crate::api::argument::Out;
use crate::api::entry::Call;
use crate::code::Code;
use std::ffi::{c_int, c_uint, c_ulonglong, c_void};

const FIRST_DEFAULT: u64 = 0xC0DA_8000_0000;

calls! {
    cuDeviceGetDefaultMemPool(pool: Out<u64>, device: c_int) Initialized |call| {
        let device = call.check_device(device)?;
        pool.put(supported(call, FIRST_DEFAULT + u64::from(device))?)
    }

    cuDeviceGetMemPool(pool: Out<u64>, device: c_int) Initialized |call| {
        let device = call.check_device(device)?;
        pool.put(supported(call, FIRST_DEFAULT + u64::from(device))?)
    }

    cuDeviceSetMemPool(device: c_int, _pool: u64) Initialized |call| {
        call.check_device(device)?;
        supported(call, ())
    }

    cuMemPoolCreate(pool: Out<u64>, _properties: *const c_void) Initialized |call| {
        let handle = call.new_handle();
        pool.put(supported(call, handle)?)
    }

    cuMemPoolDestroy(_pool: u64) Initialized |call| {
        supported(call, ())
    }

    cuMemPoolTrimTo(_pool: u64, _keep: usize) Initialized |call| {
        supported(call, ())
    }

    cuMemPoolGetAttribute(_pool: u64, attribute: c_uint, value: Out<c_void>) Initialized |call| {
        supported(call, ())?;
        match attribute {
            1..=3 => value.cast().put(1_i32),
            4 => value.cast().put(0_u64),
            5..=8 => {
                let of_pools = call.space.iter().filter(|(_, block)| block.call != "cuMemAlloc_v2");
                value.cast().put(of_pools.map(|(_, block)| block.bytes).sum::<u64>() as c_ulonglong)
            }
            _ => Err(Code::INVALID_VALUE),
        }
    }

    cuMemPoolSetAttribute(_pool: u64, attribute: c_uint, _value: *const c_void) Initialized |call| {
        supported(call, ())?;
        if (1..=8).contains(&attribute) { Ok(()) } else { Err(Code::INVALID_VALUE) }
    }

    cuMemAllocFromPoolAsync(address: Out<u64>, bytes: usize, _pool: u64, stream: u64) Current |call| {
        let (stream, name) = (call.stream_of(stream)?, call.name);
        let allocated = call.allocate_on(stream, bytes as u64, name)?;
        address.put(allocated)
    }
}

/// The pool that stream-ordered allocations of a context come from.
pub fn default_pool(call: &Call, context: u64) -> u64 {
    FIRST_DEFAULT + call.contexts.get(&context).map_or(0, |context| u64::from(context.device))
}

fn supported<T>(call: &Call, value: T) -> Result<T, Code> {
    if call.settings.pools { Ok(value) } else { Err(Code::NOT_SUPPORTED) }
}
