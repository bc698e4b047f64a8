//! Timed rows: every contender does the same work, round by round in turn, so that a machine that slows down slows all.

use crate::contenders::{BARE, Contender, contender};
use crate::work::{Zipf, key, uniform};
use rustix::time::{ClockId, clock_gettime};
use std::fmt;
use std::sync::Barrier;
use std::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Every key is resident.
    Hit,
    /// Every key is new, and something leaves for it.
    InsertEvict,
    /// Looked up, and inserted if missing; ten times as many keys as there is room for.
    Zipf,
}

pub const WORKS: [Work; 3] = [Work::Hit, Work::InsertEvict, Work::Zipf];

pub struct Settings {
    pub names: Vec<String>,
    pub works: Vec<Work>,
    pub sizes: Vec<usize>,
    pub threads: Vec<usize>,
    pub rounds: usize,
    /// Of each thread in each round.
    pub operations: usize,
}

pub struct Row {
    pub work: Work,
    pub entries: usize,
    pub threads: usize,
    pub name: String,
    /// Nanoseconds per operation as one thread sees them: processor time on one thread, wall time on more.
    pub ns: Spread,
    /// To `Mutex<lru>` and to `quick_cache` in the same round, where they ran.
    pub to_lru: Option<Spread>,
    pub to_quick_cache: Option<Spread>,
    /// To the bare list of slots, which hits on one thread alone.
    pub to_bare: Option<Spread>,
    pub hit_ratio: f64,
}

/// Least, median, greatest.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub least: f64,
    pub median: f64,
    pub greatest: f64,
}

impl Work {
    pub fn name(self) -> &'static str {
        match self {
            Work::Hit => "lookup-hit + release",
            Work::InsertEvict => "insert + evict",
            Work::Zipf => "Zipf 0.99, insert on miss",
        }
    }
}

/// The rows of one size, as they are done.
pub fn rows(entries: usize, settings: &Settings, mut done: impl FnMut(&Row)) -> Vec<Row> {
    let mut rows = Vec::new();
    let zipf = Zipf::new(entries * 10);
    for &work in &settings.works {
        let contenders: Vec<(&str, Box<dyn Contender>)> =
            settings.names.iter().map(|name| (&**name, contender(name, entries))).collect();
        let first: Vec<u128> = (0..entries as u64).map(key).collect();
        let fill = match work {
            // With twice as many draws as there is room, three fifths of it are taken at 1,000,000 entries, and no miss evicts.
            Work::Zipf => zipf.keys(8 * entries, 1),
            _ => Vec::new(),
        };
        // Each batch of Zipf's law is drawn with a seed of its own: a batch that an earlier row has seen hits too often.
        let mut seed = 2;
        for (_, contender) in &contenders {
            match work {
                Work::Zipf => drop(contender.use_all(&fill)),
                // A sampled or sharded cache need not hold all that fits; twice, what it lets in is in.
                _ => (0..2).for_each(|_| contender.insert_all(&first)),
            }
        }
        let mut drawn = entries as u64;
        for &threads in &settings.threads {
            let there: Vec<&(&str, Box<dyn Contender>)> =
                contenders.iter().filter(|(name, _)| *name != BARE || threads == 1).collect();
            let new = rows_of(work, entries, threads, &there, &first, &zipf, &mut drawn, &mut seed, settings);
            new.iter().for_each(&mut done);
            rows.extend(new);
        }
    }
    rows
}

