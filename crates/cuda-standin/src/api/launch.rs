//! Launching kernels.
#![expect(unsafe_code, reason = "exports C functions")]

use crate::api::argument::{Arguments, In, number, packed};
use crate::api::entry::Call;
use crate::code::Code;
use crate::model::shadow::Cause;
use crate::model::submit::Request;
use std::ffi::{c_uint, c_void};

/// `CUlaunchConfig`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LaunchConfig {
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared_bytes: c_uint,
    stream: u64,
    attributes: *const c_void,
    attribute_count: c_uint,
}

calls! {
    cuLaunchKernel(
        function: u64,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        _shared_bytes: c_uint,
        stream: u64,
        arguments: Arguments,
        extra: In<usize>,
    ) Current |call| {
        launch(call, function, [grid_x, grid_y, grid_z, block_x, block_y, block_z], stream, arguments, Some(extra))
    }

    cuLaunchCooperativeKernel(
        function: u64,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        _shared_bytes: c_uint,
        stream: u64,
        arguments: Arguments,
    ) Current |call| {
        launch(call, function, [grid_x, grid_y, grid_z, block_x, block_y, block_z], stream, arguments, None)
    }

    cuLaunchKernelEx(config: In<LaunchConfig>, function: u64, arguments: Arguments, extra: In<usize>) Current |call| {
        let config = config.at(0)?;
        let ([a, b, c], [d, e, f]) = (config.grid, config.block);
        launch(call, function, [a, b, c, d, e, f], config.stream, arguments, Some(extra))
    }
}

fn launch(
    call: &mut Call,
    function: u64,
    shape: [c_uint; 6],
    stream: u64,
    arguments: Arguments,
    extra: Option<In<usize>>,
) -> Result<(), Code> {
    let (stream, name, current) = (call.stream_of(stream)?, call.name, call.context);
    let found = call.function(function, name)?;
    let (module, kernel, builtin, widths) = (found.module, found.name.clone(), found.builtin, found.widths.clone());
    let owner = call.modules[&module].context;
    if owner != current {
        call.violation(format!(
            "context: {name} of kernel {kernel} of context {owner:#x} while context {current:#x} is current"
        ));
        return Err(Code::INVALID_HANDLE);
    }
    let threads: u64 = shape[3..].iter().map(|n| u64::from(*n)).product();
    if shape.contains(&0) || threads > 1_024 {
        return Err(Code::INVALID_VALUE);
    }
    // What a kernel of another name does is not known.
    let builtin = builtin.ok_or(Code::NOT_SUPPORTED)?;
    let numbers = match extra {
        Some(extra) if arguments.is_null() && !extra.is_null() => packed(extra, &widths)?,
        _ => {
            widths.iter().enumerate().map(|(at, width)| number(arguments.at(at)?, *width)).collect::<Result<_, _>>()?
        }
    };
    let launch = builtin.launch(&numbers)?;
    let cause = Cause { call: name, kernel: Some(kernel) };
    call.submit(stream, cause, Request::Kernel { launch, module }, vec![]).map(drop)
}
