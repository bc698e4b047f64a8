//! Compile history that outlives the process: what was compiled how often, how long it took, what is used. Knows a
//! journal and nothing of compilers or devices. Advice only: nothing is wrong if it is missing.

pub(crate) mod batch;
pub(crate) mod counts;
pub(crate) mod options;
pub(crate) mod rank;
pub(crate) mod report;
mod table;

use crate::hints::batch::{Folded, Known};
use crate::hints::counts::{Compiled, Counts};
use crate::hints::options::HintOptions;
use crate::hints::rank::Decay;
use crate::hints::report::{Hint, HintStats, RankedHint};
use crate::hints::table::{Entry, Table};
use crate::observe::{self, event, span};
use crate::persist::fingerprint::Fingerprint;
use crate::persist::store::{Compacted, Journal, Refusal};
use crate::sync::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Deltas of evicted records that are kept before they are written, however young they are.
const ORPHANS_AT_MOST: usize = 1024;
/// A journal that is smaller is not worth folding.
const COMPACT_BYTES_AT_LEAST: u64 = 256 << 10;
/// No journal frames an entry in more.
const FRAME_BYTES: u64 = 128;
/// A fold costs as much as opening. At this many times the bytes of what it leaves, the next is due.
const COMPACT_AT_TIMES: u64 = 3;

/// Compile history by [`Fingerprint`], in memory over a [`Journal`]. Clones share it.
///
/// It says what to compile first after a start, and what is worth keeping:
///
/// ```
/// use hapax::{DirectoryOptions, Fingerprint, HintOptions, HintStore};
/// use std::time::Duration;
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let directory = DirectoryOptions::new("my-compiler").dir(folder);
/// let open = || HintStore::open(HintOptions::new(&directory).version("my-compiler 7"));
/// let unit = |name: &str| Fingerprint::of("my-compiler 7").part("unit", name).finish();
///
/// let hints = open();
/// hints.record_compile(&unit("small"), 4_000, Duration::from_millis(2));
/// hints.record_compile(&unit("large"), 90_000, Duration::from_millis(800));
/// hints.record_hit(&unit("small"));
/// drop(hints); // writes what is pending
///
/// let hints = open(); // the next process
/// assert_eq!(hints.get(&unit("small")).unwrap().hits, 1);
/// let first = hints.precompile_queue(usize::MAX)[0];
/// assert_eq!(first.fingerprint, unit("large")); // used less often, but 400 times as dear
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Sums
///
/// What is recorded is an increment, and increments join the same way in every order: sums, least and greatest values, and
/// uses by day. So processes that record under the same name add up, without waiting for each other. Another
/// process's records are seen after it has written them and this one has called [`refresh`](Self::refresh), or was opened later.
///
/// # When it is written
///
/// A call that records changes memory only. Every [`write_behind`](HintOptions::write_behind), or when 1,024 records have been evicted
/// with uses that are pending, such a call also writes what is pending to the journal, in appends of some KiB; so does the drop of the last clone. There is no
/// thread: if nothing is recorded, nothing is written; call [`flush`](Self::flush) from a thread of your own to keep writing out
/// of the way altogether. A process that is killed loses what is pending; a machine that loses power, what was not
/// [synced](Self::sync). What the journal refuses stays pending.
///
/// A forked child inherits what is pending and would write it once more: let it open a store of its own and forget this one.
///
/// When the journal has grown to three times its records (and at least 256 KiB), the write folds it, which takes as long as opening.
///
/// # When it is off
///
/// Opening never fails. A journal that cannot be read turns the store off: it finds nothing, records nothing, and each call returns
/// at once. [`off_reason`](Self::off_reason) says why.
#[derive(Clone)]
pub struct HintStore(Result<Arc<Shared>, Arc<str>>);

struct Shared {
    options: HintOptions,
    namespace: Fingerprint,
    journal: Arc<dyn Journal>,
    memory: Mutex<Memory>,
    /// Held while the journal is used; always taken before `memory`, and never waited for by a lookup.
    disk: Mutex<Disk>,
}

struct Memory {
    table: Table,
    written_unix_ns: u64,
    /// A recording call is about to write.
    writing: bool,
    /// The counts that the table does not keep.
    stats: HintStats,
}

#[derive(Default)]
struct Disk {
    /// Refused by the journal, and counted as saved in memory.
    refused: Known,
    /// What it took when it was last asked, and what this process has added since.
    journal_bytes: u64,
    compact_at_bytes: u64,
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

impl HintStore {
    /// Opens it. Reads the whole journal: O(records of all versions).
    pub fn open(options: HintOptions) -> HintStore {
        if !options.enabled {
            return HintStore(Err("it was opened with enabled(false)".into()));
        }
        match Self::try_open(options) {
            Ok(shared) => HintStore(Ok(Arc::new(shared))),
            Err(why) => {
                event!(WARN, "hints are off", why = why.as_str());
                HintStore(Err(why.into()))
            }
        }
    }

