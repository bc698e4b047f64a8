//! Deltas as journal entries, and the fold that makes a journal smaller. Pure: no journal, no clock, no locks.
//!
//! ```text
//! an entry's fingerprint: the namespace, that is, the embedder's version
//! an entry's bytes (numbers are little-endian):
//! offset   bytes
//!      0       1  format, 1
//!      1       8  the latest use in the entry, in Unix nanoseconds
//!      9       2  number of deltas n
//!     11      32n  their fingerprints
//! 11+32n     ...  their counts, as a sequence in bincode 2
//! ```
//!
//! The namespace and the first nine bytes are promised for every later format, so that each version can tell how old
//! what it cannot read has become.

use crate::hints::counts::{Counts, charge_bytes};
use crate::persist::codec;
use crate::persist::fingerprint::Fingerprint;
use crate::persist::store::JournalEntry;
use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashSet};

const FORMAT: u8 = 1;
const PREFIX_BYTES: usize = 9;
/// A damaged place costs no more than this; a larger batch would save little, as frames are small beside it already.
const BATCH_BYTES: usize = 4 << 10;

/// What is known, by compilation.
pub(crate) type Known = HashMap<Fingerprint, Counts>;

/// The name under which hints of one version of the embedder's are kept.
pub(crate) fn namespace(version: &[u8]) -> Fingerprint {
    Fingerprint::of("hapax hints").part("version", version).finish()
}

/// The deltas as entries of a few KiB each, in the order given; each with the number of its deltas.
pub(crate) fn encode(namespace: Fingerprint, deltas: &[(Fingerprint, Counts)]) -> Vec<(usize, JournalEntry)> {
    let mut entries = Vec::new();
    let mut rest = deltas;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|(_, counts)| {
            bytes += charge_bytes(counts.days.len()) as usize;
            bytes <= BATCH_BYTES
        });
        let (batch, after) = rest.split_at(fits.count());
        entries.push((batch.len(), entry(namespace, batch)));
        rest = after;
    }
    entries
}

fn entry(namespace: Fingerprint, batch: &[(Fingerprint, Counts)]) -> JournalEntry {
    let latest = batch.iter().map(|(_, counts)| counts.last_used_unix_ns).max().unwrap_or(0);
    let mut bytes = vec![FORMAT];
    bytes.extend(latest.to_le_bytes());
    bytes.extend((batch.len() as u16).to_le_bytes());
    batch.iter().for_each(|(fingerprint, _)| bytes.extend(fingerprint.as_bytes()));
    bytes.extend(codec::to_bytes(&batch.iter().map(|(_, counts)| counts).collect::<Vec<_>>()));
    JournalEntry { fingerprint: namespace, bytes }
}

/// The deltas of an entry, behind its prefix.
fn decode(bytes: &[u8]) -> Option<(&[[u8; 32]], Vec<Counts>)> {
    let (length, bytes) = bytes.split_first_chunk()?;
    let length = usize::from(u16::from_le_bytes(*length));
    let (names, counts) = bytes.split_at_checked(32 * length)?;
    let counts: Vec<Counts> = codec::from_bytes(counts)?;
    (counts.len() == length).then_some((bytemuck::cast_slice(names), counts))
}

/// All entries of a journal, joined.
#[derive(Default)]
pub(crate) struct Folded {
    by_namespace: HashMap<Fingerprint, Known>,
    /// Of a format that another version of hapax writes; each with its latest use.
    foreign: Vec<(u64, JournalEntry)>,
    /// Entries that were written whole and cannot be read.
    pub(crate) unreadable: u64,
}

impl Folded {
    pub(crate) fn of(entries: Vec<JournalEntry>) -> Folded {
        let mut folded = Folded::default();
        for entry in entries {
            folded.add(entry);
        }
        folded
    }

