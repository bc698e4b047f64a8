//! Allocating and freeing, and naming memory in reports. Knows no copy.

use crate::code::Code;
use crate::model::Model;
use crate::model::clock::Epoch;
use crate::model::shadow::Cause;
use crate::model::space::{Stray, charged_bytes};
use crate::model::submit::{Request, at};
use std::ops::Range;

impl Model {
    /// Device memory, charged to the context's device.
    pub fn allocate(&mut self, context: u64, bytes: u64, call: &'static str) -> Result<u64, Code> {
        let of_module = call == "cuModuleLoadData";
        if bytes == 0 {
            return Err(Code::INVALID_VALUE);
        }
        let device = self.contexts.get(&context).ok_or(Code::INVALID_CONTEXT)?.device;
        let (charge, total) = (charged_bytes(bytes), self.settings.vram_bytes);
        let used = &mut self.devices[device as usize].used_bytes;
        if used.checked_add(charge).is_none_or(|sum| sum > total) {
            return Err(Code::OUT_OF_MEMORY);
        }
        let address = self.space.allocate(bytes, context, device, call, of_module).ok_or(Code::OUT_OF_MEMORY)?;
        *used += charge;
        Ok(address)
    }

    /// Device memory that exists from this point of a stream on.
    pub fn allocate_on(&mut self, stream: u64, bytes: u64, call: &'static str) -> Result<u64, Code> {
        if !self.settings.pools {
            return Err(Code::NOT_SUPPORTED);
        }
        let queue = self.streams.get(&stream).filter(|stream| !stream.destroyed).ok_or(Code::INVALID_HANDLE)?;
        let context = queue.context;
        self.refuse_while_capturing(stream, call)?;
        let address = match self.allocate(context, bytes, call) {
            Err(Code::OUT_OF_MEMORY) => {
                // What the stream frees before this point is this allocation's to take.
                let last = self.streams[&stream].last;
                self.run_until(Epoch { stream, number: last });
                self.allocate(context, bytes, call)?
            }
            other => other?,
        };
        let submitted =
            self.submit(stream, Cause { call, kernel: None }, Request::Allocated { address, bytes }, vec![]);
        if let Err(code) = submitted {
            self.free_now(address, call);
            return Err(code);
        }
        Ok(address)
    }

    /// Frees at this point of a stream.
    pub fn free_on(&mut self, stream: u64, address: u64) -> Result<(), Code> {
        const CALL: &str = "cuMemFreeAsync";
        if address == 0 {
            return Ok(());
        }
        self.refuse_while_capturing(stream, CALL)?;
        let bytes = self.block_to_free(address, CALL)?;
        self.submit(stream, Cause { call: CALL, kernel: None }, Request::Free { address, bytes }, vec![]).map(drop)
    }

    /// Checks a synchronous free. `true`: the call first waits for all work of the block's context.
    pub fn check_free(&mut self, address: u64, current: u64) -> Result<(u64, bool), Code> {
        const CALL: &str = "cuMemFree_v2";
        let bytes = self.block_to_free(address, CALL)?;
        let block = self.space.block_mut(address).expect("just found");
        let (owner, call, ordinal) = (block.context, block.call, block.ordinal);
        if owner != current {
            self.violation(format!(
                "context: {CALL} of device block #{ordinal} of context {owner:#x} while context {current:#x} is current"
            ));
        }
        let waits = call == "cuMemAlloc_v2" && !self.settings.strict_free;
        if !waits {
            for user in self.unfinished(&(address..address + bytes)) {
                self.violation(format!(
                    "early free: {CALL} of device block #{ordinal} while nothing shows that {user} is over"
                ));
            }
        }
        Ok((owner, waits))
    }

    /// The block is gone, for the device and for reports.
    pub fn free_now(&mut self, address: u64, by: &'static str) {
        let Some(block) = self.space.free(address, by) else { return };
        let used = &mut self.devices[block.device as usize].used_bytes;
        *used = used.saturating_sub(charged_bytes(block.bytes));
        self.forget_accesses(address..address + block.bytes);
    }