    fn try_open(options: HintOptions) -> Result<Shared, String> {
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

    /// Why it is off; `None` if it is on.
    pub fn off_reason(&self) -> Option<&str> {
        self.0.as_ref().err().map(|reason| &**reason)
    }

    /// What is known of a compilation. Not a use of it. Expected O(1).
    pub fn get(&self, fingerprint: &Fingerprint) -> Option<Hint> {
        let found = self.shared()?.memory.lock().table.look_up(fingerprint);
        if found.is_none() {
            event!(TRACE, "no hint", fingerprint = observe::display(fingerprint));
        }
        observe::count(if found.is_some() { "hapax.hints.hits" } else { "hapax.hints.misses" }, 1);
        found
    }

    /// Records that it was compiled just now, into `size_bytes`, in `time`.
    pub fn record_compile(&self, fingerprint: &Fingerprint, size_bytes: u64, time: Duration) {
        let compile_ns = nanoseconds(time);
        self.record(|table, now| table.record_compile(fingerprint, now, &Compiled::once(now, size_bytes, compile_ns)));
    }

    /// Records a use of it that needed no compilation.
    pub fn record_hit(&self, fingerprint: &Fingerprint) {
        self.record(|table, now| table.record_hit(fingerprint, now));
    }

    /// Whether its [decayed uses](RankedHint::decayed_uses) reach [`HintOptions::hot_uses`].
    pub fn is_hot(&self, fingerprint: &Fingerprint) -> bool {
        self.shared().is_some_and(|shared| {
            let decay = shared.decay();
            let memory = shared.memory.lock();
            memory.table.entry(fingerprint).is_some_and(|entry| decay.uses(entry.days()) >= shared.options.hot_uses)
        })
    }

    /// What is known of a compilation, and what follows from it now: to sort units that are at hand.
    pub fn rank(&self, fingerprint: &Fingerprint) -> Option<RankedHint> {
        let shared = self.shared()?;
        let decay = shared.decay();
        shared.memory.lock().table.entry(fingerprint).map(|entry| ranked(&decay, &entry))
    }

    /// The `n` of most decayed uses, the hottest first. O(records).
    pub fn hottest(&self, n: usize) -> Vec<RankedHint> {
        self.ranked(n, |_| true, |hint| hint.decayed_uses)
    }

    /// What to compile before it is asked for: the `n` by which compiling early is expected to save the most time per day, the
    /// most first, and none that was never compiled. O(records).
    ///
    /// Saving is the rate of uses times the mean compile time. The rate is read from decayed uses: a steady rate leaves
    /// `rate * half_life / ln 2` of them (Cormode, Shkapenyuk, Srivastava and Xu, "Forward Decay", ICDE 2009).
    pub fn precompile_queue(&self, n: usize) -> Vec<RankedHint> {
        self.ranked(n, |hint| hint.hint.compile_count > 0, |hint| hint.saving_ns_per_day)
    }

    /// Writes what is pending to the journal: from then on it outlives the process, if the journal does.
    ///
    /// # Errors
    /// What the journal says. What it refused stays pending.
    pub fn flush(&self) -> Result<(), Refusal> {
        self.shared().map_or(Ok(()), |shared| shared.on_disk("flush", Shared::flush))
    }

    /// [Flushes](Self::flush), and makes it outlive a loss of power.
    ///
    /// # Errors
    /// What the journal says.
    pub fn sync(&self) -> Result<(), Refusal> {
        self.shared().map_or(Ok(()), |shared| {
            shared.on_disk("sync", |shared, disk| {
                shared.flush(disk)?;
                shared.counted(shared.journal.sync())
            })
        })
    }

    /// Reads the journal again, with what other processes have written. O(records of all versions).
    ///
    /// # Errors
    /// What the journal says; what is known stays as it was.
    pub fn refresh(&self) -> Result<(), Refusal> {
        self.shared().map_or(Ok(()), |shared| shared.on_disk("read", Shared::read))
    }

    /// Folds the journal now: one record each for what ended processes left, none beyond the budget, none of
    /// other versions that is too old. If another process is at it, it is left to that one.
    ///
    /// # Errors
    /// What the journal says; nothing is lost.
    pub fn gc(&self) -> Result<(), Refusal> {
        self.shared().map_or(Ok(()), |shared| {
            shared.on_disk("fold", |shared, disk| {
                shared.flush(disk)?;
                shared.compact(disk)
            })
        })
    }

    /// Forgets everything: all versions, on the disk too, and nothing that is not a hint. Other processes that run keep
    /// what they have in memory, and write only what they record from now on.
    ///
    /// # Errors
    /// What the journal says; memory is cleared all the same.
    pub fn clear(&self) -> Result<(), Refusal> {
        self.shared().map_or(Ok(()), |shared| {
            shared.on_disk("clear", |shared, disk| {
                disk.refused.clear();
                shared.memory.lock().table.clear();
                shared.counted(shared.journal.clear())
            })
        })
    }

    /// Figures since it was opened.
    pub fn stats(&self) -> HintStats {
        let Some(shared) = self.shared() else { return HintStats::default() };
        let journal_bytes = shared.journal.bytes();
        let memory = shared.memory.lock();
        HintStats {
            entries: memory.table.len() as u64,
            bytes: memory.table.bytes(),
            budget_bytes: shared.options.budget_bytes,
            journal_bytes,
            hits: memory.table.hits,
            misses: memory.table.misses,
            evictions: memory.table.evictions,
            pending: memory.table.pending() as u64,
            ..memory.stats
        }
    }

    /// Panics if the books do not add up. For tests; O(records).
    pub fn validate(&self) {
        if let Some(shared) = self.shared() {
            shared.memory.lock().table.validate();
        }
    }

    fn shared(&self) -> Option<&Shared> {
        self.0.as_deref().ok()
    }

    fn record(&self, add: impl FnOnce(&mut Table, u64) -> u64) {
        let Some(shared) = self.shared() else { return };
        let now_unix_ns = shared.options.now_unix_ns();
        let (evicted, due) = {
            let mut memory = shared.memory.lock();
            let evicted = add(&mut memory.table, now_unix_ns);
            (evicted, memory.is_due(now_unix_ns, shared.options.write_behind))
        };
        tell_evicted(evicted);
        if due {
            // Counted, and pending still: whoever records can do nothing about it.
            let _ = shared.on_disk("flush", Shared::flush);
        }
    }

    fn ranked(&self, n: usize, which: fn(&RankedHint) -> bool, by: fn(&RankedHint) -> f64) -> Vec<RankedHint> {
        let Some(shared) = self.shared() else { return Vec::new() };
        let decay = shared.decay();
        let mut all: Vec<RankedHint> =
            shared.memory.lock().table.records().map(|entry| ranked(&decay, &entry)).filter(which).collect();
        // Equal ones in the order of their names, so that every process has the same.
        let order =
            |a: &RankedHint, b: &RankedHint| by(b).total_cmp(&by(a)).then_with(|| a.fingerprint.cmp(&b.fingerprint));
        if n < all.len() {
            all.select_nth_unstable_by(n, order);
            all.truncate(n);
        }
        all.sort_unstable_by(order);
        all
    }
}

impl fmt::Debug for HintStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shared() {
            Some(shared) => write!(f, "HintStore({} records)", shared.memory.lock().table.len()),
            None => write!(f, "HintStore(off: {})", self.off_reason().unwrap_or_default()),
        }
    }
}

