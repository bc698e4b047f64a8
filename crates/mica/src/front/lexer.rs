//! From characters to tokens. Knows no grammar.

use crate::front::source::{Checked, Position, complain};

/// A word of the language.
#[derive(Debug, Clone, PartialEq)]
pub enum Token<'a> {
    /// A name or a keyword.
    Name(&'a str),
    /// A whole number.
    Int(i64),
    /// A number with a fraction or an exponent.
    Float(f64),
    /// The bytes of a text.
    Text(Vec<u8>),
    /// An operator or a bracket.
    Sign(&'static str),
    /// The end of the file.
    End,
}

/// The signs that begin with that byte, the longest first, so that none is taken for its beginning.
fn signs(first: u8) -> &'static [&'static str] {
    match first {
        b'(' => &["("],
        b')' => &[")"],
        b'[' => &["["],
        b']' => &["]"],
        b'{' => &["{"],
        b'}' => &["}"],
        b',' => &[","],
        b':' => &[":"],
        b';' => &[";"],
        b'.' => &["..", "."],
        b'=' => &["==", "="],
        b'!' => &["!=", "!"],
        b'<' => &["<<=", "<<", "<=", "<"],
        b'>' => &[">>>=", ">>>", ">>=", ">>", ">=", ">"],
        b'&' => &["&&", "&=", "&"],
        b'|' => &["||", "|=", "|"],
        b'^' => &["^=", "^"],
        b'+' => &["+=", "+"],
        b'-' => &["-=", "->", "-"],
        b'*' => &["*=", "*"],
        b'/' => &["/=", "/"],
        b'%' => &["%=", "%"],
        _ => &[],
    }
}

/// What is left of a text.
pub struct Lexer<'a> {
    rest: &'a str,
    at: Position,
}

impl<'a> Lexer<'a> {
    /// At the beginning of that text.
    pub fn new(text: &'a str) -> Lexer<'a> {
        Lexer { rest: text, at: Position { line: 1, column: 1 } }
    }

    /// The next token and its place; at the end of the text it is [`Token::End`], as often as it is asked for.
    pub fn next(&mut self) -> Checked<(Token<'a>, Position)> {
        self.skip_blanks();
        let at = self.at;
        Ok((self.token()?, at))
    }

    /// Passes over that many bytes.
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        for c in taken.chars() {
            if c == '\n' {
                self.at = Position { line: self.at.line + 1, column: 1 };
            } else {
                self.at.column += 1;
            }
        }
        taken
    }

    /// As `take`, of characters of one byte, on one line.
    fn take_plain(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        self.at.column += bytes as u32;
        taken
    }

    /// Passes over bytes that are characters by themselves and no ends of lines.
    fn take_bytes_while(&mut self, belongs: impl Fn(&u8) -> bool) -> &'a str {
        self.take_plain(self.rest.bytes().take_while(belongs).count())
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        self.take(self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len()))
    }

    fn skip_blanks(&mut self) {
        loop {
            match self.rest.as_bytes() {
                [b' ', ..] => drop(self.take_bytes_while(|byte| *byte == b' ')),
                [b'/', b'/', ..] => drop(self.take_while(|c| c != '\n')),
                [byte, ..] if byte.is_ascii_graphic() => return,
                _ if self.take_while(char::is_whitespace).is_empty() => return,
                _ => {}
            }
        }
    }

    fn token(&mut self) -> Checked<Token<'a>> {
        let Some(first) = self.rest.chars().next() else { return Ok(Token::End) };
        if first.is_ascii_alphabetic() || first == '_' {
            return Ok(Token::Name(self.take_bytes_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')));
        }
        if first.is_ascii_digit() {
            return self.number();
        }
        if first == '"' {
            return self.text();
        }
        if first == '\'' {
            return self.character();
        }
        match signs(self.rest.as_bytes()[0]).iter().find(|sign| self.rest.starts_with(**sign)) {
            Some(sign) => {
                self.take_plain(sign.len());
                Ok(Token::Sign(sign))
            }
            None => complain(self.at, format!("`{first}` begins nothing in this language")),
        }
    }

    fn number(&mut self) -> Checked<Token<'a>> {
        let at = self.at;
        if self.rest.starts_with("0x") {
            let digits =
                self.take_bytes_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')[2..].replace('_', "");
            return match u64::from_str_radix(&digits, 16) {
                Ok(number) => Ok(Token::Int(number as i64)),
                Err(_) => complain(at, "this is no hexadecimal number of at most 64 bits"),
            };
        }
        let mut end = digits_end(self.rest, 0);
        let mut is_float = false;
        let bytes = self.rest.as_bytes();
        // `0..n` is a range and no fraction.
        if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
            is_float = true;
            end = digits_end(self.rest, end + 1);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            if bytes.get(end + 1 + sign).is_some_and(u8::is_ascii_digit) {
                is_float = true;
                end = digits_end(self.rest, end + 1 + sign);
            }
        }
        let digits = self.take(end).replace('_', "");
        if is_float {
            return digits.parse().map(Token::Float).or_else(|_| complain(at, "this is no number"));
        }
        digits.parse().map(Token::Int).or_else(|_| complain(at, "this number needs more than 64 bits"))
    }

    fn text(&mut self) -> Checked<Token<'a>> {
        let begun = self.at;
        self.take(1);
        let mut bytes = Vec::new();
        loop {
            match self.rest.chars().next() {
                None | Some('\n') => return complain(begun, "this text has no end on its line"),
                Some('"') => {
                    self.take(1);
                    return Ok(Token::Text(bytes));
                }
                Some('\\') => bytes.push(self.escape()?),
                Some(c) => bytes.extend_from_slice(self.take(c.len_utf8()).as_bytes()),
            }
        }
    }

    fn character(&mut self) -> Checked<Token<'a>> {
        let begun = self.at;
        self.take(1);
        let value = match self.rest.chars().next() {
            Some('\\') => i64::from(self.escape()?),
            Some(c) if c != '\'' && c != '\n' => {
                self.take(c.len_utf8());
                i64::from(u32::from(c))
            }
            _ => return complain(begun, "there is no character between these marks"),
        };
        if !self.rest.starts_with('\'') {
            return complain(begun, "this character has no closing mark");
        }
        self.take(1);
        Ok(Token::Int(value))
    }

    fn escape(&mut self) -> Checked<u8> {
        let at = self.at;
        self.take(1);
        let byte = match self.rest.chars().next() {
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('r') => b'\r',
            Some('0') => 0,
            Some(c @ ('\\' | '"' | '\'')) => c as u8,
            _ => return complain(at, "after `\\` comes one of n t r 0 \\ \" '"),
        };
        self.take(1);
        Ok(byte)
    }
}

fn digits_end(text: &str, from: usize) -> usize {
    let is_digit = |byte: &u8| byte.is_ascii_digit() || *byte == b'_';
    text.as_bytes()[from..].iter().position(|byte| !is_digit(byte)).map_or(text.len(), |end| from + end)
}
