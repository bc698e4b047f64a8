// The device under the suites, here `CudaDevice`, on the stand-in or on a card. The suites are those of hapax itself,
// compiled from the same files; beside its own `tests/device/mod.rs` this is all that differs.
//
// On the stand-in each test is a session, which ends with no access unordered, no byte left and no fault unmet. Work
// runs lazily, and once more late; the suite `late` chooses its schedule itself. `HAPAX_CUDA=card` runs the
// suites on the machine's card instead, one test at a time.

mod bytewise;
mod control;
#[path = "../driver/mod.rs"]
pub mod driver;
mod schedules;

pub use bytewise::Bytewise;
pub use control::{Control, Seen};

use driver::Chosen;
use hapax::{CudaDevice, Heap, HeapOptions, HostDevice};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tells of host memory that is freed while a copy of it is pending.
#[global_allocator]
static ALLOCATOR: cuda_standin::WatchedAllocator = cuda_standin::WatchedAllocator::new();

/// Whether work is over when its call returns.
pub const SYNCHRONOUS: bool = false;
/// What fresh memory of the stand-in holds.
pub const POISON: u8 = 0xCD;
/// Fewer than on the host, where a call costs nothing: the cache is the same, what differs are its driver calls.
pub const MODEL_CASES: u32 = 60;
pub const MODEL_STEPS: usize = 2_500;

/// The driver for the length of one test. Stands at its head, so that it ends after everything else there.
#[must_use = "dropping it ends the watch"]
pub struct Watch {
    driver: Watched,
    leaks: bool,
}

enum Watched {
    StandIn(cuda_standin::Session),
    Card { _turn: MutexGuard<'static, ()> },
}

/// Waits for the test before. Panics if the driver is not the one that was asked for.
pub fn watch() -> Watch {
    let driver = match driver::chosen() {
        Chosen::StandIn => {
            let session = cuda_standin::Session::begin().expect("the stand-in was built with this test");
            driver::assert_is_loaded(Chosen::StandIn);
            ALLOCATOR.watch(*session);
            session.set_mode(schedules::mode());
            Watched::StandIn(session)
        }
        Chosen::Card => {
            static TURN: Mutex<()> = Mutex::new(());
            let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
            driver::assert_is_loaded(Chosen::Card);
            Watched::Card { _turn: turn }
        }
    };
    Watch { driver, leaks: false }
}

impl Watch {
    /// The test loses memory for good, to show what that costs.
    pub fn leaks_on_purpose(mut self) -> Watch {
        self.leaks = true;
        self
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Watched::StandIn(session) = &self.driver else { return };
        give_back(|| session.counters().live_bytes + session.counters().page_locked_bytes == 0);
        if std::thread::panicking() {
            session.reset();
        } else if self.leaks {
            let violations = session.take_violations();
            session.reset();
            assert!(violations.is_empty(), "{violations:#?}");
        }
    }
}

pub fn open() -> Bytewise {
    Bytewise(CudaDevice::open(0).unwrap_or_else(|absent| panic!("{absent}")))
}

/// Lets what was left behind by handles that outlived their heap go back, until `done`: the next heap sees to that.
pub fn give_back(done: impl Fn() -> bool) {
    const ROUNDS: u32 = 8;
    for _ in 0..ROUNDS {
        if done() {
            return;
        }
        match driver::chosen() {
            Chosen::StandIn => _ = control::stand_in().run(u64::MAX),
            Chosen::Card => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
        drop(Heap::new(HostDevice::new(), HeapOptions::new(256)));
    }
}

/// How [`open`]'s device calls itself in reports.
pub fn name() -> String {
    use hapax::Device;
    open().name()
}

/// A device of so many bytes, where that can be chosen.
pub fn with_memory(bytes: u64) -> Option<Bytewise> {
    on_the_stand_in("how much memory a card has is not for a test to choose").then(|| {
        control::stand_in().set_vram_bytes(bytes);
        open()
    })
}

/// A device whose work runs only when something waits for it, and its other end.
pub fn late() -> (Bytewise, Control) {
    let stand_in = control::stand_in();
    stand_in.set_mode(cuda_standin::Mode::Lazy);
    stand_in.set("query", "only-asks");
    let device = open();
    (device, Control::new(stand_in))
}

/// As [`late`], where there can be one.
pub fn late_if_there_is_one() -> Option<(Bytewise, Control)> {
    on_the_stand_in("when a card runs its work is not for a test to choose").then(late)
}

fn on_the_stand_in(why: &str) -> bool {
    let stand_in = driver::chosen() == Chosen::StandIn;
    if !stand_in {
        println!("skipped in part: {why}");
    }
    stand_in
}
