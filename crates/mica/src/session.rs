//! One process's work: programs one after the other, with a store and hints or without. What is measured in it, and how that
//! is told to the process that started it. Knows no terminal.

use crate::back::engine::{Engine, Order, Parts};
use crate::back::interpreter;
use crate::back::machine::Machine;
use crate::program::Program;
use crate::programs;
use crate::resident::{Place, ResidentStore};
use hapax::{CodeStore, DirectoryOptions, DirectoryStore, HintOptions, HintStore};
use rustix::time::{ClockId, clock_gettime};
use std::error::Error;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Hints of another version are not seen.
const HINTS_VERSION: &str = "mica 1";

/// Any error.
pub type AnyError = Box<dyn Error + Send + Sync>;

/// What a session does.
#[derive(Debug, Clone)]
pub struct Work {
    /// Names of programs that come with the language, or paths.
    pub programs: Vec<String>,
    /// Where code and hints outlive the process.
    pub cache: PathBuf,
    /// Whether code is kept there.
    pub keeps_code: bool,
    /// Whether hints are kept there, and used.
    pub keeps_hints: bool,
    /// Runs the interpreter instead.
    pub interprets: bool,
    /// Where artifacts are resident.
    pub place: Place,
    /// How many bytes of them.
    pub budget_bytes: u64,
    /// How many threads compile ahead.
    pub threads: usize,
    /// In which order.
    pub order: Order,
}

/// What a session found out. Times begin with the process's own work.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Findings {
    /// One for each program that ended well.
    pub results: Vec<Finding>,
    /// Counts and bytes, by name.
    pub counts: Vec<(String, u64)>,
    /// Where artifacts were resident, and why there.
    pub device: String,
}

/// What a program came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Finding {
    /// Its name.
    pub program: String,
    /// What `main` returned.
    pub value: i64,
    /// A hash of what it printed.
    pub output: u64,
    /// When it ended.
    pub wall_ns: u64,
    /// What the process had taken of all processors then.
    pub cpu_ns: u64,
}

impl Findings {
    /// The count of that name; 0 if it was not counted.
    pub fn count(&self, name: &str) -> u64 {
        self.counts.iter().find(|(known, _)| known == name).map_or(0, |(_, count)| *count)
    }

    /// Reads a line that a session wrote.
    pub fn read(&mut self, line: &str) -> Option<()> {
        let (kind, rest) = line.split_once('\t')?;
        match kind {
            "result" => {
                let mut fields = rest.split('\t');
                let mut next = || fields.next();
                self.results.push(Finding {
                    program: next()?.to_owned(),
                    value: next()?.parse().ok()?,
                    output: next()?.parse().ok()?,
                    wall_ns: next()?.parse().ok()?,
                    cpu_ns: next()?.parse().ok()?,
                });
            }
            "count" => {
                let (name, count) = rest.split_once('\t')?;
                self.counts.push((name.to_owned(), count.parse().ok()?));
            }
            "device" => rest.clone_into(&mut self.device),
            _ => return None,
        }
        Some(())
    }
}

/// What the threads of this process have taken of the processors.
pub fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The program of that name or path.
pub fn open(name: &str) -> Result<Program, AnyError> {
    match programs::load(name) {
        Some(program) => Ok(program?),
        None => Program::open(name.as_ref()),
    }
}