    fn block_to_free(&mut self, address: u64, call: &str) -> Result<u64, Code> {
        let found = self.space.block_mut(address).map(|block| (block.bytes, block.freeing, block.of_module));
        let wrong = match found {
            Some((bytes, false, false)) => return Ok(bytes),
            Some((_, true, _)) => {
                format!("invalid free: {call} of {address:#x}, which was given to cuMemFreeAsync before")
            }
            Some((_, _, true)) => format!("invalid free: {call} of {address:#x}, a module's global variable"),
            None => {
                let what = match self.space.find(&(address..address + 1)) {
                    Some((start, block)) => {
                        format!("{:#x} bytes into device block #{}", address - start, block.ordinal)
                    }
                    None => self.describe_stray(&(address..address + 1)),
                };
                format!("invalid free: {call} of {address:#x}: {what}")
            }
        };
        self.violation(wrong);
        Err(Code::INVALID_VALUE)
    }

    /// Page-locked memory.
    pub fn allocate_host(&mut self, context: u64, bytes: u64, flags: u32) -> Result<u64, Code> {
        if bytes == 0 {
            return Err(Code::INVALID_VALUE);
        }
        let address = self.host.allocate(bytes, context, flags).ok_or(Code::OUT_OF_MEMORY)?;
        self.forget_accesses(address..address + bytes);
        Ok(address)
    }

    /// Makes memory of the program page-locked.
    pub fn register_host(&mut self, context: u64, address: u64, bytes: u64, flags: u32) -> Result<(), Code> {
        let range = address..address.checked_add(bytes).ok_or(Code::INVALID_VALUE)?;
        if range.is_empty() || address == 0 {
            return Err(Code::INVALID_VALUE);
        }
        if self.host.overlaps_locked(&range) {
            return Err(Code::HOST_MEMORY_ALREADY_REGISTERED);
        }
        self.host.register(address, bytes, context, flags);
        Ok(())
    }

    /// Gives page-locked memory back: allocated, or `registered`.
    pub fn free_host(&mut self, address: u64, registered: bool) -> Result<(), Code> {
        let call = if registered { "cuMemHostUnregister" } else { "cuMemFreeHost" };
        let Some(bytes) = self.host.starts_at(address, registered) else {
            self.violation(format!("invalid free: {call} of {address:#x}, which is no page-locked memory"));
            return Err(if registered { Code::HOST_MEMORY_NOT_REGISTERED } else { Code::INVALID_VALUE });
        };
        self.host_memory_gone(&(address..address + bytes), call);
        self.host.remove(address);
        Ok(())
    }

    /// Host memory is gone, by a call or by what the program says.
    pub fn host_memory_gone(&mut self, range: &Range<u64>, by: &str) {
        for user in self.host.in_use(range, &self.host_clock, false) {
            self.violation(format!(
                "early free: {by} of {} while nothing shows that the work is over: {user}",
                at(range)
            ));
        }
        self.host.abandon(range);
        self.forget_accesses(range.clone());
    }

    /// The program declares that it reads or writes host memory now.
    pub fn host_access(&mut self, range: &Range<u64>, writes: bool) {
        let verb = if writes { "writes" } else { "reads" };
        for user in self.host.in_use(range, &self.host_clock, !writes) {
            self.violation(format!(
                "host access: the program {verb} {} before anything showed that the work was over: {user}",
                at(range)
            ));
        }
    }

    /// Whether all of `range` is memory that a device can work with by address.
    pub fn is_memory(&self, range: &Range<u64>) -> bool {
        range.is_empty() || self.space.find(range).is_some() || self.host.find(range).is_some()
    }

    /// Memory, in a report.
    pub fn describe(&self, range: &Range<u64>) -> String {
        match self.space.find(range) {
            Some((start, block)) => {
                let (first, last) = (range.start - start, range.end - start);
                format!("bytes {first}..{last} of device block #{} ({:#x})", block.ordinal, range.start)
            }
            None if self.host.find(range).is_some() => format!("{} (page-locked)", at(range)),
            None => format!("{} (host memory)", at(range)),
        }
    }

    /// Why an address is no memory, in a report.
    pub fn describe_stray(&self, range: &Range<u64>) -> String {
        match self.space.stray(range) {
            Stray::Freed { ordinal, by } => format!("{} of device block #{ordinal}, which {by} freed", at(range)),
            Stray::PastTheEnd { ordinal, bytes } => {
                format!("{}, past the end of device block #{ordinal} of {bytes} bytes", at(range))
            }
            Stray::Nowhere => format!("{}, which is no device memory", at(range)),
        }
    }
}
