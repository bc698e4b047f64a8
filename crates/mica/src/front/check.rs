//! Checks statements, and builds the representation as it goes. Knows no machine.

use crate::front::ast::{Expression, ExpressionKind, Function, Module, Operator, Statement};
use crate::front::build::Builder;
use crate::front::parser::parse;
use crate::front::source::{Checked, Complaint, Position, Problem, complain};
use crate::front::types::{Names, Type};
use crate::ir::{self, BlockId, End, Instruction, Kind, Register};

/// A function with the place of its name.
pub struct Compiled {
    /// The function.
    pub function: ir::Function,
    /// The file's number.
    pub file: usize,
    /// The line of its name.
    pub line: u32,
}

/// The files' imports, by file; parsed once, checked later by [`compile`].
pub fn read(file: &str, text: &str) -> Result<Module, Problem> {
    parse(text).map_err(|complaint| problem(file, text, complaint))
}

/// Checks files that import nothing beyond each other, and builds their functions. Each has a name, a text, and what
/// [`read`] made of it, out of which the functions are taken: each goes when it is built, and the next one gets its memory.
pub fn compile(files: &mut [(String, String, Module)]) -> Result<Vec<Compiled>, Problem> {
    let mut names = Names::default();
    for (file, text, module) in &*files {
        names.add_records(module).map_err(|complaint| problem(file, text, complaint))?;
    }
    for (file, text, module) in &*files {
        names.add_members(module).map_err(|complaint| problem(file, text, complaint))?;
    }
    let mut compiled = Vec::new();
    for (number, (file, text, module)) in files.iter_mut().enumerate() {
        for function in std::mem::take(&mut module.functions) {
            let built = Checker::check(&names, &function).map_err(|complaint| problem(file, text, complaint))?;
            compiled.push(Compiled { function: built, file: number, line: function.at.line });
        }
    }
    Ok(compiled)
}

fn problem(file: &str, text: &str, complaint: Complaint) -> Problem {
    Problem::new(file, text, complaint.at, complaint.message)
}

/// A name in a function.
#[derive(Clone)]
pub(super) struct Variable {
    pub(super) register: Register,
    pub(super) of: Type,
    is_mutable: bool,
}

/// Checks one function.
pub(super) struct Checker<'n> {
    pub(super) names: &'n Names,
    pub(super) builder: Builder,
    /// The innermost last; there are few, and a name is looked for from the end.
    variables: Vec<(String, Variable)>,
    /// Where `break` and `continue` lead, the innermost loop last.
    loops: Vec<(BlockId, BlockId)>,
    returns: Type,
}

impl<'n> Checker<'n> {
    fn check(names: &'n Names, function: &Function) -> Checked<ir::Function> {
        let signature = &names.functions[&function.name];
        let returns = signature.returns.clone();
        let kind = (returns != Type::Nothing).then(|| returns.kind());
        let builder = Builder::new(&function.name, function.at.line, function.is_kernel, kind);
        let mut checker = Checker { names, builder, variables: Vec::new(), loops: Vec::new(), returns };
        for ((name, _, at), of) in function.parameters.iter().zip(&signature.parameters) {
            let register = checker.builder.parameter(of.kind());
            // The number of a kernel's thread and all other parameters stay what they are.
            let variable = Variable { register, of: of.clone(), is_mutable: false };
            if checker.variables.iter().any(|(known, _)| known == name) {
                return complain(*at, format!("there are two parameters `{name}`"));
            }
            checker.variables.push((name.clone(), variable));
        }
        checker.block(&function.body)?;
        if checker.builder.is_open() && checker.returns != Type::Nothing {
            let of = names.show(&checker.returns);
            return complain(function.end, format!("`{}` can end without returning {}", function.name, article(&of)));
        }
        checker.builder.end(End::Return(None));
        Ok(checker.builder.finish())
    }

    fn block(&mut self, statements: &[Statement]) -> Checked<()> {
        let outside = self.variables.len();
        let result = statements.iter().try_for_each(|statement| self.statement(statement));
        self.variables.truncate(outside);
        result
    }

