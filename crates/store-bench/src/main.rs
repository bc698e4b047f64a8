//! The same artifacts into each store and out again, in one run. See the README beside it.

mod budget;
mod engines;
mod work;

use engines::{ENGINES, Engine};
use std::path::{Path, PathBuf};
use std::time::Instant;
use work::{Artifact, Random};

const HITS: usize = 20_000;
const MISSES: usize = 5_000;

/// One engine in one round. Times in microseconds, except where the name says otherwise.
struct Figures {
    put_p50: f64,
    put_p99: f64,
    get_p50: f64,
    get_p99: f64,
    miss_p50: f64,
    cold_open_ms: f64,
    warm_open_ms: f64,
    disk_ratio: f64,
}

fn main() {
    let mut entries = 10_000;
    let mut rounds = 5;
    let mut folder = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse().ok()).unwrap_or_else(|| usage());
        match argument.as_str() {
            "--entries" => entries = number(),
            "--rounds" => rounds = number(),
            "--dir" => folder = Some(PathBuf::from(arguments.next().unwrap_or_else(|| usage()))),
            _ => usage(),
        }
    }
    let folder = match folder {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let folder = folder.expect("a folder to work in");
    let artifacts = work::artifacts(entries, 7);
    let payload_bytes: u64 = artifacts.iter().map(|artifact| artifact.payload.len() as u64).sum();
    let cold = drop_caches();
    println!(
        "{entries} artifacts, {:.1} MB, {rounds} rounds, {HITS} random hits each; the cold open has {} file cache",
        payload_bytes as f64 / 1e6,
        if cold { "an empty" } else { "a warm" },
    );
    let mut figures: Vec<Vec<Figures>> = ENGINES.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        // Another order each time, so that no engine always follows the same one.
        for at in 0..ENGINES.len() {
            let at = (at + round) % ENGINES.len();
            figures[at].push(run(
                &ENGINES[at],
                &artifacts,
                payload_bytes,
                &folder.path().join(format!("{at}-{round}")),
            ));
        }
    }
    if rounds > 0 {
        report(&figures);
    }
    budget::head();
    let small: Vec<Artifact> = artifacts.iter().map(|artifact| artifact.cut_to(200)).collect();
    for (name, artifacts, budget_bytes) in [("as above", &artifacts, 64 << 20), ("cut to 200 bytes", &small, 16 << 20)]
    {
        for lookups in [0, 3] {
            budget::run(
                name,
                artifacts,
                budget_bytes,
                lookups,
                &folder.path().join(format!("budget-{name}-{lookups}")),
            );
        }
    }
}

fn usage() -> ! {
    eprintln!("usage: store-bench [--entries N] [--rounds N] [--dir FOLDER]");
    std::process::exit(2);
}

fn run(engine: &Engine, artifacts: &[Artifact], payload_bytes: u64, folder: &Path) -> Figures {
    std::fs::create_dir(folder).expect("a new folder");
    let mut store = (engine.open)(folder);
    let mut puts = Vec::with_capacity(artifacts.len());
    for artifact in artifacts {
        let begun = Instant::now();
        store.put(&artifact.key, &artifact.payload);
        puts.push(microseconds(begun));
    }
    drop(store);
    let disk_ratio = disk_bytes(folder) as f64 / payload_bytes as f64;
    drop_caches();
    let begun = Instant::now();
    let store = (engine.open)(folder);
    let cold_open_ms = microseconds(begun) / 1e3;
    for artifact in artifacts {
        let got = store.get(&artifact.key);
        assert!(got.is_some_and(|got| *got == *artifact.payload), "{} lost an artifact", engine.name);
    }
    drop(store);
    let begun = Instant::now();
    let store = (engine.open)(folder);
    let warm_open_ms = microseconds(begun) / 1e3;
    let mut random = Random::new(3);
    let mut gets = Vec::with_capacity(HITS);
    for _ in 0..HITS {
        let key = &artifacts[random.below(artifacts.len() as u64) as usize].key;
        let begun = Instant::now();
        std::hint::black_box(store.get(key));
        gets.push(microseconds(begun));
    }
    let mut misses = Vec::with_capacity(MISSES);
    for _ in 0..MISSES {
        let key = random.key();
        let begun = Instant::now();
        std::hint::black_box(store.get(&key));
        misses.push(microseconds(begun));
    }
    drop(store);
    std::fs::remove_dir_all(folder).expect("the folder goes");
    Figures {
        put_p50: percentile(&mut puts, 0.5),
        put_p99: percentile(&mut puts, 0.99),
        get_p50: percentile(&mut gets, 0.5),
        get_p99: percentile(&mut gets, 0.99),
        miss_p50: percentile(&mut misses, 0.5),
        cold_open_ms,
        warm_open_ms,
        disk_ratio,
    }
}

