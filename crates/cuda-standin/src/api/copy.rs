//! Copies and fills.
#![expect(unsafe_code, reason = "exports C functions")]

use crate::api::entry::Call;
use crate::code::Code;
use crate::model::shadow::Cause;
use crate::model::submit::{Copy, End, Request};
use crate::settings::Pageable;
use std::ffi::{c_uchar, c_uint, c_ushort};

calls! {
    cuMemcpyHtoD_v2(to: u64, from: u64, bytes: usize) Current |call| {
        copy_now(call, End::Device(to), End::Host(from), bytes)
    }

    cuMemcpyDtoH_v2(to: u64, from: u64, bytes: usize) Current |call| {
        copy_now(call, End::Host(to), End::Device(from), bytes)
    }

    cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) Current |call| {
        copy_now(call, End::Device(to), End::Device(from), bytes)
    }

    cuMemcpy(to: u64, from: u64, bytes: usize) Current |call| {
        copy_now(call, End::Any(to), End::Any(from), bytes)
    }

    cuMemcpyPeer(to: u64, _to_context: u64, from: u64, _from_context: u64, bytes: usize) Current |call| {
        copy_now(call, End::Device(to), End::Device(from), bytes)
    }

    cuMemcpyHtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: u64) Current |call| {
        copy_on(call, stream, End::Device(to), End::Host(from), bytes)
    }

    cuMemcpyDtoHAsync_v2(to: u64, from: u64, bytes: usize, stream: u64) Current |call| {
        copy_on(call, stream, End::Host(to), End::Device(from), bytes)
    }

    cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: u64) Current |call| {
        copy_on(call, stream, End::Device(to), End::Device(from), bytes)
    }

    cuMemcpyAsync(to: u64, from: u64, bytes: usize, stream: u64) Current |call| {
        copy_on(call, stream, End::Any(to), End::Any(from), bytes)
    }

    cuMemcpyPeerAsync(to: u64, _to_context: u64, from: u64, _from_context: u64, bytes: usize, stream: u64) Current |call| {
        copy_on(call, stream, End::Device(to), End::Device(from), bytes)
    }

    cuMemsetD8_v2(to: u64, value: c_uchar, count: usize) Current |call| {
        fill(call, 0, to, &value.to_le_bytes(), count)
    }

    cuMemsetD16_v2(to: u64, value: c_ushort, count: usize) Current |call| {
        fill(call, 0, to, &value.to_le_bytes(), count)
    }

    cuMemsetD32_v2(to: u64, value: c_uint, count: usize) Current |call| {
        fill(call, 0, to, &value.to_le_bytes(), count)
    }

    cuMemsetD8Async(to: u64, value: c_uchar, count: usize, stream: u64) Current |call| {
        fill(call, stream, to, &value.to_le_bytes(), count)
    }

    cuMemsetD16Async(to: u64, value: c_ushort, count: usize, stream: u64) Current |call| {
        fill(call, stream, to, &value.to_le_bytes(), count)
    }

    cuMemsetD32Async(to: u64, value: c_uint, count: usize, stream: u64) Current |call| {
        fill(call, stream, to, &value.to_le_bytes(), count)
    }
}

/// A copy on the legacy stream that, as far as CUDA promises, is over when the call returns.
fn copy_now(call: &mut Call, to: End, from: End, bytes: usize) -> Result<(), Code> {
    let (stream, bytes) = (call.stream_of(0)?, bytes as u64);
    if bytes == 0 {
        return Ok(());
    }
    let is_device = |call: &Call, end: End| call.space.find(&(end.address()..end.address() + 1)).is_some();
    let source = from.address()..from.address().saturating_add(bytes);
    let (from_host, to_host) = (!is_device(call, from), !is_device(call, to));
    if from_host {
        // The stream is waited for before the source is taken.
        let cause = Cause { call: call.name, kernel: None };
        call.submit(stream, cause, Request::Nothing, vec![])?;
        call.wait_for_stream(stream)?;
    }
    submit(call, stream, to, from, bytes, false)?;
    // From pageable memory, the call returns once the bytes are staged: nothing says that they have arrived. A copy
    // within the device is not waited for at all.
    if to_host || (from_host && call.host.find(&source).is_some()) {
        call.wait_for_stream(stream)?;
    }
    Ok(())
}

fn copy_on(call: &mut Call, stream: u64, to: End, from: End, bytes: usize) -> Result<(), Code> {
    let (stream, bytes) = (call.stream_of(stream)?, bytes as u64);
    if bytes == 0 {
        return Ok(());
    }
    let captured = submit(call, stream, to, from, bytes, true)?;
    let target = to.address()..to.address().saturating_add(bytes);
    let to_pageable = !call.is_memory(&target);
    if to_pageable && !captured && call.settings.pageable == Pageable::Staged {
        call.wait_for_stream(stream)?;
    }
    Ok(())
}

/// `true`: a capture took it.
fn submit(call: &mut Call, stream: u64, to: End, from: End, bytes: u64, asynchronous: bool) -> Result<bool, Code> {
    let cause = Cause { call: call.name, kernel: None };
    let request = Request::Copy(Copy { to, from, bytes, asynchronous });
    Ok(call.submit(stream, cause, request, vec![])?.is_none())
}

fn fill(call: &mut Call, stream: u64, to: u64, pattern: &[u8], count: usize) -> Result<(), Code> {
    let stream = call.stream_of(stream)?;
    let bytes = (count as u64).checked_mul(pattern.len() as u64).ok_or(Code::INVALID_VALUE)?;
    if to % pattern.len() as u64 != 0 {
        return Err(Code::INVALID_VALUE);
    }
    if bytes == 0 {
        return Ok(());
    }
    let cause = Cause { call: call.name, kernel: None };
    call.submit(stream, cause, Request::Fill { to, pattern: pattern.to_vec(), bytes }, vec![]).map(drop)
}
