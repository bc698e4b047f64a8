//! hapax's cache beside its peers: identical work, one process, one run.
//!
//! `cargo run --release -p peer-bench -- --out crates/peer-bench/results` runs all of it (half an hour) and writes the
//! table and the picture; `--help` says what narrows it down.

mod arguments;
mod contenders;
mod memory;
#[path = "../../../examples/policy_study/plot.rs"]
mod plot;
mod promises;
mod report;
mod timing;
mod versions;
mod work;

use arguments::{Options, USAGE};
use std::path::Path;
use std::{fs, io};
use timing::{Row, rows};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let options = Options::from_arguments(arguments.clone()).unwrap_or_else(|wrong| refuse(&wrong));
    if options.help {
        println!("{USAGE}");
        return;
    }
    if let Some(folder) = &options.out {
        // Now, and not after half an hour.
        fs::create_dir_all(folder).unwrap_or_else(|error| refuse(&format!("--out {}: {error}", folder.display())));
    }
    let settings = &options.settings;
    // First: later parts leave the allocator's memory in pieces.
    let memory = if options.asks_for("memory") { memory::rows() } else { Vec::new() };
    for row in &memory {
        println!("{:<36}{:>8.1} bytes per entry, {} stayed", row.name, row.bytes, row.stayed);
    }
    let promises = if options.asks_for("budget") { promises::rows() } else { Vec::new() };
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
        ["cargo run --release -p peer-bench --".to_owned()].into_iter().chain(arguments).collect::<Vec<_>>().join(" ");
    let sizes = if options.asks_for("time") { settings.sizes.clone() } else { Vec::new() };
    // After each size, so that a run that is cut short leaves what it has.
    for entries in sizes {
        timed.extend(rows(entries, settings, print));
        if let Some(folder) = &options.out {
            let table = report::markdown(settings, &timed, &promises, &memory, &command);
            write(folder, &table, &report::picture(&timed)).unwrap_or_else(|error| {
                eprintln!("peer-bench: {}: {error}", folder.display());
                std::process::exit(1);
            });
        }
    }
}

fn refuse(wrong: &str) -> ! {
    eprintln!("peer-bench: {wrong}");
    std::process::exit(2);
}

fn write(folder: &Path, table: &str, picture: &str) -> io::Result<()> {
    fs::write(folder.join("peers.md"), table)?;
    fs::write(folder.join("peers.svg"), picture)
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
