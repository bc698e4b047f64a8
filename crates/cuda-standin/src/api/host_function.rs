//! The thread that runs host functions: not the program's, as with a real driver, so that no lock which the program
//! holds while it calls the driver is held around a host function. Knows no queue.
#![expect(unsafe_code, reason = "calls the program's host functions")]

use crate::api::entry;
use crate::model::queue::HostCall;
use std::ffi::{c_uint, c_void};
use std::sync::{Condvar, Once, PoisonError};

static WORK: Condvar = Condvar::new();
static STARTED: Once = Once::new();

pub fn start() {
    STARTED.call_once(|| {
        let thread = std::thread::Builder::new().name("cuda-standin".to_owned());
        if let Err(problem) = thread.spawn(run) {
            eprintln!("cuda-standin: no thread for host functions: {problem}");
            std::process::abort();
        }
    });
    WORK.notify_one();
}

fn run() {
    entry::in_host_function(true);
    let mut model = entry::model();
    loop {
        let Some(next) = model.host_calls.pop_front() else {
            model = WORK.wait(model).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let opened = model.host.open_for(&next.known);
        drop(model);
        call(&next);
        model = entry::model();
        model.host.shut_again(&opened);
        model.host_call_over(&next);
        entry::wake_waiters();
    }
}

fn call(next: &HostCall) {
    let argument = next.argument as *mut c_void;
    match next.stream_handle {
        None => {
            // SAFETY: the program passed this function to `cuLaunchHostFunc`, whose parameter has this type.
            let function: unsafe extern "C" fn(*mut c_void) = unsafe { std::mem::transmute(next.function) };
            // SAFETY: called once, on the argument that the program passed with it.
            unsafe { function(argument) };
        }
        Some(stream) => {
            type Callback = unsafe extern "C" fn(*mut c_void, c_uint, *mut c_void);
            // SAFETY: the program passed this function to `cuStreamAddCallback`, whose parameter has this type.
            let callback: Callback = unsafe { std::mem::transmute(next.function) };
            // SAFETY: called once, with the stream and the argument that the program passed with it.
            unsafe { callback(stream as *mut c_void, next.status.0, argument) };
        }
    }
}
