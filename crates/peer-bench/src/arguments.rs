//! The command line. Knows what there is to measure, and measures nothing.

use crate::contenders::{BARE, NAMES};
use crate::timing::{Settings, WORKS, Work};
use std::fmt::Display;
use std::path::PathBuf;

/// What `--help` says.
pub const USAGE: &str = "\
usage: cargo run --release -p peer-bench [-- [OPTION VALUE]...]

hapax's cache beside its peers: identical work, one process, one run. All of it takes half an hour. A LIST has commas.

  --names LIST       contenders (default: all of them)
  --works LIST       0: lookup and release, 1: insert and evict, 2: Zipf with inserts on a miss (default 0,1,2)
  --sizes LIST       entries (default 1000,10000,100000,1000000)
  --threads LIST     threads (default 1,2,4,8)
  --rounds N         rounds (default 7)
  --operations N     operations of each thread in each round (default 100000)
  --parts LIST       time, budget and memory (default: all of them)
  --out FOLDER       writes the table peers.md and the picture peers.svg there
  --help             this text";

const PARTS: [&str; 3] = ["time", "budget", "memory"];

/// What is measured, and where it is written.
pub struct Options {
    pub settings: Settings,
    pub parts: Vec<String>,
    pub out: Option<PathBuf>,
    pub help: bool,
}

impl Options {
    /// From the arguments behind the program's name.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_arguments(arguments: impl IntoIterator<Item = String>) -> Result<Options, String> {
        let names: Vec<&str> = NAMES.into_iter().chain([BARE]).collect();
        let settings = Settings {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            works: WORKS.to_vec(),
            sizes: vec![1_000, 10_000, 100_000, 1_000_000],
            threads: vec![1, 2, 4, 8],
            rounds: 7,
            operations: 100_000,
        };
        let mut options = Options { settings, parts: PARTS.map(str::to_owned).to_vec(), out: None, help: false };
        let mut arguments = arguments.into_iter();
        while let Some(option) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{option} needs a value; try --help"));
            let settings = &mut options.settings;
            match option.as_str() {
                "--help" | "-h" => options.help = true,
                "--names" => settings.names = choices(&option, &value()?, &names)?,
                "--works" => settings.works = works(&option, &value()?)?,
                "--sizes" => settings.sizes = numbers(&option, &value()?)?,
                "--threads" => settings.threads = numbers(&option, &value()?)?,
                "--rounds" => settings.rounds = number(&option, &value()?)?,
                "--operations" => settings.operations = number(&option, &value()?)?,
                "--parts" => options.parts = choices(&option, &value()?, &PARTS)?,
                "--out" => options.out = Some(value()?.into()),
                _ => return Err(format!("no such option: {option}; try --help")),
            }
        }
        Ok(options)
    }

    pub fn asks_for(&self, part: &str) -> bool {
        self.parts.iter().any(|asked| asked == part)
    }
}

fn works(option: &str, list: &str) -> Result<Vec<Work>, String> {
    let all: Vec<String> = (0..WORKS.len()).map(|at| at.to_string()).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let chosen = choices(option, list, &all)?;
    Ok(chosen.iter().filter_map(|at| all.iter().position(|known| known == at)).map(|at| WORKS[at]).collect())
}

fn choices(option: &str, list: &str, all: &[&str]) -> Result<Vec<String>, String> {
    let choice = |text: &str| match all.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(wrong(option, text, format_args!("one of {}", all.join(", ")))),
    };
    list.split(',').map(choice).collect()
}

fn numbers(option: &str, list: &str) -> Result<Vec<usize>, String> {
    list.split(',').map(|text| number(option, text)).collect()
}

fn number(option: &str, text: &str) -> Result<usize, String> {
    // More entries, or threads, than this are a slip of the finger.
    text.parse()
        .ok()
        .filter(|number| (1..=1 << 32).contains(number))
        .ok_or_else(|| wrong(option, text, "a number from 1"))
}

fn wrong(option: &str, text: &str, allowed: impl Display) -> String {
    format!("{option} takes {allowed}, not `{text}`; try --help")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &str) -> Result<Options, String> {
        Options::from_arguments(arguments.split_terminator(' ').map(str::to_owned))
    }

    #[test]
    fn what_is_asked_for_is_what_is_measured() {
        let options = parsed("--names hapax,quick_cache --works 2,0 --sizes 10,20 --rounds 3 --parts budget").unwrap();
        let settings = &options.settings;
        assert_eq!(settings.names, ["hapax", "quick_cache"]);
        assert_eq!(settings.works, [Work::Zipf, Work::Hit]);
        assert_eq!((&settings.sizes[..], settings.rounds, settings.operations), (&[10, 20][..], 3, 100_000));
        assert!(options.asks_for("budget") && !options.asks_for("time"));
        assert_eq!(parsed("").unwrap().settings.names.len(), NAMES.len() + 1);
    }

    #[test]
    fn what_cannot_be_measured_is_refused_with_what_can_be() {
        for (arguments, says) in [
            ("--rounds", "--rounds needs a value"),
            ("--rounds many", "--rounds takes a number"),
            ("--sizes 10,,20", "--sizes takes a number"),
            ("--threads 0", "--threads takes a number"),
            ("--works 3", "--works takes one of 0, 1, 2, not `3`"),
            ("--names nothing", "bare dense LRU, not `nothing`"),
            ("--parts space", "time, budget, memory"),
            ("--speed 9", "no such option: --speed"),
        ] {
            let refused = parsed(arguments).err().unwrap_or_else(|| panic!("`{arguments}` was taken"));
            assert!(refused.contains(says) && refused.ends_with("try --help"), "{arguments}: {refused}");
        }
    }
}
