//! One compilation per unit at a time in a process. Knows keys and results, no store and no compiler.
//!
//! Not the cache's single flight: there a filler holds a vacancy of a budget, and what it fills is a lease. Here nothing is
//! reserved, so a thread that must not wait can simply compile for itself, and no deadlock is possible.

use crate::persist::envelope::Key;
use crate::persist::store::Record;
use crate::sync::{Condvar, Mutex};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Who is compiling what.
#[derive(Default)]
pub(super) struct Flights {
    open: Mutex<HashMap<Key, Arc<Flight>>>,
    landed: AtomicU64,
}

struct Flight {
    outcome: Mutex<Outcome>,
    bell: Condvar,
}

enum Outcome {
    Pending,
    Landed(Record),
    Failed,
}

/// What a thread that missed does next.
pub(super) enum Turn<'a> {
    /// Compile; others wait if there is a flight to land.
    Compile(Option<Pilot<'a>>),
    /// Another thread has.
    Landed(Record),
    /// Another thread tried and failed.
    Again,
}

/// The duty to land. Dropped without landing, as by a panic, it lets the next thread try.
pub(super) struct Pilot<'a> {
    flights: &'a Flights,
    key: Key,
    flight: Arc<Flight>,
}

thread_local! {
    static COMPILING: Cell<usize> = const { Cell::new(0) };
}

impl Flights {
    /// How many have landed: if it has not changed since a lookup missed, the lookup is as good as new.
    pub(super) fn landed(&self) -> u64 {
        self.landed.load(Ordering::Acquire)
    }

    /// Waits while another thread compiles the unit, unless this thread is compiling something itself.
    pub(super) fn take_turn(&self, key: &Key) -> Turn<'_> {
        let flight = {
            let mut flights = self.open.lock();
            match flights.get(key) {
                Some(_) if COMPILING.get() > 0 => return Turn::Compile(None),
                Some(flight) => flight.clone(),
                None => {
                    let flight = Arc::new(Flight { outcome: Mutex::new(Outcome::Pending), bell: Condvar::new() });
                    flights.insert(*key, flight.clone());
                    COMPILING.set(COMPILING.get() + 1);
                    return Turn::Compile(Some(Pilot { flights: self, key: *key, flight }));
                }
            }
        };
        let mut outcome = flight.outcome.lock();
        loop {
            match &*outcome {
                Outcome::Pending => outcome = flight.bell.wait(outcome),
                Outcome::Landed(record) => return Turn::Landed(record.clone()),
                Outcome::Failed => return Turn::Again,
            }
        }
    }
}

impl Pilot<'_> {
    /// Gives the result to all that wait.
    pub(super) fn land(self, record: Record) {
        *self.flight.outcome.lock() = Outcome::Landed(record);
        // Before the flight is closed, so that whoever finds it closed sees the number changed.
        self.flights.landed.fetch_add(1, Ordering::Release);
    }
}

impl Drop for Pilot<'_> {
    fn drop(&mut self) {
        COMPILING.set(COMPILING.get() - 1);
        self.flights.open.lock().remove(&self.key);
        let mut outcome = self.flight.outcome.lock();
        if matches!(*outcome, Outcome::Pending) {
            *outcome = Outcome::Failed;
        }
        drop(outcome);
        self.flight.bell.notify_all();
    }
}
