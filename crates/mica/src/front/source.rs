//! Places in a text, and what is wrong there. Knows no language.

use std::fmt;

/// A place in a file; both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The character in it.
    pub column: u32,
}

/// Something wrong in a program, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file's name.
    pub file: String,
    /// Where in it.
    pub at: Position,
    /// What is wrong.
    pub message: String,
    /// The line of the text, if it is known.
    pub line: String,
}

impl Problem {
    /// A problem in a file whose text is at hand.
    pub fn new(file: &str, text: &str, at: Position, message: impl Into<String>) -> Problem {
        let line = text.lines().nth(at.line.saturating_sub(1) as usize).unwrap_or_default().to_owned();
        Problem { file: file.to_owned(), at, message: message.into(), line }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.at;
        write!(f, "{}:{line}:{column}: {}", self.file, self.message)?;
        if self.line.trim().is_empty() {
            return Ok(());
        }
        // Tabs stay, so that the mark stands below its character.
        let before: String = self.line.chars().take(column.saturating_sub(1) as usize).collect();
        let indent: String = before.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        write!(f, "\n  {}\n  {indent}^", self.line)
    }
}

impl std::error::Error for Problem {}

/// What the front end's passes return before the file's name is put to it.
pub type Checked<T> = Result<T, Complaint>;

/// What is wrong at a place of the file at hand.
#[derive(Debug)]
pub struct Complaint {
    /// Where.
    pub at: Position,
    /// What.
    pub message: String,
}

/// An error at that place.
pub fn complain<T>(at: Position, message: impl Into<String>) -> Checked<T> {
    Err(Complaint { at, message: message.into() })
}
