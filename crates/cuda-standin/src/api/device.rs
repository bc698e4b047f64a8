//! `cuInit`, `cuDevice*` and primary contexts.
#![expect(unsafe_code, reason = "exports C functions")]

use crate::api::argument::{Out, Text};
use crate::api::entry::Call;
use crate::code::Code;
use std::ffi::{c_char, c_int, c_uint};

calls! {
    cuInit(flags: c_uint) Nothing |call| {
        match call.settings.init() {
            Code::SUCCESS if flags == 0 => call.initialized = true,
            Code::SUCCESS => return Err(Code::INVALID_VALUE),
            code => return Err(code),
        }
        Ok(())
    }

    cuDriverGetVersion(version: Out<c_int>) Nothing |call| {
        version.put(call.settings.version())
    }

    cuDeviceGetCount(count: Out<c_int>) Initialized |call| {
        count.put(call.settings.devices as c_int)
    }

    cuDeviceGet(device: Out<c_int>, ordinal: c_int) Initialized |call| {
        call.check_device(ordinal)?;
        device.put(ordinal)
    }

    cuDeviceGetName(name: Out<c_char>, room: c_int, device: c_int) Initialized |call| {
        call.check_device(device)?;
        name.put_text(&call.settings.name, room)
    }

    cuDeviceGetUuid(uuid: Out<[u8; 16]>, device: c_int) Initialized |call| {
        uuid.put(call.settings.uuid(call.check_device(device)?))
    }

    cuDeviceGetUuid_v2(uuid: Out<[u8; 16]>, device: c_int) Initialized |call| {
        uuid.put(call.settings.uuid(call.check_device(device)?))
    }

    cuDeviceTotalMem_v2(bytes: Out<usize>, device: c_int) Initialized |call| {
        call.check_device(device)?;
        bytes.put(call.settings.vram_bytes as usize)
    }

    cuDeviceGetAttribute(value: Out<c_int>, attribute: c_uint, device: c_int) Initialized |call| {
        let device = call.check_device(device)?;
        value.put(device_attribute(call, attribute, device))
    }

    cuDeviceComputeCapability(major: Out<c_int>, minor: Out<c_int>, device: c_int) Initialized |call| {
        call.check_device(device)?;
        major.put(call.settings.compute.0)?;
        minor.put(call.settings.compute.1)
    }

    cuDeviceGetPCIBusId(id: Out<c_char>, room: c_int, device: c_int) Initialized |call| {
        let device = call.check_device(device)?;
        id.put_text(&format!("0000:{:02x}:00.0", device + 1), room)
    }

    cuDeviceGetByPCIBusId(device: Out<c_int>, id: Text) Initialized |call| {
        let id = id.read()?;
        let bus = id.split(':').nth_back(1).and_then(|bus| c_int::from_str_radix(bus, 16).ok());
        let ordinal = bus.ok_or(Code::INVALID_VALUE)? - 1;
        call.check_device(ordinal)?;
        device.put(ordinal)
    }

    cuDeviceCanAccessPeer(can: Out<c_int>, device: c_int, peer: c_int) Initialized |call| {
        call.check_device(device)?;
        call.check_device(peer)?;
        can.put(0)
    }

    cuDevicePrimaryCtxRetain(context: Out<u64>, device: c_int) Initialized |call| {
        let device = call.check_device(device)?;
        let primary = call.retain_primary(device)?;
        context.put(primary)
    }

    cuDevicePrimaryCtxRelease_v2(device: c_int) Initialized |call| {
        release_primary(call, device)
    }

    cuDevicePrimaryCtxRelease(device: c_int) Initialized |call| {
        release_primary(call, device)
    }

    cuDevicePrimaryCtxReset_v2(device: c_int) Initialized |call| {
        reset_primary(call, device)
    }

    cuDevicePrimaryCtxReset(device: c_int) Initialized |call| {
        reset_primary(call, device)
    }

    cuDevicePrimaryCtxGetState(device: c_int, flags: Out<c_uint>, active: Out<c_int>) Initialized |call| {
        let device = &call.devices[call.check_device(device)? as usize];
        flags.put(device.primary_flags)?;
        active.put(c_int::from(device.primary.is_some()))
    }

    cuDevicePrimaryCtxSetFlags_v2(device: c_int, flags: c_uint) Initialized |call| {
        let device = call.check_device(device)?;
        call.devices[device as usize].primary_flags = flags;
        Ok(())
    }
}

fn release_primary(call: &mut Call, device: c_int) -> Result<(), Code> {
    let device = call.check_device(device)?;
    if let Some(context) = call.release_primary(device)? {
        // Whether it is lost or not, it ends.
        let _ = call.wait_for_context(context);
        let name = call.name;
        call.end_context(context, name);
    }
    Ok(())
}

/// Ends the primary context under its users' feet; they are told by every later call.
fn reset_primary(call: &mut Call, device: c_int) -> Result<(), Code> {
    let device = call.check_device(device)?;
    if let Some(code) = call.devices[device as usize].lost {
        return Err(code);
    }
    call.devices[device as usize].references = 0;
    if let Some(context) = call.devices[device as usize].primary {
        let _ = call.wait_for_context(context);
        call.lose_context(context, Code::CONTEXT_IS_DESTROYED);
        let name = call.name;
        call.end_context(context, name);
    }
    Ok(())
}

/// A plausible data-centre card; what is not named is 0, which is "no" for most attributes.
fn device_attribute(call: &Call, attribute: c_uint, device: u32) -> c_int {
    match attribute {
        1..=3 => 1024,                         // threads in a block, and along x and y
        4 => 64,                               // threads of a block along z
        5 => c_int::MAX,                       // blocks of a grid along x
        6 | 7 => 65_535,                       // blocks of a grid along y and z
        8 => 48 << 10,                         // shared memory of a block
        9 => 64 << 10,                         // constant memory
        10 => 32,                              // warp
        11 => c_int::MAX,                      // pitch
        12 | 82 => 65_536,                     // registers of a block, and of a multiprocessor
        13 | 36 => 1_500_000,                  // clock rates in kHz
        14 | 30 => 512,                        // texture and surface alignment
        15 | 19 | 31 | 41 | 78 | 90 | 99 => 1, // overlap, mapped host memory, concurrent kernels, one address space,
        // stream priorities, preemption, host registration
        16 => 132,                 // multiprocessors
        33 => device as c_int + 1, // PCI bus
        37 => 5_120,               // memory bus width
        38 => 50 << 20,            // L2 cache
        39 => 2_048,               // threads of a multiprocessor
        40 => 3,                   // copy engines
        51 => 32,                  // texture pitch alignment
        75 => call.settings.compute.0,
        76 => call.settings.compute.1,
        81 => 228 << 10, // shared memory of a multiprocessor
        95 => 1,         // cooperative launch
        97 => 227 << 10, // shared memory of a block that asks for more
        106 => 32,       // blocks of a multiprocessor
        111 => 1 << 10,  // reserved shared memory
        115 => c_int::from(call.settings.pools),
        _ => 0,
    }
}
