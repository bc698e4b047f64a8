//! The two layers together: memory over a journal, and who writes, reads and folds when. Two locks: `disk` is held while the
//! journal is used and is taken first, `memory` never for longer than the work in memory takes.

use crate::hints::batch::{self, Folded, Known};
use crate::hints::counts::Counts;
use crate::hints::options::HintOptions;
use crate::hints::rank::Decay;
use crate::hints::report::HintStats;
use crate::hints::table::Table;
use crate::observe::{self, event, span};
use crate::persist::fingerprint::Fingerprint;
use crate::persist::store::{Compacted, Journal, Refusal};
use crate::sync::Mutex;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Deltas of evicted records that are kept before they are written, however young they are.
const ORPHANS_AT_MOST: usize = 1024;
/// A journal that is smaller is not worth folding.
const COMPACT_BYTES_AT_LEAST: u64 = 256 << 10;
/// No journal frames an entry in more.
const FRAME_BYTES: u64 = 128;
/// Processes that write little leave many files before they leave many bytes.
const FILES_AT_MOST: usize = 64;
/// A fold costs as much as opening. At this many times the bytes of what it leaves, the next is due.
const COMPACT_AT_TIMES: u64 = 3;

/// A store that is on.
pub(super) struct Shared {
    pub(super) options: HintOptions,
    namespace: Fingerprint,
    journal: Arc<dyn Journal>,
    pub(super) memory: Mutex<Memory>,
    /// Held while the journal is used; always taken before `memory`, and never waited for by a lookup.
    disk: Mutex<Disk>,
}

pub(super) struct Memory {
    pub(super) table: Table,
    written_unix_ns: u64,
    /// A recording call is about to write.
    writing: bool,
    /// The counts that the table does not keep; of those that are pending, the refused.
    stats: HintStats,
}

#[derive(Default)]
pub(super) struct Disk {
    /// Refused by the journal, and counted as saved in memory.
    refused: Known,
    /// What it took when it was last asked, and what this process has added since.
    journal_bytes: u64,
    compact_at_bytes: u64,
    /// Files when it was last read. Each process leaves one, however little is in it.
    files: usize,
    report: Report,
}

/// What happened under the lock, to be told after it.
#[derive(Default)]
struct Report {
    written: u64,
    evicted: u64,
    lost: u64,
    damaged: u64,
    folded: u64,
}

impl Memory {
    /// Returns how many records were forgotten, and whether it is time to write.
    pub(super) fn record(
        &mut self,
        now_unix_ns: u64,
        write_behind: Duration,
        add: impl FnOnce(&mut Table, u64) -> u64,
    ) -> (u64, bool) {
        let evicted = add(&mut self.table, now_unix_ns);
        (evicted, self.is_due(now_unix_ns, write_behind))
    }

    /// True for one caller at a time.
    fn is_due(&mut self, now_unix_ns: u64, write_behind: Duration) -> bool {
        // A clock that went back starts the time again.
        self.written_unix_ns = self.written_unix_ns.min(now_unix_ns);
        let age = Duration::from_nanos(now_unix_ns - self.written_unix_ns);
        let due = !self.writing && (age >= write_behind || self.table.orphans() >= ORPHANS_AT_MOST);
        self.writing |= due;
        due
    }
}

impl Disk {
    fn compact_after(&mut self, folded_bytes: u64) {
        self.compact_at_bytes = folded_bytes.saturating_mul(COMPACT_AT_TIMES).max(COMPACT_BYTES_AT_LEAST);
    }
}

impl Shared {
    /// Reads the whole journal.
    pub(super) fn open(options: HintOptions) -> Result<Shared, String> {
        let shared = Shared {
            namespace: batch::namespace(&options.version),
            memory: Mutex::new(Memory {
                table: Table::new(options.budget_bytes),
                written_unix_ns: options.now_unix_ns(),
                writing: false,
                stats: HintStats::default(),
            }),
            disk: Mutex::new(Disk::default()),
            journal: options.open_journal().map_err(|distrust| distrust.to_string())?,
            options,
        };
        shared.on_disk("read", Shared::read).map_err(|refusal| refusal.to_string())?;
        Ok(shared)
    }

    pub(super) fn stats(&self) -> HintStats {
        let journal_bytes = self.journal.bytes();
        let memory = self.memory.lock();
        HintStats {
            entries: memory.table.len() as u64,
            bytes: memory.table.bytes(),
            budget_bytes: self.options.budget_bytes,
            journal_bytes,
            hits: memory.table.hits,
            misses: memory.table.misses,
            evictions: memory.table.evictions,
            pending: memory.stats.pending + memory.table.pending() as u64,
            ..memory.stats
        }
    }

    pub(super) fn decay(&self) -> Decay {
        Decay::new(self.options.now_unix_ns(), self.options.half_life)
    }