    fn add(&mut self, entry: JournalEntry) {
        let Some((prefix, deltas)) = entry.bytes.split_at_checked(PREFIX_BYTES) else {
            self.unreadable += 1;
            return;
        };
        if prefix[0] != FORMAT {
            let latest = u64::from_le_bytes(prefix[1..].try_into().expect("a prefix is nine bytes"));
            self.foreign.push((latest, entry));
            return;
        }
        let Some((names, all_counts)) = decode(deltas) else {
            self.unreadable += 1;
            return;
        };
        let known = self.by_namespace.entry(entry.fingerprint).or_default();
        for (name, counts) in names.iter().zip(all_counts) {
            match known.entry(Fingerprint::from_bytes(*name)) {
                Entry::Occupied(mut joined) => joined.get_mut().join(&counts),
                Entry::Vacant(new) => {
                    new.insert(counts);
                }
            }
        }
    }

    pub(crate) fn take(&mut self, namespace: &Fingerprint) -> Known {
        self.by_namespace.remove(namespace).unwrap_or_default()
    }

    /// What is known, by version.
    pub(crate) fn into_versions(self) -> impl Iterator<Item = (Fingerprint, Known)> {
        self.by_namespace.into_iter()
    }

    /// Entries that another version of hapax wrote in a format of its own.
    pub(crate) fn other_formats(&self) -> u64 {
        self.foreign.len() as u64
    }

    /// Bytes charged for everything, all versions together.
    pub(crate) fn bytes(&self) -> u64 {
        let records = self.by_namespace.values().flat_map(Known::values).map(|counts| charge_bytes(counts.days.len()));
        records.chain(self.foreign.iter().map(|(_, entry)| entry.bytes.len() as u64)).sum()
    }

    /// What must go: of all versions together the least recently used beyond the budget, and of versions other than
    /// `ours` everything that was last used before `others_from_unix_ns`.
    ///
    /// It is decided over everything that is known. A fold sees less (what live processes are adding to is left out), and
    /// in it a record can look older than it is.
    pub(crate) fn victims(&self, ours: &Fingerprint, budget_bytes: u64, others_from_unix_ns: u64) -> Victims {
        let mut all: Vec<(u64, u64, Option<(Fingerprint, Fingerprint)>)> = Vec::new();
        for (namespace, known) in &self.by_namespace {
            for (fingerprint, counts) in known {
                let charge = charge_bytes(counts.days.len());
                all.push((counts.last_used_unix_ns, charge, Some((*namespace, *fingerprint))));
            }
        }
        all.extend(self.foreign.iter().map(|(latest, entry)| (*latest, entry.bytes.len() as u64, None)));
        all.sort_unstable();
        let mut excess = self.bytes().saturating_sub(budget_bytes);
        let mut victims = Victims { foreign_before_unix_ns: others_from_unix_ns, ..Victims::default() };
        for (last_used, charge, record) in all {
            let expired = last_used < others_from_unix_ns && record.is_none_or(|(namespace, _)| namespace != *ours);
            if excess == 0 && !expired {
                continue;
            }
            excess = excess.saturating_sub(charge);
            match record {
                Some(record) => {
                    victims.records.insert(record);
                }
                None => {
                    victims.foreign_before_unix_ns = victims.foreign_before_unix_ns.max(last_used.saturating_add(1))
                }
            }
        }
        victims
    }

    /// The entries that say the same, without the victims.
    pub(crate) fn into_entries(self, victims: &Victims) -> Vec<JournalEntry> {
        let mut entries = Vec::new();
        for (namespace, known) in self.by_namespace {
            let mut left: Vec<(Fingerprint, Counts)> =
                known.into_iter().filter(|(fingerprint, _)| !victims.contains(&namespace, fingerprint)).collect();
            left.sort_unstable_by_key(|(fingerprint, _)| *fingerprint);
            entries.extend(encode(namespace, &left).into_iter().map(|(_, entry)| entry));
        }
        let foreign = self.foreign.into_iter().filter(|(latest, _)| *latest >= victims.foreign_before_unix_ns);
        entries.extend(foreign.map(|(_, entry)| entry));
        entries
    }
}

/// What a compaction leaves out.
#[derive(Debug, Default)]
pub(crate) struct Victims {
    records: HashSet<(Fingerprint, Fingerprint)>,
    foreign_before_unix_ns: u64,
}

