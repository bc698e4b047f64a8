//! A program: a file with all that it imports, checked and built. Knows no back end.

use crate::depth::Depth;
use crate::front::ast::Module;
use crate::front::source::{Position, Problem};
use crate::front::{self, Compiled};
use crate::ir::{Function, Place};
use std::collections::HashMap;
use std::path::Path;

/// Where the text of an imported file comes from.
pub type Library<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Functions by name, and what tells where they were written.
pub struct Program {
    /// All of them, imported ones included.
    pub functions: Vec<Function>,
    by_name: HashMap<String, usize>,
    origins: Vec<(usize, u32)>,
    files: Vec<(String, String)>,
    depth: Depth,
}

impl Program {
    /// Reads, checks and builds a program that has a `main`.
    pub fn load(file: &str, text: String, library: Library<'_>) -> Result<Program, Problem> {
        let program = Program::load_parts(file, text, library)?;
        let main = program.function("main").map(|main| (main.parameters, main.returns));
        if main != Some((0, Some(crate::ir::Kind::Int))) {
            let (file, text) = &program.files[0];
            let at = Position { line: 1, column: 1 };
            return Err(Problem::new(file, text, at, "a program has a `fn main() -> int`"));
        }
        Ok(program)
    }

    /// As [`load`](Program::load), without asking for a `main`.
    pub fn load_parts(file: &str, text: String, library: Library<'_>) -> Result<Program, Problem> {
        let mut files: Vec<(String, String, Module)> = Vec::new();
        let module = front::read(file, &text)?;
        files.push((file.to_owned(), text, module));
        let mut next = 0;
        while let Some((importing, text, module)) = files.get(next) {
            let mut added: Vec<(String, String, Module)> = Vec::new();
            for (name, at) in &module.imports {
                let is_known = files.iter().map(|(file, ..)| file).chain(added.iter().map(|(file, ..)| file));
                let file = format!("{name}.mica");
                if { is_known }.any(|known| *known == file) {
                    continue;
                }
                let Some(imported) = library(name) else {
                    return Err(Problem::new(importing, text, *at, format!("there is no file `{name}` to import")));
                };
                let module = front::read(&file, &imported)?;
                added.push((file, imported, module));
            }
            files.extend(added);
            next += 1;
        }
        let compiled = front::compile(&mut files)?;
        let files = files.into_iter().map(|(file, text, _)| (file, text)).collect();
        Ok(Program::new(compiled, files))
    }

    /// A file of this machine; its imports lie beside it.
    pub fn open(path: &Path) -> Result<Program, Box<dyn std::error::Error + Send + Sync>> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let beside = |name: &str| std::fs::read_to_string(path.with_file_name(format!("{name}.mica"))).ok();
        Ok(Program::load(&path.display().to_string(), text, &beside)?)
    }

    fn new(compiled: Vec<Compiled>, files: Vec<(String, String)>) -> Program {
        let by_name = compiled.iter().enumerate().map(|(at, one)| (one.function.name.clone(), at)).collect();
        let origins = compiled.iter().map(|one| (one.file, one.line)).collect();
        let functions: Vec<Function> = compiled.into_iter().map(|one| one.function).collect();
        Program { depth: Depth::of(&functions), functions, by_name, origins, files }
    }

    /// How deep its calls may go.
    pub fn depth(&self) -> &Depth {
        &self.depth
    }

    /// The function of that name.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.by_name.get(name).map(|at| &self.functions[*at])
    }

    /// The number of the function of that name.
    pub fn number(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// A problem at a place of a function, in the file that it is from.
    pub fn problem(&self, function: &str, place: Place, message: impl Into<String>) -> Problem {
        let Some(number) = self.number(function) else {
            return Problem::new(function, "", Position::default(), message);
        };
        let (file, line) = self.origins[number];
        let (name, text) = &self.files[file];
        Problem::new(name, text, Position { line: line + place.line, column: place.column }, message)
    }
}
