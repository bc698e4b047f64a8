//! What asking and recording compile hints costs, in a directory: `cargo bench --bench hints`. The figure to reach is printed
//! beside its row. A row is the median of the rounds with the least and the greatest.

use hapax::{DirectoryOptions, Fingerprint, HintOptions, HintStore};
use std::hint::black_box;
use std::time::{Duration, Instant};

const RECORDS: u64 = 10_000;
const OPERATIONS: usize = 100_000;
const ROUNDS: usize = 15;

fn main() {
    // `cargo test --benches` runs this too, to see that it works.
    let rounds = if std::env::args().any(|arg| arg == "--bench") { ROUNDS } else { 1 };
    let folder = tempfile::tempdir().unwrap();
    let options = HintOptions::new(&DirectoryOptions::new("bench").dir(folder.path()));
    let by_hand = options.clone().write_behind(Duration::MAX);
    let units: Vec<Fingerprint> = (0..RECORDS).map(unit).collect();
    let hints = HintStore::open(by_hand.clone());
    assert_eq!(hints.off_reason(), None);
    let record_all = |hints: &HintStore| {
        for (number, unit) in units.iter().enumerate() {
            hints.record_compile(unit, 4096, Duration::from_micros(number as u64));
        }
    };
    record_all(&hints);
    hints.gc().unwrap();
    println!("{RECORDS} records, {rounds} rounds of {OPERATIONS} operations, one thread");
    println!("{:<44}{:>10}{:>22}{:>12}", "", "median", "least - greatest", "to reach");

    let mut at = 0;
    let mut next = || {
        at = (at + 7919) % units.len();
        &units[at]
    };
    let strangers: Vec<Fingerprint> = (RECORDS..2 * RECORDS).map(unit).collect();
    let mut stranger = 0;
    print_row("get, found", "ns", Some(200.0), rounds, || each(|| hints.get(next())));
    print_row("get, not found", "ns", Some(200.0), rounds, || {
        each(|| {
            stranger = (stranger + 7919) % strangers.len();
            hints.get(&strangers[stranger])
        })
    });
    print_row("is_hot", "ns", None, rounds, || each(|| hints.is_hot(next())));
    print_row("record_hit", "ns", None, rounds, || each(|| hints.record_hit(next())));
    print_row("record_compile", "ns", None, rounds, || {
        each(|| hints.record_compile(next(), 1, Duration::from_nanos(1)))
    });
    print_row("get, found, with uses pending", "ns", Some(200.0), rounds, || each(|| hints.get(next())));
    hints.flush().unwrap();

    let behind = HintStore::open(options);
    print_row("record_hit, writes behind included", "ns", None, rounds, || each(|| behind.record_hit(next())));
    drop(behind);

    let per_record = 1.0 / RECORDS as f64;
    print_row("flush, per changed record", "ns", None, rounds, || {
        units.iter().for_each(|unit| hints.record_hit(unit));
        nanoseconds(|| hints.flush().unwrap()) * per_record
    });
    print_row("precompile_queue(100)", "us", None, rounds, || {
        nanoseconds(|| drop(black_box(hints.precompile_queue(100)))) / 1e3
    });
    print_row("gc", "ms", None, rounds, || {
        record_all(&hints);
        hints.flush().unwrap();
        nanoseconds(|| hints.gc().unwrap()) / 1e6
    });
    let bytes = hints.stats().journal_bytes as f64 * per_record;
    drop(hints);
    print_row("open", "ms", None, rounds, || nanoseconds(|| drop(HintStore::open(by_hand.clone()))) / 1e6);
    println!("bytes per record on the disk, folded: {bytes:.1}");
}

fn unit(number: u64) -> Fingerprint {
    Fingerprint::of("bench").part("unit", number.to_le_bytes()).finish()
}

fn nanoseconds(operation: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    operation();
    begun.elapsed().as_nanos() as f64
}

fn print_row(name: &str, unit: &str, to_reach: Option<f64>, rounds: usize, mut round: impl FnMut() -> f64) {
    let mut times: Vec<f64> = (0..rounds).map(|_| round()).collect();
    times.sort_by(f64::total_cmp);
    let spread = format!("{:.1} - {:.1}", times[0], times[times.len() - 1]);
    let to_reach = to_reach.map_or(String::new(), |figure| format!("{figure:.0} {unit}"));
    println!("{name:<44}{:>7.1} {unit}{spread:>22}{to_reach:>12}", times[times.len() / 2]);
}

fn each<T>(mut operation: impl FnMut() -> T) -> f64 {
    nanoseconds(|| (0..OPERATIONS).for_each(|_| drop(black_box(operation())))) / OPERATIONS as f64
}
