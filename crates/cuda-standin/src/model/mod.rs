//! The device as a value: contexts, memory, streams, events, modules, and the rules between them. Knows no foreign
//! function and no lock; a call that must wait is told so.

pub mod capture;
pub mod clock;
pub mod context;
pub mod event;
pub mod fault;
pub mod host;
pub mod kernel;
pub mod memory;
pub mod module;
pub mod queue;
pub mod report;
pub mod shadow;
pub mod space;
pub mod submit;

use crate::model::capture::{Capture, Graph};
use crate::model::clock::{Clock, Epoch};
use crate::model::context::{Context, Device};
use crate::model::event::Event;
use crate::model::fault::Faults;
use crate::model::host::HostMemory;
use crate::model::module::{Function, Module};
use crate::model::queue::{HostCall, Stream};
use crate::model::report::Report;
use crate::model::shadow::Shadow;
use crate::model::space::Space;
use crate::settings::Settings;
use std::collections::{BTreeMap, VecDeque};

/// No address that a program can have: a dereferenced handle faults.
const FIRST_HANDLE: u64 = 0xC0DA_0000_0000;
const SHADOW_PRUNED_ABOVE: usize = 4_096;

pub struct Model {
    pub settings: Settings,
    pub report: Report,
    pub faults: Faults,
    pub initialized: bool,
    pub devices: Vec<Device>,
    pub contexts: BTreeMap<u64, Context>,
    pub streams: BTreeMap<u64, Stream>,
    pub events: BTreeMap<u64, Event>,
    pub modules: BTreeMap<u64, Module>,
    pub functions: BTreeMap<u64, Function>,
    pub captures: BTreeMap<u64, Capture>,
    pub graphs: BTreeMap<u64, Graph>,
    pub executables: BTreeMap<u64, Graph>,
    pub space: Space,
    pub host: HostMemory,
    /// What the program knows to be over. One clock for all its threads: how they wait for each other is not seen.
    pub host_clock: Clock,
    /// Host functions whose turn has come, for the thread that runs them.
    pub host_calls: VecDeque<HostCall>,
    shadow: Shadow,
    last_handle: u64,
    last_operation: u64,
    /// Device time: grows by one microsecond with each operation run.
    now_us: u64,
}

impl Model {
    pub fn new(settings: Settings) -> Model {
        let mut model = Model {
            settings,
            report: Report::default(),
            faults: Faults::default(),
            initialized: false,
            devices: Vec::new(),
            contexts: BTreeMap::new(),
            streams: BTreeMap::new(),
            events: BTreeMap::new(),
            modules: BTreeMap::new(),
            functions: BTreeMap::new(),
            captures: BTreeMap::new(),
            graphs: BTreeMap::new(),
            executables: BTreeMap::new(),
            space: Space::default(),
            host: HostMemory::default(),
            host_clock: Clock::default(),
            host_calls: VecDeque::new(),
            shadow: Shadow::default(),
            last_handle: FIRST_HANDLE,
            last_operation: 0,
            now_us: 0,
        };
        model.apply_settings();
        model
    }

    /// After a change of `settings`.
    pub fn apply_settings(&mut self) {
        self.report.to_stderr = self.settings.report;
        self.report.abort = self.settings.abort;
        self.host.set_guards(self.settings.guard);
        self.devices.resize_with(self.settings.devices as usize, Device::default);
    }

    /// Forgets everything but which addresses and handles were used: they stay used. Work that has not run never
    /// will. A host function that runs now keeps running.
    pub fn reset(&mut self, settings: Settings) {
        self.host.abandon(&(0..u64::MAX));
        let mut fresh = Model::new(settings);
        fresh.last_handle = self.last_handle;
        std::mem::swap(&mut fresh.space, &mut self.space);
        let live: Vec<u64> = fresh.space.iter().map(|(address, _)| address).collect();
        for address in live {
            fresh.space.free(address, "a reset");
        }
        fresh.host.continue_after(&self.host);
        *self = fresh;
    }

    /// A number no handle had before.
    pub fn new_handle(&mut self) -> u64 {
        self.last_handle += 0x40;
        self.last_handle
    }

    /// What [`Model::new_operation`] will return next.
    pub fn next_operation(&self) -> u64 {
        self.last_operation + 1
    }

    pub fn new_operation(&mut self) -> u64 {
        self.last_operation += 1;
        self.last_operation
    }

    pub fn violation(&mut self, text: String) {
        self.report.violation(text);
    }

    /// The host has learnt that all of `clock` is over, by a wait or a query that said so.
    pub fn host_learns(&mut self, clock: &Clock) {
        self.host_clock.join(clock);
        let found = self.host.release(&self.host_clock);
        self.violations(found);
        if self.shadow.len() > SHADOW_PRUNED_ABOVE {
            let known = &self.host_clock;
            self.shadow.prune(|epoch| known.knows(epoch));
        }
    }

    /// The host has learnt that `epoch` is over, and with it all it was ordered after.
    pub fn host_learns_of(&mut self, epoch: Epoch, clock: &Clock) {
        let mut clock = clock.clone();
        clock.learn(epoch);
        self.host_learns(&clock);
    }

    pub fn violations(&mut self, found: Vec<String>) {
        for text in found {
            self.violation(text);
        }
    }

    /// A number by name, for the control interface.
    pub fn counter(&self, name: &str) -> Option<u64> {
        let count = |n: usize| n as u64;
        Some(match name {
            "violations" => count(self.report.violations().len()),
            "calls" => self.report.all_calls,
            "live_bytes" => self.space.iter().map(|(_, block)| block.bytes).sum(),
            "live_blocks" => count(self.space.iter().count()),
            "page_locked_bytes" => self.host.locked_bytes(),
            "streams" => count(self.streams.values().filter(|stream| stream.is_the_programs()).count()),
            "events" => count(self.events.len()),
            "modules" => count(self.modules.len()),
            "contexts" => count(self.contexts.len()),
            "graphs" => count(self.graphs.len() + self.executables.len()),
            "pending" => self.streams.values().map(|stream| count(stream.queue.len())).sum(),
            "holds" => count(self.host.holds()),
            "faults" => count(self.faults.len()),
            _ => return None,
        })
    }
}
