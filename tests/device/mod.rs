// The device under the suites, here host memory: at once, or as late as it can be. The package `cuda-suite` has another
// file of this name, on NVIDIA's driver or its stand-in, and compiles the very same suites with it.
//
// A suite counts in bytes, so every device here hands them out one by one. What is true of the host alone, or of
// memory whose bounds a test must choose, names `HostDevice` or `LateDevice` where it stands.

use hapax::{HostDevice, LateControl, LateDevice, Stream};
use std::sync::mpsc::{Receiver, channel};

/// Whether work is over when its call returns.
pub const SYNCHRONOUS: bool = true;
/// What memory of [`late`] holds before anybody wrote it.
pub const POISON: u8 = 0xA5;
/// Of the model suite: random sessions, and the steps of each of its two long runs.
pub const MODEL_CASES: u32 = 1000;
pub const MODEL_STEPS: usize = 52_000;

/// Stands at the head of each test. The host sees nothing and has nothing to say in the end.
#[must_use = "dropping it ends the watch"]
pub struct Watch;

pub fn watch() -> Watch {
    Watch
}

impl Watch {
    /// The test loses memory for good, to show what that costs.
    pub fn leaks_on_purpose(self) -> Watch {
        self
    }
}

pub fn open() -> HostDevice {
    HostDevice::new()
}

/// Lets what was left behind by handles that outlived their heap go back, until `done`. On the host it has gone.
pub fn give_back(done: impl Fn() -> bool) {
    assert!(done());
}

/// How [`open`]'s device calls itself in reports.
pub fn name() -> String {
    "host memory".to_owned()
}

/// A device of so many bytes, where that can be chosen.
pub fn with_memory(bytes: u64) -> Option<LateDevice> {
    Some(LateDevice::with_memory(bytes).0)
}

/// A device whose work runs only when something demands it, and its other end.
pub fn late() -> (LateDevice, Control) {
    let (device, control) = LateDevice::new();
    (device, Control(control))
}

/// As [`late`], where there can be one.
pub fn late_if_there_is_one() -> Option<(LateDevice, Control)> {
    Some(late())
}

/// What a kernel has seen, once it ran.
pub type Seen = Receiver<Vec<u8>>;

/// What a test does to the late device behind hapax's back.
#[derive(Clone)]
pub struct Control(LateControl);

impl Control {
    /// Queues a kernel that reads. What it saw when it ran comes out of the channel, if anybody listens.
    pub fn reads(&self, stream: &Stream, address: u64, len: usize) -> Seen {
        let (saw, seen) = channel();
        let control = self.0.clone();
        self.0.launch(stream, move || drop(saw.send(control.read(address, len))));
        seen
    }

    /// Queues a kernel that writes.
    pub fn writes(&self, stream: &Stream, address: u64, contents: &'static [u8; 4]) {
        let control = self.0.clone();
        self.0.launch(stream, move || control.write(address, contents));
    }

    /// Queues a kernel that stands in the way. Something comes out of the channel when it runs.
    pub fn stands(&self, stream: &Stream) -> Seen {
        let (ran, seen) = channel();
        self.0.launch(stream, move || drop(ran.send(Vec::new())));
        seen
    }

    /// As [`LateControl::calls`]: here there is no other.
    pub fn all_calls(&self) -> u64 {
        self.0.calls()
    }
}

impl std::ops::Deref for Control {
    type Target = LateControl;

    fn deref(&self) -> &LateControl {
        &self.0
    }
}
