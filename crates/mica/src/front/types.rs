//! Types, and the names of a program that have them. Knows no statements.

use crate::front::ast::{Module, TypeName};
use crate::front::source::{Checked, Position, complain};
use crate::ir::Kind;
use std::collections::HashMap;

/// A type of the language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    Int,
    Float,
    Bool,
    Array(Box<Type>),
    /// By its number in the program.
    Record(usize),
    /// What a function without a result returns.
    Nothing,
}

/// What a function takes and returns.
#[derive(Debug, Clone)]
pub struct Signature {
    pub parameters: Vec<Type>,
    pub returns: Type,
    pub is_kernel: bool,
}

/// A record type.
pub struct RecordType {
    pub name: String,
    pub fields: Vec<(String, Type)>,
}

/// Every name that a program's files give.
#[derive(Default)]
pub struct Names {
    pub records: Vec<RecordType>,
    by_name: HashMap<String, usize>,
    pub functions: HashMap<String, Signature>,
}

/// Names that mean something already.
const BUILT_IN: &[&str] = &[
    "print",
    "len",
    "int",
    "float",
    "sqrt",
    "floor",
    "abs",
    "bits",
    "from_bits",
    "sin",
    "cos",
    "exp",
    "log",
    "pow",
    "assert",
];

impl Type {
    /// What a register of this type holds.
    pub fn kind(&self) -> Kind {
        match self {
            Type::Int | Type::Nothing => Kind::Int,
            Type::Float => Kind::Float,
            Type::Bool => Kind::Bool,
            Type::Array(element) if matches!(**element, Type::Int | Type::Float | Type::Bool) => Kind::Array,
            Type::Array(_) | Type::Record(_) => Kind::Other,
        }
    }
}

impl Names {
    /// The type's name, as it is written.
    pub fn show(&self, of: &Type) -> String {
        match of {
            Type::Int => "int".into(),
            Type::Float => "float".into(),
            Type::Bool => "bool".into(),
            Type::Array(element) => format!("[{}]", self.show(element)),
            Type::Record(number) => self.records[*number].name.clone(),
            Type::Nothing => "nothing".into(),
        }
    }

    /// Adds the names of a file's records, before any type is looked at.
    pub fn add_records(&mut self, module: &Module) -> Checked<()> {
        for record in &module.records {
            if self.by_name.insert(record.name.clone(), self.records.len()).is_some() {
                return complain(record.at, format!("there are two structs `{}`", record.name));
            }
            self.records.push(RecordType { name: record.name.clone(), fields: Vec::new() });
        }
        Ok(())
    }

    /// Adds fields and functions, after the records of all files.
    pub fn add_members(&mut self, module: &Module) -> Checked<()> {
        for record in &module.records {
            let mut fields = Vec::with_capacity(record.fields.len());
            for (name, of) in &record.fields {
                fields.push((name.clone(), self.resolve(of)?));
            }
            let number = self.by_name[&record.name];
            self.records[number].fields = fields;
        }
        for function in &module.functions {
            if BUILT_IN.contains(&function.name.as_str()) {
                return complain(function.at, format!("`{}` is built in", function.name));
            }
            let mut parameters = Vec::with_capacity(function.parameters.len());
            for (_, of, _) in &function.parameters {
                parameters.push(self.resolve(of)?);
            }
            let returns = function.returns.as_ref().map_or(Ok(Type::Nothing), |of| self.resolve(of))?;
            if function.is_kernel && (returns != Type::Nothing || parameters.first() != Some(&Type::Int)) {
                let rule = "a kernel takes the number of its thread first, an int, and returns nothing";
                return complain(function.at, rule);
            }
            let signature = Signature { parameters, returns, is_kernel: function.is_kernel };
            if self.functions.insert(function.name.clone(), signature).is_some() {
                return complain(function.at, format!("there are two functions `{}`", function.name));
            }
        }
        Ok(())
    }

    /// The type of that name.
    pub fn resolve(&self, name: &TypeName) -> Checked<Type> {
        match name {
            TypeName::Array(element) => Ok(Type::Array(Box::new(self.resolve(element)?))),
            TypeName::Named(name, at) => match name.as_str() {
                "int" => Ok(Type::Int),
                "float" => Ok(Type::Float),
                "bool" => Ok(Type::Bool),
                _ => self.record(name, *at).map(Type::Record),
            },
        }
    }

    /// The number of the record of that name.
    pub fn record(&self, name: &str, at: Position) -> Checked<usize> {
        self.by_name.get(name).copied().map_or_else(|| complain(at, format!("there is no type `{name}`")), Ok)
    }
}

/// Whether the language gives a function of that name.
pub fn is_built_in(name: &str) -> bool {
    BUILT_IN.contains(&name)
}
