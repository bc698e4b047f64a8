//! `cuOccupancy*`: what a card with 2,048 threads for each of its multiprocessors could answer.
#![expect(unsafe_code, reason = "exports C functions")]

use crate::api::argument::Out;
use crate::api::entry::Call;
use crate::code::Code;
use std::ffi::{c_int, c_uint, c_void};

const THREADS: c_int = 2_048;
const BLOCKS: c_int = 32;
const LARGEST_BLOCK: c_int = 1_024;
const MULTIPROCESSORS: c_int = 132;
const SHARED_BYTES: usize = 227 << 10;

calls! {
    cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks: Out<c_int>, function: u64, threads: c_int, shared: usize) Current |call| {
        active_blocks(call, blocks, function, threads, shared)
    }

    cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        blocks: Out<c_int>,
        function: u64,
        threads: c_int,
        shared: usize,
        _flags: c_uint,
    ) Current |call| {
        active_blocks(call, blocks, function, threads, shared)
    }

    cuOccupancyMaxPotentialBlockSize(
        grid: Out<c_int>,
        block: Out<c_int>,
        function: u64,
        _shared_for_block: *const c_void,
        _shared: usize,
        limit: c_int,
    ) Current |call| {
        potential_block(call, grid, block, function, limit)
    }

    cuOccupancyMaxPotentialBlockSizeWithFlags(
        grid: Out<c_int>,
        block: Out<c_int>,
        function: u64,
        _shared_for_block: *const c_void,
        _shared: usize,
        limit: c_int,
        _flags: c_uint,
    ) Current |call| {
        potential_block(call, grid, block, function, limit)
    }

    cuOccupancyAvailableDynamicSMemPerBlock(bytes: Out<usize>, function: u64, blocks: c_int, _threads: c_int) Current |call| {
        let name = call.name;
        call.function(function, name)?;
        let blocks = usize::try_from(blocks).ok().filter(|blocks| *blocks > 0).ok_or(Code::INVALID_VALUE)?;
        bytes.put(SHARED_BYTES / blocks)
    }

    cuOccupancyMaxActiveClusters(clusters: Out<c_int>, function: u64, _config: *const c_void) Current |call| {
        let name = call.name;
        call.function(function, name)?;
        clusters.put(MULTIPROCESSORS)
    }

    cuOccupancyMaxPotentialClusterSize(size: Out<c_int>, function: u64, _config: *const c_void) Current |call| {
        let name = call.name;
        call.function(function, name)?;
        size.put(8)
    }
}

fn active_blocks(
    call: &mut Call,
    blocks: Out<c_int>,
    function: u64,
    threads: c_int,
    shared: usize,
) -> Result<(), Code> {
    let name = call.name;
    call.function(function, name)?;
    if threads <= 0 {
        return Err(Code::INVALID_VALUE);
    }
    let by_shared = SHARED_BYTES.checked_div(shared).map_or(BLOCKS, |blocks| blocks.min(BLOCKS as usize) as c_int);
    blocks.put((THREADS / threads).min(BLOCKS).min(by_shared))
}

fn potential_block(
    call: &mut Call,
    grid: Out<c_int>,
    block: Out<c_int>,
    function: u64,
    limit: c_int,
) -> Result<(), Code> {
    let name = call.name;
    call.function(function, name)?;
    let threads = if limit > 0 { limit.min(LARGEST_BLOCK) } else { LARGEST_BLOCK };
    grid.put(MULTIPROCESSORS * (THREADS / threads).min(BLOCKS))?;
    block.put(threads)
}
