//! What can go wrong between CUDA C++ and a kernel's image, and what to do about it.

use std::fmt;
use std::path::PathBuf;

/// Why there is no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NvrtcError {
    /// There is no compiler to make what is not stored.
    #[error(
        "NVRTC, which compiles kernels that are not in the store, was not found ({reason}); install the CUDA toolkit or the \
         package nvidia-cuda-nvrtc-cu12, or set HAPAX_NVRTC to the path of libnvrtc.so; for a store that was filled \
         elsewhere, name that compiler with Nvrtc::elsewhere, and store the kernels there that are missing here"
    )]
    Absent {
        /// Where it was looked for, or why it could not be used.
        reason: String,
    },
    /// The source does not compile.
    #[error("{}", first_line(.diagnostics, .log))]
    Compile {
        /// Errors and warnings, with their places.
        diagnostics: Vec<Diagnostic>,
        /// The compiler's whole log.
        log: String,
    },
    /// The source includes a header that is in no header set of the kernel.
    #[error(
        "{file}:{line}: the header {header} is not among the kernel's headers; add it with Headers::file or its folder with \
         Headers::directory"
    )]
    MissingHeader {
        /// The header, as it is included.
        header: String,
        /// What includes it.
        file: String,
        /// On which line.
        line: u32,
    },
    /// The compiler does not know the architecture.
    #[error("NVRTC {version} cannot compile for {arch}; it knows {}", known(.supported))]
    UnknownArch {
        /// What was asked for.
        arch: String,
        /// The compiler's version.
        version: String,
        /// What it knows: 90 stands for `sm_90` and `compute_90`.
        supported: Vec<u32>,
    },
    /// An option that the compiler refuses.
    #[error("NVRTC refuses an option: {log}")]
    BadOption {
        /// The compiler's words.
        log: String,
    },
    /// An option that hapax sets itself, or that would make the result depend on more than its fingerprint says.
    #[error("the option {option} cannot be given: {instead}")]
    OptionNotAllowed {
        /// The option.
        option: String,
        /// What to do instead.
        instead: &'static str,
    },
    /// A text that is no architecture.
    #[error("{0:?} is no architecture; write sm_90, sm_90a or compute_90, for instance")]
    BadArch(String),
    /// A header that cannot be one.
    #[error("the header {name} cannot be used: {reason}")]
    BadHeader {
        /// Its name or path.
        name: String,
        /// Why not.
        reason: String,
    },
    /// Source, name or option with a NUL byte, which the compiler would take for its end.
    #[error("the {what} holds a NUL byte")]
    NulByte {
        /// What holds it.
        what: &'static str,
    },
    /// The compiler failed otherwise.
    #[error("NVRTC call {call} failed with code {code}: {message}")]
    Failed {
        /// The call.
        call: &'static str,
        /// Its code.
        code: i32,
        /// The compiler's words.
        message: String,
    },
    /// The store verifies its hits, and this one is not what compiling gives.
    #[error("{message}")]
    Differs {
        /// What differs.
        message: String,
    },
    /// The library file was replaced after its identity was read, so the fingerprint would name another compiler.
    #[error("{} was replaced while in use; open NVRTC anew", path.display())]
    Replaced {
        /// The library.
        path: PathBuf,
    },
}

/// One error or warning of the compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnostic {
    /// How grave it is.
    pub severity: Severity,
    /// The file, as the kernel or its headers name it.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The compiler's words.
    pub message: String,
}

/// How grave a [`Diagnostic`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Severity {
    /// There is no image.
    Error,
    /// There is one.
    Warning,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}: {severity}: {}", self.file, self.line, self.message)
    }
}

/// What a log says, line by line: `file(12): error: text` and its kin.
pub(crate) fn diagnostics(log: &str) -> Vec<Diagnostic> {
    log.lines().filter_map(diagnostic).collect()
}

fn diagnostic(line: &str) -> Option<Diagnostic> {
    let (place, said) = line.split_once("): ")?;
    let (file, number) = place.rsplit_once('(')?;
    let (kind, message) = said.split_once(": ")?;
    let severity = if kind.contains("error") {
        Severity::Error
    } else if kind.starts_with("warning") {
        Severity::Warning
    } else {
        return None;
    };
    Some(Diagnostic { severity, file: file.to_owned(), line: number.parse().ok()?, message: message.to_owned() })
}

/// The error of a compilation that failed with `log`.
pub(crate) fn compile_error(log: String) -> NvrtcError {
    let diagnostics = diagnostics(&log);
    for Diagnostic { file, line, message, .. } in &diagnostics {
        let Some((_, rest)) = message.split_once("open source file \"") else { continue };
        if let Some((header, _)) = rest.split_once('"') {
            return NvrtcError::MissingHeader { header: header.to_owned(), file: file.clone(), line: *line };
        }
    }
    NvrtcError::Compile { diagnostics, log }
}

fn first_line(diagnostics: &[Diagnostic], log: &str) -> String {
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
    match errors.clone().next() {
        Some(first) if errors.clone().count() > 1 => format!("{first} (and {} more)", errors.count() - 1),
        Some(first) => first.to_string(),
        None => format!("the kernel does not compile: {log}"),
    }
}

fn known(supported: &[u32]) -> String {
    supported.iter().map(|number| format!("sm_{number}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_line_by_line() {
        let log = "k.cu(3): error: identifier \"foo\" is undefined\n  foo;\n  ^\n\na/b.cuh(12): warning #1444-D: it is old\n\
                   k.cu(9): catastrophic error: something\n2 errors detected in the compilation of \"k.cu\".\n";
        let found: Vec<String> = diagnostics(log).iter().map(Diagnostic::to_string).collect();
        assert_eq!(
            found,
            [
                "k.cu:3: error: identifier \"foo\" is undefined",
                "a/b.cuh:12: warning: it is old",
                "k.cu:9: error: something"
            ]
        );
        let error = compile_error(log.to_owned());
        assert_eq!(error.to_string(), "k.cu:3: error: identifier \"foo\" is undefined (and 1 more)");
    }

    #[test]
    fn a_missing_header_is_an_error_of_its_own() {
        for words in ["cannot open", "could not open"] {
            let log = format!("k.cu(7): catastrophic error: {words} source file \"nope.h\" (no directories)\n");
            assert_eq!(
                compile_error(log),
                NvrtcError::MissingHeader { header: "nope.h".to_owned(), file: "k.cu".to_owned(), line: 7 }
            );
        }
    }
}
