//! The shape of a program as it was written, before anything is known of its names.

use crate::front::source::Position;

/// A file.
#[derive(Debug, Default)]
pub struct Module {
    /// Other files whose records and functions it uses.
    pub imports: Vec<(String, Position)>,
    /// Its record types.
    pub records: Vec<Record>,
    /// Its functions.
    pub functions: Vec<Function>,
}

/// A record type.
#[derive(Debug)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// Names and types of its fields.
    pub fields: Vec<(String, TypeName)>,
    /// Where it is named.
    pub at: Position,
}

/// A function or kernel.
#[derive(Debug)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Names and types of its parameters.
    pub parameters: Vec<(String, TypeName, Position)>,
    /// What it returns, if it returns anything.
    pub returns: Option<TypeName>,
    /// What it does.
    pub body: Vec<Statement>,
    /// Whether it is one: its first parameter is then the number of its thread.
    pub is_kernel: bool,
    /// Where it is named.
    pub at: Position,
    /// Its closing brace.
    pub end: Position,
}

/// A type as it was written.
#[derive(Debug)]
pub enum TypeName {
    /// `int`, `float`, `bool`, or a record.
    Named(String, Position),
    /// `[T]`.
    Array(Box<TypeName>),
}

/// A statement.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names are those of the grammar")]
pub enum Statement {
    Let { name: String, is_mutable: bool, value: Expression },
    Assign { target: Expression, operator: Option<Operator>, value: Expression, at: Position },
    If { condition: Expression, yes: Vec<Statement>, no: Vec<Statement> },
    While { condition: Expression, body: Vec<Statement> },
    For { name: String, from: Expression, to: Expression, body: Vec<Statement> },
    Return(Option<Expression>, Position),
    Break(Position),
    Continue(Position),
    Launch { kernel: String, count: Expression, arguments: Vec<Expression>, at: Position },
    Expression(Expression),
}

/// An expression, and where it begins; of an operation, where its operator stands.
#[derive(Debug)]
pub struct Expression {
    /// What it is.
    pub kind: ExpressionKind,
    /// Where.
    pub at: Position,
}

/// What an expression is.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names are those of the grammar")]
pub enum ExpressionKind {
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(Vec<u8>),
    Name(String),
    Negate(Box<Expression>),
    Not(Box<Expression>),
    Binary(Operator, Box<Expression>, Box<Expression>),
    Call(String, Vec<Expression>),
    Index(Box<Expression>, Box<Expression>),
    Field(Box<Expression>, String),
    Array(Vec<Expression>),
    Fill(Box<Expression>, Box<Expression>),
    Record(String, Vec<(String, Expression)>),
}

/// An operator between two expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    BitOr,
    BitXor,
    BitAnd,
    ShiftLeft,
    ShiftRight,
    /// Fills with zeros.
    ShiftRightUnsigned,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// Sign, operator, and how strongly it binds.
pub const OPERATORS: &[(&str, Operator, u8)] = &[
    ("||", Operator::Or, 1),
    ("&&", Operator::And, 2),
    ("==", Operator::Equal, 3),
    ("!=", Operator::NotEqual, 3),
    ("<", Operator::Less, 3),
    ("<=", Operator::LessEqual, 3),
    (">", Operator::Greater, 3),
    (">=", Operator::GreaterEqual, 3),
    ("|", Operator::BitOr, 4),
    ("^", Operator::BitXor, 5),
    ("&", Operator::BitAnd, 6),
    ("<<", Operator::ShiftLeft, 7),
    (">>", Operator::ShiftRight, 7),
    (">>>", Operator::ShiftRightUnsigned, 7),
    ("+", Operator::Add, 8),
    ("-", Operator::Subtract, 8),
    ("*", Operator::Multiply, 9),
    ("/", Operator::Divide, 9),
    ("%", Operator::Remainder, 9),
];

impl Operator {
    /// As it is written.
    pub fn sign(self) -> &'static str {
        OPERATORS.iter().find(|(_, operator, _)| *operator == self).map_or("?", |(sign, ..)| sign)
    }
}
