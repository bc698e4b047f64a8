//! What a person reads. Plain ASCII, no colours; progress goes to stderr, and only if that is a terminal.

use crate::Result;
use crate::device_cache::DeviceCache;
use crate::options::Budget;
use crate::session::{Counts, Totals};
use crate::sources::{Found, Language};
use crate::toolchain::Toolchain;
use hapax::CacheStats;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Lines of one kind, before "... and more".
const SHOWN: usize = 8;

pub fn line(text: impl Display) -> Result<()> {
    Ok(writeln!(io::stdout(), "{text}")?)
}

pub fn progress(what: &str, done: usize, of: usize) {
    if io::stderr().is_terminal() {
        eprint!("\r{what}: {done}/{of}\x1b[K");
    }
}

pub fn progress_ends() {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

pub fn head(cache: &DeviceCache, toolchain: &Toolchain, found: &Found, jobs: usize) -> Result<()> {
    progress_ends();
    field("device", format!("{}: {}", cache.device_name(), cache.reason))?;
    for language in [Language::Rust, Language::C, Language::Cpp] {
        let files = found.sources.iter().filter(|source| source.language() == Some(language)).count();
        if files > 0 {
            let outputs: Vec<&str> = Toolchain::profiles(language).iter().map(|profile| profile.name).collect();
            field("compiler", format!("{}, {jobs} at a time", toolchain.compiler(language).first_line()))?;
            field("sources", format!("{files}, each compiled to {}", outputs.join(", ")))?;
        }
    }
    let ready = found.sources.iter().filter(|source| source.language().is_none()).count();
    if ready > 0 {
        field("files", format!("{ready} that a compiler wrote earlier; a miss reads them from the disk"))?;
    }
    some_of("skipped", found.skipped.iter().map(|(name, reason)| format!("{name}: {reason}")))
}

/// What the first build showed, and the head of the table.
pub fn working_set(sizes: &[usize], charged_bytes: u64, budget: Budget, cache: &DeviceCache) -> Result<()> {
    let of = |bytes: Option<&usize>| size(bytes.copied().unwrap_or(0) as u64);
    let (smallest, largest) = (of(sizes.iter().min()), of(sizes.iter().max()));
    let budget_bytes = cache.stats().budget_bytes;
    let share = (budget_bytes as f64 * 100.0 / charged_bytes.max(1) as f64).round();
    field("units", format!("{} of {smallest} to {largest}", sizes.len()))?;
    field("working set", format!("{} (each unit rounded up to {} bytes)", size(charged_bytes), cache.granule_bytes()))?;
    let when = if matches!(budget, Budget::Percent(_)) { ", set after the first build" } else { "" };
    field("budget", format!("{} ({share} % of the working set{when})", size(budget_bytes)))?;
    let columns = ["units", "hits", "misses", "refused", "retired", "evicted", "compiling", "elapsed"];
    line(format!("\n{}  resident / budget", cells("build", "edited", columns.map(str::to_owned))))
}

pub fn row(build: usize, edited: &str, counts: &Counts, cache: &DeviceCache) -> Result<()> {
    let Counts { units, hits, misses, refused, retired, evicted, compiling, took } = counts;
    let [units, hits, misses, refused, retired, evicted] =
        [units, hits, misses, refused, retired, evicted].map(ToString::to_string);
    let columns = [units, hits, misses, refused, retired, evicted, time(*compiling), time(*took)];
    let (resident, budget) = (cache.stats().resident_bytes, cache.stats().budget_bytes);
    let cells = cells(&build.to_string(), edited, columns);
    line(format!("{cells}  {} {} / {}", bar(resident, budget), size(resident), size(budget)))
}

fn cells(build: &str, edited: &str, columns: [String; 8]) -> String {
    let [units, hits, misses, refused, retired, evicted, compiling, elapsed] = columns;
    let edited = shortened(edited, 20);
    format!(
        "{build:>5}  {edited:<20} {units:>5} {hits:>5} {misses:>6} {refused:>7} {retired:>7} {evicted:>7} \
         {compiling:>9} {elapsed:>8}"
    )
}

pub fn totals(totals: &Totals, stats: &CacheStats) -> Result<()> {
    line("")?;
    field(
        "lookups",
        format!(
            "{} hits and {} misses ({:.1} % hits), {} evictions",
            stats.hits,
            stats.misses,
            stats.hit_rate() * 100.0,
            stats.evictions
        ),
    )?;
    let (compiling, saved) = (time(totals.compiling), time(totals.saved));
    field("compiling", format!("{compiling} spent on the misses, {saved} saved by the hits"))?;
    let fill = |ns| time(Duration::from_nanos(ns));
    let fills = &stats.fill_ns;
    let (p50, p90, p99, max) = (fill(fills.p50), fill(fills.p90), fill(fills.p99), fill(fills.max));
    field(
        "a fill",
        format!("p50 {p50}, p90 {p90}, p99 {p99}, longest {max} (from the miss until the unit is resident)"),
    )?;
    if let Some((median, longest)) = median_and_longest(&totals.hit_times) {
        field("a hit", format!("p50 {median}, longest {longest} (from the lookup until its bytes are on the host)"))?;
    }
    if totals.edited > 0 {
        field(
            "edits",
            format!("{} of {} units compiled after an edit have other bytes", totals.edited_differ, totals.edited),
        )?;
    }
    if totals.again > 0 {
        field(
            "again",
            format!(
                "{} of {} units made again from the same source have the same bytes",
                totals.again_same, totals.again
            ),
        )?;
    }
    some_of("refused", totals.refused.iter().map(|(unit, (kind, reason))| format!("{unit}: {kind}: {reason}")))
}

/// The checks, each with what it found. An error if one failed.
pub fn verdict(totals: &Totals, stats: &CacheStats, live_bytes: u64) -> Result<()> {
    let (read, different) = (totals.compared, &totals.mismatches);
    let identical = check(
        different.is_empty(),
        match different.len() {
            0 if read == 0 => "nothing was read back from the device, so nothing was compared".into(),
            0 => format!(
                "{read} reads from the device ({}) byte-identical to what the compiler wrote",
                size(totals.compared_bytes)
            ),
            some => format!("{some} of {read} reads from the device differ: {}", different.join(", ")),
        },
    )?;
    field("", "(the compiler's bytes stay on the host too, for this comparison only)")?;
    let most_live = totals.most_live_bytes;
    let within_budget = check(
        most_live <= stats.budget_bytes,
        format!("never more than {} live on the device, budget {}", size(most_live), size(stats.budget_bytes)),
    )?;
    let counted = check(
        (totals.hits, totals.misses) == (stats.hits, stats.misses),
        format!(
            "{} hits and {} misses counted here, {} and {} by the cache",
            totals.hits, totals.misses, stats.hits, stats.misses
        ),
    )?;
    line(format!("\nbytes live at the end: {live_bytes}"))?;
    if identical && within_budget && counted && live_bytes == 0 { Ok(()) } else { Err("a check failed".into()) }
}

fn check(holds: bool, text: String) -> Result<bool> {
    field(if holds { "check" } else { "FAILED" }, text)?;
    Ok(holds)
}

fn field(name: &str, text: impl Display) -> Result<()> {
    line(format!("{name:<12} {text}").trim_end())
}

fn some_of(name: &str, texts: impl ExactSizeIterator<Item = String>) -> Result<()> {
    let more = texts.len().saturating_sub(SHOWN);
    for text in texts.take(SHOWN) {
        field(name, text)?;
    }
    if more > 0 { field("", format!("... and {more} more")) } else { Ok(()) }
}

fn median_and_longest(times: &[Duration]) -> Option<(String, String)> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    Some((time(sorted[sorted.len().checked_sub(1)? / 2]), time(*sorted.last()?)))
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 2).chain("..".chars()).collect()
}

fn bar(bytes: u64, of: u64) -> String {
    let filled = (bytes * 10 / of.max(1)).min(10) as usize;
    format!("[{}{}]", "#".repeat(filled), ".".repeat(10 - filled))
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.2} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

fn time(time: Duration) -> String {
    match time.as_micros() {
        0..1_000 => format!("{} us", time.as_micros()),
        1_000..10_000 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        10_000..10_000_000 => format!("{} ms", time.as_millis()),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}
