//! An edit-and-rebuild session: which units a build needs, where they come from, and what that cost.

use crate::Result;
use crate::device_cache::{DeviceCache, Found, Slot, Stored, UnitKey};
use crate::report;
use crate::sources::Source;
use crate::toolchain::{Compiled, Toolchain};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::mem;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

pub struct Session<'s> {
    workshop: Workshop<'s>,
    books: Books,
    /// Entries that the latest edits retired.
    retired: usize,
}

/// One row of the table.
#[derive(Default)]
pub struct Counts {
    pub units: usize,
    pub hits: usize,
    pub misses: usize,
    pub refused: usize,
    pub retired: usize,
    pub evicted: usize,
    /// Summed over compilers, several of which may run at once.
    pub compiling: Duration,
    pub took: Duration,
}

/// What all builds together came to.
#[derive(Default)]
pub struct Totals {
    pub hits: u64,
    pub misses: u64,
    pub compiling: Duration,
    /// What the compilers took, earlier, for the units that were hits.
    pub saved: Duration,
    pub hit_times: Vec<Duration>,
    pub compared: u64,
    pub compared_bytes: u64,
    pub mismatches: Vec<String>,
    /// Units that the cache refused, with its reason.
    pub refused: BTreeMap<String, (&'static str, String)>,
    /// Units compiled from a changed text, and how many of them came out as other bytes.
    pub edited: u64,
    pub edited_differ: u64,
    /// Units compiled again from an unchanged text, and how many of them came out as the same bytes.
    pub again: u64,
    pub again_same: u64,
    /// The most bytes that were live on the device after any fill, once the budget was final.
    pub most_live_bytes: u64,
}

impl<'s> Session<'s> {
    pub fn new(toolchain: &'s Toolchain, cache: &'s DeviceCache, sources: Vec<Source>, jobs: usize) -> Session<'s> {
        Session { workshop: Workshop { toolchain, cache, sources, jobs }, books: Books::default(), retired: 0 }
    }

    /// Brings every unit up to date: what is resident comes from the device, the rest from a compiler.
    pub fn build(&mut self) -> Result<Counts> {
        let started = Instant::now();
        let cache = self.workshop.cache;
        let evictions_before = cache.stats().evictions;
        let units = self.workshop.units();
        self.books.row = Counts { units: units.len(), retired: mem::take(&mut self.retired), ..Counts::default() };
        // What is there comes first. Under LRU, a loop over more units than fit that stores what is missing
        // as it goes evicts each unit shortly before its turn, and never has a hit.
        let (resident, missing): (Vec<_>, Vec<_>) = units.iter().partition(|unit| cache.contains(&unit.key));
        self.workshop.build_in_order(resident.into_iter().chain(missing), &mut self.books)?;
        let mut row = mem::take(&mut self.books.row);
        row.evicted = (cache.stats().evictions - evictions_before) as usize;
        row.took = started.elapsed();
        Ok(row)
    }

    /// Edits sources as a person might in the course of a day, and says which.
    pub fn edit(&mut self, rebuild: usize) -> Result<String> {
        let sources = &self.workshop.sources;
        let editable: Vec<usize> = (0..sources.len()).filter(|&at| sources[at].language().is_some()).collect();
        if editable.is_empty() {
            return Ok("nothing".into());
        }
        // From the end, since what was compiled last is resident and shows what retiring does.
        let pick = |nth: usize| editable[editable.len() - 1 - (rebuild / 5 * 3 + nth) % editable.len()];
        let (mut edited, undo): (Vec<usize>, bool) = match rebuild % 5 {
            0 => (vec![pick(0)], false),
            1 => return Ok("nothing".into()),
            2 => (vec![pick(0), pick(1)], false),
            3 => (vec![pick(2)], false),
            _ => (vec![pick(0)], true),
        };
        edited.dedup();
        for &source in &edited {
            self.edit_source(source, undo)?;
        }
        let names: Vec<&str> = edited.iter().map(|&source| self.workshop.sources[source].name.as_str()).collect();
        Ok(names.join(", ") + if undo { " (undone)" } else { "" })
    }

    fn edit_source(&mut self, source: usize, undo: bool) -> Result<()> {
        let Workshop { toolchain, cache, .. } = self.workshop;
        let stale = self.workshop.units_of(source);
        self.workshop.sources[source].edit(undo, toolchain)?;
        for Unit { key, .. } in stale {
            self.retired += cache.retire(&key)?;
            self.books.stale.insert(key.unit.clone(), key);
        }
        Ok(())
    }

    /// What all units are charged together.
    pub fn working_set_bytes(&self) -> u64 {
        self.unit_sizes().into_iter().map(|bytes| self.workshop.cache.charge_bytes(bytes)).sum()
    }

    /// In bytes, as they were built last.
    pub fn unit_sizes(&self) -> Vec<usize> {
        let units = self.workshop.units();
        units.iter().filter_map(|unit| self.books.written.get(&unit.key)).map(|written| written.bytes.len()).collect()
    }

