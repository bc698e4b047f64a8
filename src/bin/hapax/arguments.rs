//! What the command line says. Decides nothing.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

const EXIT_CODES: &str = "Exit codes:
  0  done, and all is well
  1  something is damaged, or what was asked for was not done, or not all of it
  2  the command line makes no sense
  3  a store cannot be opened or trusted, or the output cannot be written

`hapax COMMAND --help` has examples.";

/// Looks after what hapax keeps on disk: compiled code and compile hints.
///
/// A store is named as the application names it. It is looked for where the application puts it: in $HAPAX_CACHE_DIR, else in
/// $XDG_CACHE_HOME/hapax, else in $HOME/.cache/hapax; or in --dir.
#[derive(Debug, Parser)]
#[command(name = "hapax", version, after_help = EXIT_CODES, subcommand_required = true, arg_required_else_help = true)]
pub struct Arguments {
    /// Answer with one JSON object on standard output, for programs
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Stats(Stats),
    Top(Top),
    Verify(Verify),
    Gc(Gc),
    Clear(Clear),
    Export(Export),
    Import(Import),
    Report(Report),
}

/// Which store.
#[derive(Debug, Args)]
pub struct Store {
    /// The application's name, as it opens its store
    pub name: String,
    /// The directory, instead of the one that the environment gives
    #[arg(long, value_name = "DIRECTORY")]
    pub dir: Option<PathBuf>,
    /// Open it on a network file system, too
    #[arg(long)]
    pub allow_network: bool,
}

/// Which store, or which pack, to look at.
#[derive(Debug, Args)]
pub struct StoreOrPack {
    #[command(flatten)]
    pub store: Store,
    /// NAME is the directory of a pack
    #[arg(long, conflicts_with_all = ["dir", "allow_network"])]
    pub pack: bool,
}

/// Show how much is stored, and what the hints add up to
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  hapax stats my-compiler
  hapax stats my-compiler --budget 4GiB
  hapax stats my-compiler --json | jq .hints.hit_rate")]
pub struct Stats {
    #[command(flatten)]
    pub source: StoreOrPack,
    /// The application's budget for code, to compare with: the store does not record it
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub budget: Option<u64>,
}

/// Show the hottest units and the dearest to compile
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  hapax top my-compiler
  hapax top my-compiler -n 50
  hapax top my-compiler --json | jq -r '.dearest[].label'")]
pub struct Top {
    #[command(flatten)]
    pub source: StoreOrPack,
    /// How many of each
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 10)]
    pub count: usize,
}

/// Read every entry and check it; changes nothing
#[derive(Debug, Args)]
#[command(
    after_help = "What is damaged is a miss for the application: it compiles again, and what it puts then counts.

Examples:
  hapax verify my-compiler && echo intact
  hapax verify --pack ./my-compiler.pack
  hapax verify my-compiler --json | jq '.code.damaged'"
)]
pub struct Verify {
    #[command(flatten)]
    pub source: StoreOrPack,
}

/// Remove what crashes left behind, and fold the hints
#[derive(Debug, Args)]
#[command(after_help = "Without a budget no entry is evicted.

Examples:
  hapax gc my-compiler
  hapax gc my-compiler --budget 512MiB --hints-budget 8MiB")]
pub struct Gc {
    #[command(flatten)]
    pub store: Store,
    /// Evict code, the least recently used first, until it takes no more
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub budget: Option<u64>,
    /// Forget hints, the least recently used first, until they are charged no more
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub hints_budget: Option<u64>,
}

/// Remove all entries and hints, and no file that hapax did not write
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  hapax clear my-compiler
  hapax clear my-compiler --only code")]
pub struct Clear {
    #[command(flatten)]
    pub store: Store,
    /// Leave the other part as it is
    #[arg(long)]
    pub only: Option<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    Code,
    Hints,
}

/// Write all code into a new pack: a directory to ship, which `LayeredStore` reads below a store
#[derive(Debug, Args)]
#[command(
    after_help = "Hints are not in a pack: they are sums, and would be counted twice. Entries that are damaged are left out.
Everybody may read a pack.

Examples:
  hapax export my-compiler ./my-compiler.pack"
)]
pub struct Export {
    #[command(flatten)]
    pub store: Store,
    /// Where the pack goes; nothing but an empty directory may be there
    pub pack: PathBuf,
}

/// Put what a pack has, and the store has not, into the store
#[derive(Debug, Args)]
#[command(after_help = "Import only packs that you trust: their code will be run.

Examples:
  hapax import my-compiler ./my-compiler.pack
  hapax import my-compiler ./my-compiler.pack --dir /var/cache/hapax --budget 2GiB")]
pub struct Import {
    #[command(flatten)]
    pub store: Store,
    /// What `hapax export` wrote
    pub pack: PathBuf,
    /// Evict, the least recently used first, so that the code takes no more
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub budget: Option<u64>,
}

/// Write one HTML file with plots of uses, hit rate, time saved, bytes and the hottest units
#[derive(Debug, Args)]
#[command(after_help = "The file refers to no other, and contains the labels of units.

Examples:
  hapax report my-compiler
  hapax report my-compiler --output report.html --budget 4GiB")]
pub struct Report {
    #[command(flatten)]
    pub store: Store,
    /// Where it goes, in place of what is there
    #[arg(short, long, value_name = "FILE", default_value = "hapax-report.html")]
    pub output: PathBuf,
    /// The application's budget for code, to draw: the store does not record it
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub budget: Option<u64>,
    /// How many of the hottest units
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 20)]
    pub count: usize,
}

/// `1000`, `512KiB`, `1.5GiB`.
fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
    if let Ok(bytes) = text.parse() {
        return Ok(bytes);
    }
    let scaled = UNITS.iter().find_map(|(unit, scale)| {
        let number: f64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        (number >= 0.0 && number.is_finite()).then_some((number * *scale as f64) as u64)
    });
    scaled.ok_or_else(|| "a number of bytes, or one with KiB, MiB, GiB or TiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        for (text, expected) in
            [("0", 0), ("1000", 1000), ("512KiB", 512 << 10), ("1.5GiB", 3 << 29), ("2 MiB", 2 << 20)]
        {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "-1", "-1KiB", "KiB", "1kb", "infKiB", "NaNKiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
