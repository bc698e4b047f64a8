//! Reads and writes JSON (RFC 8259), with a bound on nesting instead of a stack overflow.

use std::fmt::Write;

#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    pub what: &'static str,
    pub at: usize,
}

const MAX_DEPTH: usize = 128;

pub fn parse(source: &str) -> Result<Json, JsonError> {
    let mut parser = Parser { source, at: 0 };
    let value = parser.value(0)?;
    parser.blanks();
    if parser.at < source.len() {
        return Err(parser.error("something after the value"));
    }
    Ok(value)
}

pub fn to_text(value: &Json) -> String {
    let mut out = String::new();
    write_value(value, &mut out);
    out
}

struct Parser<'s> {
    source: &'s str,
    at: usize,
}

impl Parser<'_> {
    fn value(&mut self, depth: usize) -> Result<Json, JsonError> {
        if depth > MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        self.blanks();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.text().map(Json::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, JsonError> {
        let mut members = Vec::new();
        self.expect(b'{')?;
        if self.eat(b'}') {
            return Ok(Json::Object(members));
        }
        loop {
            self.blanks();
            let name = self.text()?;
            self.expect(b':')?;
            members.push((name, self.value(depth + 1)?));
            if !self.eat(b',') {
                self.expect(b'}')?;
                return Ok(Json::Object(members));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Json, JsonError> {
        let mut items = Vec::new();
        self.expect(b'[')?;
        if self.eat(b']') {
            return Ok(Json::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if !self.eat(b',') {
                self.expect(b']')?;
                return Ok(Json::List(items));
            }
        }
    }

    fn text(&mut self) -> Result<String, JsonError> {
        self.expect(b'"')?;
        let mut value = String::new();
        loop {
            let plain = self.source[self.at..].find(['"', '\\']).ok_or_else(|| self.error("a text that never ends"))?;
            let part = &self.source[self.at..self.at + plain];
            if part.bytes().any(|byte| byte < 0x20) {
                return Err(self.error("a control character in a text"));
            }
            value.push_str(part);
            self.at += plain + 1;
            if self.source.as_bytes()[self.at - 1] == b'"' {
                return Ok(value);
            }
            value.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let kind = self.peek().ok_or_else(|| self.error("a text that never ends"))?;
        self.at += 1;
        Ok(match kind {
            b'"' | b'\\' | b'/' => kind as char,
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err(self.error("an unknown escape")),
        })
    }

    fn unicode(&mut self) -> Result<char, JsonError> {
        let high = self.four_digits()?;
        if !(0xd800..0xdc00).contains(&high) {
            return char::from_u32(high).ok_or_else(|| self.error("half of a surrogate pair"));
        }
        if !self.source[self.at..].starts_with("\\u") {
            return Err(self.error("half of a surrogate pair"));
        }
        self.at += 2;
        let low = self.four_digits()?;
        if !(0xdc00..0xe000).contains(&low) {
            return Err(self.error("half of a surrogate pair"));
        }
        char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
            .ok_or_else(|| self.error("no such character"))
    }

    fn four_digits(&mut self) -> Result<u32, JsonError> {
        let digits = self.source.get(self.at..self.at + 4).ok_or_else(|| self.error("four digits expected"))?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(self.error("four digits expected"));
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| self.error("four digits expected"))
    }

    fn number(&mut self) -> Result<Json, JsonError> {
        let start = self.at;
        let _minus = self.skip_one(b'-');
        if !self.skip_one(b'0') {
            self.digits()?;
        }
        if self.skip_one(b'.') {
            self.digits()?;
        }
        if self.skip_one(b'e') || self.skip_one(b'E') {
            let _sign = self.skip_one(b'+') || self.skip_one(b'-');
            self.digits()?;
        }
        self.source[start..self.at].parse().map(Json::Number).map_err(|_| self.error("a malformed number"))
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.error("a digit expected")) } else { Ok(()) }
    }

    fn word(&mut self) -> Result<Json, JsonError> {
        for (word, value) in [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))] {
            if self.source[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.error("a value expected"))
    }

    fn peek(&self) -> Option<u8> {
        self.source.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn skip_one(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn eat(&mut self, wanted: u8) -> bool {
        self.blanks();
        self.skip_one(wanted)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), JsonError> {
        if self.eat(wanted) { Ok(()) } else { Err(self.error("punctuation expected")) }
    }

    fn error(&self, what: &'static str) -> JsonError {
        JsonError { what, at: self.at }
    }
}

fn write_value(value: &Json, out: &mut String) {
    match value {
        Json::Null => out.push_str("null"),
        Json::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        // JSON has no infinity and no NaN
        Json::Number(number) if !number.is_finite() => out.push_str("null"),
        Json::Number(number) => out.push_str(&number.to_string()),
        Json::Text(text) => write_text(text, out),
        Json::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                write_value(item, out);
            }
            out.push(']');
        }
        Json::Object(members) => {
            out.push('{');
            for (at, (name, member)) in members.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                write_text(name, out);
                out.push(':');
                write_value(member, out);
            }
            out.push('}');
        }
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c < ' ' => write!(out, "\\u{:04x}", c as u32).expect("a String takes every write"),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let source = r#"{"a":[1,-2.5,1e3,true,null],"b\"":{"c":"\u00e9\ud83d\ude00\n\u0001"},"d":[]}"#;
        let value = parse(source).unwrap();
        assert_eq!(parse(&to_text(&value)).unwrap(), value);
        let Json::Object(members) = &value else { panic!("{value:?}") };
        assert_eq!(members[1].0, "b\"");
        assert_eq!(members[1].1, Json::Object(vec![("c".into(), Json::Text("é😀\n\u{1}".into()))]));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for bad in
            ["", "[1,]", "{\"a\"}", "01", "1.", "\"\\x\"", "\"\\ud800\"", "\"\\u00é\"", "nul", "[1] 2", "\"a\nb\""]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(&"[".repeat(100_000)).is_err());
    }
}