/// Does the work. Each line that tells of it goes to `tell` as soon as it is known.
pub fn run(work: &Work, begun: Instant, tell: &mut dyn FnMut(&str)) -> Result<(), AnyError> {
    if work.interprets {
        return interpret(work, begun, tell);
    }
    // What earlier processes left is opened while the first program is read: neither needs the other.
    let (mut first, (hints, resident)) = thread::scope(|scope| {
        let opening = scope.spawn(|| open_kept(work));
        let first = work.programs.first().map(|name| open(name));
        (first, opening.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    let store = resident.as_ref().map(|resident| Arc::new(CodeStore::over(resident.clone())));
    let mut totals = Totals::default();
    for name in &work.programs {
        let program = Arc::new(first.take().unwrap_or_else(|| open(name))?);
        let parts = Parts { store: store.clone(), hints: hints.clone(), launcher: None };
        let engine = Engine::new(program.clone(), parts)?;
        let hinted = engine.hinted(work.order);
        totals.hinted += hinted.len() as u64;
        // What is stored takes microseconds, together; what must be compiled is better done beside the program.
        let is_stored = store.as_ref().is_some_and(|store| store.stats().store.entries > 0);
        let background = if is_stored {
            engine.preload(&hinted);
            None
        } else {
            Some(engine.in_background(&hinted, work.threads))
        };
        let mut machine = Machine::new();
        let ended = engine.run(&mut machine);
        let value =
            ended.map_err(|failure| program.problem(&failure.function, failure.place, failure.fault.to_string()))?;
        tell(&result_line(name, value, machine.output(), begun));
        // A start pays for nothing that it can do without.
        if let Some(resident) = &resident {
            resident.open_device();
        }
        if let Some(background) = background {
            background.stop();
        }
        engine.record();
        totals.add(&engine);
    }
    drop(hints); // what it has not written yet is written now
    totals.tell(tell);
    if let Some(store) = &store {
        let stats = store.stats().store;
        tell(&format!("count\tstored entries\t{}", stats.entries));
        tell(&format!("count\tstored bytes\t{}", stats.resident_bytes));
        tell(&format!("count\tdamaged\t{}", stats.damaged + stats.unreadable));
    }
    if let Some(resident) = &resident {
        match resident.report() {
            Ok(report) => {
                let stats = report.stats;
                for (name, count) in [
                    ("resident hits", stats.hits),
                    ("resident misses", stats.misses),
                    ("evictions", stats.evictions),
                    ("resident bytes", stats.resident_bytes),
                    ("resident budget", stats.budget_bytes),
                ] {
                    tell(&format!("count\t{name}\t{count}"));
                }
                tell(&format!("device\t{}", report.device));
            }
            Err(reason) => tell(&format!("device\tnone: {reason}")),
        }
    }
    tell(&format!("count\tend wall\t{}", begun.elapsed().as_nanos()));
    tell(&format!("count\tend cpu\t{}", cpu_ns()));
    Ok(())
}

/// What earlier processes left in the cache.
fn open_kept(work: &Work) -> (Option<HintStore>, Option<Arc<ResidentStore>>) {
    let options = DirectoryOptions::new("mica").dir(&work.cache);
    let hints = work.keeps_hints.then(|| HintStore::open(HintOptions::new(&options).version(HINTS_VERSION)));
    let resident = work.keeps_code.then(|| {
        let behind = Arc::new(DirectoryStore::open(&options));
        Arc::new(ResidentStore::new(behind, work.place, work.budget_bytes))
    });
    (hints, resident)
}

/// Code and hints that are kept for the next process, in that directory or in the user's own.
pub fn keep(work: &Work, cache: Option<&Path>) -> (Option<Arc<CodeStore>>, Option<HintStore>) {
    let mut options = DirectoryOptions::new("mica");
    if let Some(cache) = cache {
        options = options.dir(cache);
    }
    let store = work.keeps_code.then(|| Arc::new(CodeStore::open(&options)));
    let hints = work.keeps_hints.then(|| HintStore::open(HintOptions::new(&options).version(HINTS_VERSION)));
    (store, hints)
}

fn interpret(work: &Work, begun: Instant, tell: &mut dyn FnMut(&str)) -> Result<(), AnyError> {
    for name in &work.programs {
        let program = open(name)?;
        let mut machine = Machine::new();
        let ended = interpreter::run(&program, &mut machine, "main", &[]);
        let value =
            ended.map_err(|failure| program.problem(&failure.function, failure.place, failure.fault.to_string()))?;
        tell(&result_line(name, value as i64, machine.output(), begun));
    }
    tell(&format!("count\tend wall\t{}", begun.elapsed().as_nanos()));
    tell(&format!("count\tend cpu\t{}", cpu_ns()));
    Ok(())
}

fn result_line(name: &str, value: i64, output: &[u8], begun: Instant) -> String {
    let wall: Duration = begun.elapsed();
    format!("result\t{name}\t{value}\t{}\t{}\t{}", hash(output), wall.as_nanos(), cpu_ns())
}

/// FNV-1a, in 64 bits: to compare what two runs printed.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Sums over the engines of a session.
#[derive(Default)]
struct Totals {
    functions: u64,
    needed: u64,
    hinted: u64,
    compiles: u64,
    compile_ns: u64,
    store_hits: u64,
    saved_ns: u64,
    unkept: u64,
    unusable: u64,
    code_bytes: u64,
    page_bytes: u64,
}

impl Totals {
    fn add(&mut self, engine: &Engine) {
        let stats = engine.stats();
        self.functions += engine.program().functions.len() as u64;
        self.needed += engine.needed() as u64;
        self.compiles += stats.compiles;
        self.compile_ns += stats.compile_ns;
        self.store_hits += stats.store_hits;
        self.saved_ns += stats.compile_ns_saved;
        self.unkept += stats.unkept;
        self.unusable += stats.unusable;
        self.code_bytes += stats.code_bytes;
        self.page_bytes += stats.page_bytes;
    }

    fn tell(&self, tell: &mut dyn FnMut(&str)) {
        for (name, count) in [
            ("functions", self.functions),
            ("needed", self.needed),
            ("hinted", self.hinted),
            ("compiles", self.compiles),
            ("compile ns", self.compile_ns),
            ("store hits", self.store_hits),
            ("saved ns", self.saved_ns),
            ("unkept", self.unkept),
            ("unusable", self.unusable),
            ("code bytes", self.code_bytes),
            ("page bytes", self.page_bytes),
        ] {
            tell(&format!("count\t{name}\t{count}"));
        }
    }
}
