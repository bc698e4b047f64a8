//! The algebra of hints: what is known of one compilation, and how two pieces of knowledge join. Pure: no clock, no
//! files, no fingerprints.
//!
//! [`Counts`] under [`join`](Counts::join) is a commutative monoid, [`Counts::default`] its neutral element: each field
//! is a saturating sum, a least, a greatest, or (the days) the greatest keys of a union with their values added, and
//! each of those is associative and commutative exactly. So deltas may be folded in any order and any grouping.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// Days on which uses are remembered, the latest ones.
pub(crate) const DAYS_AT_MOST: usize = 32;
const NS_PER_DAY: u64 = 86_400_000_000_000;
/// No record takes more in a journal, its fingerprint and its share of the frame included, the days aside.
const BYTES_WITHOUT_DAYS: u64 = 112;
const BYTES_PER_DAY: u64 = 10;

/// What is known of one compilation; also a piece of it, a delta.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) compiled: Option<Compiled>,
    pub(crate) hits: u64,
    pub(crate) last_used_unix_ns: u64,
    pub(crate) days: Days,
}

/// Of all compilations under one fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Compiled {
    pub(crate) count: u64,
    pub(crate) ns: u64,
    pub(crate) ns_min: u64,
    pub(crate) first_unix_ns: u64,
    pub(crate) last_unix_ns: u64,
    /// What the last one made; of several at the same instant, the largest.
    pub(crate) size_bytes: u64,
}

impl Counts {
    /// Joins what `other` knows. O(days).
    pub(crate) fn join(&mut self, other: &Counts) {
        match (&mut self.compiled, &other.compiled) {
            (Some(ours), Some(theirs)) => ours.join(theirs),
            (ours @ None, theirs) => *ours = *theirs,
            (_, None) => {}
        }
        self.hits = self.hits.saturating_add(other.hits);
        self.last_used_unix_ns = self.last_used_unix_ns.max(other.last_used_unix_ns);
        self.days.join(&other.days);
    }

    /// Joins one use on `day`, at `used_unix_ns` in the order of uses.
    pub(crate) fn add_hit(&mut self, used_unix_ns: u64, day: u32) {
        self.hits = self.hits.saturating_add(1);
        self.add_use(used_unix_ns, day);
    }

    /// Joins one compilation, which is a use, too.
    pub(crate) fn add_compile(&mut self, used_unix_ns: u64, day: u32, one: &Compiled) {
        match &mut self.compiled {
            Some(compiled) => compiled.join(one),
            none => *none = Some(*one),
        }
        self.add_use(used_unix_ns, day);
    }

    fn add_use(&mut self, used_unix_ns: u64, day: u32) {
        self.last_used_unix_ns = self.last_used_unix_ns.max(used_unix_ns);
        self.days.add(day, 1);
    }
}

impl Compiled {
    pub(crate) fn once(unix_ns: u64, size_bytes: u64, ns: u64) -> Compiled {
        Compiled { count: 1, ns, ns_min: ns, first_unix_ns: unix_ns, last_unix_ns: unix_ns, size_bytes }
    }

    pub(crate) fn join(&mut self, other: &Compiled) {
        self.count = self.count.saturating_add(other.count);
        self.ns = self.ns.saturating_add(other.ns);
        self.ns_min = self.ns_min.min(other.ns_min);
        self.first_unix_ns = self.first_unix_ns.min(other.first_unix_ns);
        (self.last_unix_ns, self.size_bytes) =
            (self.last_unix_ns, self.size_bytes).max((other.last_unix_ns, other.size_bytes));
    }
}

/// Uses per day of the calendar (UTC), of the latest [`DAYS_AT_MOST`] days that have any; ascending.
///
/// A day is dropped only for later ones, so a day that survives every join has survived each join on the way, with all
/// its uses: that is why dropping does not spoil associativity.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<(u32, u32)>", into = "Vec<(u32, u32)>")]
pub(crate) struct Days(SmallVec<[(u32, u32); 2]>);

impl Days {
    /// The day's number, counted from 1970.
    pub(crate) fn day_of(unix_ns: u64) -> u32 {
        (unix_ns / NS_PER_DAY) as u32 // u64 nanoseconds end after 213,504 days
    }

    pub(crate) fn start_unix_ns(day: u32) -> u64 {
        u64::from(day).saturating_mul(NS_PER_DAY)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.0.iter().copied()
    }

    /// The day under which a use on `day` is remembered. A clock that went back behind all remembered days would
    /// otherwise have its uses dropped at once.
    pub(crate) fn kept_as(&self, day: u32) -> u32 {
        if self.0.len() < DAYS_AT_MOST { day } else { day.max(self.0[0].0) }
    }

    /// Days of the two together.
    pub(crate) fn joined_len(&self, other: &Days) -> usize {
        let new = other.iter().filter(|(day, _)| self.position(*day).is_err()).count();
        (self.0.len() + new).min(DAYS_AT_MOST)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn join(&mut self, other: &Days) {
        for (day, uses) in other.iter() {
            self.add(day, uses);
        }
    }

    fn add(&mut self, day: u32, uses: u32) {
        match self.0.last_mut() {
            Some((last, sum)) if *last == day => *sum = sum.saturating_add(uses),
            _ => match self.position(day) {
                Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(uses),
                Err(at) => {
                    self.0.insert(at, (day, uses));
                    if self.0.len() > DAYS_AT_MOST {
                        self.0.remove(0);
                    }
                }
            },
        }
    }

    fn position(&self, day: u32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&day, |(known, _)| *known)
    }
}