    /// Starts to watch for the most live bytes anew, since the budget is final from here on.
    pub fn watch_live_bytes(&mut self) {
        self.books.totals.most_live_bytes = self.workshop.cache.live_bytes();
    }

    pub fn into_totals(self) -> Totals {
        self.books.totals
    }
}

struct Unit {
    source: usize,
    profile: usize,
    key: UnitKey,
}

struct Workshop<'s> {
    toolchain: &'s Toolchain,
    cache: &'s DeviceCache,
    sources: Vec<Source>,
    jobs: usize,
}

type Running<'s, 'c> = (&'s Unit, Slot<'c>, ScopedJoinHandle<'s, Result<Compiled>>);

impl Workshop<'_> {
    fn units(&self) -> Vec<Unit> {
        (0..self.sources.len()).flat_map(|source| self.units_of(source)).collect()
    }

    fn units_of(&self, source: usize) -> Vec<Unit> {
        let of = &self.sources[source];
        let unit = |profile| {
            let key = UnitKey { unit: of.unit_name(profile), content: of.content(profile, self.toolchain) };
            Unit { source, profile, key }
        };
        (0..of.profiles()).map(unit).collect()
    }

    /// Compilers run side by side, but units are looked up and stored in their order, so that a session
    /// evicts the same units whenever it is repeated.
    fn build_in_order<'u>(&self, units: impl Iterator<Item = &'u Unit>, books: &mut Books) -> Result<()> {
        thread::scope(|scope| {
            let mut running = VecDeque::new();
            for (done, unit) in units.enumerate() {
                report::progress("building", done, books.row.units);
                if running.len() == self.jobs {
                    self.store_first(&mut running, books)?;
                }
                let started = Instant::now();
                match self.cache.look_up(&unit.key)? {
                    Found::Resident(bytes) => books.hit(unit, &bytes, started.elapsed()),
                    Found::Missing(slot) => {
                        let source = &self.sources[unit.source];
                        let compiler = scope.spawn(|| self.toolchain.make(source, unit.profile));
                        running.push_back((unit, slot, compiler));
                    }
                }
            }
            while !running.is_empty() {
                self.store_first(&mut running, books)?;
            }
            report::progress_ends();
            Ok(())
        })
    }

    /// Waits for the compiler that was started first and stores what it wrote.
    fn store_first(&self, running: &mut VecDeque<Running<'_, '_>>, books: &mut Books) -> Result<()> {
        let Some((unit, slot, compiler)) = running.pop_front() else { return Ok(()) };
        let compiled = compiler.join().expect("a compiler's thread does not panic")?;
        match slot.put(&compiled.bytes, compiled.took.as_nanos() as u64)? {
            Stored::Resident(bytes) => books.compare(unit, &compiled.bytes, &bytes),
            Stored::Refused { kind, reason } => books.refused(unit, kind, reason),
        }
        books.miss(unit, compiled);
        books.live(self.cache);
        Ok(())
    }
}

/// What is written down about all builds. The compilers' bytes stay here, on the host, only so that what
/// comes back from the device can be compared with them.
#[derive(Default)]
struct Books {
    row: Counts,
    totals: Totals,
    written: HashMap<UnitKey, Compiled>,
    /// By unit: its key before the last edit.
    stale: HashMap<String, UnitKey>,
}

impl Books {
    fn hit(&mut self, unit: &Unit, bytes: &[u8], took: Duration) {
        self.row.hits += 1;
        self.totals.hits += 1;
        self.totals.hit_times.push(took);
        let written = self.written.remove(&unit.key).expect("what is resident was compiled before");
        self.totals.saved += written.took;
        self.compare(unit, &written.bytes, bytes);
        self.written.insert(unit.key.clone(), written);
    }

    fn miss(&mut self, unit: &Unit, compiled: Compiled) {
        self.row.misses += 1;
        self.row.compiling += compiled.took;
        self.totals.misses += 1;
        self.totals.compiling += compiled.took;
        if let Some(before) = self.stale.remove(&unit.key.unit).and_then(|stale| self.written.get(&stale)) {
            self.totals.edited += 1;
            self.totals.edited_differ += u64::from(before.bytes != compiled.bytes);
        }
        if let Some(before) = self.written.get(&unit.key) {
            self.totals.again += 1;
            self.totals.again_same += u64::from(before.bytes == compiled.bytes);
        }
        self.written.insert(unit.key.clone(), compiled);
    }

    fn refused(&mut self, unit: &Unit, kind: &'static str, reason: String) {
        self.row.refused += 1;
        self.totals.refused.insert(unit.key.unit.clone(), (kind, reason));
    }

    fn compare(&mut self, unit: &Unit, written: &[u8], read_back: &[u8]) {
        self.totals.compared += 1;
        self.totals.compared_bytes += read_back.len() as u64;
        if written != read_back {
            self.totals.mismatches.push(unit.key.unit.clone());
        }
    }

    fn live(&mut self, cache: &DeviceCache) {
        self.totals.most_live_bytes = self.totals.most_live_bytes.max(cache.live_bytes());
    }
}
