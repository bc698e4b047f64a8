//! Splits the text of a small C-like language into tokens with their positions.

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    Name(String),
    Integer(u64),
    Float(f64),
    Text(String),
    Symbol(&'static str),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Located {
    pub token: Token,
    pub line: u32,
    pub column: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct LexError {
    pub what: String,
    pub line: u32,
    pub column: u32,
}

// Longer symbols first, so that `<=` is not read as `<` and `=`.
const SYMBOLS: [&str; 28] = [
    "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "->", "+", "-", "*", "/", "%", "<", ">", "=", "!", "&", "|", "(",
    ")", "{", "}", "[", "]", ",", ";",
];

pub fn tokens(source: &str) -> Result<Vec<Located>, LexError> {
    let mut lexer = Lexer { rest: source, line: 1, column: 1 };
    let mut found = Vec::new();
    while let Some(located) = lexer.next_token()? {
        found.push(located);
    }
    Ok(found)
}

struct Lexer<'s> {
    rest: &'s str,
    line: u32,
    column: u32,
}

impl Lexer<'_> {
    fn next_token(&mut self) -> Result<Option<Located>, LexError> {
        self.skip_blanks()?;
        let (line, column) = (self.line, self.column);
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        let token = match first {
            'a'..='z' | 'A'..='Z' | '_' => Token::Name(self.take_while(|c| c.is_ascii_alphanumeric() || c == '_')),
            '0'..='9' => self.number()?,
            '"' => self.text()?,
            _ => self.symbol()?,
        };
        Ok(Some(Located { token, line, column }))
    }

    fn skip_blanks(&mut self) -> Result<(), LexError> {
        loop {
            self.take_while(char::is_whitespace);
            if self.rest.starts_with("//") {
                self.take_while(|c| c != '\n');
            } else if self.rest.starts_with("/*") {
                let end = self.rest.find("*/").ok_or_else(|| self.error("a comment that never ends"))?;
                self.advance(end + 2);
            } else {
                return Ok(());
            }
        }
    }

    fn number(&mut self) -> Result<Token, LexError> {
        if self.rest.starts_with("0x") {
            self.advance(2);
            let digits = self.take_while(|c| c.is_ascii_hexdigit());
            return u64::from_str_radix(&digits, 16).map(Token::Integer).map_err(|e| self.error(&e.to_string()));
        }
        let mut digits = self.take_while(|c| c.is_ascii_digit());
        let mut after_dot = self.rest.strip_prefix('.').unwrap_or("").chars();
        if !after_dot.next().is_some_and(|c| c.is_ascii_digit()) {
            return digits.parse().map(Token::Integer).map_err(|_| self.error("an integer above 2^64 - 1"));
        }
        self.advance(1);
        digits.push('.');
        digits += &self.take_while(|c| c.is_ascii_digit());
        digits.parse().map(Token::Float).map_err(|_| self.error("a malformed number"))
    }

    fn text(&mut self) -> Result<Token, LexError> {
        let mut value = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.advance(at + 1);
                    return Ok(Token::Text(value));
                }
                '\\' => match chars.next().map(|(_, escaped)| escaped) {
                    Some('n') => value.push('\n'),
                    Some('t') => value.push('\t'),
                    Some(other @ ('"' | '\\')) => value.push(other),
                    _ => return Err(self.error("an unknown escape")),
                },
                _ => value.push(c),
            }
        }
        Err(self.error("a text that never ends"))
    }

    fn symbol(&mut self) -> Result<Token, LexError> {
        let symbol = SYMBOLS.iter().copied().find(|symbol| self.rest.starts_with(symbol));
        let symbol = symbol.ok_or_else(|| self.error("an unknown character"))?;
        self.advance(symbol.len());
        Ok(Token::Symbol(symbol))
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let taken = self.rest[..end].to_string();
        self.advance(end);
        taken
    }

    fn advance(&mut self, bytes: usize) {
        for c in self.rest[..bytes].chars() {
            self.column += 1;
            if c == '\n' {
                self.line += 1;
                self.column = 1;
            }
        }
        self.rest = &self.rest[bytes..];
    }

    fn error(&self, what: &str) -> LexError {
        LexError { what: what.to_string(), line: self.line, column: self.column }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> Vec<Token> {
        tokens(source).unwrap().into_iter().map(|located| located.token).collect()
    }

    #[test]
    fn every_kind_of_token_is_read() {
        let expected = [
            Token::Name("x1".into()),
            Token::Symbol("<="),
            Token::Integer(0x1f),
            Token::Symbol("+"),
            Token::Float(2.5),
            Token::Symbol(";"),
            Token::Text("a\n\"é".into()),
        ];
        assert_eq!(kinds("x1<=0x1f + /* no */ 2.5; // end\n \"a\\n\\\"é\""), expected);
    }

    #[test]
    fn positions_count_lines_and_columns() {
        let found = tokens("a\n  b").unwrap();
        assert_eq!((found[1].line, found[1].column), (2, 3));
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for bad in ["\"open", "/* open", "#", "99999999999999999999", "\"\\q\""] {
            assert!(tokens(bad).is_err(), "{bad}");
        }
    }
}
