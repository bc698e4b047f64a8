//! From tokens to the shape of a program, by recursive descent. Knows no types.

use crate::front::ast::{
    Expression, ExpressionKind, Function, Module, OPERATORS, Operator, Record, Statement, TypeName,
};
use crate::front::lexer::{Lexer, Token};
use crate::front::source::{Checked, Complaint, Position, complain};

fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "import"
            | "struct"
            | "fn"
            | "kernel"
            | "let"
            | "var"
            | "if"
            | "else"
            | "while"
            | "for"
            | "in"
            | "return"
            | "break"
            | "continue"
            | "launch"
            | "true"
            | "false"
    )
}

/// Brackets and blocks inside each other; more would overflow the stack of a recursive descent.
const DEPTH_AT_MOST: u32 = 200;
/// Operations in one expression: each makes its tree deeper, and what walks it recurses.
const OPERATIONS_AT_MOST: u32 = 500;

/// The shape of a file.
pub fn parse(text: &str) -> Checked<Module> {
    let start = Position { line: 1, column: 1 };
    let mut parser = Parser {
        lexer: Lexer::new(text),
        token: Token::End,
        at: start,
        before: start,
        no_token: None,
        depth: 0,
        expressions: 0,
        operations: 0,
    };
    parser.pass();
    let module = parser.module();
    // Where there is no token, it reads the end of the file, and complains of that.
    parser.no_token.map_or(module, Err)
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The one that is next, and its place.
    token: Token<'a>,
    at: Position,
    /// The place of the one before.
    before: Position,
    /// What was found in place of a token.
    no_token: Option<Complaint>,
    depth: u32,
    /// Expressions that have begun and not ended, one in the other.
    expressions: u32,
    /// Operations in the outermost of them so far.
    operations: u32,
}

impl<'a> Parser<'a> {
    fn module(&mut self) -> Checked<Module> {
        let mut module = Module::default();
        loop {
            let at = self.at();
            match self.take() {
                Token::End => return Ok(module),
                Token::Name("import") => {
                    let Token::Text(name) = self.take() else {
                        return complain(at, "an import names a file: `import \"text\";`");
                    };
                    module.imports.push((String::from_utf8_lossy(&name).into_owned(), at));
                    self.expect(";")?;
                }
                Token::Name("struct") => module.records.push(self.record()?),
                Token::Name("fn") => module.functions.push(self.function(false)?),
                Token::Name("kernel") => module.functions.push(self.function(true)?),
                other => {
                    return complain(
                        at,
                        format!("expected `fn`, `kernel`, `struct` or `import`, found {}", name_of(&other)),
                    );
                }
            }
        }
    }

    fn at(&self) -> Position {
        self.at
    }

    /// Goes on to the next token; the end stays.
    fn pass(&mut self) {
        self.take();
    }

