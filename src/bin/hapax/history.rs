//! What hints add up to, in all and by day. Pure arithmetic over records.
//!
//! A record keeps its uses by day, and of its compilations the first and the last time, and how many there were. So the
//! compilations of a day are known exactly only as far as units were compiled at most twice; the others lie somewhere
//! between those two days. Everything that depends on them is a range, from the least to the most that the records allow.

use crate::show;
use hapax::{HintRecord, HintRecords};
use serde::Serialize;
use std::collections::HashSet;

/// Days that every record remembers without gaps, if it was used on each.
const DAYS: u32 = 32;

/// The least and the most that something can have been.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Range {
    pub least: f64,
    pub most: f64,
}

/// Over all versions.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Totals {
    pub versions: u64,
    pub records: u64,
    pub charged_bytes: u64,
    /// Compilations, and how long they took.
    pub compiles: u64,
    pub compile_ns: u64,
    /// Uses that found a unit compiled.
    pub hits: u64,
    /// Hits per use; none if there were no uses.
    pub hit_rate: Option<f64>,
    /// Hits times the mean compile time of their unit.
    pub saved_ns: u64,
    /// Hits of units that no record says were ever compiled: they count as having saved nothing.
    pub hits_without_compile_time: u64,
    pub damaged: u64,
    pub other_formats: u64,
}

/// What is known of one day (UTC).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Day {
    pub date: String,
    /// Compilations and hits.
    pub uses: u64,
    pub hits: Range,
    pub saved_ns: Range,
}

impl Totals {
    pub fn of(hints: &HintRecords) -> Totals {
        let versions: HashSet<_> = hints.records.iter().map(|record| record.version).collect();
        let mut totals = Totals {
            versions: versions.len() as u64,
            records: hints.records.len() as u64,
            charged_bytes: hints.charged_bytes,
            damaged: hints.damaged,
            other_formats: hints.other_formats,
            ..Totals::default()
        };
        for hint in hints.records.iter().map(|record| &record.ranked.hint) {
            totals.compiles = totals.compiles.saturating_add(hint.compile_count);
            totals.compile_ns = totals.compile_ns.saturating_add(hint.compile_ns);
            totals.hits = totals.hits.saturating_add(hint.hits);
            totals.saved_ns = totals.saved_ns.saturating_add(hint.hits.saturating_mul(hint.compile_ns_mean()));
            if hint.compile_count == 0 {
                totals.hits_without_compile_time += hint.hits;
            }
        }
        let uses = totals.hits.saturating_add(totals.compiles);
        totals.hit_rate = (uses > 0).then(|| totals.hits as f64 / uses as f64);
        totals
    }
}

impl Day {
    /// Hits per use; none on a day without uses.
    pub fn hit_rate(&self) -> Option<Range> {
        let rate = |hits: f64| hits / self.uses as f64;
        (self.uses > 0).then(|| Range { least: rate(self.hits.least), most: rate(self.hits.most) })
    }
}

/// The last 32 days up to the last one with a use, by the clocks of those who used; none without uses.
pub fn days(records: &[HintRecord]) -> Vec<Day> {
    let last = records.iter().filter_map(|record| record.uses_by_day.last()).map(|(day, _)| *day).max();
    let Some(last) = last else { return Vec::new() };
    let first = last.saturating_sub(DAYS - 1);
    let zero = Range { least: 0.0, most: 0.0 };
    let empty = |day| Day { date: show::date(day), uses: 0, hits: zero, saved_ns: zero };
    let mut days: Vec<Day> = (first..=last).map(empty).collect();
    for record in records {
        let mean_ns = record.ranked.hint.compile_ns_mean() as f64;
        for (day, uses) in record.uses_by_day.iter().filter(|(day, _)| *day >= first) {
            let hits = hits_on(record, *day, u64::from(*uses));
            let sum = &mut days[(day - first) as usize];
            sum.uses += u64::from(*uses);
            sum.hits.least += hits.least;
            sum.hits.most += hits.most;
            sum.saved_ns.least += hits.least * mean_ns;
            sum.saved_ns.most += hits.most * mean_ns;
        }
    }
    days
}