    /// Uses the journal, and then tells what happened.
    pub(super) fn on_disk<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Shared, &mut Disk) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        span!(DEBUG, "hints", action = action);
        let (outcome, report) = {
            let mut disk = self.disk.lock();
            let outcome = work(self, &mut disk);
            (outcome, std::mem::take(&mut disk.report))
        };
        if let Err(refusal) = &outcome {
            event!(WARN, "the journal refused", why = observe::display(refusal));
            observe::count("hapax.hints.refusals", 1);
        }
        tell_evicted(report.evicted);
        if report.lost > 0 {
            event!(WARN, "unwritten hints were given up", records = report.lost);
        }
        if report.damaged > 0 {
            event!(WARN, "damaged places in the journal", places = report.damaged);
        }
        if report.folded > 0 {
            event!(DEBUG, "folded the journal");
        }
        observe::count("hapax.hints.written", report.written);
        observe::count("hapax.hints.lost", report.lost);
        observe::count("hapax.hints.damaged", report.damaged);
        observe::count("hapax.hints.folds", report.folded);
        outcome
    }

    pub(super) fn flush(&self, disk: &mut Disk) -> Result<(), Refusal> {
        let now_unix_ns = self.options.now_unix_ns();
        let deltas = {
            let mut memory = self.memory.lock();
            memory.writing = false;
            memory.written_unix_ns = now_unix_ns;
            memory.table.take_deltas()
        };
        self.counted(self.append(disk, deltas))?;
        let due = disk.journal_bytes > disk.compact_at_bytes || disk.files > FILES_AT_MOST;
        if due && self.compact(disk).is_err() {
            // What is recorded is safe, and the next fold may do better.
            disk.compact_at_bytes = disk.compact_at_bytes.saturating_mul(2);
        }
        if due {
            // Those of live processes are left, however many; they are counted again when the journal is read.
            disk.files = 0;
        }
        Ok(())
    }

    pub(super) fn sync(&self, disk: &mut Disk) -> Result<(), Refusal> {
        self.flush(disk)?;
        self.counted(self.journal.sync())
    }

    pub(super) fn gc(&self, disk: &mut Disk) -> Result<(), Refusal> {
        self.flush(disk)?;
        self.compact(disk)
    }

    pub(super) fn clear(&self, disk: &mut Disk) -> Result<(), Refusal> {
        disk.refused.clear();
        {
            let mut memory = self.memory.lock();
            memory.stats.pending = 0;
            memory.table.clear();
        }
        self.counted(self.journal.clear())
    }

    fn append(&self, disk: &mut Disk, mut deltas: Vec<(Fingerprint, Counts)>) -> Result<(), Refusal> {
        deltas.extend(disk.refused.drain());
        self.memory.lock().stats.pending = 0;
        let mut written = 0;
        for (count, entry) in batch::encode(self.namespace, &deltas) {
            if let Err(refusal) = self.journal.append(&entry.fingerprint, &entry.bytes) {
                self.keep_refused(disk, deltas.split_off(written));
                return Err(refusal);
            }
            disk.journal_bytes += entry.bytes.len() as u64 + FRAME_BYTES;
            disk.report.written += count as u64;
            written += count;
        }
        Ok(())
    }

    /// Keeps them for the next write, but no more of them than there are records.
    fn keep_refused(&self, disk: &mut Disk, deltas: Vec<(Fingerprint, Counts)>) {
        let mut memory = self.memory.lock();
        for (fingerprint, counts) in deltas {
            if memory.table.entry(&fingerprint).is_some() {
                disk.refused.entry(fingerprint).or_default().join(&counts);
            } else {
                memory.stats.lost += 1;
                disk.report.lost += 1;
            }
        }
        memory.stats.pending = disk.refused.len() as u64;
    }

    /// Brings memory up to the journal.
    pub(super) fn read(&self, disk: &mut Disk) -> Result<(), Refusal> {
        let mut folded = self.replay(disk)?;
        disk.compact_after(folded.bytes().min(self.options.budget_bytes));
        disk.journal_bytes = self.journal.bytes();
        self.set_saved(disk, folded.take(&self.namespace));
        Ok(())
    }

    fn compact(&self, disk: &mut Disk) -> Result<(), Refusal> {
        let mut all = self.replay(disk)?;
        let others_from = self.options.now_unix_ns().saturating_sub(nanoseconds(self.options.keep_other_versions));
        let victims = all.victims(&self.namespace, self.options.budget_bytes, others_from);
        let mut fold = |entries| Folded::of(entries).into_entries(&victims);
        let compacted = self.counted(self.journal.compact(&mut fold))?;
        disk.journal_bytes = self.journal.bytes();
        disk.compact_after(disk.journal_bytes);
        let mut known = all.take(&self.namespace);
        if let Compacted::Done { .. } = compacted {
            self.memory.lock().stats.compactions += 1;
            disk.report.folded += 1;
            known.retain(|fingerprint, _| !victims.contains(&self.namespace, fingerprint));
        }
        self.set_saved(disk, known);
        Ok(())
    }

    fn replay(&self, disk: &mut Disk) -> Result<Folded, Refusal> {
        let replay = self.counted(self.journal.replay())?;
        disk.files = replay.files;
        let folded = Folded::of(replay.entries);
        let damaged = replay.damaged + folded.unreadable;
        // The same places are met at each reading: told once, unless there are more.
        let before = std::mem::replace(&mut self.memory.lock().stats.damaged, damaged);
        disk.report.damaged += damaged.saturating_sub(before);
        Ok(folded)
    }

    fn set_saved(&self, disk: &mut Disk, mut known: Known) {
        for (fingerprint, counts) in &disk.refused {
            known.entry(*fingerprint).or_default().join(counts);
        }
        disk.report.evicted += self.memory.lock().table.set_saved(known);
    }

    fn counted<T>(&self, outcome: Result<T, Refusal>) -> Result<T, Refusal> {
        if outcome.is_err() {
            self.memory.lock().stats.failures += 1;
        }
        outcome
    }
}

/// The last clone writes what is pending.
impl Drop for Shared {
    fn drop(&mut self) {
        let _ = self.on_disk("flush", Shared::flush);
    }
}

pub(super) fn tell_evicted(records: u64) {
    if records > 0 {
        event!(DEBUG, "forgot the least recently used hints", records = records);
        observe::count("hapax.hints.evictions", records);
    }
}

impl HintOptions {
    pub(super) fn now_unix_ns(&self) -> u64 {
        let now: SystemTime = (self.clock)();
        now.duration_since(UNIX_EPOCH).map_or(0, nanoseconds)
    }
}

pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
