//! Stream capture and `cuGraph*`.
#![expect(unsafe_code, reason = "exports C functions")]

use crate::api::argument::Out;
use crate::api::entry::{self, Call};
use crate::code::Code;
use crate::model::capture::CaptureMode;
use std::ffi::{c_char, c_uint, c_ulonglong, c_void};

calls! {
    cuStreamBeginCapture_v2(stream: u64, mode: c_uint) Current |call| {
        let (stream, thread) = (call.stream_of(stream)?, call.thread);
        call.begin_capture(stream, CaptureMode::from_raw(mode)?, thread)
    }

    cuStreamEndCapture(stream: u64, graph: Out<u64>) Current |call| {
        let (stream, thread) = (call.stream_of(stream)?, call.thread);
        graph.put_if_asked(0);
        let captured = call.end_capture(stream, thread)?;
        graph.put(captured)
    }

    cuStreamIsCapturing(stream: u64, status: Out<c_uint>) Current |call| {
        let stream = call.stream_of(stream)?;
        call.tell_implicit_capture(stream)?;
        status.put(call.capture_status(stream).0)
    }

    cuStreamGetCaptureInfo(stream: u64, status: Out<c_uint>, id: Out<c_ulonglong>) Current |call| {
        capture_info(call, stream, status, id)
    }

    cuStreamGetCaptureInfo_v2(
        stream: u64,
        status: Out<c_uint>,
        id: Out<c_ulonglong>,
        graph: Out<u64>,
        dependencies: Out<u64>,
        count: Out<usize>,
    ) Current |call| {
        graph.put_if_asked(0);
        dependencies.put_if_asked(0);
        count.put_if_asked(0);
        capture_info(call, stream, status, id)
    }

    cuStreamGetCaptureInfo_v3(
        stream: u64,
        status: Out<c_uint>,
        id: Out<c_ulonglong>,
        graph: Out<u64>,
        dependencies: Out<u64>,
        edges: Out<u64>,
        count: Out<usize>,
    ) Current |call| {
        graph.put_if_asked(0);
        dependencies.put_if_asked(0);
        edges.put_if_asked(0);
        count.put_if_asked(0);
        capture_info(call, stream, status, id)
    }

    cuThreadExchangeStreamCaptureMode(mode: Out<c_uint>) Initialized |_call| {
        let wanted = mode.get()?;
        mode.put(entry::exchange_capture_mode(wanted)?)
    }

    cuGraphInstantiateWithFlags(executable: Out<u64>, graph: u64, _flags: c_ulonglong) Current |call| {
        instantiate(call, executable, graph)
    }

    cuGraphInstantiate_v2(
        executable: Out<u64>,
        graph: u64,
        _error_node: *mut c_void,
        _log: *mut c_char,
        _room: usize,
    ) Current |call| {
        instantiate(call, executable, graph)
    }

    cuGraphUpload(executable: u64, stream: u64) Current |call| {
        call.stream_of(stream)?;
        call.executables.get(&executable).map(drop).ok_or(Code::INVALID_HANDLE)
    }

    cuGraphLaunch(executable: u64, stream: u64) Current |call| {
        let (stream, name) = (call.stream_of(stream)?, call.name);
        let graph = call.executables.get(&executable).cloned().ok_or(Code::INVALID_HANDLE)?;
        call.launch_graph(&graph, stream, name)
    }

    cuGraphGetNodes(graph: u64, nodes: Out<u64>, count: Out<usize>) Current |call| {
        if !nodes.is_null() {
            return Err(Code::NOT_SUPPORTED);
        }
        count.put(call.graphs.get(&graph).ok_or(Code::INVALID_HANDLE)?.nodes())
    }

    cuGraphDestroy(graph: u64) Initialized |call| {
        call.graphs.remove(&graph).map(drop).ok_or(Code::INVALID_HANDLE)
    }

    cuGraphExecDestroy(executable: u64) Initialized |call| {
        call.executables.remove(&executable).map(drop).ok_or(Code::INVALID_HANDLE)
    }
}

fn capture_info(call: &mut Call, stream: u64, status: Out<c_uint>, id: Out<c_ulonglong>) -> Result<(), Code> {
    let stream = call.stream_of(stream)?;
    call.tell_implicit_capture(stream)?;
    let (state, capture) = call.capture_status(stream);
    id.put_if_asked(capture.unwrap_or(0));
    status.put(state)
}

fn instantiate(call: &mut Call, executable: Out<u64>, graph: u64) -> Result<(), Code> {
    let instance = call.graphs.get(&graph).cloned().ok_or(Code::INVALID_HANDLE)?;
    let handle = call.new_handle();
    call.executables.insert(handle, instance);
    executable.put(handle)
}
