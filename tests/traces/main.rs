//! The real cache on whole traces: exact LRU against the totals of an independent simulator, and what CAMP saves
//! beside LRU. The bytes are addresses on a `DryDevice`.
//!
//! `HAPAX_TRACES` names a folder with further traces, `*.csv` of `time,key,size`: then what CAMP saves is shown for each
//! of them, too, and the bounds are of all together.

#[path = "../../examples/policy_study/csv.rs"]
#[allow(dead_code, reason = "the study uses more of it")]
mod csv;
mod jit_synth;
#[path = "../../examples/policy_study/replay.rs"]
#[allow(dead_code, reason = "the study uses more of it")]
mod replay;

use hapax::{Mode, Policy};
use jit_synth::{COSTS, with_costs};
use replay::{Request, footprint_bytes, replay};
use std::path::Path;

const REFERENCE: &str = include_str!("jit_synth_lru.csv");
/// Of the trace as `time,key,size` lines (FNV-1a, 64 bits): the reference is of these bytes and no others.
const DIGEST: u64 = 0x5D83_1E5F_65AF_CFCB;
const BUDGETS: [f64; 5] = [0.02, 0.05, 0.1, 0.2, 0.5];

#[test]
fn the_trace_is_the_one_that_the_reference_is_of() {
    let lines = jit_synth::requests().iter().enumerate().fold(String::new(), |mut text, (time, request)| {
        text += &format!("{time},{},{}\n", request.key, request.bytes);
        text
    });
    assert_eq!(fnv(lines.as_bytes()), DIGEST, "{:#x}", fnv(lines.as_bytes()));
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes a minute unoptimised: cargo test --release --test traces")]
fn lru_misses_exactly_what_an_independent_simulator_says() {
    let requests = jit_synth::requests();
    let rows = REFERENCE.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit()));
    let mut compared = 0;
    for row in rows {
        let row: Vec<u64> = row.split(',').map(|field| field.parse().unwrap()).collect();
        let [budget_bytes, count, misses, bytes, missed_bytes] = row[..] else { panic!("{row:?}") };
        let tally = replay(&requests, Policy::Lru, Mode::Exact, budget_bytes).unwrap();
        assert_eq!((tally.requests.count, tally.requests.bytes), (count, bytes.into()));
        assert_eq!((tally.misses.count, tally.misses.bytes), (misses, missed_bytes.into()), "of {budget_bytes} bytes");
        compared += 1;
    }
    assert_eq!(compared, 6);
}

/// Three models of cost at five budgets for each trace.
#[test]
#[cfg_attr(debug_assertions, ignore = "takes minutes unoptimised: cargo test --release --test traces")]
fn camp_misses_less_cost_than_lru() {
    let mut traces = vec![("jit_synth".to_owned(), jit_synth::requests())];
    match std::env::var_os("HAPAX_TRACES") {
        Some(folder) => traces.extend(traces_in(Path::new(&folder))),
        None => println!("HAPAX_TRACES is not set: only the trace that is made here"),
    }
    let mut all = Vec::new();
    for (name, requests) in &traces {
        let mut ratios = Vec::new();
        for (model, cost_ms) in COSTS {
            let requests = with_costs(requests, cost_ms);
            let footprint = footprint_bytes(&requests);
            for share in BUDGETS {
                let budget = (footprint as f64 * share) as u64;
                let missed = |policy| replay(&requests, policy, Mode::Exact, budget).unwrap().cost_miss_ratio();
                let (camp, lru) = (missed(Policy::Camp), missed(Policy::Lru));
                println!("{name}, cost {model}, budget {share}: CAMP {camp:.4}, LRU {lru:.4}, {:.4}x", camp / lru);
                ratios.push(camp / lru);
            }
        }
        println!(
            "{name}: {:.4}x in the geometric mean of {}, {:.4}x at worst",
            mean(&ratios),
            ratios.len(),
            worst(&ratios)
        );
        all.extend(ratios);
    }
    println!("all: {:.4}x in the geometric mean of {}, {:.4}x at worst", mean(&all), all.len(), worst(&all));
    assert!(mean(&all) <= 0.93 && worst(&all) <= 1.05);
}

fn traces_in(folder: &Path) -> Vec<(String, Vec<Request>)> {
    let entries = folder.read_dir().unwrap_or_else(|error| panic!("HAPAX_TRACES, {}: {error}", folder.display()));
    let files = entries.map(|entry| entry.unwrap().path());
    let mut traces: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "csv"))
        .map(|path| {
            let (requests, bad) = csv::read(&std::fs::read(&path).unwrap());
            assert!(bad.is_empty(), "{}: {:?}", path.display(), bad[0]);
            (path.file_stem().unwrap().to_string_lossy().into_owned(), requests)
        })
        .collect();
    assert!(!traces.is_empty(), "HAPAX_TRACES, {}: no *.csv", folder.display());
    traces.sort_by(|a, b| a.0.cmp(&b.0));
    traces
}

fn mean(ratios: &[f64]) -> f64 {
    (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp()
}

fn worst(ratios: &[f64]) -> f64 {
    ratios.iter().copied().fold(0.0, f64::max)
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}
