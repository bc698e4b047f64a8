//! Which policy, and how large a budget, for requests that were recorded:
//! `cargo run --release --example policy_study -- trace.csv [--out study.svg] [--budgets 64M,1%,20%]`.
//!
//! A trace has a line `time,key,size[,cost_ns]` for each request; a cache writes one itself
//! (`CacheOptions::trace`). Without a trace the study runs on requests that it makes up. LRU and CAMP are the real cache, on
//! addresses without memory, in both modes; the others are simulated, to show what hapax does without.
//!
//! Requests are done in the order of the lines, by one thread; `time` is only checked to be a number. A request larger than
//! the budget misses and evicts nothing. Every key misses once: that is the least that a row can have.

mod csv;
#[path = "../../tests/traces/jit_synth.rs"]
mod jit_synth;
mod others;
mod plot;
mod replay;

use hapax::{Mode, Policy};
use plot::{Chart, Line, svg};
use replay::{Request, Tally, footprint_bytes, replay};
use std::path::PathBuf;
use std::process::ExitCode;

/// Bad lines that are shown one by one.
const MOST_SHOWN: usize = 10;
const BUDGETS: &str = "1%,2%,5%,10%,20%,50%,100%";
/// Of a budget, and of all keys together: the replay wants addresses for several times as many.
const MOST_BYTES: u64 = 1 << 58;
const USAGE: &str = "policy_study [TRACE.csv] [--out FILE.svg] [--budgets LIST]
  TRACE.csv   lines time,key,size[,cost_ns]; CacheOptions::trace writes one. Without it, made-up requests of a compiler
  --out       where the plot goes, policy_study.svg if not given
  --budgets   bytes, such as 64M or 2G, or shares of what all keys take together: 1%,2%,5%,10%,20%,50%,100% if not given";

const POLICIES: [(&str, fn(&[Request], u64) -> Result<Tally, hapax::Error>); 7] = [
    ("LRU", |requests, budget| replay(requests, Policy::Lru, Mode::Exact, budget)),
    ("LRU relaxed", |requests, budget| replay(requests, Policy::Lru, Mode::Relaxed, budget)),
    ("CAMP", |requests, budget| replay(requests, Policy::Camp, Mode::Exact, budget)),
    ("CAMP relaxed", |requests, budget| replay(requests, Policy::Camp, Mode::Relaxed, budget)),
    ("FIFO (simulated)", |requests, budget| Ok(others::fifo(requests, budget))),
    ("SIEVE (simulated)", |requests, budget| Ok(others::sieve(requests, budget))),
    ("GDSF (simulated)", |requests, budget| Ok(others::gdsf(requests, budget))),
];

const RATIOS: [(&str, fn(&Tally) -> f64); 3] = [
    ("request-miss ratio", Tally::miss_ratio),
    ("byte-miss ratio", Tally::byte_miss_ratio),
    ("cost-miss ratio", Tally::cost_miss_ratio),
];

fn main() -> ExitCode {
    match study() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("policy_study: {error}");
            ExitCode::FAILURE
        }
    }
}

