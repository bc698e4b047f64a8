//! Files, and their text as tokens. Pure reading: nothing here knows a rule.

use std::fmt;
use std::fs;
use std::path::Path;

pub struct SourceFile {
    /// From the package root, with forward slashes.
    pub path: String,
    pub text: String,
}

impl SourceFile {
    /// `src/heap/bytes.rs` is `[heap, bytes]`, `src/heap/mod.rs` is `[heap]`, `src/lib.rs` is `[]`.
    pub fn module(&self) -> Vec<&str> {
        let stem = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        stem.split('/').filter(|segment| !["mod", "lib"].contains(segment)).collect()
    }

    pub fn finding(&self, line: usize, what: String) -> Finding {
        Finding { path: self.path.clone(), line, what }
    }
}

pub struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Every Rust file below a folder of the package, ordered by path; none if there is no such folder.
pub fn rust_files(folder: &str) -> Vec<SourceFile> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(&folder)) else {
            continue;
        };
        for entry in entries.map(Result::unwrap) {
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.ends_with(".rs") {
                let text = fs::read_to_string(entry.path()).unwrap();
                files.push(SourceFile { path, text });
            }
        }
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    files
}

/// A name, a number, a literal with its quotes, or one character of punctuation.
#[derive(Clone, Copy)]
pub struct Token<'a> {
    pub line: usize,
    pub text: &'a str,
}

/// Without comments and blanks.
pub fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = source;
    let mut line = 1;
    while !rest.is_empty() {
        let (text, tail) = rest.split_at(piece_bytes(rest));
        if !text.starts_with(char::is_whitespace) && !text.starts_with("//") && !text.starts_with("/*") {
            tokens.push(Token { line, text });
        }
        line += text.matches('\n').count();
        rest = tail;
    }
    tokens
}

/// What the first token, comment or blank of a text takes; all of it if that is never closed.
fn piece_bytes(text: &str) -> usize {
    let first = text.chars().next().unwrap();
    if text.starts_with("//") {
        text.find('\n').unwrap_or(text.len())
    } else if text.starts_with("/*") {
        block_comment_bytes(text)
    } else if let Some(bytes) = string_bytes(text) {
        bytes
    } else if first == '\'' {
        quote_bytes(text)
    } else if is_name(first) {
        name_bytes(text)
    } else {
        first.len_utf8()
    }
}

fn block_comment_bytes(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        match text.get(at..at + 2) {
            Some("/*") => (depth, at) = (depth + 1, at + 2),
            Some("*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_bytes(text: &str) -> Option<usize> {
    let prefix = &text[..text.find(|letter| !"bcr".contains(letter))?];
    let raw = prefix.ends_with('r');
    let hashes = text[prefix.len()..].bytes().take_while(|byte| raw && *byte == b'#').count();
    let inner = prefix.len() + hashes + 1;
    if !text[inner - 1..].starts_with('"') {
        return None;
    }
    if raw {
        let closing = format!("\"{}", "#".repeat(hashes));
        return Some(text[inner..].find(&closing).map_or(text.len(), |at| inner + at + closing.len()));
    }
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(inner) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    Some(text.len())
}

/// A character literal, a lifetime, or a lone quote.
fn quote_bytes(text: &str) -> usize {
    let mut inner = text.chars().skip(1);
    let (first, second) = (inner.next(), inner.next());
    match first {
        Some('\\') => {
            let escape = 2 + second.map_or(0, char::len_utf8);
            text[escape..].find('\'').map_or(text.len(), |at| escape + at + 1)
        }
        Some(letter) if second == Some('\'') => 2 + letter.len_utf8(),
        Some(letter) if is_name(letter) => 1 + name_bytes(&text[1..]),
        _ => 1,
    }
}

fn is_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn name_bytes(text: &str) -> usize {
    text.find(|letter| !is_name(letter)).unwrap_or(text.len())
}
