//! `hapax report`: one HTML file. A store keeps no log of what happened, so each plot shows what follows from what it does
//! keep, and its caption says what that is.

use crate::arguments::Report;
use crate::contents::{Artifact, Contents};
use crate::history::{self, Day, Totals};
use crate::outcome::{Answer, Failure};
use crate::page::Page;
use crate::place::{Place, absolute};
use crate::plot::{self, Column, Scale, Steps};
use crate::show;
use crate::stats::{Code, against, totals_lines};
use crate::top::{HEADINGS, Unit, dearest, hottest, units};
use hapax::Store;
use serde::Serialize;
use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Older artifacts are where the plot of bytes begins.
const DAYS_WRITTEN_AT_MOST: u32 = 366;
const SECONDS_PER_DAY: u64 = 86_400;

/// What the report shows, and for `--json` what it is made of.
#[derive(Serialize)]
struct Found {
    output: PathBuf,
    name: String,
    directory: PathBuf,
    code: Option<Code>,
    damaged: u64,
    hints: Option<Totals>,
    /// What each of the last 32 days adds up to.
    days: Vec<Day>,
    hottest: Vec<Unit>,
    dearest: Vec<Unit>,
    #[serde(skip)]
    artifacts: Vec<Artifact>,
    #[serde(skip)]
    usual_budget_bytes: u64,
}

pub fn run(arguments: &Report, for_people: bool) -> Result<Answer, Failure> {
    let place = Place::find(&arguments.store)?;
    let parts = place.open()?;
    let hints = parts.hints()?;
    let code = parts.code.as_ref().map(|store| Code::of(store, arguments.budget));
    let contents = parts.code.as_ref().map(|store| Contents::known(store, "reading", for_people)).unwrap_or_default();
    let units = units(hints.as_ref(), &contents.artifacts);
    let found = Found {
        output: absolute(&arguments.output)?,
        name: place.name,
        directory: place.path,
        code,
        damaged: contents.damaged.len() as u64 + contents.damaged_places,
        days: hints.as_ref().map(|hints| history::days(&hints.records)).unwrap_or_default(),
        hints: hints.as_ref().map(Totals::of),
        hottest: hottest(&units, arguments.count),
        dearest: dearest(&units, arguments.count),
        artifacts: contents.artifacts,
        usual_budget_bytes: parts.code.as_ref().map_or(0, |store| store.stats().budget_bytes),
    };
    fs::write(&found.output, found.page())
        .map_err(|error| Failure::CannotOpen(format!("{}: {error}", found.output.display())))?;
    Ok(Answer::new(format!("{}\n", found.output.display()), &found, None))
}

impl Found {
    fn page(&self) -> String {
        let mut page = Page::new(&format!("hapax: {}", self.name));
        self.summary(&mut page);
        if self.days.is_empty() {
            page.heading("Uses, hit rate, time saved");
            page.note("The application records no hints, so nothing is known of its uses.");
        } else {
            self.uses(&mut page);
            self.hit_rate(&mut page);
            self.time_saved(&mut page);
        }
        self.bytes(&mut page);
        self.units(&mut page);
        page.finish()
    }

