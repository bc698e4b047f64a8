//! Which code generator a unit deserves. Knows no code: numbers in, a tier out.

use hapax::{Fingerprint, HintStore};
use std::time::Duration;

/// What is known about a unit when its tier is chosen.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct UnitUse<'a> {
    /// Its name.
    pub name: &'a str,
    /// The digest of its key; the same in every process and for every tier.
    pub digest: Fingerprint,
    /// How often it was asked for in this process, this time included; 0 for what is compiled ahead and was not asked for.
    pub requests: u64,
    /// How often earlier processes used it, as far as [`Hints`] knows.
    pub earlier_uses: u64,
    /// The tier of the code that is in use, if there is any.
    pub current: Option<usize>,
    /// How many tiers there are, at least one. The last is the one with the best code.
    pub tiers: usize,
}

/// Chooses the code generator for a unit.
///
/// Tiers are numbered in the order in which the builder was given them. If the store has the unit in a better tier than
/// the one chosen, that is taken.
///
/// It is asked at each request of a unit, and before a unit is compiled ahead, if there are several tiers. A request for which it
/// names a better tier than that of the current code waits until that is compiled; what was current before is retired. So ask
/// again for what is called often, from a thread that may wait, and call what comes back.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use cranelift_codegen::settings::{self, Configurable, Flags};
/// use hapax_cranelift::{Jit, TierPolicy, UnitUse};
///
/// /// The best code for what earlier processes used, and for loops from their third request on.
/// struct Loops;
///
/// impl TierPolicy for Loops {
///     fn tier(&self, unit: &UnitUse<'_>) -> usize {
///         let is_hot = unit.earlier_uses > 0 || unit.name.starts_with("loop") && unit.requests >= 3;
///         if is_hot { unit.tiers - 1 } else { 0 }
///     }
/// }
///
/// let isa = |level: &str| -> Result<_, Box<dyn std::error::Error>> {
///     let mut flags = settings::builder();
///     flags.set("opt_level", level)?;
///     Ok(cranelift_native::builder()?.finish(Flags::new(flags))?)
/// };
/// let jit = Jit::builder(isa("none")?).tier(isa("speed")?).tier_policy(Loops).build_id("example 1").build()?;
/// # drop(jit);
/// # Ok(())
/// # }
/// ```
pub trait TierPolicy: Send + Sync {
    /// A number below `unit.tiers`; larger ones count as the last.
    fn tier(&self, unit: &UnitUse<'_>) -> usize;
}

/// The cheapest tier first, the best one for units that were used that often, here and in earlier processes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HotAfter {
    /// How often.
    pub uses: u64,
}

impl Default for HotAfter {
    /// 16 uses.
    fn default() -> HotAfter {
        HotAfter { uses: 16 }
    }
}

impl TierPolicy for HotAfter {
    fn tier(&self, unit: &UnitUse<'_>) -> usize {
        let uses = unit.requests.saturating_add(unit.earlier_uses);
        if uses >= self.uses { unit.tiers - 1 } else { 0 }
    }
}

/// What earlier processes knew about units, by the digest of their keys. [`HintStore`] implements it.
pub trait Hints: Send + Sync {
    /// How often the unit was used, for the [`TierPolicy`].
    fn uses(&self, unit: &Fingerprint) -> u64;

    /// What it is worth to have the unit before it is asked for, in any unit of measure: what is worth more is
    /// [precompiled](crate::Jit::precompile) first.
    fn worth(&self, unit: &Fingerprint) -> f64;

    /// The unit was asked for, and found in memory or in the store.
    fn hit(&self, unit: &Fingerprint);

    /// The unit was compiled.
    fn compiled(&self, unit: &Fingerprint, compile_ns: u64, size_bytes: u64);
}

/// Uses decay, and the worth is the time that having it is expected to save per day.
impl Hints for HintStore {
    fn uses(&self, unit: &Fingerprint) -> u64 {
        // Rounded down: half a use is none.
        self.rank(unit).map_or(0, |hint| hint.decayed_uses as u64)
    }

    fn worth(&self, unit: &Fingerprint) -> f64 {
        self.rank(unit).map_or(0.0, |hint| hint.saving_ns_per_day)
    }

    fn hit(&self, unit: &Fingerprint) {
        self.record_hit(unit);
    }

    fn compiled(&self, unit: &Fingerprint, compile_ns: u64, size_bytes: u64) {
        self.record_compile(unit, size_bytes, Duration::from_nanos(compile_ns));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheap_tier_comes_first_and_the_best_for_hot_units() {
        let unit = |requests, earlier_uses, tiers| UnitUse {
            name: "f",
            digest: Fingerprint::of("unit").finish(),
            requests,
            earlier_uses,
            current: None,
            tiers,
        };
        let policy = HotAfter { uses: 3 };
        assert_eq!(policy.tier(&unit(1, 0, 2)), 0);
        assert_eq!(policy.tier(&unit(3, 0, 2)), 1);
        assert_eq!(policy.tier(&unit(1, 2, 3)), 2);
        assert_eq!(policy.tier(&unit(u64::MAX, u64::MAX, 1)), 0);
    }
}
