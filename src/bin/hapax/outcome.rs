//! How a command ends: what it says to people, what to programs, and with which code it exits.

use hapax::{Distrust, Refusal};
use serde::Serialize;
use serde_json::{Value, json};

/// Something was found that should not be, or what was asked for was not done.
pub const FINDING: u8 = 1;
const USAGE: u8 = 2;
/// Nothing can be read, or the output cannot be written.
pub const CANNOT_OPEN: u8 = 3;

/// What a command says.
pub struct Answer {
    /// Lines for people, the last one ended, too.
    pub text: String,
    /// The same for programs: an object.
    pub json: Value,
    /// Why the command exits with [`FINDING`], if it does.
    pub finding: Option<String>,
}

impl Answer {
    pub fn new(text: String, json: &impl Serialize, finding: Option<String>) -> Answer {
        Answer { text, json: serde_json::to_value(json).expect("names are strings"), finding }
    }
}

/// Why a command says nothing.
#[derive(Debug)]
pub enum Failure {
    /// The arguments make no sense.
    Usage(String),
    /// It was refused, and nothing is done.
    NotDone(String),
    /// Something cannot be opened, read or written.
    CannotOpen(String),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => USAGE,
            Failure::NotDone(_) => FINDING,
            Failure::CannotOpen(_) => CANNOT_OPEN,
        }
    }

    fn message(&self) -> &str {
        match self {
            Failure::Usage(message) | Failure::NotDone(message) | Failure::CannotOpen(message) => message,
        }
    }
}

impl From<Distrust> for Failure {
    fn from(why: Distrust) -> Failure {
        match why {
            Distrust::BadName { .. } => Failure::Usage(why.to_string()),
            _ => Failure::CannotOpen(why.to_string()),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(why: Refusal) -> Failure {
        Failure::NotDone(why.to_string())
    }
}

/// The exit code, and what goes to standard output and to standard error.
pub fn rendered(answered: Result<Answer, Failure>, as_json: bool) -> (u8, String, String) {
    let (code, text, value, complaint) = match answered {
        Ok(answer) => {
            let code = if answer.finding.is_some() { FINDING } else { 0 };
            (code, answer.text, answer.json, answer.finding)
        }
        Err(failure) => {
            let message = failure.message().to_owned();
            (failure.code(), String::new(), json!({ "error": message }), Some(message))
        }
    };
    let stdout = if as_json { format!("{value:#}\n") } else { text };
    (code, stdout, complaint.map_or_else(String::new, |complaint| format!("hapax: {complaint}\n")))
}
