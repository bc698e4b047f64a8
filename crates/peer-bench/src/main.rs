//! hapax's cache beside its peers: identical work, one process, one run.

mod contenders;
mod timing;
mod work;

use timing::{Settings, WORKS, rows};

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
    let args: Vec<String> = std::env::args().skip(1).collect();
    for pair in args.chunks(2) {
        let [name, value] = pair else { panic!("{} has no value", pair[0]) };
        let numbers = || value.split(',').map(|n| n.parse().expect("a number")).collect::<Vec<usize>>();
        match &**name {
            "--names" => settings.names = value.split(',').map(str::to_owned).collect(),
            "--works" => settings.works = numbers().into_iter().map(|at| WORKS[at]).collect(),
            "--sizes" => settings.sizes = numbers(),
            "--threads" => settings.threads = numbers(),
            "--rounds" => settings.rounds = numbers()[0],
            "--operations" => settings.operations = numbers()[0],
            _ => panic!("no option {name}"),
        }
    }
    rows(&settings, |row| {
        println!(
            "{:<26} {:>8} {} threads {:<24} {:>20} lru {:>20} qc {:>20} hit {:.3}",
            row.work.name(),
            row.entries,
            row.threads,
            row.name,
            row.ns.to_string(),
            row.to_lru.map(|r| r.to_string()).unwrap_or_default(),
            row.to_quick_cache.map(|r| r.to_string()).unwrap_or_default(),
            row.hit_ratio,
        );
    });
}
