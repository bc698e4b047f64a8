//! The comparison: a process that finds nothing, one that finds hints, one that finds code, and an interpreter.

use crate::ir_bytes;
use crate::processes::{Observed, start};
use crate::report::{self, check, field, line, size, time};
use crate::session::{AnyError, Work, open};
use std::collections::HashSet;

/// Where the figure is to be: the warm start's time to its first result, as a part of the cold start's.
const AIM: f64 = 0.1;

/// Runs all of them and compares.
pub fn show(work: &Work, is_kept: bool) -> Result<(), AnyError> {
    let mut functions = HashSet::new();
    for name in &work.programs {
        functions.extend(open(name)?.functions.iter().map(ir_bytes::bytes));
    }
    let functions = functions.len();
    field(
        "programs",
        format!("{} with {functions} different functions: {}", work.programs.len(), work.programs.join(", ")),
    )?;
    let kept = if is_kept { "kept" } else { "temporary; --cache DIR keeps one" };
    field("cache", format!("{} ({kept})", work.cache.display()))?;
    let cold = start("cold", work)?;
    // Without code, what the first process learned about the programs is all that the second one has.
    let hinted =
        work.keeps_hints.then(|| start("hints alone", &Work { keeps_code: false, ..work.clone() })).transpose()?;
    let warm = start("warm", work)?;
    let oracle = start("interpreter", &Work { interprets: true, ..work.clone() })?;
    let device = &warm.findings.device;
    if !device.is_empty() {
        field("device", device)?;
    }
    let mut columns = vec![("first run", &cold)];
    columns.extend(hinted.as_ref().map(|hinted| ("hints alone", hinted)));
    columns.push(("warm", &warm));
    table(&columns)?;
    if hinted.is_some() {
        let own = "(hints alone: what a background thread had compiled before it was asked for again, in memory)";
        line(own)?;
    }
    ratios(&cold, &warm)?;
    residents(&columns)?;
    verdict(&columns, &oracle)
}

fn table(columns: &[(&str, &Observed)]) -> Result<(), AnyError> {
    let row = |name: &str, cell: &dyn Fn(&Observed) -> String| {
        let cells: Vec<String> = columns.iter().map(|(_, observed)| format!("{:>13}", cell(observed))).collect();
        line(format!("{name:<28}{}", cells.concat()))
    };
    let heads: Vec<String> = columns.iter().map(|(name, _)| format!("{name:>13}")).collect();
    line(format!("\n{:<28}{}", "", heads.concat()))?;
    row("first result, wall", &|one| time(one.first_ns))?;
    row("first result, processor", &|one| time(one.first_cpu_ns()))?;
    row("all results, wall", &|one| time(one.wall_ns))?;
    row("all results, processor", &|one| time(one.cpu_ns()))?;
    row("functions compiled", &|one| one.findings.count("compiles").to_string())?;
    row("  which took", &|one| time(one.findings.count("compile ns")))?;
    row("functions from a store", &|one| one.findings.count("store hits").to_string())?;
    row("  compile time saved", &|one| time(one.findings.count("saved ns")))?;
    row("functions that ran", &|one| one.findings.count("needed").to_string())?;
    row("functions hinted", &|one| one.findings.count("hinted").to_string())?;
    row("machine code", &|one| size(one.findings.count("code bytes")))?;
    row("  in executable pages", &|one| size(one.findings.count("page bytes")))?;
    row("on disk", &|one| size(one.findings.count("stored bytes")))?;
    row("resident hits / misses", &|one| {
        format!("{} / {}", one.findings.count("resident hits"), one.findings.count("resident misses"))
    })?;
    row("evictions", &|one| one.findings.count("evictions").to_string())
}

fn ratios(cold: &Observed, warm: &Observed) -> Result<(), AnyError> {
    let part = |warm: u64, cold: u64| warm as f64 / cold.max(1) as f64;
    let first = part(warm.first_ns, cold.first_ns);
    let reached = if first <= AIM { "reached" } else { "not reached" };
    line("")?;
    field("first result", format!("warm takes {first:.3}x of cold, wall (at most {AIM}x is the aim: {reached})"))?;
    let cpu = part(warm.first_cpu_ns(), cold.first_cpu_ns());
    field("", format!("warm takes {cpu:.3}x of cold, processor"))?;
    let (wall, cpu) = (part(warm.wall_ns, cold.wall_ns), part(warm.cpu_ns(), cold.cpu_ns()));
    field("all results", format!("warm takes {wall:.3}x of cold, wall; {cpu:.3}x, processor"))?;
    if cold.findings.count("compiles") == 0 {
        field("", "(the first run found its code, too: the cache was there already)")?;
    }
    Ok(())
}

fn residents(columns: &[(&str, &Observed)]) -> Result<(), AnyError> {
    for (name, one) in columns {
        let budget = one.findings.count("resident budget");
        let resident = one.findings.count("resident bytes");
        if let Some(tenths) = (resident * 10).checked_div(budget) {
            let filled = tenths.min(10) as usize;
            let bar = format!("[{}{}]", "#".repeat(filled), ".".repeat(10 - filled));
            field("resident", format!("{name}: {bar} {} of {} of artifacts", size(resident), size(budget)))?;
        }
    }
    field(
        "",
        "(artifacts are code with its relocations and tables, as stored; executable pages are beside that budget)",
    )
}

fn verdict(columns: &[(&str, &Observed)], oracle: &Observed) -> Result<(), AnyError> {
    line("")?;
    let of = |one: &Observed| -> Vec<(String, i64, u64)> {
        one.findings.results.iter().map(|result| (result.program.clone(), result.value, result.output)).collect()
    };
    let expected = of(oracle);
    let mut holds = true;
    for (name, one) in columns {
        let found = of(one);
        let differing: Vec<&str> =
            (expected.iter().zip(&found).filter(|(a, b)| a != b)).map(|(a, _)| a.0.as_str()).collect();
        let equal = expected == found;
        let text = if equal {
            format!("{name}: {} results and what they printed, equal to the interpreter's", found.len())
        } else {
            format!("{name}: other results than the interpreter's: {}", differing.join(", "))
        };
        holds &= check(equal, text)?;
        let (resident, budget) = (one.findings.count("resident bytes"), one.findings.count("resident budget"));
        if budget > 0 {
            holds &= check(resident <= budget, format!("{name}: resident artifacts are within their budget"))?;
        }
        let unusable = one.findings.count("unusable") + one.findings.count("damaged");
        if unusable > 0 {
            field("", format!("({name}: {unusable} stored artifacts were damaged, and compiled again)"))?;
        }
    }
    let (fastest, slowest) = (columns[columns.len() - 1].1, oracle);
    report::field(
        "interpreter",
        format!("{} for all results, against {}", time(slowest.wall_ns), time(fastest.wall_ns)),
    )?;
    if holds { Ok(()) } else { Err("a check failed".into()) }
}