    fn take(&mut self) -> Token<'a> {
        self.before = self.at;
        let next = match &self.no_token {
            None => self.lexer.next(),
            Some(_) => Ok((Token::End, self.at)),
        };
        let (token, at) = next.unwrap_or_else(|complaint| {
            let at = complaint.at;
            self.no_token = Some(complaint);
            (Token::End, at)
        });
        self.at = at;
        std::mem::replace(&mut self.token, token)
    }

    fn is(&self, sign: &str) -> bool {
        matches!(&self.token, Token::Sign(found) if *found == sign)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.token, Token::Name(found) if *found == word)
    }

    fn takes(&mut self, sign: &str) -> bool {
        let is = self.is(sign);
        if is {
            self.pass();
        }
        is
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let is = self.is_word(word);
        if is {
            self.pass();
        }
        is
    }

    fn expect(&mut self, sign: &str) -> Checked<()> {
        if self.takes(sign) {
            return Ok(());
        }
        complain(self.at(), format!("expected `{sign}`, found {}", name_of(&self.token)))
    }

    fn name(&mut self, what: &str) -> Checked<String> {
        match &self.token {
            Token::Name(name) if !is_keyword(name) => {
                let name = (*name).to_owned();
                self.pass();
                Ok(name)
            }
            other => complain(self.at(), format!("expected {what}, found {}", name_of(other))),
        }
    }

    /// What `item` reads, with commas between and perhaps one at the end, up to `close`.
    fn list<T>(&mut self, close: &str, mut item: impl FnMut(&mut Self) -> Checked<T>) -> Checked<Vec<T>> {
        let mut items = Vec::new();
        while !self.takes(close) {
            items.push(item(self)?);
            if !self.takes(",") {
                self.expect(close)?;
                break;
            }
        }
        // Lists are short and many, and a new one has room for four.
        items.shrink_to_fit();
        Ok(items)
    }

    fn record(&mut self) -> Checked<Record> {
        let at = self.at();
        let name = self.name("the name of a struct")?;
        if !name.starts_with(|c: char| c.is_ascii_uppercase()) {
            return complain(at, "the name of a struct begins with a capital letter");
        }
        self.expect("{")?;
        let fields = self.list("}", |parser| {
            let name = parser.name("the name of a field")?;
            parser.expect(":")?;
            Ok((name, parser.type_name()?))
        })?;
        Ok(Record { name, fields, at })
    }

    fn function(&mut self, is_kernel: bool) -> Checked<Function> {
        let at = self.at();
        let name = self.name("the name of a function")?;
        self.expect("(")?;
        let parameters = self.list(")", |parser| {
            let at = parser.at();
            let name = parser.name("the name of a parameter")?;
            parser.expect(":")?;
            Ok((name, parser.type_name()?, at))
        })?;
        let returns = if self.takes("->") { Some(self.type_name()?) } else { None };
        let body = self.block()?;
        let end = self.before;
        Ok(Function { name, parameters, returns, body, is_kernel, at, end })
    }

    fn type_name(&mut self) -> Checked<TypeName> {
        if self.takes("[") {
            let element = self.deeper(Self::type_name)?;
            self.expect("]")?;
            return Ok(TypeName::Array(Box::new(element)));
        }
        let at = self.at();
        Ok(TypeName::Named(self.name("a type")?, at))
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Checked<T>) -> Checked<T> {
        self.depth += 1;
        if self.depth > DEPTH_AT_MOST {
            return complain(self.at(), format!("more than {DEPTH_AT_MOST} brackets inside each other"));
        }
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn block(&mut self) -> Checked<Vec<Statement>> {
        self.expect("{")?;
        let mut statements = Vec::new();
        while !self.takes("}") {
            statements.push(self.deeper(Self::statement)?);
        }
        statements.shrink_to_fit();
        Ok(statements)
    }

    fn statement(&mut self) -> Checked<Statement> {
        let at = self.at();
        let Token::Name(word) = self.token else { return self.simple_statement() };
        match word {
            "let" | "var" => {
                let is_mutable = word == "var";
                self.pass();
                let name = self.name("the name of a variable")?;
                self.expect("=")?;
                let value = self.expression()?;
                self.expect(";")?;
                Ok(Statement::Let { name, is_mutable, value })
            }
            "if" => self.conditional(),
            "while" => {
                self.pass();
                Ok(Statement::While { condition: self.expression()?, body: self.block()? })
            }
            "for" => {
                self.pass();
                let name = self.name("the name of a variable")?;
                if !self.takes_word("in") {
                    return complain(self.at(), "expected `in`: `for i in 0..n { }`");
                }
                let from = self.expression()?;
                self.expect("..")?;
                let to = self.expression()?;
                Ok(Statement::For { name, from, to, body: self.block()? })
            }
            "return" => {
                self.pass();
                let value = if self.is(";") { None } else { Some(self.expression()?) };
                self.expect(";")?;
                Ok(Statement::Return(value, at))
            }
            "break" | "continue" => {
                let statement = if word == "break" { Statement::Break(at) } else { Statement::Continue(at) };
                self.pass();
                self.expect(";")?;
                Ok(statement)
            }
            "launch" => {
                self.pass();
                let kernel = self.name("the name of a kernel")?;
                self.expect("[")?;
                let count = self.expression()?;
                self.expect("]")?;
                self.expect("(")?;
                let arguments = self.list(")", Self::expression)?;
                self.expect(";")?;
                Ok(Statement::Launch { kernel, count, arguments, at })
            }
            _ => self.simple_statement(),
        }
    }

    fn conditional(&mut self) -> Checked<Statement> {
        self.pass();
        let condition = self.expression()?;
        let yes = self.block()?;
        let no = if !self.takes_word("else") {
            Vec::new()
        } else if self.is_word("if") {
            vec![self.deeper(Self::conditional)?]
        } else {
            self.block()?
        };
        Ok(Statement::If { condition, yes, no })
    }

    /// An assignment or an expression.
    fn simple_statement(&mut self) -> Checked<Statement> {
        let target = self.expression()?;
        let at = self.at();
        let statement = if self.takes("=") {
            Statement::Assign { target, operator: None, value: self.expression()?, at }
        } else if let Some(operator) = self.assigning_operator() {
            self.pass();
            Statement::Assign { target, operator: Some(operator), value: self.expression()?, at }
        } else {
            Statement::Expression(target)
        };
        self.expect(";")?;
        Ok(statement)
    }

    fn assigning_operator(&self) -> Option<Operator> {
        let Token::Sign(sign) = self.token else { return None };
        let before = sign.strip_suffix('=')?;
        OPERATORS.iter().find(|(sign, _, strength)| *sign == before && *strength > 3).map(|(_, operator, _)| *operator)
    }

    fn expression(&mut self) -> Checked<Expression> {
        if self.expressions == 0 {
            self.operations = 0;
        }
        self.expressions += 1;
        let read = self.deeper(|parser| parser.operations(1));
        self.expressions -= 1;
        read
    }

    fn count_operation(&mut self) -> Checked<()> {
        self.operations += 1;
        if self.operations > OPERATIONS_AT_MOST {
            let problem =
                format!("more than {OPERATIONS_AT_MOST} operations in one expression; give a part of it a name");
            return complain(self.at(), problem);
        }
        Ok(())
    }

    /// Operations whose operators bind at least that strongly.
    fn operations(&mut self, least: u8) -> Checked<Expression> {
        let mut left = self.prefixed()?;
        loop {
            let at = self.at();
            let Token::Sign(sign) = self.token else { return Ok(left) };
            let is_sign = |known: &str| known.as_bytes()[0] == sign.as_bytes()[0] && known == sign;
            let Some((_, operator, strength)) = OPERATORS.iter().find(|(known, ..)| is_sign(known)) else {
                return Ok(left);
            };
            if *strength < least {
                return Ok(left);
            }
            self.count_operation()?;
            self.pass();
            let right = self.operations(strength + 1)?;
            left = Expression { kind: ExpressionKind::Binary(*operator, Box::new(left), Box::new(right)), at };
        }
    }

    fn prefixed(&mut self) -> Checked<Expression> {
        let at = self.at();
        if self.takes("-") {
            let of = self.deeper(Self::prefixed)?;
            return Ok(Expression { kind: ExpressionKind::Negate(Box::new(of)), at });
        }
        if self.takes("!") {
            let of = self.deeper(Self::prefixed)?;
            return Ok(Expression { kind: ExpressionKind::Not(Box::new(of)), at });
        }
        let mut of = self.primary()?;
        loop {
            let at = self.at();
            let kind = if self.takes("[") {
                let index = self.expression()?;
                self.expect("]")?;
                ExpressionKind::Index(Box::new(of), Box::new(index))
            } else if self.takes(".") {
                ExpressionKind::Field(Box::new(of), self.name("the name of a field")?)
            } else {
                return Ok(of);
            };
            self.count_operation()?;
            of = Expression { kind, at };
        }
    }

    fn primary(&mut self) -> Checked<Expression> {
        let at = self.at();
        let kind = match self.take() {
            Token::Int(number) => ExpressionKind::Int(number),
            Token::Float(number) => ExpressionKind::Float(number),
            Token::Text(bytes) => ExpressionKind::Text(bytes),
            Token::Name("true") => ExpressionKind::Bool(true),
            Token::Name("false") => ExpressionKind::Bool(false),
            Token::Name(name) if !is_keyword(name) => {
                let name = name.to_owned();
                self.named(name)?
            }
            Token::Sign("(") => {
                let inside = self.expression()?;
                self.expect(")")?;
                return Ok(inside);
            }
            Token::Sign("[") => self.array()?,
            other => return complain(at, format!("expected an expression, found {}", name_of(&other))),
        };
        Ok(Expression { kind, at })
    }

    fn named(&mut self, name: String) -> Checked<ExpressionKind> {
        if self.takes("(") {
            return Ok(ExpressionKind::Call(name, self.list(")", Self::expression)?));
        }
        // A capital letter, because `if done {` would read like a record otherwise.
        if name.starts_with(|c: char| c.is_ascii_uppercase()) && self.takes("{") {
            let fields = self.list("}", |parser| {
                let field = parser.name("the name of a field")?;
                parser.expect(":")?;
                Ok((field, parser.expression()?))
            })?;
            return Ok(ExpressionKind::Record(name, fields));
        }
        Ok(ExpressionKind::Name(name))
    }

    fn array(&mut self) -> Checked<ExpressionKind> {
        let at = self.at();
        if self.takes("]") {
            return complain(at, "an empty array does not say of what; write `[0; 0]`");
        }
        let first = self.expression()?;
        if self.takes(";") {
            let length = self.expression()?;
            self.expect("]")?;
            return Ok(ExpressionKind::Fill(Box::new(first), Box::new(length)));
        }
        let mut elements = vec![first];
        if self.takes(",") {
            elements.extend(self.list("]", Self::expression)?);
        } else {
            self.expect("]")?;
        }
        Ok(ExpressionKind::Array(elements))
    }
}

fn name_of(token: &Token<'_>) -> String {
    match token {
        Token::Name(name) => format!("`{name}`"),
        Token::Int(number) => format!("`{number}`"),
        Token::Float(number) => format!("`{number}`"),
        Token::Text(_) => "a text".to_owned(),
        Token::Sign(sign) => format!("`{sign}`"),
        Token::End => "the end of the file".to_owned(),
    }
}
