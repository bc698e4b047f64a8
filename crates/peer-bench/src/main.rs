//! hapax's cache beside its peers: identical work, one process, one run.
//!
//! `cargo run --release -p peer-bench -- --out crates/peer-bench/results` runs all of it (half an hour) and writes the
//! table and the picture. Options narrow it down; each takes a list with commas:
//! `--names hapax,quick_cache  --works 0,1,2  --sizes 1000,100000  --threads 1,2  --rounds 7  --operations 100000  --parts time,budget,memory`.

mod contenders;
mod memory;
#[path = "../../../examples/policy_study/plot.rs"]
mod plot;
mod promises;
mod report;
mod timing;
mod work;

use std::path::{Path, PathBuf};
use timing::{Row, Settings, WORKS, rows};

fn main() {
    let mut settings = Settings {
        names: contenders::NAMES.map(str::to_owned).to_vec(),
        works: WORKS.to_vec(),
        sizes: vec![1_000, 10_000, 100_000, 1_000_000],
        threads: vec![1, 2, 4, 8],
        rounds: 7,
        operations: 100_000,
    };
    settings.names.push(contenders::BARE.to_owned());
    let mut parts: Vec<String> = ["time", "budget", "memory"].map(str::to_owned).to_vec();
    let mut out: Option<PathBuf> = None;
    let args: Vec<String> = std::env::args().skip(1).collect();
    for pair in args.chunks(2) {
        let [option, value] = pair else { panic!("{} has no value", pair[0]) };
        let list = || value.split(',').map(str::to_owned).collect::<Vec<String>>();
        let numbers = || list().iter().map(|n| n.parse().expect("a number")).collect::<Vec<usize>>();
        match &**option {
            "--names" => settings.names = list(),
            "--works" => settings.works = numbers().into_iter().map(|at| WORKS[at]).collect(),
            "--sizes" => settings.sizes = numbers(),
            "--threads" => settings.threads = numbers(),
            "--rounds" => settings.rounds = numbers()[0],
            "--operations" => settings.operations = numbers()[0],
            "--parts" => parts = list(),
            "--out" => out = Some(value.into()),
            _ => panic!("no option {option}; the source names them"),
        }
    }
    let asked = |part: &str| parts.iter().any(|other| other == part);
    // First: later parts leave the allocator's memory in pieces.
    let memory = if asked("memory") { memory::rows() } else { Vec::new() };
    for row in &memory {
        println!("{:<36}{:>8.1} bytes per entry, {} stayed", row.name, row.bytes, row.stayed);
    }
    let promises = if asked("budget") { promises::rows() } else { Vec::new() };
    for row in &promises {
        println!(
            "{:<14} worst live {:.3}, of 20 items of 4 % {}, largest {} %, before oversize {}, after {}",
            row.name,
            row.worst_live,
            row.items_of_4_percent,
            row.largest_percent,
            row.before_oversize,
            row.after_oversize
        );
    }
    let mut timed: Vec<Row> = Vec::new();
    let command =
        ["cargo run --release -p peer-bench --".to_owned()].into_iter().chain(args).collect::<Vec<_>>().join(" ");
    let sizes = if asked("time") { settings.sizes.clone() } else { Vec::new() };
    // After each size, so that a run that is cut short leaves what it has.
    for entries in sizes {
        timed.extend(rows(entries, &settings, print));
        if let Some(folder) = &out {
            write(folder, &report::markdown(&settings, &timed, &promises, &memory, &command), &report::picture(&timed));
        }
    }
}

fn write(folder: &Path, table: &str, picture: &str) {
    std::fs::create_dir_all(folder).expect("the folder of --out");
    std::fs::write(folder.join("peers.md"), table).expect("the table of --out");
    std::fs::write(folder.join("peers.svg"), picture).expect("the picture of --out");
}

fn print(row: &Row) {
    let ratio = |spread: Option<timing::Spread>| spread.map_or(String::new(), |spread| spread.to_string());
    println!(
        "{:<26}{:>8} entries {} threads{} {:<24}{:>20} lru {:>20} qc {:>20} hits {:.3}",
        row.work.name(),
        row.entries,
        row.threads,
        if row.threads > report::cores() { "*" } else { " " },
        row.name,
        row.ns.to_string(),
        ratio(row.to_lru),
        ratio(row.to_quick_cache),
        row.hit_ratio,
    );
}
