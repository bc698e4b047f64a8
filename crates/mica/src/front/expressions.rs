//! Checks expressions, and builds what computes them. Knows no statements.

use crate::front::ast::{Expression, ExpressionKind, Operator};
use crate::front::check::{Checker, article};
use crate::front::source::{Checked, Position, complain};
use crate::front::types::Type;
use crate::ir::{Binary, Callee, End, Host, Instruction, Kind, Register, Unary};

/// Where a value is, and what it is.
type Value = (Register, Type);

impl Checker<'_> {
    /// An expression; a call may give nothing.
    pub(super) fn expression(&mut self, expression: &Expression) -> Checked<Value> {
        let at = expression.at;
        match &expression.kind {
            ExpressionKind::Int(number) => Ok((self.builder.constant(Kind::Int, *number as u64), Type::Int)),
            ExpressionKind::Float(number) => Ok((self.builder.constant(Kind::Float, number.to_bits()), Type::Float)),
            ExpressionKind::Bool(truth) => Ok((self.builder.constant(Kind::Bool, u64::from(*truth)), Type::Bool)),
            ExpressionKind::Text(bytes) => {
                let (to, text, place) =
                    (self.builder.register(Kind::Array), self.builder.text(bytes), self.builder.place(at));
                self.builder.add(Instruction::NewText { to, text, place });
                Ok((to, Type::Array(Box::new(Type::Int))))
            }
            ExpressionKind::Name(name) => self.variable(name, at).map(|variable| (variable.register, variable.of)),
            ExpressionKind::Negate(of) => match self.value(of)? {
                (from, Type::Int) => Ok(self.unary(Unary::IntNegate, from, Type::Int)),
                (from, Type::Float) => Ok(self.unary(Unary::FloatNegate, from, Type::Float)),
                (_, other) => complain(at, format!("`-` takes a number, not {}", article(&self.names.show(&other)))),
            },
            ExpressionKind::Not(of) => {
                let from = self.of_type(of, &Type::Bool)?;
                Ok(self.unary(Unary::Not, from, Type::Bool))
            }
            ExpressionKind::Binary(operator @ (Operator::And | Operator::Or), left, right) => {
                self.either(*operator, left, right)
            }
            ExpressionKind::Binary(operator, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.operation(*operator, left, right, at)
            }
            ExpressionKind::Call(name, arguments) => self.call(name, arguments, at),
            ExpressionKind::Index(array, index) => {
                let (array, element) = self.array(array)?;
                let index = self.of_type(index, &Type::Int)?;
                let (to, place) = (self.builder.register(element.kind()), self.builder.place(at));
                self.builder.add(Instruction::Get { to, array, index, place });
                Ok((to, element))
            }
            ExpressionKind::Field(record, name) => {
                let (record, field, of) = self.field(record, name, at)?;
                let to = self.builder.register(of.kind());
                self.builder.add(Instruction::GetField { to, record, field });
                Ok((to, of))
            }
            ExpressionKind::Array(elements) => self.listed(elements, at),
            ExpressionKind::Fill(fill, length) => {
                let (fill, element) = self.value(fill)?;
                let length = self.of_type(length, &Type::Int)?;
                Ok(self.new_array(fill, element, length, at))
            }
            ExpressionKind::Record(name, fields) => self.record(name, fields, at),
        }
    }

    /// An expression that gives something.
    pub(super) fn value(&mut self, expression: &Expression) -> Checked<Value> {
        let value = self.expression(expression)?;
        if value.1 == Type::Nothing {
            return complain(expression.at, "this function returns nothing");
        }
        Ok(value)
    }

    /// An expression of that type.
    pub(super) fn of_type(&mut self, expression: &Expression, of: &Type) -> Checked<Register> {
        let (register, found) = self.value(expression)?;
        if found != *of {
            let (expected, found) = (self.names.show(of), self.names.show(&found));
            return complain(expression.at, format!("expected {}, found {}", article(&expected), article(&found)));
        }
        Ok(register)
    }

    /// An array, and the type of its elements.
    pub(super) fn array(&mut self, expression: &Expression) -> Checked<Value> {
        match self.value(expression)? {
            (array, Type::Array(element)) => Ok((array, *element)),
            (_, other) => {
                complain(expression.at, format!("this is no array but {}", article(&self.names.show(&other))))
            }
        }
    }

    /// A record, and the number and type of the field of that name.
    pub(super) fn field(&mut self, record: &Expression, name: &str, at: Position) -> Checked<(Register, u32, Type)> {
        let (register, Type::Record(number)) = self.value(record)? else {
            return complain(at, format!("what stands before `.{name}` has no fields"));
        };
        let known = &self.names.records[number];
        let Some(field) = known.fields.iter().position(|(field, _)| field == name) else {
            return complain(at, format!("`{}` has no field `{name}`", known.name));
        };
        Ok((register, field as u32, known.fields[field].1.clone()))
    }

    /// What the operator gives for two values.
    pub(super) fn operation(
        &mut self,
        operator: Operator,
        (left, left_type): Value,
        (right, right_type): Value,
        at: Position,
    ) -> Checked<Value> {
        if let (Operator::Divide | Operator::Remainder, Type::Int, Type::Int) = (operator, &left_type, &right_type) {
            let (to, place) = (self.builder.register(Kind::Int), self.builder.place(at));
            let is_remainder = operator == Operator::Remainder;
            self.builder.add(Instruction::Divide { is_remainder, to, left, right, place });
            return Ok((to, Type::Int));
        }
        let swapped = matches!(operator, Operator::Greater | Operator::GreaterEqual);
        let (left, right) = if swapped { (right, left) } else { (left, right) };
        let found = if left_type == right_type { operation_on(operator, &left_type) } else { None };
        let Some((operation, of)) = found else {
            let (left, right) = (self.names.show(&left_type), self.names.show(&right_type));
            return complain(
                at,
                format!("`{}` does not work on {} and {}", operator.sign(), article(&left), article(&right)),
            );
        };
        let to = self.builder.register(of.kind());
        self.builder.add(Instruction::Binary { operation, to, left, right });
        Ok((to, of))
    }

    /// `&&` and `||`, whose right side may not run.
    fn either(&mut self, operator: Operator, left: &Expression, right: &Expression) -> Checked<Value> {
        let to = self.builder.register(Kind::Bool);
        let condition = self.of_type(left, &Type::Bool)?;
        self.builder.add(Instruction::Copy { to, from: condition });
        let (more, after) = (self.builder.block(), self.builder.block());
        let (yes, no) = if operator == Operator::And { (more, after) } else { (after, more) };
        let was_open = self.builder.is_open();
        self.builder.end(End::Branch { condition, yes, no });
        self.builder.go_on_in(more);
        let from = self.of_type(right, &Type::Bool)?;
        self.builder.add(Instruction::Copy { to, from });
        self.builder.end(End::Jump(after));
        if was_open {
            self.builder.go_on_in(after);
        }
        Ok((to, Type::Bool))
    }

    fn unary(&mut self, operation: Unary, from: Register, of: Type) -> Value {
        let to = self.builder.register(of.kind());
        self.builder.add(Instruction::Unary { operation, to, from });
        (to, of)
    }

    fn new_array(&mut self, fill: Register, element: Type, length: Register, at: Position) -> Value {
        let of = Type::Array(Box::new(element));
        let (to, place) = (self.builder.register(of.kind()), self.builder.place(at));
        self.builder.add(Instruction::NewArray { to, fill, length, place });
        (to, of)
    }

    fn listed(&mut self, elements: &[Expression], at: Position) -> Checked<Value> {
        let (first, element) = self.value(&elements[0])?;
        let mut values = vec![first];
        for other in &elements[1..] {
            values.push(self.of_type(other, &element)?);
        }
        let length = self.builder.constant(Kind::Int, values.len() as u64);
        let (array, of) = self.new_array(first, element, length, at);
        let place = self.builder.place(at);
        for (number, value) in values.into_iter().enumerate().skip(1) {
            let index = self.builder.constant(Kind::Int, number as u64);
            self.builder.add(Instruction::Set { array, index, value, place });
        }
        Ok((array, of))
    }

    fn record(&mut self, name: &str, fields: &[(String, Expression)], at: Position) -> Checked<Value> {
        let number = self.names.record(name, at)?;
        let known = &self.names.records[number].fields;
        let mut values = vec![None; known.len()];
        for (field, value) in fields {
            let Some(place) = known.iter().position(|(known, _)| known == field) else {
                return complain(value.at, format!("`{name}` has no field `{field}`"));
            };
            if values[place].is_some() {
                return complain(value.at, format!("the field `{field}` is given twice"));
            }
            values[place] = Some(self.of_type(value, &known[place].1)?);
        }
        if let Some(missing) = values.iter().position(Option::is_none) {
            return complain(at, format!("the field `{}` is missing", known[missing].0));
        }
        let (to, place) = (self.builder.register(Kind::Other), self.builder.place(at));
        let fields = values.into_iter().flatten().collect();
        self.builder.add(Instruction::NewRecord { to, fields, place });
        Ok((to, Type::Record(number)))
    }

    /// The callee of that name.
    pub(super) fn callee(&mut self, name: &str) -> u32 {
        let names = self.names;
        self.builder.callee(name, || {
            let known = &names.functions[name];
            let parameters = known.parameters.iter().map(Type::kind).collect();
            let returns = (known.returns != Type::Nothing).then(|| known.returns.kind());
            Callee { name: name.to_owned(), parameters, returns }
        })
    }

    /// The arguments of a function; `first` stands before those that are written.
    pub(super) fn arguments(
        &mut self,
        name: &str,
        arguments: &[Expression],
        first: Option<Register>,
        at: Position,
    ) -> Checked<Vec<Register>> {
        let names = self.names;
        let parameters = &names.functions[name].parameters;
        let given = usize::from(first.is_some());
        if parameters.len() - given != arguments.len() {
            let expected = parameters.len() - given;
            return complain(at, format!("`{name}` takes {expected} arguments, and there are {}", arguments.len()));
        }
        let mut registers: Vec<Register> = first.into_iter().collect();
        for (argument, of) in arguments.iter().zip(&parameters[given..]) {
            registers.push(self.of_type(argument, of)?);
        }
        Ok(registers)
    }

    fn call(&mut self, name: &str, arguments: &[Expression], at: Position) -> Checked<Value> {
        let names = self.names;
        let Some(signature) = names.functions.get(name) else { return self.built_in(name, arguments, at) };
        if signature.is_kernel {
            return complain(at, format!("a kernel is launched: `launch {name}[n](..);`"));
        }
        let arguments = self.arguments(name, arguments, None, at)?;
        let (callee, returns) = (self.callee(name), signature.returns.clone());
        let to = (returns != Type::Nothing).then(|| self.builder.register(returns.kind()));
        let place = self.builder.place(at);
        self.builder.add(Instruction::Call { to, callee, arguments, place });
        Ok((to.unwrap_or_default(), returns))
    }

    fn built_in(&mut self, name: &str, arguments: &[Expression], at: Position) -> Checked<Value> {
        let mut values = Vec::with_capacity(arguments.len());
        for argument in arguments {
            values.push(self.value(argument)?);
        }
        let registers = || values.iter().map(|(register, _)| *register).collect::<Vec<_>>();
        let types: Vec<Type> = values.iter().map(|(_, of)| of.clone()).collect();
        match (name, types.as_slice()) {
            ("len", [Type::Array(_)]) => {
                let to = self.builder.register(Kind::Int);
                self.builder.add(Instruction::Length { to, array: values[0].0 });
                Ok((to, Type::Int))
            }
            ("assert", [Type::Bool]) => {
                let place = self.builder.place(at);
                self.builder.add(Instruction::Assert { condition: values[0].0, place });
                Ok((0, Type::Nothing))
            }
            ("print", [of]) => {
                let function = match of {
                    Type::Int => Host::PrintInt,
                    Type::Float => Host::PrintFloat,
                    Type::Bool => Host::PrintBool,
                    Type::Array(element) if **element == Type::Int => Host::PrintText,
                    other => {
                        let other = article(&self.names.show(other));
                        return complain(at, format!("`print` takes a number, a bool or a text, not {other}"));
                    }
                };
                self.builder.add(Instruction::Host { to: None, function, arguments: registers() });
                Ok((0, Type::Nothing))
            }
            ("abs", [Type::Int]) => Ok(self.absolute(values[0].0)),
            _ => {
                if let Some((operation, of)) = unary_built_in(name, &types) {
                    return Ok(self.unary(operation, values[0].0, of));
                }
                if let Some(function) = float_built_in(name, &types) {
                    let to = self.builder.register(Kind::Float);
                    self.builder.add(Instruction::Host { to: Some(to), function, arguments: registers() });
                    return Ok((to, Type::Float));
                }
                self.no_such_function(name, &types, at)
            }
        }
    }

    /// `(x ^ s) - s` with `s` the sign spread over all bits.
    fn absolute(&mut self, of: Register) -> Value {
        let count = self.builder.constant(Kind::Int, 63);
        let sign = self.builder.register(Kind::Int);
        let turned = self.builder.register(Kind::Int);
        let to = self.builder.register(Kind::Int);
        self.builder.add(Instruction::Binary { operation: Binary::ShiftRight, to: sign, left: of, right: count });
        self.builder.add(Instruction::Binary { operation: Binary::Xor, to: turned, left: of, right: sign });
        self.builder.add(Instruction::Binary { operation: Binary::Subtract, to, left: turned, right: sign });
        (to, Type::Int)
    }

    fn no_such_function(&self, name: &str, types: &[Type], at: Position) -> Checked<Value> {
        let is_built_in = crate::front::types::is_built_in(name);
        if !is_built_in {
            return complain(at, format!("there is no function `{name}`"));
        }
        let types: Vec<String> = types.iter().map(|of| self.names.show(of)).collect();
        complain(at, format!("`{name}` does not take ({})", types.join(", ")))
    }
}

