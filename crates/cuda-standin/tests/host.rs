//! What happens to the process: device memory faults, and other processes get the stand-in by their environment.
#![expect(unsafe_code, reason = "makes driver calls and reads device memory")]

mod driver;

use crate::driver::{Gpu, call};
use cuda_standin::{Control, Driver, InstallError, Session};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

/// Runs the body in a process of its own, which is this test once more.
fn in_child(test: &str, variables: &[(&str, &str)], body: impl FnOnce()) -> Output {
    const CHILD: &str = "CUDA_STANDIN_TEST_CHILD";
    if std::env::var_os(CHILD).is_some_and(|name| name == test) {
        body();
        std::process::exit(0);
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    command.env_remove("LD_LIBRARY_PATH").env_remove("CUDA_STANDIN").env_remove("CUDA_STANDIN_LIBRARY");
    command.env(CHILD, test).envs(variables.iter().copied()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_device_pointer_dereferenced_by_the_host_ends_the_process_and_says_why() {
    let output = in_child("a_device_pointer_dereferenced_by_the_host_ends_the_process_and_says_why", &[], || {
        let session = Session::begin().unwrap();
        let block = Gpu::new(&session).alloc(64);
        // SAFETY: device memory is reserved address space: this faults.
        unsafe { (block as *const u8).read_volatile() };
    });
    assert!(said(&output).contains("the host dereferenced a device pointer"), "{}", said(&output));
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV));
}

#[test]
fn page_locked_memory_faults_once_it_is_freed() {
    let output = in_child("page_locked_memory_faults_once_it_is_freed", &[], || {
        let session = Session::begin().unwrap();
        let gpu = Gpu::new(&session);
        let host = gpu.alloc_host(64);
        gpu.free_host(host).unwrap();
        // SAFETY: the address is reserved and not mapped: this faults.
        unsafe { host.read_volatile() };
    });
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV));
}

/// The way for programs that do not link this crate.
#[test]
fn another_process_gets_the_stand_in_and_its_settings_by_its_environment() {
    let dir = Control::search_dir().unwrap();
    let variables = [("LD_LIBRARY_PATH", dir.to_str().unwrap()), ("CUDA_STANDIN", "vram=123456; devices=3; report=on")];
    let name = "another_process_gets_the_stand_in_and_its_settings_by_its_environment";
    let output = in_child(name, &variables, || {
        let gpu = Gpu::on(0);
        assert_eq!(call!(cuDeviceGetCount(-> i32)), Ok(3));
        assert_eq!(call!(cuDeviceTotalMem_v2(-> usize, 0)), Ok(123_456));
        gpu.alloc(64);
        drop(gpu);
        assert_eq!(Control::open().unwrap().take_violations().len(), 1);
        // One library, by either name.
        assert!(matches!(cuda_standin::driver(), Driver::StandIn(_)));
        Control::install().unwrap();
    });
    assert!(output.status.success(), "{}", said(&output));
    let leak = "cuda-standin: leak: cuDevicePrimaryCtxRelease_v2 ends a context";
    assert!(said(&output).contains(leak), "{}", said(&output));
}

#[test]
fn without_asking_for_it_a_process_has_no_stand_in() {
    let output = in_child("without_asking_for_it_a_process_has_no_stand_in", &[], || {
        assert!(Control::open().is_none());
        assert!(matches!(cuda_standin::driver(), Driver::Absent | Driver::Other));
    });
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn a_library_that_cannot_be_loaded_is_an_error_that_names_it() {
    let variables = [("CUDA_STANDIN_LIBRARY", "/nowhere/libcuda_standin.so")];
    let output = in_child("a_library_that_cannot_be_loaded_is_an_error_that_names_it", &variables, || {
        let error = Control::install().unwrap_err();
        assert!(matches!(&error, InstallError::NotLoaded(why) if why.contains("/nowhere/")), "{error}");
    });
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn settings_that_are_not_understood_end_the_process_and_say_why() {
    let output = in_child(
        "settings_that_are_not_understood_end_the_process_and_say_why",
        &[("CUDA_STANDIN", "mode=soon")],
        || drop(Session::begin()),
    );
    assert_eq!(output.status.signal(), Some(libc::SIGABRT));
    assert!(said(&output).contains("`soon` is none of plain, late, lazy"), "{}", said(&output));
}

#[test]
fn a_session_that_ends_with_a_violation_panics_and_the_next_begins_clean() {
    let ended = std::panic::catch_unwind(|| {
        let session = Session::begin().unwrap();
        let gpu = Gpu::new(&session);
        let block = gpu.alloc(64);
        let _ = call!(cuMemFree_v2(block + 1));
        std::mem::forget(gpu);
    });
    let said = *ended.unwrap_err().downcast::<String>().unwrap();
    assert!(
        said.contains("invalid free: cuMemFree_v2") && said.contains("64 device bytes in 1 blocks are live"),
        "{said}"
    );
    let session = Session::begin().unwrap();
    assert_eq!((session.complaints(), session.counters().contexts), (vec![], 0));
}
