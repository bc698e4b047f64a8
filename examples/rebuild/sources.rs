//! Finds what there is to cache: sources that compile alone, and files that a compiler wrote earlier.
//! Knows no caches.

use crate::Result;
use crate::report;
use crate::toolchain::{Compiler, Toolchain};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const READY_EXTENSIONS: [&str; 14] =
    ["a", "bc", "cubin", "fatbin", "hsaco", "ll", "o", "obj", "ptx", "rlib", "rmeta", "s", "spv", "wasm"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Language {
    Rust,
    C,
    Cpp,
}

pub struct Source {
    pub name: String,
    pub body: Body,
}

pub enum Body {
    /// Compiled whenever a unit of it is missing.
    Code { language: Language, flags: Vec<String>, file_name: String, original: String, edits: u32 },
    /// A unit as it is.
    Ready { path: PathBuf, content: u128 },
}

#[derive(Default)]
pub struct Found {
    pub sources: Vec<Source>,
    /// What was looked at and cannot be used, with the reason.
    pub skipped: Vec<(String, String)>,
}

/// Looks through files and directories.
pub fn collect(paths: &[PathBuf], toolchain: &Toolchain, jobs: usize) -> Result<Found> {
    let files = named_files(paths)?;
    let done = AtomicUsize::new(0);
    let tried = in_parallel(jobs, &files, |at, (name, path)| {
        let tried = try_file(at, name, path, toolchain);
        report::progress("looking at sources", done.fetch_add(1, Ordering::Relaxed) + 1, files.len());
        tried
    });
    let mut found = Found::default();
    for ((name, _), tried) in files.iter().zip(tried) {
        match tried {
            Ok(body) => found.sources.push(Source { name: name.clone(), body }),
            Err(reason) => found.skipped.push((name.clone(), reason.to_string())),
        }
    }
    if found.sources.is_empty() {
        return Err(nothing_to_cache(&found.skipped, toolchain.compiler(Language::Rust)).into());
    }
    Ok(found)
}

impl Source {
    /// How many units it gives.
    pub fn profiles(&self) -> usize {
        match &self.body {
            Body::Code { language, .. } => Toolchain::profiles(*language).len(),
            Body::Ready { .. } => 1,
        }
    }

    pub fn unit_name(&self, profile: usize) -> String {
        match &self.body {
            Body::Code { language, .. } => format!("{}.{}", self.name, Toolchain::profiles(*language)[profile].name),
            Body::Ready { .. } => self.name.clone(),
        }
    }

    /// A hash of all that decides what a unit's bytes are, but for the system's headers and libraries:
    /// those do not change within a session.
    pub fn content(&self, profile: usize, toolchain: &Toolchain) -> u128 {
        match &self.body {
            Body::Code { language, flags, file_name, original, edits } => {
                let compiler = &toolchain.compiler(*language).version;
                let text = edited(*language, original, *edits);
                hash128(&(compiler, flags, Toolchain::profiles(*language)[profile].flags, file_name, text))
            }
            Body::Ready { content, .. } => *content,
        }
    }

    /// `None` for a unit that is ready, which nothing can edit.
    pub fn language(&self) -> Option<Language> {
        match &self.body {
            Body::Code { language, .. } => Some(*language),
            Body::Ready { .. } => None,
        }
    }

    /// Adds a function, or changes the one that an earlier edit added; or takes it out again.
    pub fn edit(&mut self, undo: bool, toolchain: &Toolchain) -> Result<()> {
        let Body::Code { language, file_name, original, edits, .. } = &mut self.body else { return Ok(()) };
        *edits = if undo { 0 } else { *edits + 1 };
        toolchain.write_source(file_name, &edited(*language, original, *edits))
    }
}

fn edited(language: Language, original: &str, edits: u32) -> String {
    let addition = match language {
        _ if edits == 0 => String::new(),
        // `used`, so that a program keeps what it never calls
        Language::Rust => format!(
            "\n#[inline(never)]\nfn hapax_edit(x: u64) -> u64 {{\n    x.rotate_left(7) ^ {edits}\n}}\n\
             #[used]\nstatic HAPAX_EDIT: fn(u64) -> u64 = hapax_edit;\n"
        ),
        Language::C => format!("\nunsigned hapax_edit(unsigned x) {{ return (x << 7) ^ {edits}; }}\n"),
        Language::Cpp => format!("\nextern \"C\" unsigned hapax_edit(unsigned x) {{ return (x << 7) ^ {edits}; }}\n"),
    };
    format!("{original}{addition}")
}

/// Two of the standard library's 64-bit hashes that start from different states: 128 bits, so that equal
/// hashes of different contents need not be expected.
fn hash128(content: &impl Hash) -> u128 {
    let half = |seed: u64| {
        let mut hasher = DefaultHasher::new();
        (seed, content).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

/// Every file worth a try, once, under a name that no other has.
fn named_files(paths: &[PathBuf]) -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    let mut seen = BTreeSet::new();
    for path in paths {
        let at_path = |error| format!("{}: {error}", path.display());
        if fs::metadata(path).map_err(at_path)?.is_dir() {
            let mut below = Vec::new();
            search(path, &mut below)?;
            below.sort();
            let name = |file: &PathBuf| file.strip_prefix(path).unwrap_or(file).to_path_buf();
            files.extend(below.into_iter().map(|file| (name(&file), file)));
        } else if is_wanted(path) {
            files.push((path.file_name().map_or_else(|| path.clone(), PathBuf::from), path.clone()));
        } else {
            return Err(format!("{}: neither a source nor a compiled file; try --help", path.display()).into());
        }
    }
    files.retain(|(_, file)| seen.insert(fs::canonicalize(file).unwrap_or_else(|_| file.clone())));
    Ok(unique_names(files))
}

fn search(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let at_directory = |error| format!("{}: {error}", directory.display());
    for entry in fs::read_dir(directory).map_err(at_directory)? {
        let entry = entry.map_err(at_directory)?;
        // Symbolic links are neither: following them could search a directory twice, or for ever.
        let kind = entry.file_type().map_err(at_directory)?;
        if kind.is_dir() && !is_passed_over(&entry.path()) {
            search(&entry.path(), files)?;
        } else if kind.is_file() && is_wanted(&entry.path()) {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Hidden directories and build directories, unless they are asked for by name.
fn is_passed_over(directory: &Path) -> bool {
    let hidden = directory.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    hidden || directory.join("CACHEDIR.TAG").exists()
}

/// The shortest name that no other file has: without the extension of a source, with it, or the whole path.
fn unique_names(files: Vec<(PathBuf, PathBuf)>) -> Vec<(String, PathBuf)> {
    let names_of = |(name, file): &(PathBuf, PathBuf)| {
        let stem = if language(file).is_some() { name.with_extension("") } else { name.clone() };
        [&stem, name, file].map(|name| name.display().to_string())
    };
    let mut uses = BTreeMap::new();
    for names in files.iter().map(names_of) {
        BTreeSet::from(names).into_iter().for_each(|name| *uses.entry(name).or_insert(0) += 1);
    }
    let shortest = |file: &(PathBuf, PathBuf)| {
        let [stem, name, path] = names_of(file);
        [stem, name].into_iter().find(|name| uses[name] == 1).unwrap_or(path)
    };
    files.iter().map(|file| (shortest(file), file.1.clone())).collect()
}

fn is_wanted(file: &Path) -> bool {
    language(file).is_some() || extension(file).is_some_and(|extension| READY_EXTENSIONS.contains(&extension))
}

fn language(file: &Path) -> Option<Language> {
    match extension(file)? {
        "rs" => Some(Language::Rust),
        "c" => Some(Language::C),
        "cc" | "cpp" | "cxx" => Some(Language::Cpp),
        _ => None,
    }
}

fn extension(file: &Path) -> Option<&str> {
    file.extension()?.to_str()
}

fn try_file(at: usize, name: &str, path: &Path, toolchain: &Toolchain) -> Result<Body> {
    let bytes = fs::read(path)?;
    let Some(language) = language(path) else {
        if bytes.is_empty() {
            return Err("empty".into());
        }
        return Ok(Body::Ready { path: path.to_path_buf(), content: hash128(&bytes) });
    };
    let original = String::from_utf8(bytes).map_err(|_| "not UTF-8")?;
    let compiler = toolchain.compiler(language);
    if compiler.version.is_none() {
        return Err(format!("{} does not run", compiler.program()).into());
    }
    // The place in the list keeps apart what only differs in characters that a crate's name cannot have,
    // or beyond what a file's name can have.
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let stem: String = name.chars().map(legal).take(100).collect();
    let file_name = format!("u{at}_{stem}.{}", extension(path).unwrap_or_default());
    toolchain.write_source(&file_name, &original)?;
    let flags = toolchain.probe(language, &file_name, &original)?;
    Ok(Body::Code { language, flags, file_name, original, edits: 0 })
}

fn nothing_to_cache(skipped: &[(String, String)], rustc: &Compiler) -> String {
    let advice = match rustc.version {
        Some(_) => "give sources that compile alone, or compiled files such as .o or .bc",
        None => "install Rust (https://rustup.rs), set RUSTC, or give compiled files such as .o or .bc",
    };
    let reason = skipped.first().map(|(name, reason)| format!(" ({name}: {reason})")).unwrap_or_default();
    format!("nothing to cache{reason}; {advice}")
}

/// What `work` makes of each item, in the items' order.
fn in_parallel<T: Sync, R: Send>(jobs: usize, items: &[T], work: impl Fn(usize, &T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(items.len()));
    let worker = || {
        let mut at = next.fetch_add(1, Ordering::Relaxed);
        while let Some(item) = items.get(at) {
            let result = work(at, item);
            results.lock().expect("no worker panics while it holds the lock").push((at, result));
            at = next.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| (0..jobs.min(items.len())).for_each(|_| drop(scope.spawn(worker))));
    let mut results = results.into_inner().expect("no worker panicked");
    results.sort_by_key(|&(at, _)| at);
    results.into_iter().map(|(_, result)| result).collect()
}
