//! Cold starts against warm ones, each program alone: in turn, so that both kinds meet the same machine.

use crate::ablation::{sorted, spread};
use crate::processes::{Observed, start};
use crate::report::{field, line};
use crate::session::{AnyError, Work};

/// Starts each program `rounds` times in a process that finds nothing, each time followed by one that finds what that one
/// left, and compares the times to the first result.
pub fn starts(work: &Work, rounds: usize) -> Result<(), AnyError> {
    let kinds = "a process that finds nothing, then one that finds what that one left";
    field("each round", format!("{kinds}; {rounds} rounds for each program"))?;
    field("figures", "from a process's start to its program's result: median (least - greatest)")?;
    line(format!(
        "\n{:<12}{:>10}{:>30}{:>30}{:>28}{:>28}",
        "", "functions", "cold, wall", "warm, wall", "warm / cold, wall", "warm / cold, processor"
    ))?;
    for program in &work.programs {
        let (mut cold, mut warm) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let cache = tempfile::tempdir()?;
            let one = Work { programs: vec![program.clone()], cache: cache.path().to_owned(), ..work.clone() };
            let what = format!("{program}, round {} of {rounds}", round + 1);
            cold.push(start(&what, &one)?);
            warm.push(start(&what, &one)?);
        }
        let result = |one: &Observed| one.findings.results.first().map(|result| (result.value, result.output));
        if cold.iter().chain(&warm).any(|one| result(one) != result(&cold[0])) {
            return Err(format!("{program}: the results differ").into());
        }
        let wall = |one: &Observed| one.first_ns;
        line(format!(
            "{program:<12}{:>10}{:>30}{:>30}{:>28}{:>28}",
            cold[0].findings.count("needed"),
            spread(&sorted(&cold, &wall)),
            spread(&sorted(&warm, &wall)),
            parts(&cold, &warm, &wall),
            parts(&cold, &warm, &Observed::first_cpu_ns)
        ))?;
    }
    Ok(())
}

/// The warm process of each round as a part of its cold one.
fn parts(cold: &[Observed], warm: &[Observed], of: &dyn Fn(&Observed) -> u64) -> String {
    let part = |(cold, warm)| of(warm) as f64 / of(cold).max(1) as f64;
    let mut parts: Vec<f64> = cold.iter().zip(warm).map(part).collect();
    parts.sort_by(f64::total_cmp);
    format!("{:.3}x ({:.3} - {:.3})", parts[parts.len() / 2], parts[0], parts[parts.len() - 1])
}
