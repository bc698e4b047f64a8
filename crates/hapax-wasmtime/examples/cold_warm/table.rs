//! What a person reads: medians of the rounds, with the least and the most.

use crate::PHASES;
use crate::session::Observation;
use crate::ways::Way;

pub fn print(observed: &[[Vec<Observation>; 3]]) {
    println!(
        "\n| kept | start | ready, wall ms | ready, processor ms | less work | whole process, wall ms | processor ms | found | on disk KB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let nothing = &observed[0][0];
    for (way, phases) in Way::ALL.iter().zip(observed) {
        for (phase, rounds) in phases.iter().enumerate() {
            // Nothing kept, one start is like another.
            if *way == Way::Nothing && phase > 0 {
                continue;
            }
            let less = rounds.iter().zip(nothing).map(|(one, all)| all.ready_cpu_ns as f64 / one.ready_cpu_ns as f64);
            let last = rounds.last().expect("there is a round");
            let start = if way.ends_with_its_process() && phase > 0 { "the same process" } else { "" };
            println!(
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                way.name(),
                [PHASES[phase], start].join(" ").trim_end(),
                milliseconds(rounds, |one| one.ready_ns),
                milliseconds(rounds, |one| one.ready_cpu_ns),
                if *way == Way::Nothing { String::new() } else { format!("{}x", spread(less.collect(), 2)) },
                milliseconds(rounds, |one| one.wall_ns),
                milliseconds(rounds, |one| one.cpu_ns),
                if last.lookups == 0 { String::new() } else { format!("{} of {}", last.hits, last.lookups) },
                if last.disk_bytes == 0 { String::new() } else { (last.disk_bytes / 1000).to_string() },
            );
        }
    }
}

fn milliseconds(rounds: &[Observation], of: fn(&Observation) -> u64) -> String {
    let values: Vec<f64> = rounds.iter().map(|one| of(one) as f64 / 1e6).collect();
    if values.iter().all(|value| *value == 0.0) { String::new() } else { spread(values, 1) }
}

fn spread(mut values: Vec<f64>, digits: usize) -> String {
    values.sort_by(f64::total_cmp);
    let (least, median, most) = (values[0], values[values.len() / 2], values[values.len() - 1]);
    format!("{median:.digits$} ({least:.digits$}-{most:.digits$})")
}
