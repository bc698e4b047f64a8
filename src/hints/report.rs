//! What a hint store tells its callers. Plain numbers.

use crate::hints::counts::Compiled;
use crate::persist::fingerprint::Fingerprint;

/// What is known of one compilation, summed over processes. Times are Unix time by the clocks of those processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Hint {
    /// Bytes of what the last compilation made; 0 if it was never compiled.
    pub size_bytes: u64,
    /// How often it was compiled.
    pub compile_count: u64,
    /// When it was first compiled, in nanoseconds; 0 if never.
    pub first_compiled_unix_ns: u64,
    /// When it was last compiled, in nanoseconds; 0 if never.
    pub last_compiled_unix_ns: u64,
    /// How long all compilations took together.
    pub compile_ns: u64,
    /// How long the fastest took; 0 if it was never compiled.
    pub compile_ns_min: u64,
    /// Uses that found it compiled.
    pub hits: u64,
    /// When it was last compiled or hit. A process never gives a use an earlier time than one it knows of, so the order of uses holds
    /// when a clock goes back; the time is then that of the latest use before, and later by at least a nanosecond each.
    pub last_used_unix_ns: u64,
}

impl Hint {
    pub(crate) fn new(compiled: Option<Compiled>, hits: u64, last_used_unix_ns: u64) -> Hint {
        let hint = Hint { hits, last_used_unix_ns, ..Hint::default() };
        let Some(compiled) = compiled else { return hint };
        Hint {
            size_bytes: compiled.size_bytes,
            compile_count: compiled.count,
            first_compiled_unix_ns: compiled.first_unix_ns,
            last_compiled_unix_ns: compiled.last_unix_ns,
            compile_ns: compiled.ns,
            compile_ns_min: compiled.ns_min,
            ..hint
        }
    }

    /// How long a compilation takes on average; 0 if it was never compiled.
    pub fn compile_ns_mean(&self) -> u64 {
        self.compile_ns.checked_div(self.compile_count).unwrap_or(0)
    }
}

/// A hint with what follows from it at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct RankedHint {
    /// Of which compilation.
    pub fingerprint: Fingerprint,
    /// What is known.
    pub hint: Hint,
    /// Its uses (compilations and hits), each weighed by `2^(-age / half_life)`.
    pub decayed_uses: f64,
    /// The steady rate that would have left so many decayed uses.
    pub uses_per_day: f64,
    /// `uses_per_day` times the mean compile time: what one more day with its code at hand is expected to save. 0 if it was
    /// never compiled.
    pub saving_ns_per_day: f64,
}

/// A hint store's figures since it was opened, and its bytes now. All 0 if it is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct HintStats {
    /// Records in memory.
    pub entries: u64,
    /// Bytes charged for them.
    pub bytes: u64,
    /// The most that may be charged.
    pub budget_bytes: u64,
    /// Bytes of the journal, where it lives: all versions and processes.
    pub journal_bytes: u64,
    /// Lookups that found a record.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Records forgotten in memory to keep the budget.
    pub evictions: u64,
    /// Records with uses that the journal has not been given yet.
    pub pending: u64,
    /// Records whose unwritten uses were given up: the journal refused them, and they were evicted meanwhile.
    pub lost: u64,
    /// Places in the journal whose bytes were damaged, as of the last time it was read.
    pub damaged: u64,
    /// Times that the journal was folded.
    pub compactions: u64,
    /// Times that the journal refused to be read, written or folded.
    pub failures: u64,
}

impl HintStats {
    /// Hits per lookup, 0 before the first.
    pub fn hit_rate(&self) -> f64 {
        let lookups = self.hits + self.misses;
        if lookups == 0 { 0.0 } else { self.hits as f64 / lookups as f64 }
    }
}