/// Medians over the rounds, with the least and the most, and ratios of the medians within the rounds.
fn report(figures: &[Vec<Figures>]) {
    type Column = (&'static str, fn(&Figures) -> f64);
    const COLUMNS: [Column; 8] = [
        ("put p50 µs", |figures| figures.put_p50),
        ("put p99 µs", |figures| figures.put_p99),
        ("get p50 µs", |figures| figures.get_p50),
        ("get p99 µs", |figures| figures.get_p99),
        ("miss p50 µs", |figures| figures.miss_p50),
        ("cold open ms", |figures| figures.cold_open_ms),
        ("warm open ms", |figures| figures.warm_open_ms),
        ("disk / payload", |figures| figures.disk_ratio),
    ];
    println!("\n| engine | {} |", COLUMNS.map(|(name, _)| name).join(" | "));
    println!("|---|{}", "---|".repeat(COLUMNS.len()));
    for (engine, rounds) in ENGINES.iter().zip(figures) {
        let cells = COLUMNS.map(|(_, of)| {
            let mut values: Vec<f64> = rounds.iter().map(of).collect();
            let median = percentile(&mut values, 0.5);
            format!("{median:.2} ({:.2}-{:.2})", values[0], values[values.len() - 1])
        });
        println!("| {} | {} |", engine.name, cells.join(" | "));
    }
    let of = |name: &str| &figures[ENGINES.iter().position(|engine| engine.name == name).expect("it is listed")];
    let ratio = |other: &str, of_figures: fn(&Figures) -> f64| {
        let rounds = of("hapax").iter().zip(of(other));
        let mut ratios: Vec<f64> = rounds.map(|(own, other)| of_figures(own) / of_figures(other)).collect();
        let median = percentile(&mut ratios, 0.5);
        format!("{median:.3} ({:.3}-{:.3})", ratios[0], ratios[ratios.len() - 1])
    };
    println!("\nhapax / file per entry: put p50 {}", ratio("file per entry", |figures| figures.put_p50));
    println!("hapax / file per entry: get p50 {}", ratio("file per entry", |figures| figures.get_p50));
    println!("hapax / heed: get p50 {}", ratio("heed", |figures| figures.get_p50));
    println!("hapax / heed, checked: get p50 {}", ratio("heed, checked", |figures| figures.get_p50));
}

fn microseconds(begun: Instant) -> f64 {
    begun.elapsed().as_nanos() as f64 / 1e3
}

/// Sorts.
fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share) as usize]
}

/// What the files below a folder take, in whole blocks.
fn disk_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).expect("the folder is there").flatten() {
        let metadata = entry.metadata().expect("nobody removes files now");
        bytes += metadata.blocks() * 512;
        if metadata.is_dir() {
            bytes += disk_bytes(&entry.path());
        }
    }
    bytes
}

/// Empties the file cache, if this user may.
fn drop_caches() -> bool {
    let _ = std::process::Command::new("sync").status();
    std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}
