//! One run as a table and a picture.

use crate::memory;
use crate::plot::{Chart, Line, svg};
use crate::promises;
use crate::timing::{Row, Settings, Spread};
use crate::versions;
use std::fmt::Write;

/// What ran, in Markdown.
pub fn markdown(
    settings: &Settings,
    rows: &[Row],
    promises: &[promises::Row],
    memory: &[memory::Row],
    command: &str,
) -> String {
    let cores = cores();
    let mut text = format!(
        "# hapax beside other caches\n\n\
         Made by `{command}` on {cores} cores. One process; {} rounds of {} operations per thread, the contenders in turn \
         within each round; medians with the least and the greatest. 128-bit keys, entries of 256 bytes; peers hold 24 \
         bytes of payload, hapax real handles, one of which goes round. On one thread the time is the processor's, on more \
         the wall's, per operation of a thread; the ratios are of the same round. More threads than cores are marked \
         (oversubscribed).\n\n\
         lru {}, quick_cache {}, moka {}, foyer-memory {} (LRU), TinyUFO {}. \"bare dense LRU\" is \
         hapax's table, slots and links without lock, leases and budget.\n",
        settings.rounds,
        settings.operations,
        versions::of("lru"),
        versions::of("quick_cache"),
        versions::of("moka"),
        versions::of("foyer-memory"),
        versions::of("TinyUFO"),
    );
    let mut last = None;
    for row in rows {
        let group = (row.work, row.threads, row.entries);
        if last != Some(group) {
            last = Some(group);
            let threads = if row.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", row.threads) };
            let mark = if row.threads > cores { " (oversubscribed)" } else { "" };
            let _ = write!(
                text,
                "\n## {}, {threads}{mark}, {} entries\n\n| | ns | to Mutex<lru> | to quick_cache | to bare | hits |\n\
                 |---|---|---|---|---|---|\n",
                row.work.name(),
                row.entries
            );
        }
        let ratio = |spread: Option<Spread>| spread.map_or("-".to_owned(), |spread| spread.to_string());
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {:.3} |",
            row.name,
            row.ns,
            ratio(row.to_lru),
            ratio(row.to_quick_cache),
            ratio(row.to_bare),
            row.hit_ratio
        );
    }
    if !promises.is_empty() {
        text += "\n## Budgets\n\n\
            64 MiB, the worst of five runs of 20,000 inserts from two threads, sizes log-normal around 16 KiB. Bytes alive are those of values whose \
            destructor has not run, the new one included; hapax's are its heap's, filled as documented: room first, then memory.\n\n\
            | | worst bytes alive / budget | of 20 items of 4 %, resident | largest item kept by an empty cache | of 1,000 entries \
            that fit, resident | left after an item of 150 % |\n|---|---|---|---|---|---|\n";
        for row in promises {
            let _ = writeln!(
                text,
                "| {} | {:.3} | {} | {} % | {} | {} |",
                row.name,
                row.worst_live,
                row.items_of_4_percent,
                row.largest_percent,
                row.before_oversize,
                row.after_oversize
            );
        }
    }
    if !memory.is_empty() {
        let _ = write!(
            text,
            "\n## Heap bytes per entry at {}\n\n128-bit key, 24 bytes of payload or a real handle, or 8 where it says so. \
             \"stayed\" is how many of those inserted were resident afterwards.\n\n| | bytes per entry | stayed |\n|---|---|---|\n",
            memory::ENTRIES
        );
        for row in memory {
            let _ = writeln!(text, "| {} | {:.1} | {} |", row.name, row.bytes, row.stayed);
        }
    }
    text
}

/// Nanoseconds over entries, one chart for each work on one thread and on two.
pub fn picture(rows: &[Row]) -> String {
    let mut charts: Vec<Chart> = Vec::new();
    for row in rows.iter().filter(|row| row.threads <= 2) {
        let title = format!("{}, {} threads", row.work.name(), row.threads);
        let chart = match charts.iter_mut().position(|chart| chart.title == title) {
            Some(at) => &mut charts[at],
            None => {
                let (x_label, y_label) = ("entries".to_owned(), "ns".to_owned());
                charts.push(Chart { title, x_label, y_label, log_y: true, lines: Vec::new() });
                charts.last_mut().expect("just pushed")
            }
        };
        let point = (row.entries as f64, row.ns.median);
        match chart.lines.iter_mut().find(|line| line.name == row.name) {
            Some(line) => line.points.push(point),
            None => chart.lines.push(Line { name: row.name.clone(), points: vec![point] }),
        }
    }
    svg(&charts, 2)
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
