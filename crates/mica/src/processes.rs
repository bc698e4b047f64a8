//! Starts processes of this program and listens to them.

use crate::options::child_arguments;
use crate::report;
use crate::session::{AnyError, Findings, Work};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Instant;

/// A process that has ended, by the clock of the one that started it.
#[derive(Debug, Default)]
pub struct Observed {
    /// What it told.
    pub findings: Findings,
    /// From its start to its first result.
    pub first_ns: u64,
    /// From its start to its end.
    pub wall_ns: u64,
}

impl Observed {
    /// What all its threads took until the first result.
    pub fn first_cpu_ns(&self) -> u64 {
        self.findings.results.first().map_or(0, |first| first.cpu_ns)
    }

    /// What all its threads took.
    pub fn cpu_ns(&self) -> u64 {
        self.findings.count("end cpu")
    }
}

/// Does the work in a new process.
///
/// # Errors
/// What it said, if it did not end well.
pub fn start(what: &str, work: &Work) -> Result<Observed, AnyError> {
    let begun = Instant::now();
    let mut child = Command::new(std::env::current_exe()?)
        .args(child_arguments(work))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut observed = Observed::default();
    report::progress(what, 0, work.programs.len());
    for line in BufReader::new(child.stdout.take().expect("it is piped")).lines() {
        let line = line?;
        observed.findings.read(&line).ok_or_else(|| format!("{what}: a process said {line:?}"))?;
        if observed.first_ns == 0 && !observed.findings.results.is_empty() {
            observed.first_ns = begun.elapsed().as_nanos() as u64;
        }
        report::progress(what, observed.findings.results.len(), work.programs.len());
    }
    let mut complaint = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut complaint)?;
    let status = child.wait()?;
    observed.wall_ns = begun.elapsed().as_nanos() as u64;
    report::progress_ends();
    if !status.success() {
        let complaint = complaint.trim_end().strip_prefix("mica: ").unwrap_or(complaint.trim_end());
        return Err(if complaint.is_empty() { format!("{what}: {status}").into() } else { complaint.into() });
    }
    Ok(observed)
}
