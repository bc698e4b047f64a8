//! Runs the compilers, in a directory of its own. Knows no caches.

use crate::Result;
use crate::sources::{Body, Language, Source};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{self, Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};

/// One way to compile a source: what its units are called, and the flags that make them.
pub struct Profile {
    pub name: &'static str,
    pub flags: &'static [&'static str],
}

const RUST_PROFILES: [Profile; 3] = [
    Profile { name: "dev.o", flags: &["-Copt-level=0", "--emit=obj"] },
    Profile { name: "release.o", flags: &["-Copt-level=3", "--emit=obj"] },
    Profile { name: "release.bc", flags: &["-Copt-level=3", "--emit=llvm-bc"] },
];

const C_PROFILES: [Profile; 3] = [
    Profile { name: "dev.o", flags: &["-O0", "-c"] },
    Profile { name: "release.o", flags: &["-O2", "-c"] },
    Profile { name: "release.s", flags: &["-O2", "-S"] },
];

/// What a compiler wrote, and how long it ran.
pub struct Compiled {
    pub bytes: Vec<u8>,
    pub took: Duration,
}

pub struct Toolchain {
    scratch: Scratch,
    rust: Compiler,
    c: Compiler,
    cpp: Compiler,
}

impl Toolchain {
    pub fn new() -> Result<Toolchain> {
        let scratch = Scratch::new()?;
        let rust = Compiler::find("RUSTC", "rustc", &["-vV"], &scratch.0)?;
        let c = Compiler::find("CC", "cc", &["--version"], &scratch.0)?;
        let cpp = Compiler::find("CXX", "c++", &["--version"], &scratch.0)?;
        Ok(Toolchain { scratch, rust, c, cpp })
    }

    pub fn profiles(language: Language) -> &'static [Profile; 3] {
        if language == Language::Rust { &RUST_PROFILES } else { &C_PROFILES }
    }

    pub fn compiler(&self, language: Language) -> &Compiler {
        match language {
            Language::Rust => &self.rust,
            Language::C => &self.c,
            Language::Cpp => &self.cpp,
        }
    }

    /// Puts a source where the compilers find it.
    pub fn write_source(&self, file_name: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.scratch.0.join(file_name), text)?)
    }

    /// The flags with which a source compiles alone. The error is the compiler's reason why it does not.
    pub fn probe(&self, language: Language, file_name: &str, text: &str) -> Result<Vec<String>> {
        let check = if language == Language::Rust { "--emit=metadata" } else { "-fsyntax-only" };
        let mut refusal = None;
        for flags in candidate_flags(language, file_name, text) {
            match self.run(language, &flags, &[check], file_name, "checked") {
                Ok(_) => return Ok(flags),
                // The newest edition comes first: what it says about a source is the most useful.
                Err(reason) => refusal = refusal.or(Some(reason)),
            }
        }
        Err(refusal.expect("there are flags to try"))
    }

    /// Compiles a source as it is now, or reads a file that is a unit already.
    pub fn make(&self, source: &Source, profile: usize) -> Result<Compiled> {
        let started = Instant::now();
        let bytes = match &source.body {
            Body::Ready { path, .. } => read(path)?,
            Body::Code { language, flags, file_name, .. } => {
                let profile = &Toolchain::profiles(*language)[profile];
                let written = self.run(*language, flags, profile.flags, file_name, profile.name);
                read(&written.map_err(|reason| format!("{} does not compile: {reason}", source.name))?)?
            }
        };
        Ok(Compiled { bytes, took: started.elapsed() })
    }

    /// Where the compiler put its output. The error is the first thing that it complained about.
    fn run(
        &self,
        language: Language,
        flags: &[String],
        output_flags: &[&str],
        file_name: &str,
        output: &str,
    ) -> Result<PathBuf> {
        let compiler = self.compiler(language);
        // rustc names its intermediate files after the output without the last extension: with one more,
        // compilers that run side by side on one source do not meet.
        let output = format!("{file_name}.{output}.out");
        // The source is named relative to the scratch directory, so that no artifact depends on where that is.
        let mut command = Command::new(&compiler.program);
        command.current_dir(&self.scratch.0).stdin(Stdio::null());
        command.args(flags).args(output_flags).arg(file_name).args(["-o", &output]);
        let ran = command.output().map_err(|error| format!("{} cannot be run: {error}", compiler.program()))?;
        if !ran.status.success() {
            return Err(first_complaint(&ran.stderr).into());
        }
        Ok(self.scratch.0.join(output))
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// A compiler that was looked for.
pub struct Compiler {
    program: OsString,
    /// All that it says about its version, which decides what it writes. `None`: there is no such compiler.
    pub version: Option<String>,
}

impl Compiler {
    fn find(variable: &str, default: &str, ask_version: &[&str], scratch: &Path) -> Result<Compiler> {
        let mut program = env::var_os(variable).filter(|program| !program.is_empty()).unwrap_or_else(|| default.into());
        if Path::new(&program).components().count() > 1 {
            program = path::absolute(&program)?.into(); // it runs in another directory than ours
        }
        let asked = Command::new(&program).args(ask_version).current_dir(scratch).stdin(Stdio::null()).output();
        let answered = asked.ok().filter(|answer| answer.status.success());
        let version = answered.map(|answer| String::from_utf8_lossy(&answer.stdout).into_owned());
        Ok(Compiler { program, version })
    }

    pub fn first_line(&self) -> &str {
        self.version.as_deref().and_then(|version| version.lines().next()).unwrap_or("not found")
    }

    pub fn program(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }
}

/// The newest edition first: what compiles in several is compiled as it would be today.
fn candidate_flags(language: Language, file_name: &str, text: &str) -> Vec<Vec<String>> {
    if language != Language::Rust {
        return vec![Vec::new()];
    }
    let is_program = text.lines().any(|line| line.starts_with("fn main(") || line.starts_with("pub fn main("));
    let crate_type = if is_program { "--crate-type=bin" } else { "--crate-type=lib" };
    let crate_name = file_name.split('.').next().unwrap_or(file_name);
    let flags = |edition| {
        let fixed = ["--cap-lints=allow", "-Ccodegen-units=1", crate_type, edition, "--crate-name", crate_name];
        fixed.map(str::to_owned).to_vec()
    };
    vec![flags("--edition=2024"), flags("--edition=2021"), flags("--edition=2018")]
}

fn first_complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let complaint = text.lines().find(|line| line.contains("error")).or_else(|| text.lines().next());
    complaint.unwrap_or("the compiler failed and did not say why").trim().to_owned()
}

/// A directory that goes with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch> {
        let mut refusal = None;
        for attempt in 0..100 {
            let directory = env::temp_dir().join(format!("hapax-rebuild-{}-{attempt}", process::id()));
            // Not create_dir_all: a directory that is already there belongs to somebody else.
            match fs::create_dir(&directory) {
                Ok(()) => return Ok(Scratch(directory)),
                Err(error) => refusal = Some(format!("cannot create {}: {error}", directory.display())),
            }
        }
        Err(refusal.unwrap_or_default().into())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind lies in the temporary directory, which is cleaned anyway.
        let _ = fs::remove_dir_all(&self.0);
    }
}
