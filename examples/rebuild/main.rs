//! Caches what a compiler really wrote through an edit-and-rebuild session, under a byte budget
//! smaller than the working set.
//!
//! `cargo run --release --example rebuild [-- PATH...]`
//!
//! Each source is compiled three ways (for Rust: a debug object, a release object, LLVM bitcode), one
//! compiler run for each: these are the units. A unit's key is its name and a hash of its source, its
//! flags and the compiler's version. A session builds everything once, then edits sources and rebuilds:
//! what is resident is read back from the device and no compiler runs, what was evicted is compiled
//! again, and what an edit made stale is retired. Everything that comes back is compared with what the
//! compiler wrote.

mod device_cache;
mod options;
mod report;
mod session;
mod sources;
mod toolchain;

use crate::device_cache::DeviceCache;
use crate::options::{Budget, Options};
use crate::session::{Session, Totals};
use crate::sources::Source;
use crate::toolchain::Toolchain;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The budget until the working set is known: more than the units of any session that a person sits out.
const FIRST_BUDGET_BYTES: u64 = 256 << 20;

fn main() -> ExitCode {
    match Options::from_arguments(std::env::args_os().skip(1)).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::progress_ends();
            eprintln!("rebuild: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if options.help {
        return report::line(options::USAGE);
    }
    let toolchain = Toolchain::new()?;
    let paths = if options.paths.is_empty() { vec![shipped_sources()] } else { options.paths.clone() };
    let found = sources::collect(&paths, &toolchain, options.jobs)?;
    let first_budget_bytes = match options.budget {
        Budget::Bytes(bytes) => bytes,
        Budget::Percent(_) => FIRST_BUDGET_BYTES,
    };
    let cache = DeviceCache::open(options.place, first_budget_bytes)?;
    report::head(&cache, &toolchain, &found, options.jobs)?;
    let totals = build_and_rebuild(options, &toolchain, &cache, found.sources)?;
    let stats = cache.stats();
    report::totals(&totals, &stats)?;
    report::verdict(&totals, &stats, cache.close()?)
}

/// Small but genuine programs, so that there is something to compile wherever this is cloned.
fn shipped_sources() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/rebuild/units"))
}

fn build_and_rebuild(
    options: &Options,
    toolchain: &Toolchain,
    cache: &DeviceCache,
    sources: Vec<Source>,
) -> Result<Totals> {
    let mut session = Session::new(toolchain, cache, sources, options.jobs);
    let mut first = session.build()?;
    if let Budget::Percent(percent) = options.budget {
        // Only the first build shows how large the working set is, of which the budget is a share.
        let share_bytes = session.working_set_bytes() * percent / 100;
        first.evicted += cache.set_budget(share_bytes.min(FIRST_BUDGET_BYTES))?;
    }
    session.watch_live_bytes();
    report::working_set(&session.unit_sizes(), session.working_set_bytes(), options.budget, cache)?;
    report::row(1, "first build", &first, cache)?;
    for rebuild in 0..options.rebuilds {
        let edited = session.edit(rebuild)?;
        let counts = session.build()?;
        report::row(rebuild + 2, &edited, &counts, cache)?;
    }
    Ok(session.into_totals())
}
