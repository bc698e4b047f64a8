//! Devices and contexts: who is retained, what is lost, and what dies with a context. Knows no thread; which context
//! is current is the caller's.

use crate::code::Code;
use crate::model::Model;
use crate::model::clock::{Clock, Epoch};
use crate::model::queue::{Kind, Stream};
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Device {
    pub primary: Option<u64>,
    pub primary_flags: u32,
    pub references: u32,
    pub used_bytes: u64,
    /// No context can be had on it any more.
    pub lost: Option<Code>,
}

pub struct Context {
    pub device: u32,
    pub is_primary: bool,
    pub flags: u32,
    pub cache_config: u32,
    pub limits: BTreeMap<u32, usize>,
    pub lost: Option<Lost>,
    /// What streams that are gone have done, as far as the host does not know it.
    pub gone: Clock,
    pub legacy: u64,
    per_thread: BTreeMap<u64, u64>,
}

/// After a sticky error every call answers with its code.
#[derive(Clone, Copy)]
pub struct Lost {
    pub code: Code,
    /// A call has answered so already: from then on the program knows.
    pub told: bool,
}

const LEGACY: u64 = 1;
const PER_THREAD: u64 = 2;

impl Model {
    pub fn check_device(&self, device: i32) -> Result<u32, Code> {
        let device = u32::try_from(device).map_err(|_| Code::INVALID_DEVICE)?;
        (device < self.settings.devices).then_some(device).ok_or(Code::INVALID_DEVICE)
    }

    pub fn create_context(&mut self, device: u32, is_primary: bool, flags: u32) -> Result<u64, Code> {
        if let Some(code) = self.devices[device as usize].lost {
            return Err(code);
        }
        let (handle, legacy) = (self.new_handle(), self.new_handle());
        self.streams.insert(legacy, Stream::new(handle, Kind::Legacy, 0, 0));
        let context = Context {
            device,
            is_primary,
            flags,
            cache_config: 0,
            limits: BTreeMap::new(),
            lost: None,
            gone: Clock::default(),
            legacy,
            per_thread: BTreeMap::new(),
        };
        self.contexts.insert(handle, context);
        Ok(handle)
    }

    pub fn retain_primary(&mut self, device: u32) -> Result<u64, Code> {
        let flags = self.devices[device as usize].primary_flags;
        let handle = match self.devices[device as usize].primary {
            Some(handle) => handle,
            None => self.create_context(device, true, flags)?,
        };
        let device = &mut self.devices[device as usize];
        device.primary = Some(handle);
        device.references += 1;
        Ok(handle)
    }

    /// `Some`: that was the last reference, and the context ends.
    pub fn release_primary(&mut self, device: u32) -> Result<Option<u64>, Code> {
        let device = &mut self.devices[device as usize];
        device.references = device.references.checked_sub(1).ok_or(Code::INVALID_CONTEXT)?;
        Ok(if device.references == 0 { device.primary.take() } else { None })
    }

    /// Everything the context owned goes with it.
    pub fn end_context(&mut self, context: u64, call: &'static str) {
        let Some(ended) = self.contexts.get(&context) else { return };
        let (device, lost) = (ended.device as usize, ended.lost.is_some());
        let blocks: Vec<(u64, u64, bool)> =
            self.space.iter().filter(|(_, b)| b.context == context).map(|(at, b)| (at, b.bytes, b.of_module)).collect();
        let locked: Vec<(u64, u64)> =
            self.host.iter().filter(|(_, l)| l.context == context).map(|(at, l)| (at, l.bytes)).collect();
        let leaked: Vec<u64> =
            blocks.iter().filter(|(_, _, of_module)| !of_module).map(|(_, bytes, _)| *bytes).collect();
        // What is lost cannot be freed; leaving it is the only thing a program can do.
        if !lost && !leaked.is_empty() {
            let (count, bytes): (usize, u64) = (leaked.len(), leaked.iter().sum());
            self.violation(format!("leak: {call} ends a context with {count} live device blocks of {bytes} bytes"));
        }
        if !lost && !locked.is_empty() {
            self.violation(format!("leak: {call} ends a context with {} live page-locked blocks", locked.len()));
        }
        for (address, _, _) in blocks {
            self.free_now(address, call);
        }
        for (address, bytes) in locked {
            self.host.abandon(&(address..address + bytes));
            self.forget_accesses(address..address + bytes);
            self.host.remove(address);
        }
        self.streams.retain(|_, stream| stream.context != context);
        self.events.retain(|_, event| event.context != context);
        self.modules.retain(|_, module| module.context != context);
        let modules = &self.modules;
        self.functions.retain(|_, function| modules.contains_key(&function.module));
        self.contexts.remove(&context);
        let device = &mut self.devices[device];
        if device.primary == Some(context) {
            device.primary = None;
        }
    }

    /// The stream behind a handle that a call was given, with `context` current on `thread`.
    pub fn stream(&mut self, handle: u64, context: u64, thread: u64) -> Result<u64, Code> {
        match handle {
            0 | LEGACY => self.contexts.get(&context).map(|context| context.legacy).ok_or(Code::INVALID_CONTEXT),
            PER_THREAD => {
                let known = self.contexts.get(&context).ok_or(Code::INVALID_CONTEXT)?.per_thread.get(&thread).copied();
                if let Some(stream) = known {
                    return Ok(stream);
                }
                let stream = self.new_handle();
                self.streams.insert(stream, Stream::new(context, Kind::PerThread, 0, 0));
                self.contexts.get_mut(&context).expect("just found").per_thread.insert(thread, stream);
                Ok(stream)
            }
            _ => {
                let known = self.streams.get(&handle).filter(|stream| stream.is_the_programs());
                known.map(|_| handle).ok_or(Code::INVALID_HANDLE)
            }
        }
    }

    /// The last operation of each stream of a context.
    pub fn context_marks(&self, context: u64) -> Vec<Epoch> {
        let own = self.streams.iter().filter(|(_, stream)| stream.context == context && stream.last > 0);
        own.map(|(&stream, queue)| Epoch { stream, number: queue.last }).collect()
    }

    /// A stream that takes no more work has done all it had. Who waits for its context learns of that.
    pub fn stream_is_gone(&mut self, stream: u64) {
        let done = self.clock_of(stream);
        let Some(stream) = self.streams.remove(&stream) else { return };
        if let Some(context) = self.contexts.get_mut(&stream.context) {
            context.gone.join(&done);
            context.gone.without(&self.host_clock);
        }
    }

    pub fn lost_code(&self, context: u64) -> Option<Code> {
        self.contexts.get(&context).and_then(|context| context.lost).map(|lost| lost.code)
    }

    /// A sticky error.
    pub fn lose_context(&mut self, context: u64, code: Code) {
        if let Some(context) = self.contexts.get_mut(&context) {
            context.lost.get_or_insert(Lost { code, told: false });
        }
    }

    /// The device and every context on it.
    pub fn lose_device(&mut self, device: u32, code: Code) {
        let Some(lost) = self.devices.get_mut(device as usize) else { return };
        lost.lost = Some(code);
        for context in self.contexts.values_mut().filter(|context| context.device == device) {
            context.lost.get_or_insert(Lost { code, told: false });
        }
    }
}