fn study() -> Result<(), String> {
    if std::env::args().skip(1).any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}");
        return Ok(());
    }
    let Options { trace, out, budgets } = options()?;
    let requests = match &trace {
        Some(path) => read(path)?,
        None => {
            println!("no trace given: 400,024 made-up requests of a compiler, dearer for larger kernels");
            jit_synth::with_costs(&jit_synth::requests(), jit_synth::COSTS[2].1)
        }
    };
    let footprint = footprint_bytes(&requests);
    if footprint > MOST_BYTES {
        return Err(format!("all keys together take more than {MOST_BYTES} bytes; divide the sizes"));
    }
    println!("{} requests; all keys together take {}", requests.len(), in_bytes(footprint));
    let has_costs = requests.iter().any(|request| request.cost_ns > 0);
    if !has_costs {
        println!("the trace has no costs: CAMP and GDSF go by size alone, and there is no cost-miss ratio");
    }
    let ratios = if has_costs { &RATIOS[..] } else { &RATIOS[..2] };
    let mut charts: Vec<Chart> = ratios.iter().map(|&(name, _)| chart(name)).collect();
    let budgets = budgets.split(',').map(|text| budget(text, footprint)).collect::<Result<Vec<u64>, String>>()?;
    // Before the work, not after it.
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(&out);
    opened.map_err(|error| format!("{}: {error}; name a file that can be written by --out", out.display()))?;
    let cost = if has_costs { "cost" } else { "" };
    println!("\n{:>12}  {:<20}{:>14}{:>14}{cost:>14}", "budget", "policy", "requests", "bytes");
    for budget in budgets {
        for (name, run) in POLICIES {
            let tally = run(&requests, budget).map_err(|error| format!("{name} at {budget} bytes: {error}"))?;
            let mut shown = String::new();
            for (chart, (_, ratio)) in charts.iter_mut().zip(ratios) {
                shown += &format!("{:>14.4}", ratio(&tally));
                let point = (budget as f64, ratio(&tally));
                match chart.lines.iter_mut().find(|line| line.name == name) {
                    Some(line) => line.points.push(point),
                    None => chart.lines.push(Line { name: name.to_owned(), points: vec![point] }),
                }
            }
            println!("{:>12}  {name:<20}{shown}", in_bytes(budget));
        }
    }
    std::fs::write(&out, svg(&charts, charts.len())).map_err(|error| format!("{}: {error}", out.display()))?;
    println!("\nmisses over budgets: {}", out.display());
    Ok(())
}

fn read(path: &PathBuf) -> Result<Vec<Request>, String> {
    let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (requests, bad) = csv::read(&text);
    for line in bad.iter().take(MOST_SHOWN) {
        eprintln!("{}, line {}: {}", path.display(), line.number, line.reason);
    }
    if bad.len() > MOST_SHOWN {
        eprintln!("{}: {} more lines like these", path.display(), bad.len() - MOST_SHOWN);
    }
    if !bad.is_empty() {
        eprintln!("{}: {} lines are left out", path.display(), bad.len());
    }
    match requests.is_empty() {
        true => Err(format!("{}: no request in it; lines are time,key,size[,cost_ns]", path.display())),
        false => Ok(requests),
    }
}

struct Options {
    trace: Option<PathBuf>,
    out: PathBuf,
    budgets: String,
}

fn options() -> Result<Options, String> {
    let mut options = Options { trace: None, out: "policy_study.svg".into(), budgets: BUDGETS.to_owned() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} has no value"));
        match &*arg {
            "--out" => options.out = value()?.into(),
            "--budgets" => options.budgets = value()?,
            _ if arg.starts_with('-') => {
                return Err(format!("no option {arg}; {USAGE}"));
            }
            _ if options.trace.is_some() => return Err("one trace at a time".to_owned()),
            _ => options.trace = Some(arg.into()),
        }
    }
    Ok(options)
}

/// Bytes, or per cent of what all keys take together.
fn budget(text: &str, footprint: u64) -> Result<u64, String> {
    let bad = || format!("`{text}` is no budget: give bytes, such as 64M or 2G, or a share, such as 20%");
    let (number, unit) = text.split_at(text.trim_end_matches(|last: char| !last.is_ascii_digit()).len());
    let number: f64 = number.parse().map_err(|_| bad())?;
    let bytes = match unit {
        "%" if number > 0.0 => (footprint as f64 * number / 100.0).max(1.0),
        "" => number,
        "k" | "K" => number * 1024.0,
        "M" => number * 1024.0 * 1024.0,
        "G" => number * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(bad()),
    };
    if bytes >= 1.0 { Ok((bytes as u64).min(MOST_BYTES)) } else { Err(bad()) }
}

fn chart(name: &str) -> Chart {
    Chart {
        title: name.to_owned(),
        x_label: "budget, bytes".to_owned(),
        y_label: name.to_owned(),
        log_y: false,
        lines: Vec::new(),
    }
}

fn in_bytes(bytes: u64) -> String {
    match bytes {
        0..0x400 => format!("{bytes} B"),
        0x400..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2} GiB", bytes as f64 / 1_073_741_824.0),
    }
}
