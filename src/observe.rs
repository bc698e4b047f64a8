//! What happens, for whoever listens: the features `tracing` and `metrics`. Knows nothing of what it reports. Without the features
//! everything here compiles to nothing, and no argument is evaluated.
//!
//! Listeners are the embedder's code, so nothing is reported under a lock, but for device calls that fail: those may be told while
//! a heap changes its slabs or stages a copy.

#[cfg(feature = "persist")]
/// Whether anybody can listen; what is only worked out to be told hangs on it.
pub(crate) const ON: bool = cfg!(any(feature = "tracing", feature = "metrics"));

/// An event: `event!(WARN, "refused", bytes = 7)`. Fields are numbers, strings, or [`display`] of anything else.
macro_rules! event {
    ($level:ident, $what:literal $(, $field:ident = $value:expr)* $(,)?) => {{
        #[cfg(feature = "tracing")]
        tracing::event!(target: "hapax", tracing::Level::$level, $($field = $value,)* $what);
        #[cfg(not(feature = "tracing"))]
        if false {
            // Read for the compiler's sake alone: nothing is unused in one build and used in another.
            $(let _ = &$value;)*
        }
    }};
}

#[cfg(feature = "persist")]
/// A span that lasts to the end of the block: `span!(DEBUG, "fold", records = 7);`.
macro_rules! span {
    ($level:ident, $what:literal $(, $field:ident = $value:expr)* $(,)?) => {
        #[cfg(feature = "tracing")]
        let _entered = tracing::span!(target: "hapax", tracing::Level::$level, $what, $($field = $value,)*).entered();
        #[cfg(not(feature = "tracing"))]
        if false {
            $(let _ = &$value;)*
        }
    };
}

pub(crate) use event;
#[cfg(feature = "persist")]
pub(crate) use span;

/// As text, made only if somebody listens.
#[cfg(feature = "tracing")]
pub(crate) fn display<T: std::fmt::Display>(value: T) -> tracing::field::DisplayValue<T> {
    tracing::field::display(value)
}

#[cfg(not(feature = "tracing"))]
#[inline(always)]
pub(crate) fn display<T>(value: T) -> T {
    value
}

/// Adds to a counter of the `metrics` facade.
#[inline(always)]
pub(crate) fn count(counter: &'static str, by: u64) {
    #[cfg(feature = "metrics")]
    if by > 0 {
        metrics::counter!(counter).increment(by);
    }
    #[cfg(not(feature = "metrics"))]
    let _ = (counter, by);
}

#[cfg(feature = "persist")]
/// Adds a time to a histogram of the `metrics` facade, in seconds.
#[inline(always)]
pub(crate) fn time(histogram: &'static str, ns: u64) {
    #[cfg(feature = "metrics")]
    metrics::histogram!(histogram).record(ns as f64 / 1e9);
    #[cfg(not(feature = "metrics"))]
    let _ = (histogram, ns);
}
