//! Embeds Wasmtime and runs a real module cold and warm: nothing kept, functions kept, whole modules kept, by hapax and by others, in one run.
//!
//! `cargo run --release -p hapax-wasmtime --example cold_warm`

mod program;
mod session;
mod table;
mod ways;

use program::{FUNCTIONS, Program, program};
use session::Observation;
use std::error::Error;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;
use ways::Way;

/// Any error.
pub type AnyError = Box<dyn Error + Send + Sync>;

const USAGE: &str = "\
Runs one WebAssembly module in new processes, cold and warm, and shows what each way of keeping compiled code costs and saves.

usage: cargo run --release -p hapax-wasmtime --example cold_warm [-- OPTION...]

  --rounds N      how often everything is done (default 7)
  --functions N   generated functions in the module, beside those written by hand (default 400)
  --dir FOLDER    keeps the code below this folder, on a disk of your choice, while it runs (default: a temporary folder)
  --help          this text

The exit status is 0 only if all processes came to the results that Rust comes to.";

/// What is done with one way of keeping, in this order.
pub const PHASES: [&str; 3] = ["cold", "warm", "edited"];

struct Options {
    rounds: usize,
    functions: usize,
    dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    let begun = Instant::now();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.first().map(String::as_str) {
        Some("--child") => session::child(&arguments[1..], begun),
        Some("--help" | "-h") => {
            println!("{USAGE}");
            Ok(())
        }
        _ => options(&arguments).and_then(|options| compare(&options)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cold_warm: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(arguments: &[String]) -> Result<Options, AnyError> {
    let mut options = Options { rounds: 7, functions: FUNCTIONS, dir: None };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value; try --help"));
        let number = |text: &String| {
            let number = text.parse::<usize>().ok().filter(|number| (1..=10_000).contains(number));
            number.ok_or_else(|| format!("{argument} is a number from 1 to 10000, not {text}"))
        };
        match argument.as_str() {
            "--rounds" => options.rounds = number(value()?)?,
            "--functions" => options.functions = number(value()?)?,
            "--dir" => options.dir = Some(std::path::absolute(value()?)?),
            other => return Err(format!("no such option: {other}; try --help").into()),
        }
    }
    Ok(options)
}

fn compare(options: &Options) -> Result<(), AnyError> {
    let folder = match &options.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    progress("making the module, and what it must return");
    let programs = [program(options.functions, false), program(options.functions, true)];
    let modules = [folder.path().join("program.wasm"), folder.path().join("edited.wasm")];
    for (module, program) in modules.iter().zip(&programs) {
        std::fs::write(module, &program.wasm)?;
    }
    progress("");
    println!(
        "A module of {} functions, {} of them generated, {:.1} KB of WebAssembly; {} rounds, one thread, files in the file cache",
        programs[0].functions,
        options.functions,
        programs[0].wasm.len() as f64 / 1e3,
        options.rounds,
    );
    let mut observed: Vec<[Vec<Observation>; 3]> = Way::ALL.iter().map(|_| Default::default()).collect();
    for round in 0..options.rounds {
        // Another order each time, so that no way always follows the same one.
        for at in 0..Way::ALL.len() {
            let at = (at + round) % Way::ALL.len();
            let kept = folder.path().join("kept");
            std::fs::create_dir(&kept)?;
            let what = format!("round {} of {}: {}", round + 1, options.rounds, Way::ALL[at].name());
            let phases = run(Way::ALL[at], &modules, &kept, &what)?;
            std::fs::remove_dir_all(&kept)?;
            for (phase, one) in phases.into_iter().enumerate() {
                check(&one, &programs[phase / 2]).map_err(|wrong| format!("{what}, {}: {wrong}", PHASES[phase]))?;
                observed[at][phase].push(one);
            }
        }
    }
    progress("");
    table::print(&observed);
    let processes: usize = Way::ALL.iter().map(|way| if way.ends_with_its_process() { 1 } else { 3 }).sum();
    println!(
        "\nAll {} exports returned what Rust returns, in each of {} processes.",
        programs[0].calls.len(),
        processes * options.rounds
    );
    Ok(())
}

/// Cold, warm and edited: three processes, or one where what is kept ends with it.
fn run(way: Way, modules: &[PathBuf; 2], kept: &Path, what: &str) -> Result<[Observation; 3], AnyError> {
    if way.ends_with_its_process() {
        progress(what);
        let sessions = start(way, &[&modules[0], &modules[0], &modules[1]], kept)?;
        return sessions.try_into().map_err(|_| "a process did not tell of three sessions".into());
    }
    let mut phases: [Observation; 3] = Default::default();
    for (phase, one) in phases.iter_mut().enumerate() {
        progress(&format!("{what}, {}", PHASES[phase]));
        *one = start(way, &[&modules[phase / 2]], kept)?.pop().ok_or("a process told of no session")?;
        one.disk_bytes = disk_bytes(kept)?;
    }
    Ok(phases)
}

/// A new process, with a session for each of the modules.
fn start(way: Way, modules: &[&PathBuf], kept: &Path) -> Result<Vec<Observation>, AnyError> {
    let begun = Instant::now();
    let output = Command::new(std::env::current_exe()?)
        .args(["--child", way.name()])
        .arg(kept)
        .args(modules)
        .stdin(Stdio::null())
        .output()?;
    let wall_ns = begun.elapsed().as_nanos() as u64;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}: {}", way.name(), output.status, complaint.trim()).into());
    }
    let mut sessions = session::read(&String::from_utf8(output.stdout)?)?;
    for session in &mut sessions {
        session.wall_ns = if modules.len() == 1 { wall_ns } else { 0 };
    }
    Ok(sessions)
}

fn check(observation: &Observation, program: &Program) -> Result<(), AnyError> {
    for (name, _, expected) in &program.calls {
        let found = observation.results.iter().find(|(found, _)| found == name);
        match found {
            Some((_, found)) if found == expected => {}
            Some((_, found)) => return Err(format!("{name} returned {found:#x}, and Rust {expected:#x}").into()),
            None => return Err(format!("{name} did not run").into()),
        }
    }
    Ok(())
}

/// What the files below a folder take, in whole blocks.
fn disk_bytes(folder: &Path) -> Result<u64, AnyError> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

/// What is being done, in place of what was. On terminals only.
fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{what}\x1b[K");
    }
}