/// Whatever the order, and however many: what is read need not be what this version writes.
impl From<Vec<(u32, u32)>> for Days {
    fn from(pairs: Vec<(u32, u32)>) -> Days {
        let mut days = Days::default();
        for (day, uses) in pairs {
            days.add(day, uses);
        }
        days
    }
}

impl From<Days> for Vec<(u32, u32)> {
    fn from(days: Days) -> Vec<(u32, u32)> {
        days.0.into_vec()
    }
}

/// Bytes charged for a record that remembers so many days: never fewer than it takes in a folded journal.
pub(crate) fn charge_bytes(days: usize) -> u64 {
    BYTES_WITHOUT_DAYS + BYTES_PER_DAY * days as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::codec;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn compiled() -> impl Strategy<Value = Compiled> {
        let near_the_end = prop_oneof![0..9u64, Just(u64::MAX - 1)];
        (near_the_end.clone(), near_the_end, 0..9u64, 0..9u64, 0..4u64, 0..9u64).prop_map(
            |(count, ns, ns_min, first_unix_ns, last_unix_ns, size_bytes)| Compiled {
                count,
                ns,
                ns_min,
                first_unix_ns,
                last_unix_ns,
                size_bytes,
            },
        )
    }

    fn counts() -> impl Strategy<Value = Counts> {
        let days = prop::collection::vec((0..60u32, prop_oneof![1..9u32, Just(u32::MAX)]), 0..50);
        (prop::option::of(compiled()), 0..9u64, any::<u64>(), days).prop_map(|(compiled, hits, used, days)| Counts {
            compiled,
            hits,
            last_used_unix_ns: used,
            days: Days::from(days),
        })
    }

    fn join(mut a: Counts, b: &Counts) -> Counts {
        a.join(b);
        a
    }

    proptest! {
        #[test]
        fn join_is_commutative_and_associative_and_has_a_neutral_element(a in counts(), b in counts(), c in counts()) {
            prop_assert_eq!(join(a.clone(), &b), join(b.clone(), &a));
            prop_assert_eq!(join(join(a.clone(), &b), &c), join(a.clone(), &join(b, &c)));
            prop_assert_eq!(&join(a.clone(), &Counts::default()), &a);
            prop_assert_eq!(&join(Counts::default(), &a), &a);
        }

        /// A slow oracle for the days: all of them in a map, the latest read off at the end.
        #[test]
        fn the_latest_days_survive_with_all_their_uses(uses in prop::collection::vec((0..90u32, 1..5u32), 0..200)) {
            let mut all = BTreeMap::new();
            for (day, uses) in &uses {
                *all.entry(*day).or_insert(0) += uses;
            }
            let mut latest: Vec<(u32, u32)> = all.into_iter().rev().take(DAYS_AT_MOST).collect();
            latest.reverse();
            prop_assert_eq!(Vec::from(Days::from(uses)), latest);
        }

        #[test]
        fn counts_come_back_from_their_bytes(a in counts()) {
            prop_assert_eq!(codec::from_bytes::<Counts>(&codec::to_bytes(&a)), Some(a));
        }

        #[test]
        fn a_days_length_is_known_before_the_join(a in counts(), b in counts()) {
            prop_assert_eq!(a.days.joined_len(&b.days), join(a.clone(), &b).days.len());
        }
    }

    #[test]
    fn one_use_at_a_time_gives_what_their_joins_give() {
        let mut at_once = Counts::default();
        at_once.add_compile(5, 1, &Compiled::once(4, 100, 70));
        at_once.add_hit(9, 2);
        at_once.add_compile(7, 2, &Compiled::once(8, 50, 30));
        let mut joined = Counts::default();
        for (used, day, compile) in
            [(7, 2, Some(Compiled::once(8, 50, 30))), (5, 1, Some(Compiled::once(4, 100, 70))), (9, 2, None)]
        {
            let mut one = Counts::default();
            match compile {
                Some(compile) => one.add_compile(used, day, &compile),
                None => one.add_hit(used, day),
            }
            joined.join(&one);
        }
        assert_eq!(at_once, joined);
        let compiled = at_once.compiled.unwrap();
        assert_eq!((compiled.count, compiled.ns, compiled.ns_min, compiled.size_bytes), (2, 100, 30, 50));
        assert_eq!((compiled.first_unix_ns, compiled.last_unix_ns, at_once.last_used_unix_ns), (4, 8, 9));
        assert_eq!(Vec::from(at_once.days), [(1, 1), (2, 2)]);
    }

    #[test]
    fn the_charge_covers_the_bytes_of_the_largest_record() {
        let most = Compiled {
            count: u64::MAX,
            ns: u64::MAX,
            ns_min: u64::MAX,
            first_unix_ns: u64::MAX,
            last_unix_ns: u64::MAX,
            size_bytes: u64::MAX,
        };
        for length in 0..=DAYS_AT_MOST {
            let days: Vec<(u32, u32)> = (0..length as u32).map(|day| (u32::MAX - day, u32::MAX)).collect();
            let counts =
                Counts { compiled: Some(most), hits: u64::MAX, last_used_unix_ns: u64::MAX, days: Days::from(days) };
            let bytes = codec::to_bytes(&counts);
            assert!(32 + bytes.len() as u64 <= charge_bytes(length), "{length} days");
        }
    }

    #[test]
    fn a_use_behind_all_remembered_days_is_kept_with_the_earliest() {
        let full = Days::from((100..100 + DAYS_AT_MOST as u32).map(|day| (day, 1)).collect::<Vec<_>>());
        assert_eq!((full.kept_as(7), full.kept_as(110), full.kept_as(500)), (100, 110, 500));
        assert_eq!(Days::default().kept_as(7), 7);
    }
}
