//! What a running program has: its memory, its output, and how it can fail. The same for the interpreter and for compiled code,
//! so that both fail at the same point. Knows no code.

use crate::back::engine::Engine;
use crate::depth;
use crate::ir::Place;
use std::fmt;
use std::io::Write as _;

/// Words of memory; they are taken from the system as they are used.
const WORDS: usize = 32 << 20;
/// The state of a running program. Compiled code reads and writes the first fields by their offsets.
#[repr(C)]
pub struct Machine {
    /// Where the words begin.
    pub(super) base: *mut u64,
    /// Words that are taken. There is no garbage collection: a program ends with what it took.
    pub(super) used: u64,
    /// Words that there are.
    pub(super) limit: u64,
    /// Calls that have begun and not ended.
    pub(super) depth: u64,
    /// The most of them.
    pub(super) depth_limit: u64,
    /// What compiled code asks for the functions that it calls; null if none runs.
    pub(super) engine: *const Engine,
    words: Vec<u64>,
    output: Vec<u8>,
    echoes: bool,
}

/// Where in a [`Machine`] compiled code finds what it uses.
pub(super) mod offset {
    use super::Machine;
    use std::mem::offset_of;

    pub const BASE: i32 = offset_of!(Machine, base) as i32;
    pub const USED: i32 = offset_of!(Machine, used) as i32;
    pub const LIMIT: i32 = offset_of!(Machine, limit) as i32;
    pub const DEPTH: i32 = offset_of!(Machine, depth) as i32;
    pub const DEPTH_LIMIT: i32 = offset_of!(Machine, depth_limit) as i32;
}

/// Why a program stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What happened.
    pub fault: Fault,
    /// In which function.
    pub function: String,
    /// Where in it.
    pub place: Place,
}

/// What can happen to a program while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the text of each says it")]
pub enum Fault {
    Bounds = 1,
    DivisionByZero,
    Memory,
    NegativeLength,
    Depth,
    Assertion,
    /// The function that was called could not be compiled; not the program's fault.
    NotCompiled,
}

impl Fault {
    /// By its number.
    pub fn from_number(number: u8) -> Fault {
        let all = [
            Fault::Bounds,
            Fault::DivisionByZero,
            Fault::Memory,
            Fault::NegativeLength,
            Fault::Depth,
            Fault::Assertion,
        ];
        all.into_iter().find(|fault| *fault as u8 == number).unwrap_or(Fault::NotCompiled)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Bounds => "the index lies outside of the array",
            Fault::DivisionByZero => "division by zero",
            Fault::Memory => "the program's memory is used up",
            Fault::NegativeLength => "an array cannot have fewer than no elements",
            Fault::Depth => "too many calls inside each other",
            Fault::Assertion => "the assertion does not hold",
            Fault::NotCompiled => "the function that is called here could not be compiled",
        })
    }
}

impl Machine {
    /// A machine whose output is kept.
    pub fn new() -> Box<Machine> {
        Machine::with_echo(false)
    }

    /// A machine whose output also goes to the standard output, if it echoes.
    pub fn with_echo(echoes: bool) -> Box<Machine> {
        // Zeroed pages of the system: what is not used takes nothing.
        let mut words = vec![0; WORDS];
        let base = words.as_mut_ptr();
        let (limit, depth_limit) = (WORDS as u64, depth::CALLS_AT_MOST);
        let engine = std::ptr::null();
        Box::new(Machine { base, used: 0, limit, depth: 0, depth_limit, engine, words, output: Vec::new(), echoes })
    }

    /// What the program printed.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// Words that it took.
    pub fn used_words(&self) -> u64 {
        self.used
    }

    /// Room for that many words, all of them 0.
    pub(super) fn allocate(&mut self, words: u64) -> Result<u64, Fault> {
        let begin = self.used;
        if words > self.limit - begin {
            return Err(Fault::Memory);
        }
        self.used += words;
        Ok(begin)
    }

    pub(super) fn new_array(&mut self, fill: u64, length: u64) -> Result<u64, Fault> {
        if (length as i64) < 0 {
            return Err(Fault::NegativeLength);
        }
        let array = self.allocate(length.saturating_add(1))?;
        self.words[array as usize] = length;
        if fill != 0 {
            self.words[array as usize + 1..][..length as usize].fill(fill);
        }
        Ok(array)
    }

    pub(super) fn new_text(&mut self, text: &[u8]) -> Result<u64, Fault> {
        let array = self.new_array(0, text.len() as u64)?;
        for (word, byte) in self.words[array as usize + 1..].iter_mut().zip(text) {
            *word = u64::from(*byte);
        }
        Ok(array)
    }

    pub(super) fn word(&self, at: u64) -> u64 {
        self.words[at as usize]
    }

    pub(super) fn set_word(&mut self, at: u64, word: u64) {
        self.words[at as usize] = word;
    }

    /// Where that element lies.
    pub(super) fn element(&self, array: u64, index: u64) -> Result<u64, Fault> {
        if index < self.word(array) { Ok(array + 1 + index) } else { Err(Fault::Bounds) }
    }

    /// The elements of an array of numbers.
    pub(crate) fn elements(&mut self, array: u64) -> &mut [u64] {
        let length = self.word(array) as usize;
        &mut self.words[array as usize + 1..][..length]
    }

    pub(super) fn print(&mut self, line: impl fmt::Display) {
        self.print_bytes(line.to_string().as_bytes());
    }

    pub(super) fn print_text(&mut self, array: u64) {
        let bytes: Vec<u8> = self.elements(array).iter().map(|word| *word as u8).collect();
        self.print_bytes(&bytes);
    }

    fn print_bytes(&mut self, bytes: &[u8]) {
        let begin = self.output.len();
        self.output.extend_from_slice(bytes);
        self.output.push(b'\n');
        if self.echoes {
            // Nobody may be listening any more; the program goes on, as its result is more than its output.
            let _ = std::io::stdout().write_all(&self.output[begin..]);
        }
    }
}