fn hits_on(record: &HintRecord, day: u32, uses: u64) -> Range {
    let hint = &record.ranked.hint;
    let first = show::day_of_ns(hint.first_compiled_unix_ns);
    let last = show::day_of_ns(hint.last_compiled_unix_ns);
    let known = u64::from(hint.compile_count >= 1 && day == first) + u64::from(hint.compile_count >= 2 && day == last);
    let between = hint.compile_count.saturating_sub(2);
    let elsewhere = if first == last { 0 } else { between };
    let (least, most) = match (first..=last).contains(&day) {
        // All compilations were made on this one day.
        true if elsewhere == 0 => (known + between, known + between),
        true => (known, known + between),
        false => (0, 0),
    };
    Range { least: uses.saturating_sub(most) as f64, most: uses.saturating_sub(least) as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hapax::{Fingerprint, HintOptions, HintStore, MemoryJournal};
    use std::sync::Arc;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    const DAY: u64 = 86_400;

    /// Compiles (100 ms each) and hits of one unit, as (day, compiles, hits).
    fn records(uses: &[(u64, u64, u64)]) -> HintRecords {
        let journal = Arc::new(MemoryJournal::new());
        let unit = Fingerprint::of("history").finish();
        for (day, compiles, hits) in uses.iter().copied() {
            let at = UNIX_EPOCH + Duration::from_secs(day * DAY);
            let hints = HintStore::open(HintOptions::in_journal(journal.clone()).clock(move || at));
            (0..compiles).for_each(|_| hints.record_compile(&unit, 10, Duration::from_millis(100)));
            (0..hits).for_each(|_| hints.record_hit(&unit));
        }
        HintRecords::read(&*journal, Duration::from_secs(DAY), SystemTime::now()).unwrap()
    }

    fn hits(uses: &[(u64, u64, u64)]) -> Vec<(u64, f64, f64)> {
        let days = days(&records(uses).records);
        assert_eq!(days.len() as u32, DAYS);
        days.iter().filter(|day| day.uses > 0).map(|day| (day.uses, day.hits.least, day.hits.most)).collect()
    }

    #[test]
    fn totals_are_sums_and_saving_is_hits_times_the_mean() {
        let totals = Totals::of(&records(&[(20_000, 2, 3), (20_001, 0, 5)]));
        assert_eq!((totals.compiles, totals.hits, totals.hit_rate), (2, 8, Some(0.8)));
        assert_eq!((totals.saved_ns, totals.compile_ns), (800_000_000, 200_000_000));
        assert_eq!((totals.records, totals.versions, totals.hits_without_compile_time), (1, 1, 0));
    }

    #[test]
    fn hits_that_nobody_compiled_for_save_nothing() {
        let totals = Totals::of(&records(&[(20_000, 0, 4)]));
        assert_eq!((totals.saved_ns, totals.hits_without_compile_time, totals.hit_rate), (0, 4, Some(1.0)));
    }

    #[test]
    fn days_are_exact_where_compilations_can_be_placed() {
        assert_eq!(hits(&[(20_000, 1, 3)]), [(4, 3.0, 3.0)]);
        assert_eq!(hits(&[(20_000, 1, 3), (20_004, 1, 5)]), [(4, 3.0, 3.0), (6, 5.0, 5.0)]);
        assert_eq!(hits(&[(20_000, 5, 3)]), [(8, 3.0, 3.0)], "all on one day");
    }

    #[test]
    fn days_are_a_range_that_holds_the_truth_where_they_cannot() {
        let uses = [(20_000, 2, 3), (20_001, 0, 7), (20_002, 3, 1), (20_003, 0, 2)];
        let found = hits(&uses);
        for ((_, compiles, truth), (uses, least, most)) in uses.iter().zip(&found) {
            assert_eq!(*uses, compiles + truth);
            assert!(*least <= *truth as f64 && *truth as f64 <= *most, "{found:?}");
        }
        assert_eq!(found[3], (2, 2.0, 2.0), "after the last compilation");
    }

    #[test]
    fn older_days_than_every_record_remembers_are_left_out() {
        let days = days(&records(&[(20_000, 1, 3), (20_040, 0, 5)]).records);
        assert_eq!(days.iter().map(|day| day.uses).sum::<u64>(), 5);
        assert!(super::days(&[]).is_empty());
    }
}