impl Victims {
    pub(crate) fn contains(&self, namespace: &Fingerprint, fingerprint: &Fingerprint) -> bool {
        self.records.contains(&(*namespace, *fingerprint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hints::counts::Compiled;

    fn name(number: u64) -> Fingerprint {
        Fingerprint::of("batch").part("number", number.to_le_bytes()).finish()
    }

    fn used(at: u64) -> Counts {
        let mut counts = Counts::default();
        counts.add_compile(at, 1, &Compiled::once(at, 10, 20));
        counts
    }

    fn entries(namespace: Fingerprint, numbers: std::ops::Range<u64>) -> Vec<JournalEntry> {
        let deltas: Vec<_> = numbers.map(|number| (name(number), used(number))).collect();
        encode(namespace, &deltas).into_iter().map(|(_, entry)| entry).collect()
    }

    #[test]
    fn deltas_come_back_from_entries_of_bounded_length() {
        let ours = namespace(b"1");
        let entries = entries(ours, 0..1000);
        assert!(entries.len() > 10 && entries.iter().all(|entry| entry.bytes.len() <= BATCH_BYTES));
        let mut folded = Folded::of([&entries[..], &entries[..]].concat());
        let known = folded.take(&ours);
        assert_eq!((known.len(), folded.unreadable), (1000, 0));
        assert!(known.values().all(|counts| counts.compiled.unwrap().count == 2));
    }

    #[test]
    fn versions_do_not_see_each_other_and_share_the_budget() {
        let (ours, theirs) = (namespace(b"1"), namespace(b"2"));
        let folded = Folded::of([entries(ours, 0..10), entries(theirs, 5..15)].concat());
        let victims = folded.victims(&ours, folded.bytes() / 20 * 9, 0);
        let mut left = Folded::of(folded.into_entries(&victims));
        assert_eq!((left.take(&ours).len(), left.take(&theirs).len()), (2, 7), "uses 8, 8, 9, 9 and 10..15 stay");
    }

    #[test]
    fn only_other_versions_expire() {
        let (ours, theirs) = (namespace(b"1"), namespace(b"2"));
        let folded = Folded::of([entries(ours, 0..10), entries(theirs, 0..10)].concat());
        let victims = folded.victims(&ours, u64::MAX, 7);
        let mut left = Folded::of(folded.into_entries(&victims));
        assert_eq!((left.take(&ours).len(), left.take(&theirs).len()), (10, 3));
    }

    #[test]
    fn a_later_format_is_kept_untouched_until_it_is_old() {
        let later = |latest: u64| JournalEntry {
            fingerprint: namespace(b"3"),
            bytes: [&[2][..], &latest.to_le_bytes(), b"something else"].concat(),
        };
        let kept = |others_from| {
            let folded = Folded::of(vec![later(5), later(9)]);
            assert_eq!(folded.unreadable, 0);
            let victims = folded.victims(&namespace(b"1"), u64::MAX, others_from);
            folded.into_entries(&victims)
        };
        assert_eq!((kept(5), kept(6), kept(10)), (vec![later(5), later(9)], vec![later(9)], vec![]));
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_left_out() {
        let ours = namespace(b"1");
        let mut bad = entries(ours, 0..3);
        bad[0].bytes.pop();
        bad.push(JournalEntry { fingerprint: ours, bytes: vec![FORMAT; PREFIX_BYTES - 1] });
        // One name more than there are counts.
        let mut more_names = entry(ours, &[(name(0), used(0))]);
        more_names.bytes.splice(PREFIX_BYTES..PREFIX_BYTES + 2, 2u16.to_le_bytes());
        more_names.bytes.splice(PREFIX_BYTES + 2..PREFIX_BYTES + 2, [0; 32]);
        bad.push(more_names);
        let folded = Folded::of(bad);
        assert_eq!((folded.unreadable, folded.bytes()), (3, 0));
        assert!(folded.into_entries(&Victims::default()).is_empty());
    }
}
