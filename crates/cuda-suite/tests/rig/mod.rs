//! What the tests of launches, modules, adoption and planted bugs share.
#![allow(dead_code)] // each test binary uses a part of it

use cuda_standin::{Counters, Driver, Mode, Session};
use hapax::{CudaDevice, DeviceRef, Function, Heap, HeapOptions, Launch, LaunchShape, View, ViewMut};

pub const MODES: [Mode; 5] = [Mode::Plain, Mode::Late(1), Mode::Late(3), Mode::Late(20), Mode::Lazy];

/// The kernels of the stand-in, as PTX that a card would take too.
pub const PTX: &str = "
.version 7.0
.target sm_52
.address_size 64
.visible .entry fill(.param .u64 to, .param .u64 words, .param .u32 value) { ret; }
.visible .entry add_one(.param .u64 at, .param .u64 words) { ret; }
.visible .entry read(.param .u64 at, .param .u64 bytes) { ret; }
.visible .entry saxpy(.param .u64 n, .param .f32 a, .param .u64 x, .param .u64 y) { ret; }
.visible .entry spin(.param .u64 turns) { ret; }
";

/// A fresh stand-in in each mode. Its end panics if an access was ordered by nothing, or if a byte, a stream, an event, a
/// module or a share of the context is left.
pub fn in_every_mode(test: impl Fn(&Session, &DeviceRef)) {
    for mode in MODES {
        let session = begin(mode);
        let device = DeviceRef::new(CudaDevice::open(0).unwrap());
        test(&session, &device);
        device.close().unwrap();
        let Counters { streams, events, modules, contexts, .. } = session.counters();
        assert_eq!((streams, events, modules, contexts), (0, 0, 0, 0), "left behind, in mode {mode}");
    }
}

pub fn begin(mode: Mode) -> Session {
    let session = Session::begin().expect("the stand-in was built with this test");
    assert!(matches!(cuda_standin::driver(), Driver::StandIn(_)), "this suite must not touch a real card");
    session.set_mode(mode);
    session
}

pub fn heap(device: &DeviceRef, limit_bytes: u64) -> Heap {
    Heap::new(device, HeapOptions::new(limit_bytes).slab_bytes(1 << 16)).unwrap()
}

pub const SHAPE: LaunchShape = LaunchShape { grid: [1, 1, 1], block: [32, 1, 1], shared_bytes: 0 };

/// Launches `fill`.
pub fn fill<'a>(function: &Function<'a>, to: &'a mut ViewMut<'_, [u32]>, value: u32) -> Result<(), hapax::Error> {
    let words = to.len() as u64;
    // SAFETY: fill takes an address, a count of words and a word, and writes so many words there.
    unsafe { Launch::new(function, SHAPE).memory(to).value(words).value(value).launch() }
}

/// Launches `add_one`.
pub fn add_one<'a>(function: &Function<'a>, at: &'a mut ViewMut<'_, [u32]>) -> Result<(), hapax::Error> {
    let words = at.len() as u64;
    // SAFETY: add_one takes an address and a count of words, and adds to so many words there.
    unsafe { Launch::new(function, SHAPE).memory(at).value(words).launch() }
}

/// Launches `read`.
pub fn read<'a>(function: &Function<'a>, at: &'a View<'_, [u32]>) -> Result<(), hapax::Error> {
    // SAFETY: read takes an address and a count of bytes, and reads so many there.
    unsafe { Launch::new(function, SHAPE).memory(at).value(at.bytes()).launch() }
}
