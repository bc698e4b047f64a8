//! Compile hints: that sums are sums over any processes, and that no defect of their predecessor came back.

mod bounds;
mod crash;
mod defects;
mod faults;
mod model;
mod processes;

use hapax::{Fingerprint, HintOptions, HintStore};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: Duration = Duration::from_secs(86_400);

fn unit(number: u64) -> Fingerprint {
    Fingerprint::of("tests/hints").part("unit", number.to_le_bytes()).finish()
}

/// A clock that stands until it is set.
#[derive(Clone)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn at(unix_ns: u64) -> Clock {
        Clock(Arc::new(AtomicU64::new(unix_ns)))
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, unix_ns: u64) {
        self.0.store(unix_ns, Ordering::Relaxed);
    }

    fn pass(&self, time: Duration) {
        self.set(self.now() + time.as_nanos() as u64);
    }

    /// Also lets nothing be written before it is told to be.
    fn on(&self, options: HintOptions) -> HintOptions {
        let clock = self.clone();
        options.clock(move || UNIX_EPOCH + Duration::from_nanos(clock.now())).write_behind(Duration::MAX)
    }
}

/// A day in 2025, at noon.
fn noon() -> Clock {
    Clock::at(20_400 * DAY.as_nanos() as u64 + DAY.as_nanos() as u64 / 2)
}

fn open(options: HintOptions) -> HintStore {
    let hints = HintStore::open(options);
    assert_eq!(hints.off_reason(), None);
    hints.validate();
    hints
}

fn system_clock_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// A process that is killed runs no drop. What it held stays in reach here, so that a leak checker finds other leaks only.
fn kill(store: HintStore) {
    static KILLED: Mutex<Vec<HintStore>> = Mutex::new(Vec::new());
    KILLED.lock().unwrap().push(store);
}
