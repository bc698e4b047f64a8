//! What happens, for whoever listens: the features `tracing` and `metrics`. Knows nothing of what it reports. Without the features
//! everything here compiles to nothing, and no argument is evaluated.
//!
//! Listeners are the embedder's code and may use what they hear of, so nothing is reported under a lock. Device calls that fail
//! under one, while a heap changes its slabs or stages a copy, are told when it is free again: [`after`].

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

/// Something to tell that may have to wait for a lock to be free.
#[cfg(any(feature = "tracing", feature = "metrics"))]
type Tale = Box<dyn FnOnce()>;

#[cfg(any(feature = "tracing", feature = "metrics"))]
thread_local! {
    /// How many [`After`]s this thread has, and what they will tell.
    static WAITING: std::cell::RefCell<(usize, Vec<Tale>)> = const { std::cell::RefCell::new((0, Vec::new())) };
}

/// While it lives, what this thread gives to [`tell`] waits. Taken before a lock, so that it ends after it.
#[must_use = "it ends the wait when it is dropped"]
pub(crate) struct After(());

pub(crate) fn after() -> After {
    #[cfg(any(feature = "tracing", feature = "metrics"))]
    // Not there any more while the thread's own values are dropped, which may hold heaps: then what happens is told at once.
    let _ = WAITING.try_with(|waiting| waiting.borrow_mut().0 += 1);
    After(())
}

impl Drop for After {
    #[inline(always)]
    fn drop(&mut self) {
        #[cfg(any(feature = "tracing", feature = "metrics"))]
        {
            let tales = WAITING.try_with(|waiting| {
                let (depth, tales) = &mut *waiting.borrow_mut();
                *depth -= 1;
                if *depth == 0 { std::mem::take(tales) } else { Vec::new() }
            });
            tales.unwrap_or_default().into_iter().for_each(|tale| tale());
        }
    }
}

/// Tells now, or when the thread's locks are free.
#[inline(always)]
pub(crate) fn tell(tale: impl FnOnce() + 'static) {
    #[cfg(any(feature = "tracing", feature = "metrics"))]
    {
        let mut tale = Some(tale);
        let _ = WAITING.try_with(|waiting| {
            let (depth, tales) = &mut *waiting.borrow_mut();
            if *depth > 0 {
                tales.extend(tale.take().map(|tale| Box::new(tale) as Tale));
            }
        });
        if let Some(tale) = tale {
            tale();
        }
    }
    #[cfg(not(any(feature = "tracing", feature = "metrics")))]
    let _ = tale;
}
