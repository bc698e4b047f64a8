//! The command line. Knows no programs and no caches.

use crate::back::engine::Order;
use crate::programs;
use crate::resident::Place;
use crate::session::{AnyError, Work};
use std::path::PathBuf;
use std::thread;

/// What `--help` says.
pub const USAGE: &str = "\
mica: a small language whose JIT starts warm.

usage: cargo run --release -p mica [-- [OPTION]... [PROGRAM]...]

Runs programs in one process that finds nothing, and again in new processes that find what the first one left: its hints
alone, then its code. Shows what that costs, and that all of them and an interpreter come to the same results.
A PROGRAM is a file, or one of those that come with the language (default: all of them, one after the other).

  --run            runs the programs once, prints what they print, and keeps code and hints as below
  --listing        prints the intermediate representation of the programs instead
  --ablation       what hints alone earn: no code is kept, hints on and off, several processes each
  --starts         cold starts against warm ones, each program alone, several rounds
  --rounds N       how many of each --ablation and --starts start (default 7)
  --cache DIR      keeps code and hints there, so that the next run of this command starts warm, too
                   (default: a temporary directory; with --run the user's cache directory)
  --store off      keeps no code
  --hints off      keeps and uses no hints
  --order WHICH    what background threads compile first: hot (uses times compile time), or needed (what the last process
                   needed first; the default)
  --threads N      threads that compile ahead (default: as many as cores, less one, but one at least)
  --budget BYTES   the budget for artifacts that are resident on the device: 1500000, 900KiB, 2MiB (default 256KiB)
  --device PLACE   host, or best: the first NVIDIA card where there is one, else the host (default)
  --help           this text

The exit status is 0 only if all results are equal and the budget was kept.";

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// How.
    pub mode: Mode,
    /// With what.
    pub work: Work,
    /// The directory that was asked for.
    pub cache: Option<PathBuf>,
    /// Processes of each kind, where several are started.
    pub rounds: usize,
}

/// What the command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Compares processes.
    Show,
    /// Runs programs as a language does.
    Run,
    /// Prints the representation.
    Listing,
    /// Measures hints alone.
    Ablation,
    /// Measures the starts of each program.
    Starts,
    /// Does one process's share of the comparison, and tells it to the process that started it.
    Child,
    /// Prints how to use it.
    Help,
}

impl Options {
    /// From the arguments behind the program's name.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_arguments(arguments: impl IntoIterator<Item = String>) -> Result<Options, AnyError> {
        let work = Work {
            programs: Vec::new(),
            cache: PathBuf::new(),
            keeps_code: true,
            keeps_hints: true,
            interprets: false,
            place: Place::Best,
            budget_bytes: 256 << 10,
            threads: 0,
            order: Order::NeededFirst,
        };
        let mut options = Options { mode: Mode::Show, work, cache: None, rounds: 7 };
        let mut threads = None;
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value; try --help"));
            let work = &mut options.work;
            match argument.as_str() {
                "--help" | "-h" => options.mode = Mode::Help,
                "--run" => options.mode = Mode::Run,
                "--listing" => options.mode = Mode::Listing,
                "--ablation" => options.mode = Mode::Ablation,
                "--starts" => options.mode = Mode::Starts,
                "--child" => options.mode = Mode::Child,
                "--interpret" => work.interprets = true,
                "--cache" => options.cache = Some(std::path::absolute(value()?)?),
                "--store" => work.keeps_code = choice("--store", &value()?, [("on", true), ("off", false)])?,
                "--hints" => work.keeps_hints = choice("--hints", &value()?, [("on", true), ("off", false)])?,
                "--order" => {
                    let orders = [("hot", Order::HotFirst), ("needed", Order::NeededFirst)];
                    work.order = choice("--order", &value()?, orders)?;
                }
                "--device" => {
                    work.place = choice("--device", &value()?, [("host", Place::Host), ("best", Place::Best)])?;
                }
                "--threads" => threads = Some(number("--threads", &value()?, 0..=256)?),
                "--rounds" => options.rounds = number("--rounds", &value()?, 1..=1_000)?,
                "--budget" => work.budget_bytes = bytes(&value()?)?,
                option if option.starts_with('-') => return Err(format!("no such option: {option}; try --help").into()),
                program => work.programs.push(program.to_owned()),
            }
        }
        if options.work.programs.is_empty() {
            options.work.programs = programs::names().map(str::to_owned).collect();
        }
        // To ask how many cores there are takes several files, and a start has no time for that.
        let others = || thread::available_parallelism().map_or(1, |cores| cores.get() - 1).max(1);
        options.work.threads = threads.unwrap_or_else(others);
        Ok(options)
    }
}

/// The arguments with which a child does that work.
pub fn child_arguments(work: &Work) -> Vec<String> {
    let on = |is_on| if is_on { "on" } else { "off" }.to_owned();
    let order = if work.order == Order::HotFirst { "hot" } else { "needed" };
    let place = if work.place == Place::Host { "host" } else { "best" };
    let mut arguments = vec!["--child".to_owned(), "--cache".to_owned(), work.cache.display().to_string()];
    arguments.extend(["--store".to_owned(), on(work.keeps_code), "--hints".to_owned(), on(work.keeps_hints)]);
    arguments.extend(["--order", order, "--device", place].map(str::to_owned));
    arguments.extend(["--threads".to_owned(), work.threads.to_string()]);
    arguments.extend(["--budget".to_owned(), work.budget_bytes.to_string()]);
    if work.interprets {
        arguments.push("--interpret".to_owned());
    }
    arguments.extend(work.programs.iter().cloned());
    arguments
}

fn choice<T: Copy, const N: usize>(option: &str, text: &str, choices: [(&str, T); N]) -> Result<T, AnyError> {
    let found = choices.iter().find(|(name, _)| *name == text);
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        format!("{option} is {}, not {text}", names.join(" or ")).into()
    })
}

fn number(option: &str, text: &str, allowed: std::ops::RangeInclusive<usize>) -> Result<usize, AnyError> {
    let found = text.parse().ok().filter(|number| allowed.contains(number));
    let range = || format!("{option} is a number from {} to {}, not {text}", allowed.start(), allowed.end());
    found.ok_or_else(|| range().into())
}

fn bytes(text: &str) -> Result<u64, AnyError> {
    let refused = || format!("--budget is a number of bytes such as 1500000, 900KiB or 2MiB, not {text}");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| refused())?;
    let unit: u64 = match &text[digits..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(refused().into()),
    };
    let bytes = number.checked_mul(unit).filter(|bytes| (1..=1 << 40).contains(bytes));
    Ok(bytes.ok_or_else(refused)?)
}