    fn statement(&mut self, statement: &Statement) -> Checked<()> {
        match statement {
            Statement::Let { name, is_mutable, value } => {
                let (from, of) = self.value(value)?;
                let to = self.declare(name, of, *is_mutable);
                self.builder.add(Instruction::Copy { to, from });
                Ok(())
            }
            Statement::Assign { target, operator, value, at } => self.assign(target, *operator, value, *at),
            Statement::If { condition, yes, no } => self.conditional(condition, yes, no),
            Statement::While { condition, body } => self.repeat(condition, body),
            Statement::For { name, from, to, body } => self.count(name, from, to, body),
            Statement::Return(value, at) => self.give_back(value.as_ref(), *at),
            Statement::Break(at) => self.leave(*at, "break", |ends| ends.0),
            Statement::Continue(at) => self.leave(*at, "continue", |ends| ends.1),
            Statement::Launch { kernel, count, arguments, at } => self.launch(kernel, count, arguments, *at),
            Statement::Expression(expression) => self.expression(expression).map(|_| ()),
        }
    }

    fn declare(&mut self, name: &str, of: Type, is_mutable: bool) -> Register {
        let register = self.builder.register(of.kind());
        self.variables.push((name.to_owned(), Variable { register, of, is_mutable }));
        register
    }

    pub(super) fn variable(&self, name: &str, at: Position) -> Checked<Variable> {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        found
            .map(|(_, variable)| variable.clone())
            .map_or_else(|| complain(at, format!("there is no variable `{name}`")), Ok)
    }

    fn assign(
        &mut self,
        target: &Expression,
        operator: Option<Operator>,
        value: &Expression,
        at: Position,
    ) -> Checked<()> {
        match &target.kind {
            ExpressionKind::Name(name) => {
                let variable = self.variable(name, target.at)?;
                if !variable.is_mutable {
                    return complain(target.at, format!("`{name}` cannot change; declare it with `var`"));
                }
                let old = (variable.register, variable.of.clone());
                let from = self.new_value(old, operator, value, at)?;
                self.builder.add(Instruction::Copy { to: variable.register, from });
            }
            ExpressionKind::Index(array, index) => {
                let (array, element) = self.array(array)?;
                let index = self.of_type(index, &Type::Int)?;
                let place = self.builder.place(target.at);
                let old = self.builder.register(element.kind());
                if operator.is_some() {
                    self.builder.add(Instruction::Get { to: old, array, index, place });
                }
                let value = self.new_value((old, element), operator, value, at)?;
                self.builder.add(Instruction::Set { array, index, value, place });
            }
            ExpressionKind::Field(record, name) => {
                let (record, field, of) = self.field(record, name, target.at)?;
                let old = self.builder.register(of.kind());
                if operator.is_some() {
                    self.builder.add(Instruction::GetField { to: old, record, field });
                }
                let value = self.new_value((old, of), operator, value, at)?;
                self.builder.add(Instruction::SetField { record, field, value });
            }
            _ => return complain(target.at, "only a variable, an element or a field can be assigned to"),
        }
        Ok(())
    }

    fn new_value(
        &mut self,
        (old, of): (Register, Type),
        operator: Option<Operator>,
        value: &Expression,
        at: Position,
    ) -> Checked<Register> {
        let Some(operator) = operator else { return self.of_type(value, &of) };
        let right = self.value(value)?;
        let (register, result) = self.operation(operator, (old, of.clone()), right, at)?;
        if result != of {
            return complain(at, format!("this gives {}", article(&self.names.show(&result))));
        }
        Ok(register)
    }

    fn conditional(&mut self, condition: &Expression, yes: &[Statement], no: &[Statement]) -> Checked<()> {
        let condition = self.of_type(condition, &Type::Bool)?;
        let (then, otherwise, after) = (self.builder.block(), self.builder.block(), self.builder.block());
        let was_open = self.builder.is_open();
        self.builder.end(End::Branch { condition, yes: then, no: otherwise });
        let mut goes_on = false;
        for (block, statements) in [(then, yes), (otherwise, no)] {
            self.builder.go_on_in(block);
            self.block(statements)?;
            goes_on |= self.builder.is_open();
            self.builder.end(End::Jump(after));
        }
        if was_open && goes_on {
            self.builder.go_on_in(after);
        }
        Ok(())
    }

    fn repeat(&mut self, condition: &Expression, body: &[Statement]) -> Checked<()> {
        let (head, inside, after) = (self.builder.block(), self.builder.block(), self.builder.block());
        self.builder.end(End::Jump(head));
        self.builder.go_on_in(head);
        let condition = self.of_type(condition, &Type::Bool)?;
        self.builder.end(End::Branch { condition, yes: inside, no: after });
        self.builder.go_on_in(inside);
        self.loop_body(body, (after, head))?;
        self.builder.end(End::Jump(head));
        self.builder.go_on_in(after);
        Ok(())
    }