    fn summary(&self, page: &mut Page) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (hour, minute) = (now % SECONDS_PER_DAY / 3600, now % 3600 / 60);
        let mut lines = vec![
            ("directory", self.directory.display().to_string()),
            ("seen", format!("{} {hour:02}:{minute:02} UTC", show::date((now / SECONDS_PER_DAY) as u32))),
        ];
        if let Some(code) = &self.code {
            lines.push(("code", show::counted(code.entries, "entry", "entries")));
            lines.push(("on disk", against(code.resident_bytes, code.budget_bytes)));
        }
        if self.damaged > 0 {
            lines.push((
                "damaged code",
                format!("{}; `hapax verify` says where", show::counted(self.damaged, "place", "places")),
            ));
        }
        page.pairs(&lines);
        if let Some(totals) = &self.hints {
            page.heading("What the hints add up to");
            page.pairs(&totals_lines(totals));
        }
    }

    fn uses(&self, page: &mut Page) {
        let columns = self.days.iter().map(|day| Column {
            name: month_and_day(&day.date),
            least: day.uses as f64,
            most: day.uses as f64,
            title: format!("{}: {}", day.date, show::counted(day.uses, "use", "uses")),
        });
        let columns: Vec<Column> = columns.collect();
        page.heading("Uses by day");
        let svg =
            plot::bars(&scale("Uses by day", &columns, Steps::Counts, |value| show::count(value as u64)), &columns);
        page.figure(&svg, "Compilations and hits of all units that the hints still know, by the day (UTC) of the process that recorded them.");
    }

    fn hit_rate(&self, page: &mut Page) {
        let columns = self.days.iter().map(|day| {
            let rate = day.hit_rate()?;
            let (name, title) =
                (String::new(), format!("{}: {}", day.date, range(rate.least, rate.most, show::percent)));
            Some(Column { name, least: rate.least, most: rate.most, title })
        });
        let columns: Vec<Option<Column>> = columns.collect();
        let names: Vec<String> = self.days.iter().map(|day| month_and_day(&day.date)).collect();
        let scale = Scale {
            description: "Hit rate by day".to_owned(),
            top: 1.0,
            label: |value| format!("{:.0} %", value * 100.0),
        };
        page.heading("Hit rate by day");
        page.figure(
            &plot::spans(&scale, &columns, &names),
            "The share of uses that found their unit compiled. A record tells on which days its unit was first and last compiled; \
             what was compiled between those may belong to any of several days, and where it could, the rate is drawn as the \
             range in which it lies.",
        );
    }

    fn time_saved(&self, page: &mut Page) {
        let columns = self.days.iter().map(|day| Column {
            name: month_and_day(&day.date),
            least: day.saved_ns.least,
            most: day.saved_ns.most,
            title: format!("{}: {}", day.date, range(day.saved_ns.least, day.saved_ns.most, show::time)),
        });
        let columns: Vec<Column> = columns.collect();
        page.heading("Compile time saved by day");
        page.figure(
            &plot::bars(&scale("Compile time saved by day", &columns, Steps::Times, show::time), &columns),
            "Hits times the mean compile time of their unit. The lighter part is possible but not certain, as with the hit rate.",
        );
    }

    fn bytes(&self, page: &mut Page) {
        page.heading("Bytes against the budget");
        let Some(code) = &self.code else {
            return page.note("The application stores no code.");
        };
        let (budget, budget_name) = match code.budget_bytes {
            Some(budget) => (budget, format!("budget, {}", show::bytes(budget))),
            None => (
                self.usual_budget_bytes,
                format!("{}, the budget of an application that sets none", show::bytes(self.usual_budget_bytes)),
            ),
        };
        let columns = bytes_by_day(&self.artifacts);
        if columns.is_empty() {
            return page.note("Nothing is stored.");
        }
        let most = columns.iter().map(|column| column.most).fold(budget as f64, f64::max);
        let scale = Scale {
            description: "Bytes stored, by the day on which they were written".to_owned(),
            top: plot::axis_top(most, Steps::Bytes),
            label: |value| show::bytes(value as u64),
        };
        let caption = "What is stored now, summed up by the day on which it was written. What was evicted since is not in it, so this is \
                       no history of the disk. The store does not record the application's budget; --budget gives it.";
        page.figure(&plot::area(&scale, &columns, budget as f64, &budget_name), caption);
    }

    fn units(&self, page: &mut Page) {
        page.heading("Hottest units");
        if self.hottest.is_empty() {
            page.note("No uses are known.");
        } else {
            let row = |unit: &Unit| Column {
                name: unit.title.clone(),
                least: unit.decayed_uses,
                most: unit.decayed_uses,
                title: format!("{}, {}", unit.fingerprint, show::counted(unit.hits, "hit", "hits")),
            };
            let rows: Vec<Column> = self.hottest.iter().map(row).collect();
            let svg = plot::ranking("Hottest units", &rows, |value| format!("{value:.1}"));
            page.figure(&svg, "Uses, each weighed by half for every 7 days of its age.");
            page.table(HEADINGS, self.hottest.iter().map(Unit::cells));
        }
        page.heading("Dearest units");
        if self.dearest.is_empty() {
            page.note("No compile time is known.");
        } else {
            page.table(HEADINGS, self.dearest.iter().map(Unit::cells));
        }
    }
}

fn scale(description: &str, columns: &[Column], steps: Steps, label: fn(f64) -> String) -> Scale {
    let most = columns.iter().map(|column| column.most).fold(0.0, f64::max);
    Scale { description: description.to_owned(), top: plot::axis_top(most, steps), label }
}

/// Sums up to each day, from the first on which something was written.
fn bytes_by_day(artifacts: &[Artifact]) -> Vec<Column> {
    let day_of = |artifact: &Artifact| (artifact.meta.written_unix_s / SECONDS_PER_DAY) as u32;
    let Some(last) = artifacts.iter().map(day_of).max() else { return Vec::new() };
    // One that does not say when it was written was written before.
    let known = artifacts.iter().filter(|artifact| artifact.meta.written_unix_s > 0).map(day_of);
    let first = known.min().unwrap_or(last).max(last.saturating_sub(DAYS_WRITTEN_AT_MOST - 1));
    let mut by_day = vec![0u64; (last - first + 1) as usize];
    for artifact in artifacts {
        by_day[day_of(artifact).saturating_sub(first) as usize] += artifact.bytes;
    }
    let mut sum = 0;
    let column = |(at, bytes): (usize, u64)| {
        sum += bytes;
        let date = show::date(first + at as u32);
        let title = format!("{date}: {}", show::bytes(sum));
        Column { name: date, least: sum as f64, most: sum as f64, title }
    };
    by_day.into_iter().enumerate().map(column).collect()
}

fn range(least: f64, most: f64, label: fn(f64) -> String) -> String {
    if least == most { label(least) } else { format!("from {} to {}", label(least), label(most)) }
}

/// The year is clear within 32 days.
fn month_and_day(date: &str) -> String {
    date.split_once('-').map_or(date, |(_, rest)| rest).to_owned()
}