fn ranked(decay: &Decay, entry: &Entry<'_>) -> RankedHint {
    let hint = entry.hint();
    let decayed_uses = decay.uses(entry.days());
    let uses_per_day = decay.uses_per_day(decayed_uses);
    let saving_ns_per_day = rank::saving_ns_per_day(uses_per_day, &hint);
    RankedHint { fingerprint: *entry.fingerprint, hint, decayed_uses, uses_per_day, saving_ns_per_day }
}

impl Memory {
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
    fn decay(&self) -> Decay {
        Decay::new(self.options.now_unix_ns(), self.options.half_life)
    }

    /// Uses the journal, and then tells what happened.
    fn on_disk<T>(
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

    fn flush(&self, disk: &mut Disk) -> Result<(), Refusal> {
        let deltas = {
            let mut memory = self.memory.lock();
            memory.writing = false;
            memory.written_unix_ns = self.options.now_unix_ns();
            memory.table.take_deltas()
        };
        self.counted(self.append(disk, deltas))?;
        if disk.journal_bytes > disk.compact_at_bytes && self.compact(disk).is_err() {
            // What is recorded is safe, and the next fold may do better.
            disk.compact_at_bytes = disk.compact_at_bytes.saturating_mul(2);
        }
        Ok(())
    }

    fn append(&self, disk: &mut Disk, mut deltas: Vec<(Fingerprint, Counts)>) -> Result<(), Refusal> {
        deltas.extend(disk.refused.drain());
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
    }

    /// Brings memory up to the journal.
    fn read(&self, disk: &mut Disk) -> Result<(), Refusal> {
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

fn tell_evicted(records: u64) {
    if records > 0 {
        event!(DEBUG, "forgot the least recently used hints", records = records);
        observe::count("hapax.hints.evictions", records);
    }
}

impl HintOptions {
    fn now_unix_ns(&self) -> u64 {
        let now: SystemTime = (self.clock)();
        now.duration_since(UNIX_EPOCH).map_or(0, nanoseconds)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
