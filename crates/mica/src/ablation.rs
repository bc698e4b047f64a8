//! What hints alone earn: no code outlives a process, and processes with and without hints alternate.

use crate::processes::{Observed, start};
use crate::report::{field, line, time};
use crate::session::{AnyError, Work};

/// Starts `rounds` processes of each kind, after one that leaves hints, and compares.
pub fn ablation(work: &Work, rounds: usize) -> Result<(), AnyError> {
    let work = Work { keeps_code: false, ..work.clone() };
    let with = Work { keeps_hints: true, ..work.clone() };
    let without = Work { keeps_hints: false, ..work.clone() };
    field("programs", work.programs.join(", "))?;
    let threads = work.threads;
    field(
        "kinds",
        format!(
            "{rounds} processes without hints and {rounds} with them, alternating; {threads} threads compile ahead"
        ),
    )?;
    let learned = start("the process that leaves hints", &with)?;
    let mut off = Vec::new();
    let mut on = Vec::new();
    for round in 0..rounds {
        let what = format!("round {} of {rounds}", round + 1);
        // Which kind goes first changes, so that a drift of the machine meets both.
        if round % 2 == 0 {
            off.push(start(&what, &without)?);
            on.push(start(&what, &with)?);
        } else {
            on.push(start(&what, &with)?);
            off.push(start(&what, &without)?);
        }
    }
    let results = |one: &Observed| one.findings.results.iter().map(|one| (one.value, one.output)).collect::<Vec<_>>();
    if off.iter().chain(&on).any(|one| results(one) != results(&learned)) {
        return Err("the results differ".into());
    }
    line(format!("\n{:<26}{:>32}{:>32}{:>10}", "median (least - greatest)", "hints off", "hints on", "on / off"))?;
    let row = |name: &str, of: &dyn Fn(&Observed) -> u64| {
        let (off, on) = (sorted(&off, of), sorted(&on, of));
        let ratio = on[on.len() / 2] as f64 / off[off.len() / 2].max(1) as f64;
        line(format!("{name:<26}{:>32}{:>32}{ratio:>9.3}x", spread(&off), spread(&on)))
    };
    row("first result, wall", &|one| one.first_ns)?;
    row("first result, processor", &Observed::first_cpu_ns)?;
    row("all results, wall", &|one| one.wall_ns)?;
    row("all results, processor", &Observed::cpu_ns)?;
    let compiled = |all: &[Observed]| sorted(all, &|one| one.findings.count("compiles"))[all.len() / 2];
    line(format!("{:<26}{:>32}{:>32}", "functions compiled", compiled(&off), compiled(&on)))?;
    let pairs: Vec<f64> = off.iter().zip(&on).map(|(off, on)| on.wall_ns as f64 / off.wall_ns.max(1) as f64).collect();
    let faster = pairs.iter().filter(|ratio| **ratio < 1.0).count();
    field("\npairs", format!("hints made {faster} of {} rounds faster as a whole", pairs.len()))
}

/// All values, the least first.
pub(crate) fn sorted(all: &[Observed], of: &dyn Fn(&Observed) -> u64) -> Vec<u64> {
    let mut values: Vec<u64> = all.iter().map(of).collect();
    values.sort_unstable();
    values
}

/// Median, least and greatest.
pub(crate) fn spread(sorted: &[u64]) -> String {
    let (least, median, greatest) = (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    format!("{} ({} - {})", time(median), time(least), time(greatest))
}
