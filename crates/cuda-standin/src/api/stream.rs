//! `cuStream*` but for capture.
#![expect(unsafe_code, reason = "exports C functions")]

use crate::api::argument::Out;
use crate::api::entry::Call;
use crate::code::Code;
use crate::model::clock::Epoch;
use crate::model::queue::{Kind, Stream};
use crate::model::shadow::Cause;
use crate::model::submit::Request;
use std::ffi::{c_int, c_uint, c_ulonglong, c_void};

const NON_BLOCKING: c_uint = 1;

calls! {
    cuStreamCreate(stream: Out<u64>, flags: c_uint) Current |call| {
        create(call, stream, flags, 0)
    }

    cuStreamCreateWithPriority(stream: Out<u64>, flags: c_uint, priority: c_int) Current |call| {
        create(call, stream, flags, priority)
    }

    cuStreamDestroy_v2(stream: u64) Current |call| {
        if stream <= 2 {
            return Err(Code::INVALID_HANDLE);
        }
        let stream = call.stream_of(stream)?;
        call.destroy_stream(stream);
        Ok(())
    }

    cuStreamSynchronize(stream: u64) Current |call| {
        let (stream, name) = (call.stream_of(stream)?, call.name);
        call.refuse_while_capturing(stream, name)?;
        call.refuse_implicit_capture(stream, name)?;
        settle_legacy(call, stream)?;
        call.wait_for_stream(stream)
    }

    cuStreamQuery(stream: u64) Current |call| {
        let (stream, name) = (call.stream_of(stream)?, call.name);
        call.refuse_while_capturing(stream, name)?;
        settle_legacy(call, stream)?;
        let last = Epoch { stream, number: call.streams[&stream].last };
        let clock = call.clock_of(stream);
        call.query(last, &clock)
    }

    cuStreamWaitEvent(stream: u64, event: u64, _flags: c_uint) Current |call| {
        let (stream, name) = (call.stream_of(stream)?, call.name);
        call.wait_event(stream, event, name)
    }

    cuLaunchHostFunc(stream: u64, function: usize, argument: *mut c_void) Current |call| {
        host_function(call, stream, function, argument, false)
    }

    cuStreamAddCallback(stream: u64, callback: usize, argument: *mut c_void, flags: c_uint) Current |call| {
        if flags != 0 {
            return Err(Code::INVALID_VALUE);
        }
        host_function(call, stream, callback, argument, true)
    }

    cuStreamGetFlags(stream: u64, flags: Out<c_uint>) Current |call| {
        let stream = call.stream_of(stream)?;
        flags.put(call.streams[&stream].flags)
    }

    cuStreamGetPriority(stream: u64, priority: Out<c_int>) Current |call| {
        let stream = call.stream_of(stream)?;
        priority.put(call.streams[&stream].priority)
    }

    cuStreamGetId(stream: u64, id: Out<c_ulonglong>) Current |call| {
        let stream = call.stream_of(stream)?;
        id.put(stream)
    }

    cuStreamGetCtx(stream: u64, context: Out<u64>) Current |call| {
        let stream = call.stream_of(stream)?;
        context.put(call.streams[&stream].context)
    }

    cuStreamGetDevice(stream: u64, device: Out<c_int>) Current |call| {
        let stream = call.stream_of(stream)?;
        device.put(call.contexts[&call.streams[&stream].context].device as c_int)
    }

    cuStreamAttachMemAsync(stream: u64, _address: u64, _bytes: usize, _flags: c_uint) Current |call| {
        call.stream_of(stream)?;
        Err(Code::NOT_SUPPORTED)
    }
}

fn create(call: &mut Call, stream: Out<u64>, flags: c_uint, priority: c_int) -> Result<(), Code> {
    let kind = match flags {
        0 => Kind::Blocking,
        NON_BLOCKING => Kind::NonBlocking,
        _ => return Err(Code::INVALID_VALUE),
    };
    let (handle, context) = (call.new_handle(), call.context);
    stream.put(handle)?;
    call.streams.insert(handle, Stream::new(context, kind, flags, priority.clamp(-5, 0)));
    Ok(())
}

/// What the legacy stream's end means includes its blocking peers: an operation there waits for them.
fn settle_legacy(call: &mut Call, stream: u64) -> Result<(), Code> {
    let own = &call.streams[&stream];
    if own.kind != Kind::Legacy {
        return Ok(());
    }
    let peer = |peer: &Stream| peer.context == own.context && peer.is_blocking() && peer.last > 0;
    if call.streams.values().any(peer) {
        let cause = Cause { call: call.name, kernel: None };
        call.submit(stream, cause, Request::Nothing, vec![])?;
    }
    Ok(())
}

fn host_function(
    call: &mut Call,
    handle: u64,
    function: usize,
    argument: *mut c_void,
    with_stream: bool,
) -> Result<(), Code> {
    let stream = call.stream_of(handle)?;
    if function == 0 {
        return Err(Code::INVALID_VALUE);
    }
    let cause = Cause { call: call.name, kernel: None };
    let request = Request::Host { function, argument: argument as usize, stream_handle: with_stream.then_some(handle) };
    call.submit(stream, cause, request, vec![]).map(drop)
}
