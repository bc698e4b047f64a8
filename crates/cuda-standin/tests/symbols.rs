//! Every call that cudarc makes is exported: its lookups never panic.
#![expect(unsafe_code, reason = "looks symbols up")]

use cuda_standin::Session;
use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `driver::result` and `driver::safe` of cudarc 0.19.10 call, whichever CUDA version is chosen.
const CALLED_BY_CUDARC: &str = "
    cuCtxCreate_v3 cuCtxCreate_v4 cuCtxDestroy_v2 cuCtxGetCacheConfig cuCtxGetCurrent cuCtxGetLimit
    cuCtxGetStreamPriorityRange cuCtxSetCacheConfig cuCtxSetCurrent cuCtxSetFlags cuCtxSetLimit cuCtxSynchronize
    cuDestroyExternalMemory cuDeviceGet cuDeviceGetAttribute cuDeviceGetCount cuDeviceGetDefaultMemPool
    cuDeviceGetMemPool cuDeviceGetName cuDeviceGetUuid cuDeviceGetUuid_v2 cuDevicePrimaryCtxRelease_v2
    cuDevicePrimaryCtxRetain cuDeviceSetMemPool cuDeviceTotalMem_v2 cuEventCreate cuEventDestroy_v2 cuEventElapsedTime
    cuEventElapsedTime_v2 cuEventQuery cuEventRecord cuEventSynchronize cuExternalMemoryGetMappedBuffer
    cuFuncGetAttribute cuFuncSetAttribute cuFuncSetCacheConfig cuGetErrorName cuGetErrorString cuGraphDestroy
    cuGraphExecDestroy cuGraphInstantiateWithFlags cuGraphLaunch cuGraphUpload cuImportExternalMemory cuInit
    cuLaunchCooperativeKernel cuLaunchHostFunc cuLaunchKernel cuMemAdvise_v2 cuMemAllocAsync cuMemAllocFromPoolAsync
    cuMemAllocManaged cuMemAlloc_v2 cuMemFreeAsync cuMemFreeHost cuMemFree_v2 cuMemGetInfo_v2 cuMemHostAlloc
    cuMemPoolCreate cuMemPoolDestroy cuMemPoolGetAttribute cuMemPoolSetAttribute cuMemPoolTrimTo cuMemPrefetchAsync_v2
    cuMemcpyDtoDAsync_v2 cuMemcpyDtoD_v2 cuMemcpyDtoHAsync_v2 cuMemcpyDtoH_v2 cuMemcpyHtoDAsync_v2 cuMemcpyHtoD_v2
    cuMemcpyPeerAsync cuMemsetD8Async cuMemsetD8_v2 cuModuleGetFunction cuModuleGetGlobal_v2 cuModuleLoad
    cuModuleLoadData cuModuleUnload cuOccupancyAvailableDynamicSMemPerBlock
    cuOccupancyMaxActiveBlocksPerMultiprocessor cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags
    cuOccupancyMaxActiveClusters cuOccupancyMaxPotentialBlockSize cuOccupancyMaxPotentialBlockSizeWithFlags
    cuOccupancyMaxPotentialClusterSize cuProfilerStart cuProfilerStop cuStreamAttachMemAsync cuStreamBeginCapture_v2
    cuStreamCreate cuStreamCreateWithPriority cuStreamDestroy_v2 cuStreamEndCapture cuStreamIsCapturing
    cuStreamSynchronize cuStreamWaitEvent";

fn missing<'n>(names: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
    let _session = Session::begin().unwrap();
    // SAFETY: a C string; the library is loaded, and stays so.
    let library = unsafe { libc::dlopen(c"libcuda.so".as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    assert!(!library.is_null());
    let missing = names.into_iter().filter(|name| {
        let name = CString::new(*name).unwrap();
        // SAFETY: an open library and a C string.
        unsafe { libc::dlsym(library, name.as_ptr()) }.is_null()
    });
    missing.collect()
}

#[test]
fn every_call_that_cudarc_makes_is_exported() {
    assert_eq!(missing(CALLED_BY_CUDARC.split_whitespace()), [""; 0]);
}

/// The list above is of one release; this reads the one that is built here.
#[test]
fn every_call_that_this_cudarc_makes_is_exported() {
    let Some(source) = cudarc_source() else {
        println!("cargo does not say where cudarc's source is");
        return;
    };
    let mut called = BTreeSet::new();
    let safe = source.join("safe");
    let files = [source.join("result.rs")].into_iter().chain(files_in(&safe));
    for file in files {
        for line in std::fs::read_to_string(&file).unwrap().lines().filter(|line| !line.trim_start().starts_with("//"))
        {
            called.extend(line.split("sys::").skip(1).map(name_at_start).filter(|name| is_a_call(name)));
        }
    }
    assert!(called.len() > 80, "found only {} calls in {}", called.len(), source.display());
    assert_eq!(missing(called.iter().map(String::as_str)), [""; 0]);
}

#[test]
fn a_call_looked_up_by_its_plain_name_is_the_one_of_that_cuda_version() {
    let _session = Session::begin().unwrap();
    let find = |name: &CStr, version: i32| {
        let mut address = std::ptr::null_mut();
        // SAFETY: C strings and places for the results.
        let code = unsafe {
            cudarc::driver::sys::cuGetProcAddress_v2(name.as_ptr(), &mut address, version, 0, std::ptr::null_mut())
        };
        (code as u32, address)
    };
    assert_eq!(find(c"cuMemAlloc", 12_080), find(c"cuMemAlloc_v2", 12_080));
    assert!(!find(c"cuMemAlloc", 12_080).1.is_null());
    assert_eq!(find(c"cuCtxCreate", 12_080), find(c"cuCtxCreate_v2", 12_080));
    assert_eq!(find(c"cuCtxCreate", 13_000), find(c"cuCtxCreate_v4", 12_080));
    assert_eq!(find(c"cuNoSuchCall", 12_080), (500, std::ptr::null_mut()));
}

fn cudarc_source() -> Option<PathBuf> {
    let cargo = std::env::var_os("CARGO")?;
    let arguments = ["metadata", "--offline", "--format-version", "1"];
    let metadata = Command::new(cargo).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    let metadata = String::from_utf8(metadata.stdout).ok()?;
    let manifests = metadata.split("\"manifest_path\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    let manifest = manifests.into_iter().find(|path| path.contains("/cudarc-"))?;
    Some(Path::new(manifest).parent()?.join("src/driver"))
}

fn files_in(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|file| file.path()).collect()
}

fn name_at_start(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

fn is_a_call(name: &str) -> bool {
    name.strip_prefix("cu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
        && !name.ends_with("_enum")
        && !name.ends_with("_st")
}