    fn loop_body(&mut self, body: &[Statement], ends: (BlockId, BlockId)) -> Checked<()> {
        self.loops.push(ends);
        let result = self.block(body);
        self.loops.pop();
        result
    }

    fn count(&mut self, name: &str, from: &Expression, to: &Expression, body: &[Statement]) -> Checked<()> {
        let from = self.of_type(from, &Type::Int)?;
        let to = self.of_type(to, &Type::Int)?;
        let end = self.builder.register(Kind::Int);
        self.builder.add(Instruction::Copy { to: end, from: to });
        let outside = self.variables.len();
        let counter = self.declare(name, Type::Int, false);
        self.builder.add(Instruction::Copy { to: counter, from });
        let result = self.counted(counter, end, |checker, ends| checker.loop_body(body, ends));
        self.variables.truncate(outside);
        result
    }

    /// Runs `body` for each number below `end`, from the counter's on. It is given where to break and to continue.
    fn counted(
        &mut self,
        counter: Register,
        end: Register,
        body: impl FnOnce(&mut Self, (BlockId, BlockId)) -> Checked<()>,
    ) -> Checked<()> {
        let builder = &mut self.builder;
        let (head, inside, next, after) = (builder.block(), builder.block(), builder.block(), builder.block());
        builder.end(End::Jump(head));
        builder.go_on_in(head);
        let condition = builder.register(Kind::Bool);
        builder.add(Instruction::Binary { operation: ir::Binary::Less, to: condition, left: counter, right: end });
        builder.end(End::Branch { condition, yes: inside, no: after });
        builder.go_on_in(inside);
        body(self, (after, next))?;
        let builder = &mut self.builder;
        builder.end(End::Jump(next));
        builder.go_on_in(next);
        let one = builder.constant(Kind::Int, 1);
        builder.add(Instruction::Binary { operation: ir::Binary::Add, to: counter, left: counter, right: one });
        builder.end(End::Jump(head));
        builder.go_on_in(after);
        Ok(())
    }

    fn give_back(&mut self, value: Option<&Expression>, at: Position) -> Checked<()> {
        let returns = self.returns.clone();
        let value = match (value, returns == Type::Nothing) {
            (None, true) => None,
            (Some(value), false) => Some(self.of_type(value, &returns)?),
            (Some(_), true) => return complain(at, "this function returns nothing"),
            (None, false) => {
                return complain(at, format!("this function returns {}", article(&self.names.show(&returns))));
            }
        };
        self.builder.end(End::Return(value));
        Ok(())
    }

    fn leave(&mut self, at: Position, word: &str, to: fn(&(BlockId, BlockId)) -> BlockId) -> Checked<()> {
        let Some(ends) = self.loops.last() else { return complain(at, format!("`{word}` outside of a loop")) };
        self.builder.end(End::Jump(to(ends)));
        Ok(())
    }

    /// Offers all threads to a card; what no card takes runs here, one thread after the other.
    fn launch(&mut self, kernel: &str, count: &Expression, arguments: &[Expression], at: Position) -> Checked<()> {
        if !self.names.functions.get(kernel).is_some_and(|known| known.is_kernel) {
            return complain(at, format!("there is no kernel `{kernel}`"));
        }
        let count = self.of_type(count, &Type::Int)?;
        let counter = self.builder.constant(Kind::Int, 0);
        let arguments = self.arguments(kernel, arguments, Some(counter), at)?;
        let callee = self.callee(kernel);
        let done = self.builder.register(Kind::Bool);
        let values = arguments[1..].to_vec();
        self.builder.add(Instruction::Launch { to: done, kernel: callee, count, arguments: values });
        let (here, after) = (self.builder.block(), self.builder.block());
        self.builder.end(End::Branch { condition: done, yes: after, no: here });
        self.builder.go_on_in(here);
        let place = self.builder.place(at);
        self.counted(counter, count, |checker, _| {
            checker.builder.add(Instruction::Call { to: None, callee, arguments, place });
            Ok(())
        })?;
        self.builder.end(End::Jump(after));
        self.builder.go_on_in(after);
        Ok(())
    }
}

/// With `a` or `an` before it, where there should be one.
pub(super) fn article(of: &str) -> String {
    match of.chars().next() {
        _ if of == "nothing" || of.starts_with('[') => of.to_owned(),
        Some('a' | 'e' | 'i' | 'o' | 'u' | 'A' | 'E' | 'I' | 'O' | 'U') => format!("an {of}"),
        _ => format!("a {of}"),
    }
}
