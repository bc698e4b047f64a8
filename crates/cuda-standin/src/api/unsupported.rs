//! Calls that exist so that a program which looks them up finds them: they return `CUDA_ERROR_NOT_SUPPORTED`.
#![expect(unsafe_code, reason = "exports C functions")]

use crate::code::Code;

macro_rules! unsupported {
    ($($name:ident)*) => {
        // A C function may be called with more arguments than it takes.
        calls! { $($name() Nothing |_call| { Err(Code::NOT_SUPPORTED) })* }
    };
}

unsupported! {
    cuCtxDisablePeerAccess
    cuCtxEnablePeerAccess
    cuDestroyExternalMemory
    cuExternalMemoryGetMappedBuffer
    cuImportExternalMemory
    cuMemAddressFree
    cuMemAddressReserve
    cuMemAdvise
    cuMemAdvise_v2
    cuMemAllocManaged
    cuMemAllocPitch_v2
    cuMemCreate
    cuMemGetAllocationGranularity
    cuMemMap
    cuMemPrefetchAsync
    cuMemPrefetchAsync_v2
    cuMemRelease
    cuMemSetAccess
    cuMemUnmap
    cuMemcpy2DAsync_v2
    cuMemcpy2D_v2
    cuMemcpy3DAsync_v2
    cuMemcpy3D_v2
    cuMemsetD2D8Async
    cuMemsetD2D8_v2
    cuMemsetD2D32Async
    cuMemsetD2D32_v2
    cuModuleLoadFatBinary
    cuLibraryLoadData
    cuLibraryLoadFromFile
    cuLibraryUnload
    cuLibraryGetKernel
    cuKernelGetFunction
    cuStreamWaitValue32_v2
    cuStreamWriteValue32_v2
    cuStreamBatchMemOp_v2
    cuGraphCreate
    cuGraphAddKernelNode_v2
    cuGraphAddMemcpyNode
    cuGraphAddMemsetNode
    cuGraphExecUpdate_v2
    cuIpcGetMemHandle
    cuIpcOpenMemHandle_v2
    cuIpcCloseMemHandle
}