#[expect(clippy::too_many_arguments, reason = "all that one group of rows depends on")]
fn rows_of(
    work: Work,
    entries: usize,
    threads: usize,
    named: &[&(&str, Box<dyn Contender>)],
    first: &[u128],
    zipf: &Zipf,
    drawn: &mut u64,
    seed: &mut u64,
    settings: &Settings,
) -> Vec<Row> {
    let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
    let contenders: Vec<&dyn Contender> = named.iter().map(|(_, contender)| &**contender).collect();
    // Only what is resident is looked up, in each contender its own keys.
    let resident: Vec<Vec<u128>> = match work {
        Work::Hit => contenders.iter().map(|contender| resident(*contender, first)).collect(),
        _ => Vec::new(),
    };
    let mut times = vec![Vec::new(); contenders.len()];
    let mut hits = vec![0; contenders.len()];
    let count = settings.operations;
    for round in 0..=settings.rounds {
        let batches: Vec<Vec<u128>> = (0..threads)
            .map(|_| match work {
                Work::Hit => Vec::new(),
                Work::InsertEvict => {
                    *drawn += count as u64;
                    (*drawn..).take(count).map(key).collect()
                }
                Work::Zipf => {
                    *seed += 1;
                    zipf.keys(count, *seed)
                }
            })
            .collect();
        for turn in 0..contenders.len() {
            let at = (turn + round) % contenders.len();
            let contender = contenders[at];
            let own: Vec<Vec<u128>>;
            let batches = if work == Work::Hit {
                own = (0..threads as u64)
                    .map(|thread| uniform(&resident[at], count, thread << 8 | round as u64))
                    .collect();
                &own
            } else {
                &batches
            };
            let (ns, hit) = time(contender, work, batches);
            if round > 0 {
                times[at].push(ns); // the first warms up
                hits[at] += hit;
            }
        }
    }
    let of = |name: &str| names.iter().position(|&other| other == name).map(|at| &times[at]);
    let ratio = |at: usize, to: Option<&Vec<f64>>| {
        to.map(|to| Spread::of(times[at].iter().zip(to).map(|(ours, theirs)| ours / theirs)))
    };
    let row = |(at, name): (usize, &&str)| Row {
        work,
        entries,
        threads,
        name: name.to_string(),
        ns: Spread::of(times[at].iter().copied()),
        to_lru: ratio(at, of("Mutex<lru>")),
        to_quick_cache: ratio(at, of("quick_cache")),
        to_bare: ratio(at, of(BARE)),
        hit_ratio: hits[at] as f64 / (settings.rounds * threads * count) as f64,
    };
    names.iter().enumerate().map(row).collect()
}

fn resident(contender: &dyn Contender, keys: &[u128]) -> Vec<u128> {
    let there: Vec<u128> = keys.iter().copied().filter(|&key| contender.look_up(&[key]) == 1).collect();
    assert!(there.len() * 2 > keys.len(), "{} of {} keys stayed", there.len(), keys.len());
    there
}

/// Nanoseconds per operation of one thread, and hits in all.
fn time(contender: &dyn Contender, work: Work, batches: &[Vec<u128>]) -> (f64, usize) {
    let run = |keys: &[u128]| match work {
        Work::Hit => contender.look_up(keys),
        Work::InsertEvict => {
            contender.insert_all(keys);
            0
        }
        Work::Zipf => contender.use_all(keys),
    };
    let operations = batches[0].len() as f64;
    if let [keys] = batches {
        let start = processor_ns();
        let hits = run(keys);
        return ((processor_ns() - start) / operations, hits);
    }
    let barrier = Barrier::new(batches.len());
    let runs: Vec<(Instant, Instant, usize)> = std::thread::scope(|scope| {
        let threads: Vec<_> = batches
            .iter()
            .map(|keys| {
                let (run, barrier) = (&run, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let start = Instant::now();
                    let hits = run(keys);
                    (start, Instant::now(), hits)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a contender panicked")).collect()
    });
    // From the first that began to the last that ended.
    let start = runs.iter().map(|run| run.0).min().expect("there are threads");
    let end = runs.iter().map(|run| run.1).max().expect("there are threads");
    ((end - start).as_nanos() as f64 / operations, runs.iter().map(|run| run.2).sum())
}

/// Of this thread: what other programs take of the machine does not count.
fn processor_ns() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

impl Spread {
    fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        Spread { least: figures[0], median: figures[figures.len() / 2], greatest: figures[figures.len() - 1] }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = if self.median < 10.0 { 2 } else { 0 };
        write!(f, "{:.places$} ({:.places$}-{:.places$})", self.median, self.least, self.greatest)
    }
}
