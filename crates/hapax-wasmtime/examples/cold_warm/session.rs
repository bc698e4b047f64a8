//! One process's work: a module is made ready and run. What is measured, and how it is told to the process that started it.

use crate::AnyError;
use crate::program;
use crate::ways::{Kept, Way};
use rustix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::time::Instant;
use wasmtime::{Instance, Module, Store};

/// What a session found out. Times of the clock are from the beginning of `main`, those of the processor from the start of the process; or both from the beginning of the
/// session, where it is not the first.
#[derive(Debug, Default)]
pub struct Observation {
    /// Until the module could be instantiated: reading it, opening what is kept, making the engine.
    pub ready_ns: u64,
    pub ready_cpu_ns: u64,
    /// All of the process, from outside; 0 where it had several sessions.
    pub wall_ns: u64,
    pub cpu_ns: u64,
    /// Of lookups, those that found something.
    pub hits: u64,
    pub lookups: u64,
    /// What is kept afterwards.
    pub entries: u64,
    pub disk_bytes: u64,
    pub results: Vec<(String, u64)>,
}

/// The child's arguments: a way, the folder for what is kept, and a module for each session.
pub fn child(arguments: &[String], mut begun: Instant) -> Result<(), AnyError> {
    let [way, folder, modules @ ..] = arguments else { return Err("a child needs a way and a folder".into()) };
    let mut kept = Kept::new(Way::named(way)?, Path::new(folder));
    let mut cpu_before = 0;
    for path in modules {
        let wasm = std::fs::read(path)?;
        let name = Path::new(path).file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let module = kept.module(&name, &wasm)?;
        let (ready_ns, ready_cpu_ns) = (begun.elapsed().as_nanos() as u64, cpu_ns() - cpu_before);
        println!("session {ready_ns} {ready_cpu_ns}");
        run(&module)?;
        drop(module);
        let (hits, lookups, entries) = kept.close();
        println!("end {hits} {lookups} {entries} {}", cpu_ns() - cpu_before);
        (begun, cpu_before) = (Instant::now(), cpu_ns());
    }
    Ok(())
}

fn run(module: &Module) -> Result<(), AnyError> {
    let mut store = Store::new(module.engine(), ());
    let instance = Instance::new(&mut store, module, &[])?;
    for (name, argument) in program::exports() {
        let export = instance.get_typed_func::<u32, u64>(&mut store, name)?;
        println!("result {name} {}", export.call(&mut store, argument)?);
    }
    Ok(())
}

/// What a child has told.
pub fn read(text: &str) -> Result<Vec<Observation>, AnyError> {
    let mut sessions: Vec<Observation> = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        let understood = match fields[0] {
            "session" => number(1).zip(number(2)).map(|(ready_ns, ready_cpu_ns)| {
                sessions.push(Observation { ready_ns, ready_cpu_ns, ..Observation::default() });
            }),
            "result" => number(2).zip(sessions.last_mut()).map(|(value, session)| {
                session.results.push((fields[1].to_owned(), value));
            }),
            "end" => number(4).zip(sessions.last_mut()).map(|(cpu_ns, session)| {
                session.cpu_ns = cpu_ns;
                (session.hits, session.lookups) = (number(1).unwrap_or(0), number(2).unwrap_or(0));
                session.entries = number(3).unwrap_or(0);
            }),
            _ => None,
        };
        understood.ok_or_else(|| format!("a process said {line:?}"))?;
    }
    Ok(sessions)
}

/// What the threads of this process have taken of the processors.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
