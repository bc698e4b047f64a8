//! How hot a compilation is, and what compiling it early would save. Pure arithmetic over the days of its uses.
//!
//! A use weighs `2^(-age / half_life)`. Weights that depend on age alone keep the order of two entries between uses
//! (Cormode, Shkapenyuk, Srivastava and Xu, "Forward Decay", ICDE 2009). Under a steady rate of uses the sum of
//! their weights is `rate * half_life / ln 2`, from which the rate is read back.

use crate::hints::counts::Days;
use crate::hints::report::Hint;
use std::f64::consts::LN_2;
use std::time::Duration;

const SECONDS_PER_DAY: f64 = 86_400.0;

/// How fast uses lose their weight, seen from one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decay {
    now_unix_ns: u64,
    half_life_ns: f64,
}

impl Decay {
    pub(crate) fn new(now_unix_ns: u64, half_life: Duration) -> Decay {
        // A half-life of zero forgets all but today's uses instead of dividing by zero.
        Decay { now_unix_ns, half_life_ns: (half_life.as_nanos() as f64).max(1.0) }
    }

    /// Uses, each weighed by its age. A use counts as made when its day began; one of a day that has not come yet, by
    /// this clock, as made now. O(days).
    pub(crate) fn uses<'a>(&self, days: impl IntoIterator<Item = &'a Days>) -> f64 {
        days.into_iter().flat_map(Days::iter).map(|(day, uses)| f64::from(uses) * self.weight(day)).sum()
    }

    fn weight(&self, day: u32) -> f64 {
        let age_ns = self.now_unix_ns.saturating_sub(Days::start_unix_ns(day));
        (-(age_ns as f64) / self.half_life_ns).exp2()
    }

    /// The steady rate that would have left so many weighed uses.
    pub(crate) fn uses_per_day(&self, uses: f64) -> f64 {
        uses * LN_2 / (self.half_life_ns / 1e9 / SECONDS_PER_DAY)
    }
}

/// What compiling before the first use is expected to save per day; 0 if it was never compiled.
pub(crate) fn saving_ns_per_day(uses_per_day: f64, hint: &Hint) -> f64 {
    uses_per_day * hint.compile_ns as f64 / hint.compile_count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_NS: u64 = 86_400_000_000_000;

    fn days(pairs: &[(u32, u32)]) -> Days {
        Days::from(pairs.to_vec())
    }

    fn week() -> Duration {
        Duration::from_secs(7 * 86_400)
    }

    #[test]
    fn a_use_loses_half_its_weight_in_each_half_life() {
        let uses = days(&[(100, 8)]);
        for (now, left) in [(100, 8.0), (107, 4.0), (114, 2.0), (121, 1.0)] {
            assert!((Decay::new(now * DAY_NS, week()).uses([&uses]) - left).abs() < 1e-9, "day {now}");
        }
    }

    #[test]
    fn a_day_that_has_not_come_weighs_what_today_does() {
        let decay = Decay::new(50 * DAY_NS, week());
        assert_eq!(decay.uses([&days(&[(50, 3)])]), decay.uses([&days(&[(4_000, 3)])]));
    }

    #[test]
    fn a_steady_rate_is_read_back() {
        // Three a day for as long as is remembered; the half-life is short beside that.
        let steady = days(&(0..32).map(|day| (1000 + day, 3)).collect::<Vec<_>>());
        let decay = Decay::new(1032 * DAY_NS, Duration::from_secs(3 * 86_400));
        let rate = decay.uses_per_day(decay.uses([&steady]));
        // Uses count from the beginning of their day, half a day early on average: 2^(-1/6) = 0.89.
        assert!((2.6..3.0).contains(&rate), "{rate}");
    }

    #[test]
    fn saving_is_the_rate_times_the_mean_compile_time() {
        let hint = Hint { compile_count: 4, compile_ns: 8_000, ..Hint::default() };
        assert_eq!(saving_ns_per_day(3.0, &hint), 6_000.0);
        assert_eq!(saving_ns_per_day(3.0, &Hint::default()), 0.0);
    }

    #[test]
    fn no_half_life_is_too_short() {
        let decay = Decay::new(50 * DAY_NS, Duration::ZERO);
        assert_eq!(decay.uses([&days(&[(49, 3), (50, 2)])]), 2.0);
        assert!(decay.uses_per_day(2.0).is_finite());
    }
}
