//! The command: compares cold and warm starts of the language's JIT, or runs programs.
//!
//! `cargo run --release -p mica [-- PROGRAM...]`

use mica::back::engine::{Engine, Parts};
use mica::back::machine::Machine;
use mica::options::{Mode, Options, USAGE};
use mica::session::{AnyError, open};
use mica::{ablation, kernels, report, session, show, starts};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

fn main() -> ExitCode {
    let begun = Instant::now();
    match Options::from_arguments(std::env::args().skip(1)).and_then(|options| run(options, begun)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::progress_ends();
            eprintln!("mica: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut options: Options, begun: Instant) -> Result<(), AnyError> {
    let scratch = match (&options.cache, options.mode) {
        (None, Mode::Show | Mode::Ablation) => Some(tempfile::tempdir()?),
        _ => None,
    };
    if let Some(directory) = options.cache.as_deref().or(scratch.as_ref().map(|scratch| scratch.path())) {
        options.work.cache = directory.to_owned();
    }
    match options.mode {
        Mode::Help => report::line(USAGE),
        Mode::Child => session::run(&options.work, begun, &mut |line| println!("{line}")),
        Mode::Show => {
            show::show(&options.work, scratch.is_none())?;
            kernels::show(&options.work)
        }
        Mode::Ablation => ablation::ablation(&options.work, options.rounds),
        Mode::Starts => starts::starts(&options.work, options.rounds),
        Mode::Listing => listing(&options),
        Mode::Run => run_programs(&options),
    }
}

fn listing(options: &Options) -> Result<(), AnyError> {
    for name in &options.work.programs {
        for function in &open(name)?.functions {
            report::line(function.listing())?;
        }
    }
    Ok(())
}

/// As a person runs a program: its output, and no figures.
fn run_programs(options: &Options) -> Result<(), AnyError> {
    let (store, hints) = session::keep(&options.work, options.cache.as_deref());
    for name in &options.work.programs {
        let program = Arc::new(open(name)?);
        let parts = Parts { store: store.clone(), hints: hints.clone(), launcher: None };
        let engine = Engine::new(program.clone(), parts)?;
        engine.preload(&engine.hinted(options.work.order));
        let ended = engine.run(&mut Machine::with_echo(true));
        engine.record();
        ended.map_err(|failure| program.problem(&failure.function, failure.place, failure.fault.to_string()))?;
    }
    Ok(())
}
