//! Formulas, compiled to a stack machine: parsed by precedence, folded, checked for depth, run.

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Op {
    Push(f64),
    Load(u8),
    Add,
    Subtract,
    Multiply,
    Divide,
    Power,
    Negate,
    Root,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Formula {
    code: Vec<Op>,
    names: Vec<String>,
    stack: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormulaError {
    pub what: &'static str,
    pub at: usize,
}

const MAX_DEPTH: usize = 100;

impl Formula {
    pub fn new(source: &str) -> Result<Formula, FormulaError> {
        let mut parser = Parser { source, at: 0, code: Vec::new(), names: Vec::new(), depth: 0 };
        parser.expression(0)?;
        if parser.peek().is_some() {
            return Err(parser.error("something after the formula"));
        }
        let stack = deepest(&parser.code);
        Ok(Formula { code: parser.code, names: parser.names, stack })
    }

    /// The variables, in the order in which `value` takes them.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// `None` if there is not one value for each name.
    pub fn value(&self, variables: &[f64]) -> Option<f64> {
        if variables.len() != self.names.len() {
            return None;
        }
        let mut stack = Vec::with_capacity(self.stack);
        for &op in &self.code {
            let value = match op {
                Op::Push(value) => value,
                Op::Load(variable) => variables[usize::from(variable)],
                Op::Negate | Op::Root => unary(op, stack.pop()?),
                _ => {
                    let right = stack.pop()?;
                    binary(op, stack.pop()?, right)
                }
            };
            stack.push(value);
        }
        stack.pop()
    }
}

struct Parser<'s> {
    source: &'s str,
    at: usize,
    code: Vec<Op>,
    names: Vec<String>,
    depth: usize,
}

impl Parser<'_> {
    /// Everything that binds at least as tightly as `least`.
    fn expression(&mut self, least: u8) -> Result<(), FormulaError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        self.operand()?;
        while let Some((op, binding, right)) =
            self.peek().and_then(operator).filter(|&(_, binding, _)| binding >= least)
        {
            self.at += 1;
            self.expression(right)?;
            debug_assert!(binding <= right);
            self.emit(op);
        }
        self.depth -= 1;
        Ok(())
    }

    fn operand(&mut self) -> Result<(), FormulaError> {
        match self.peek() {
            Some(b'-') => {
                self.at += 1;
                self.expression(5)?;
                self.emit(Op::Negate);
            }
            Some(b'(') => {
                self.at += 1;
                self.expression(0)?;
                self.close()?;
            }
            Some(b'0'..=b'9' | b'.') => {
                let digits = self.take(|byte| byte.is_ascii_digit() || byte == b'.');
                let value = digits.parse().map_err(|_| self.error("a malformed number"))?;
                self.emit(Op::Push(value));
            }
            Some(b'a'..=b'z' | b'A'..=b'Z') => self.name()?,
            _ => return Err(self.error("a number, a name or ( expected")),
        }
        Ok(())
    }

    fn name(&mut self) -> Result<(), FormulaError> {
        let name = self.take(|byte| byte.is_ascii_alphanumeric()).to_string();
        if name == "sqrt" && self.peek() == Some(b'(') {
            self.at += 1;
            self.expression(0)?;
            self.close()?;
            self.emit(Op::Root);
            return Ok(());
        }
        let known = self.names.iter().position(|known| *known == name);
        let variable = known.unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        });
        let variable = u8::try_from(variable).map_err(|_| self.error("more than 256 variables"))?;
        self.emit(Op::Load(variable));
        Ok(())
    }

    /// Computes at once what depends on no variable.
    fn emit(&mut self, op: Op) {
        let folded = match (op, &self.code[..]) {
            (Op::Push(_) | Op::Load(_), _) => None,
            (Op::Negate | Op::Root, [.., Op::Push(value)]) => Some((1, unary(op, *value))),
            (Op::Negate | Op::Root, _) => None,
            (_, [.., Op::Push(left), Op::Push(right)]) => Some((2, binary(op, *left, *right))),
            _ => None,
        };
        match folded {
            Some((operands, value)) => {
                self.code.truncate(self.code.len() - operands);
                self.code.push(Op::Push(value));
            }
            None => self.code.push(op),
        }
    }

    fn close(&mut self) -> Result<(), FormulaError> {
        if self.peek() != Some(b')') {
            return Err(self.error(") expected"));
        }
        self.at += 1;
        Ok(())
    }

    fn peek(&mut self) -> Option<u8> {
        self.take(|byte| byte.is_ascii_whitespace());
        self.source.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, wanted: impl Fn(u8) -> bool) -> &str {
        let start = self.at;
        self.at += self.source.as_bytes()[start..].iter().take_while(|&&byte| wanted(byte)).count();
        &self.source[start..self.at]
    }

    fn error(&self, what: &'static str) -> FormulaError {
        FormulaError { what, at: self.at }
    }
}

/// The operation, how tightly it binds, and what its right side must bind at least.
fn operator(byte: u8) -> Option<(Op, u8, u8)> {
    match byte {
        b'+' => Some((Op::Add, 1, 2)),
        b'-' => Some((Op::Subtract, 1, 2)),
        b'*' => Some((Op::Multiply, 3, 4)),
        b'/' => Some((Op::Divide, 3, 4)),
        b'^' => Some((Op::Power, 6, 6)),
        _ => None,
    }
}

fn unary(op: Op, value: f64) -> f64 {
    if op == Op::Root { value.sqrt() } else { -value }
}

fn binary(op: Op, left: f64, right: f64) -> f64 {
    match op {
        Op::Add => left + right,
        Op::Subtract => left - right,
        Op::Multiply => left * right,
        Op::Divide => left / right,
        Op::Power => left.powf(right),
        Op::Push(_) | Op::Load(_) | Op::Negate | Op::Root => f64::NAN,
    }
}

fn deepest(code: &[Op]) -> usize {
    let (mut depth, mut most) = (0usize, 0);
    for op in code {
        match op {
            Op::Push(_) | Op::Load(_) => depth += 1,
            Op::Negate | Op::Root => {}
            _ => depth -= 1,
        }
        most = most.max(depth);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_have_their_usual_values() {
        for (source, expected) in
            [("1+2*3", 7.0), ("(1+2)*3", 9.0), ("2^3^2", 512.0), ("-2^2", -4.0), ("8-3-2", 3.0), ("sqrt(16)/4", 1.0)]
        {
            let formula = Formula::new(source).unwrap();
            assert_eq!(formula.value(&[]), Some(expected), "{source}");
            assert_eq!(formula.code.len(), 1, "{source} is a constant");
        }
    }

    #[test]
    fn variables_are_taken_in_order() {
        let formula = Formula::new("a * x^2 + b*x - -a").unwrap();
        assert_eq!(formula.names(), ["a", "x", "b"]);
        assert_eq!(formula.value(&[2.0, 3.0, 5.0]), Some(35.0));
        assert_eq!(formula.value(&[2.0]), None);
    }

    #[test]
    fn what_is_no_formula_is_refused() {
        for bad in ["", "1+", "(1", "1 2", "1..2", "é", &"(".repeat(1_000)] {
            assert!(Formula::new(bad).is_err(), "{bad}");
        }
    }
}
