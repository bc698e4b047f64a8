//! The command line. Knows no compilers and no caches.

use crate::Result;
use std::ffi::OsString;
use std::path::PathBuf;
use std::thread;

pub const USAGE: &str = "\
Caches real compiler output in device memory through an edit-and-rebuild session.

usage: cargo run --release --example rebuild [-- [OPTION]... [PATH]...]

A PATH is a source (.rs, .c, .cpp) that compiles alone, a file that a compiler wrote (.o, .bc, .ll, .rlib,
.ptx, .cubin, .wasm ...), or a directory to search for both. Without one, small programs that come with the
example are compiled. Nothing is written outside of a temporary directory: edits are made to copies.

  --budget N%      the cache's budget as a share of what the first build takes (default 60%)
  --budget BYTES   the budget in bytes, or with a unit: 1500000, 900KiB, 2MiB
  --rebuilds N     how many rebuilds follow the first build (default 5)
  --device PLACE   host: memory of this machine; cuda:N: the Nth NVIDIA card that this process may use, which takes a
                   build with the feature `cuda` (default: the first card if there is one, else the host)
  --jobs N         compilers that run at once (default: as many as there are cores)
  --help           this text

RUSTC, CC and CXX name the compilers; otherwise they are rustc, cc and c++.
The exit status is 0 only if all that came back was byte-identical and no byte is left on the device.";

pub struct Options {
    pub paths: Vec<PathBuf>,
    pub budget: Budget,
    pub place: Place,
    pub rebuilds: usize,
    pub jobs: usize,
    pub help: bool,
}

#[derive(Clone, Copy)]
pub enum Budget {
    Percent(u64),
    Bytes(u64),
}

/// Where the cache's memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Best,
    Host,
    Cuda(usize),
}

impl Options {
    pub fn from_arguments(arguments: impl IntoIterator<Item = OsString>) -> Result<Options> {
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
        let mut options = Options {
            paths: Vec::new(),
            budget: Budget::Percent(60),
            place: Place::Best,
            rebuilds: 5,
            jobs: cores,
            help: false,
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("--help" | "-h") => options.help = true,
                Some("--budget") => options.budget = budget(&value("--budget", arguments.next())?)?,
                Some("--device") => options.place = place(&value("--device", arguments.next())?)?,
                Some("--rebuilds") => options.rebuilds = count("--rebuilds", arguments.next(), 0..=1_000)?,
                Some("--jobs") => options.jobs = count("--jobs", arguments.next(), 1..=256)?,
                Some("--") => options.paths.extend(arguments.by_ref().map(PathBuf::from)),
                Some(option) if option.starts_with('-') => {
                    return Err(format!("no such option: {option}; try --help").into());
                }
                _ => options.paths.push(PathBuf::from(argument)),
            }
        }
        Ok(options)
    }
}

fn value(option: &str, argument: Option<OsString>) -> Result<String> {
    let argument = argument.ok_or_else(|| format!("{option} needs a value; try --help"))?;
    argument.into_string().map_err(|argument| format!("{option} cannot be {}", argument.to_string_lossy()).into())
}

fn count(option: &str, argument: Option<OsString>, allowed: std::ops::RangeInclusive<usize>) -> Result<usize> {
    let text = value(option, argument)?;
    let number = text.parse().ok().filter(|number| allowed.contains(number));
    number
        .ok_or_else(|| format!("{option} is a number from {} to {}, not {text}", allowed.start(), allowed.end()).into())
}

fn place(text: &str) -> Result<Place> {
    let refused = || format!("--device is host, or cuda:0 and so on for an NVIDIA card, not {text}").into();
    match (text, text.strip_prefix("cuda:")) {
        ("host", _) => Ok(Place::Host),
        (_, Some(number)) => number.parse().map(Place::Cuda).map_err(|_| refused()),
        _ => Err(refused()),
    }
}

fn budget(text: &str) -> Result<Budget> {
    let refused = || format!("--budget is a share such as 60%, or bytes such as 1500000, 900KiB or 2MiB, not {text}");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| refused())?;
    let unit_bytes = match &text[digits..] {
        "%" if (1..=1_000).contains(&number) => return Ok(Budget::Percent(number)),
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(refused().into()),
    };
    Ok(Budget::Bytes(number.checked_mul(unit_bytes).ok_or_else(refused)?))
}
