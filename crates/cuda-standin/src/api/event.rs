//! `cuEvent*`.
#![expect(unsafe_code, reason = "exports C functions")]

use crate::api::argument::Out;
use crate::api::entry::Call;
use crate::code::Code;
use std::ffi::c_uint;

calls! {
    cuEventCreate(event: Out<u64>, flags: c_uint) Current |call| {
        let context = call.context;
        let created = call.create_event(context, flags);
        event.put(created)
    }

    cuEventDestroy_v2(event: u64) Current |call| {
        known(call, event)?;
        call.destroy_event(event)
    }

    cuEventRecord(event: u64, stream: u64) Current |call| {
        record(call, event, stream)
    }

    cuEventRecordWithFlags(event: u64, stream: u64, _flags: c_uint) Current |call| {
        record(call, event, stream)
    }

    cuEventQuery(event: u64) Initialized |call| {
        known(call, event)?;
        call.refuse_unsafe_in_capture()?;
        let name = call.name;
        match call.event_mark(event, name)? {
            Some((epoch, clock)) => call.query(epoch, &clock),
            None => Ok(()),
        }
    }

    cuEventSynchronize(event: u64) Initialized |call| {
        known(call, event)?;
        call.refuse_unsafe_in_capture()?;
        let name = call.name;
        if let Some((epoch, clock)) = call.event_mark(event, name)? {
            call.wait(epoch, &clock)?;
        }
        let context = call.context;
        call.lost_code(context).map_or(Ok(()), Err)
    }

    cuEventElapsedTime(milliseconds: Out<f32>, start: u64, end: u64) Initialized |call| {
        elapsed(call, milliseconds, start, end)
    }

    cuEventElapsedTime_v2(milliseconds: Out<f32>, start: u64, end: u64) Initialized |call| {
        elapsed(call, milliseconds, start, end)
    }
}

/// An event says which context it is of; no context has to be current to ask it.
fn known(call: &mut Call, event: u64) -> Result<(), Code> {
    match call.events.get(&event) {
        Some(found) => call.context = found.context,
        None => {
            let name = call.name;
            call.violation(format!("invalid handle: {name} of event {event:#x}, which does not exist"));
            return Err(Code::INVALID_HANDLE);
        }
    }
    Ok(())
}

fn record(call: &mut Call, event: u64, stream: u64) -> Result<(), Code> {
    let (stream, name) = (call.stream_of(stream)?, call.name);
    let current = call.context;
    known(call, event)?;
    call.context = current;
    call.record(event, stream, name)
}

fn elapsed(call: &mut Call, milliseconds: Out<f32>, start: u64, end: u64) -> Result<(), Code> {
    known(call, start)?;
    known(call, end)?;
    let name = call.name;
    let elapsed = call.elapsed_ms(start, end, name)?;
    milliseconds.put(elapsed)
}
