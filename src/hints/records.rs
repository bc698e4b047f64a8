//! All hints of a journal as they are, of every version: for tools that look at a journal from outside. Reads only.

use crate::hints::batch::Folded;
use crate::hints::rank::{self, Decay};
use crate::hints::report::{Hint, RankedHint};
use crate::persist::fingerprint::Fingerprint;
use crate::persist::store::{Journal, Refusal};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a journal of hints holds, for tools. An embedder asks a [`HintStore`](crate::HintStore), which sees its own version's
/// hints only, and can record.
///
/// ```
/// use hapax::{Fingerprint, HintOptions, HintRecords, HintStore, MemoryJournal};
/// use std::sync::Arc;
/// use std::time::{Duration, SystemTime};
///
/// let journal = Arc::new(MemoryJournal::new());
/// for version in ["1", "2"] {
///     let hints = HintStore::open(HintOptions::in_journal(journal.clone()).version(version));
///     hints.record_hit(&Fingerprint::of("example").finish());
/// }
/// let found = HintRecords::read(&*journal, Duration::from_secs(7 * 86_400), SystemTime::now())?;
/// assert_eq!(found.records.len(), 2);
/// assert_eq!(found.records[0].uses_by_day[0].1, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct HintRecords {
    /// One for each compilation of each version, in the order of version and fingerprint.
    pub records: Vec<HintRecord>,
    /// Places in the journal whose bytes were damaged, and entries that are not hints.
    pub damaged: u64,
    /// Entries in a format of another version of hapax.
    pub other_formats: u64,
    /// Bytes that the bound of a [`HintStore`](crate::HintStore) is held against, all versions together.
    pub charged_bytes: u64,
}

/// What is known of one compilation under one version.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HintRecord {
    /// The version's fingerprint; [`HintOptions::version`](crate::HintOptions::version) gives the bytes it is computed from.
    pub version: Fingerprint,
    /// What is known, and what follows from it now.
    pub ranked: RankedHint,
    /// Uses (compilations and hits) per calendar day (UTC), of the latest 32 days that had any, ascending. Days are counted
    /// from 1970-01-01.
    pub uses_by_day: Vec<(u32, u32)>,
}

impl HintRecords {
    /// Reads the whole journal. O(records of all versions).
    ///
    /// # Errors
    /// What the journal says.
    pub fn read(journal: &dyn Journal, half_life: Duration, now: SystemTime) -> Result<HintRecords, Refusal> {
        let replay = journal.replay()?;
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let decay = Decay::new(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX), half_life);
        let folded = Folded::of(replay.entries);
        let mut found = HintRecords {
            records: Vec::new(),
            damaged: replay.damaged + folded.unreadable,
            other_formats: folded.other_formats(),
            charged_bytes: folded.bytes(),
        };
        for (version, known) in folded.into_versions() {
            for (fingerprint, counts) in known {
                let hint = Hint::new(counts.compiled, counts.hits, counts.last_used_unix_ns);
                let decayed_uses = decay.uses([&counts.days]);
                let uses_per_day = decay.uses_per_day(decayed_uses);
                let saving_ns_per_day = rank::saving_ns_per_day(uses_per_day, &hint);
                let ranked = RankedHint { fingerprint, hint, decayed_uses, uses_per_day, saving_ns_per_day };
                let uses_by_day = counts.days.iter().collect();
                found.records.push(HintRecord { version, ranked, uses_by_day });
            }
        }
        found.records.sort_unstable_by_key(|record| (record.version, record.ranked.fingerprint));
        Ok(found)
    }
}