fn unary_built_in(name: &str, types: &[Type]) -> Option<(Unary, Type)> {
    Some(match (name, types) {
        ("int", [Type::Float]) => (Unary::FloatToInt, Type::Int),
        ("float", [Type::Int]) => (Unary::IntToFloat, Type::Float),
        ("sqrt", [Type::Float]) => (Unary::Sqrt, Type::Float),
        ("floor", [Type::Float]) => (Unary::Floor, Type::Float),
        ("abs", [Type::Float]) => (Unary::FloatAbs, Type::Float),
        ("bits", [Type::Float]) => (Unary::Bits, Type::Int),
        ("from_bits", [Type::Int]) => (Unary::FromBits, Type::Float),
        _ => return None,
    })
}

fn float_built_in(name: &str, types: &[Type]) -> Option<Host> {
    Some(match (name, types) {
        ("sin", [Type::Float]) => Host::Sin,
        ("cos", [Type::Float]) => Host::Cos,
        ("exp", [Type::Float]) => Host::Exp,
        ("log", [Type::Float]) => Host::Log,
        ("pow", [Type::Float, Type::Float]) => Host::Power,
        _ => return None,
    })
}

/// The operation on two values of that type, and the type of what it gives. `>` and `>=` are their opposites on swapped values.
fn operation_on(operator: Operator, of: &Type) -> Option<(Binary, Type)> {
    let operation = match (operator, of) {
        (Operator::Add, Type::Int) => Binary::Add,
        (Operator::Subtract, Type::Int) => Binary::Subtract,
        (Operator::Multiply, Type::Int) => Binary::Multiply,
        (Operator::BitAnd, Type::Int | Type::Bool) => Binary::And,
        (Operator::BitOr, Type::Int | Type::Bool) => Binary::Or,
        (Operator::BitXor, Type::Int | Type::Bool) => Binary::Xor,
        (Operator::ShiftLeft, Type::Int) => Binary::ShiftLeft,
        (Operator::ShiftRight, Type::Int) => Binary::ShiftRight,
        (Operator::ShiftRightUnsigned, Type::Int) => Binary::ShiftRightUnsigned,
        (Operator::Equal, Type::Int | Type::Bool) => Binary::Equal,
        (Operator::NotEqual, Type::Int | Type::Bool) => Binary::NotEqual,
        (Operator::Less | Operator::Greater, Type::Int) => Binary::Less,
        (Operator::LessEqual | Operator::GreaterEqual, Type::Int) => Binary::LessEqual,
        (Operator::Add, Type::Float) => Binary::FloatAdd,
        (Operator::Subtract, Type::Float) => Binary::FloatSubtract,
        (Operator::Multiply, Type::Float) => Binary::FloatMultiply,
        (Operator::Divide, Type::Float) => Binary::FloatDivide,
        (Operator::Equal, Type::Float) => Binary::FloatEqual,
        (Operator::NotEqual, Type::Float) => Binary::FloatNotEqual,
        (Operator::Less | Operator::Greater, Type::Float) => Binary::FloatLess,
        (Operator::LessEqual | Operator::GreaterEqual, Type::Float) => Binary::FloatLessEqual,
        _ => return None,
    };
    let compares = matches!(
        operation,
        Binary::Equal
            | Binary::NotEqual
            | Binary::Less
            | Binary::LessEqual
            | Binary::FloatEqual
            | Binary::FloatNotEqual
            | Binary::FloatLess
            | Binary::FloatLessEqual
    );
    Some((operation, if compares { Type::Bool } else { of.clone() }))
}
