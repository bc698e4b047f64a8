//! Rounds, medians and the table. Knows no device.

use std::fmt;
use std::time::Instant;

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Scale {
    pub rounds: usize,
    /// Of a cheap operation, in each round.
    pub repeats: usize,
    pub largest_copy_bytes: usize,
    pub cache_bytes: u64,
    pub entry_bytes: usize,
}

impl Scale {
    pub const fn full() -> Scale {
        Scale { rounds: 15, repeats: 2000, largest_copy_bytes: 1 << 30, cache_bytes: 512 << 20, entry_bytes: 4 << 20 }
    }

    /// To see that it works, and to let the driver set up what it keeps.
    pub const fn small() -> Scale {
        Scale { rounds: 3, repeats: 20, largest_copy_bytes: 1 << 20, cache_bytes: 256 << 10, entry_bytes: 16 << 10 }
    }
}

/// Medians, with the least and the greatest.
#[derive(Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub greatest: f64,
}

impl Spread {
    pub fn of(values: &[f64]) -> Spread {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Spread { median: sorted[sorted.len() / 2], least: sorted[0], greatest: sorted[sorted.len() - 1] }
    }

    /// Of one thing by another, round by round.
    pub fn of_ratios(over: &[f64], under: &[f64]) -> Spread {
        Spread::of(&over.iter().zip(under).map(|(over, under)| over / under).collect::<Vec<_>>())
    }
}

/// Nanoseconds for each of `count` times.
pub fn each_ns(count: usize, mut once: impl FnMut()) -> f64 {
    let begun = Instant::now();
    for _ in 0..count {
        once();
    }
    begun.elapsed().as_nanos() as f64 / count as f64
}

/// Adds what `work` takes.
pub fn timed<T>(ns: &mut f64, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    *ns += begun.elapsed().as_nanos() as f64;
    done
}

#[derive(Default)]
pub struct Table(Vec<[String; 6]>);

impl Table {
    /// `met`: what the target says of the median, where it is asked.
    pub fn row(
        &mut self,
        what: impl Into<String>,
        own: String,
        bare: String,
        ratio: Spread,
        target: &str,
        met: Option<bool>,
    ) {
        let spread = format!("{:.2} - {:.2}", ratio.least, ratio.greatest);
        self.0.push([what.into(), own, bare, format!("{:.2}", ratio.median), spread, judged(target, met)]);
    }

    /// A time that nothing bare stands beside.
    pub fn own(&mut self, what: &str, time: Spread, target: &str, met: Option<bool>) {
        let spread = format!("{} - {}", ns(time.least), ns(time.greatest));
        self.0.push([what.to_owned(), ns(time.median), String::new(), String::new(), spread, judged(target, met)]);
    }
}

fn judged(target: &str, met: Option<bool>) -> String {
    match met {
        None => target.to_owned(),
        Some(true) => format!("{target}: met"),
        Some(false) => format!("{target}: **not met**"),
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| figure | hapax | bare driver | hapax / bare | least - greatest | target |")?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        for row in &self.0 {
            writeln!(f, "| {} |", row.join(" | "))?;
        }
        Ok(())
    }
}

pub fn ns(ns: f64) -> String {
    if ns < 10_000.0 { format!("{ns:.0} ns") } else { format!("{:.1} us", ns / 1e3) }
}

pub fn bytes(bytes: usize) -> String {
    match bytes {
        0..0x400 => format!("{bytes} B"),
        0x400..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}
