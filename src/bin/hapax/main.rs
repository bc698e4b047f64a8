//! `hapax`: looks after what hapax keeps on disk for an application. Uses the crate's public interface only, so whatever it
//! does an embedder can do, too.
//!
//! Each command reads arguments into an [`Answer`](outcome::Answer), or fails; only this file prints and exits.

mod arguments;
mod collect;
mod contents;
mod history;
mod outcome;
mod pack;
mod page;
mod place;
mod plot;
mod report;
mod show;
mod stats;
mod top;
mod verify;

use crate::arguments::{Arguments, Command};
use crate::outcome::{Answer, Failure};
use clap::Parser;
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    // A usage error ends here, with the code 2.
    let arguments = Arguments::parse();
    let answered = answer(&arguments.command, !arguments.json);
    let (code, stdout, stderr) = outcome::rendered(answered, arguments.json);
    // Where nobody listens the code still says it.
    let _ = io::stderr().lock().write_all(stderr.as_bytes());
    match io::stdout().lock().write_all(stdout.as_bytes()) {
        // Whoever reads has read enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(io::stderr(), "hapax: cannot write the answer: {error}");
            ExitCode::from(outcome::CANNOT_OPEN)
        }
        Ok(()) => ExitCode::from(code),
    }
}

fn answer(command: &Command, for_people: bool) -> Result<Answer, Failure> {
    match command {
        Command::Stats(arguments) => stats::run(arguments),
        Command::Top(arguments) => top::run(arguments, for_people),
        Command::Verify(arguments) => verify::run(arguments, for_people),
        Command::Gc(arguments) => collect::gc(arguments),
        Command::Clear(arguments) => collect::clear(arguments),
        Command::Export(arguments) => pack::export(arguments, for_people),
        Command::Import(arguments) => pack::import(arguments, for_people),
        Command::Report(arguments) => report::run(arguments, for_people),
    }
}
