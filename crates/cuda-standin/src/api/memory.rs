//! Allocation of device and host memory, and what an address is.
#![expect(unsafe_code, reason = "exports C functions")]

use crate::api::argument::{In, Out};
use crate::api::entry::Call;
use crate::code::Code;
use std::ffi::{c_int, c_uint, c_void};

calls! {
    cuMemAlloc_v2(address: Out<u64>, bytes: usize) Current |call| {
        call.refuse_unsafe_in_capture()?;
        let (context, name) = (call.context, call.name);
        let allocated = call.allocate(context, bytes as u64, name)?;
        address.put(allocated)
    }

    cuMemFree_v2(address: u64) ToFree |call| {
        if address == 0 {
            return Ok(());
        }
        call.refuse_unsafe_in_capture()?;
        let context = call.context;
        let (owner, waits) = call.check_free(address, context)?;
        if waits {
            call.wait_for_context(owner)?;
        }
        call.free_now(address, "cuMemFree_v2");
        Ok(())
    }

    cuMemAllocAsync(address: Out<u64>, bytes: usize, stream: u64) Current |call| {
        let (stream, name) = (call.stream_of(stream)?, call.name);
        let allocated = call.allocate_on(stream, bytes as u64, name)?;
        address.put(allocated)
    }

    cuMemFreeAsync(address: u64, stream: u64) ToFree |call| {
        let stream = call.stream_of(stream)?;
        call.free_on(stream, address)
    }

    cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) Current |call| {
        let device = call.contexts[&call.context].device as usize;
        let all = call.settings.vram_bytes;
        free.put((all - call.devices[device].used_bytes.min(all)) as usize)?;
        total.put(all as usize)
    }

    cuMemGetAddressRange_v2(base: Out<u64>, bytes: Out<usize>, address: u64) Current |call| {
        let (start, block) = call.space.find(&(address..address.saturating_add(1))).ok_or(Code::NOT_FOUND)?;
        base.put_if_asked(start);
        bytes.put_if_asked(block.bytes as usize);
        Ok(())
    }

    cuMemAllocHost_v2(address: Out<u64>, bytes: usize) Current |call| {
        allocate_host(call, address, bytes, 0)
    }

    cuMemHostAlloc(address: Out<u64>, bytes: usize, flags: c_uint) Current |call| {
        allocate_host(call, address, bytes, flags)
    }

    cuMemFreeHost(address: u64) ToFree |call| {
        call.refuse_unsafe_in_capture()?;
        call.free_host(address, false)
    }

    cuMemHostRegister_v2(address: u64, bytes: usize, flags: c_uint) Current |call| {
        call.refuse_unsafe_in_capture()?;
        let context = call.context;
        call.register_host(context, address, bytes as u64, flags)
    }

    cuMemHostUnregister(address: u64) ToFree |call| {
        call.refuse_unsafe_in_capture()?;
        call.free_host(address, true)
    }

    cuMemHostGetDevicePointer_v2(device: Out<u64>, host: u64, _flags: c_uint) Current |call| {
        call.host.find(&(host..host.saturating_add(1))).ok_or(Code::INVALID_VALUE)?;
        device.put(host)
    }

    cuMemHostGetFlags(flags: Out<c_uint>, host: u64) Current |call| {
        let (_, locked) = call.host.find(&(host..host.saturating_add(1))).ok_or(Code::INVALID_VALUE)?;
        flags.put(locked.flags)
    }

    cuPointerGetAttribute(data: Out<c_void>, attribute: c_uint, address: u64) Initialized |call| {
        pointer_attribute(call, data, attribute, address)
    }

    cuPointerGetAttributes(count: c_uint, attributes: In<c_uint>, data: In<Out<c_void>>, address: u64) Initialized |call| {
        for at in 0..count as usize {
            // Each that does not apply is left 0; only an unknown one fails the call.
            if let Err(Code::NOT_SUPPORTED) = pointer_attribute(call, data.at(at)?, attributes.at(at)?, address) {
                return Err(Code::INVALID_VALUE);
            }
        }
        Ok(())
    }
}

fn allocate_host(call: &mut Call, address: Out<u64>, bytes: usize, flags: c_uint) -> Result<(), Code> {
    call.refuse_unsafe_in_capture()?;
    let context = call.context;
    let allocated = call.allocate_host(context, bytes as u64, flags)?;
    address.put(allocated)
}

fn pointer_attribute(call: &Call, data: Out<c_void>, attribute: c_uint, address: u64) -> Result<(), Code> {
    const HOST: c_uint = 1;
    const DEVICE: c_uint = 2;
    let range = address..address.saturating_add(1);
    let device = call.space.find(&range).map(|(start, block)| (start, block.bytes, block.context, DEVICE));
    let host = call.host.find(&range).map(|(start, locked)| (start, locked.bytes, locked.context, HOST));
    let Some((start, bytes, context, kind)) = device.or(host) else { return Err(Code::INVALID_VALUE) };
    let of_pool = call.space.find(&range).is_some_and(|(_, block)| block.call != "cuMemAlloc_v2");
    match attribute {
        1 => data.cast().put(context),
        2 => data.cast().put(kind),
        3 => data.cast().put(address),
        4 if kind == HOST => data.cast().put(address),
        4 => Err(Code::INVALID_VALUE),
        6 | 8 | 10 | 15 => data.cast().put(false),
        7 => data.cast().put(start),
        9 => data.cast().put(call.contexts.get(&context).map_or(0, |context| context.device as c_int)),
        11 => data.cast().put(start),
        12 => data.cast().put(bytes as usize),
        13 => data.cast().put(true),
        16 => data.cast().put(3_u32),
        17 if of_pool => data.cast().put(crate::api::pool::default_pool(call, context)),
        17 => data.cast().put(0_u64),
        _ => Err(Code::NOT_SUPPORTED),
    }
}
