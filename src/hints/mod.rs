//! Compile history that outlives the process: what was compiled how often, how long it took, what is used. Knows a
//! journal and nothing of compilers or devices. Advice only: nothing is wrong if it is missing.

pub(crate) mod batch;
pub(crate) mod counts;
pub(crate) mod options;
pub(crate) mod rank;
pub(crate) mod records;
pub(crate) mod report;
mod shared;
mod table;

use crate::hints::counts::Compiled;
use crate::hints::options::HintOptions;
use crate::hints::rank::Decay;
use crate::hints::report::{Hint, HintStats, RankedHint};
use crate::hints::shared::{Shared, nanoseconds, tell_evicted};
use crate::hints::table::{Entry, Table};
use crate::observe::{self, event};
use crate::persist::fingerprint::Fingerprint;
use crate::persist::store::Refusal;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Compile history by [`Fingerprint`], in memory over a [`Journal`](crate::Journal). Clones share it.
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
/// When the journal has grown to three times its records (and at least 256 KiB), or to more than 64 files, the write folds it, which takes
/// as long as opening.
///
/// # When it is off
///
/// Opening never fails. A journal that cannot be read turns the store off: it finds nothing, records nothing, and each call returns
/// at once. [`off_reason`](Self::off_reason) says why.
#[derive(Clone)]
pub struct HintStore(Result<Arc<Shared>, Arc<str>>);

impl HintStore {
    /// Opens it. Reads the whole journal: O(records of all versions).
    pub fn open(options: HintOptions) -> HintStore {
        if !options.enabled {
            return HintStore(Err("it was opened with enabled(false)".into()));
        }
        match Shared::open(options) {
            Ok(shared) => HintStore(Ok(Arc::new(shared))),
            Err(why) => {
                event!(WARN, "hints are off", why = why.as_str());
                HintStore(Err(why.into()))
            }
        }
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
        self.shared().map_or(Ok(()), |shared| shared.on_disk("sync", Shared::sync))
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
        self.shared().map_or(Ok(()), |shared| shared.on_disk("fold", Shared::gc))
    }

    /// Forgets everything: all versions, on the disk too, and nothing that is not a hint. Other processes that run keep
    /// what they have in memory, and write only what they record from now on.
    ///
    /// # Errors
    /// What the journal says; memory is cleared all the same.
    pub fn clear(&self) -> Result<(), Refusal> {
        self.shared().map_or(Ok(()), |shared| shared.on_disk("clear", Shared::clear))
    }

    /// Figures since it was opened.
    pub fn stats(&self) -> HintStats {
        self.shared().map_or_else(HintStats::default, Shared::stats)
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
        let (evicted, due) = shared.memory.lock().record(now_unix_ns, shared.options.write_behind, add);
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
