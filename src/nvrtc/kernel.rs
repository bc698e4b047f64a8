//! What a kernel's image depends on, all of it, and its fingerprint. Knows no compiler but by its identity.

use crate::nvrtc::error::NvrtcError;
use crate::nvrtc::headers::Headers;
use crate::nvrtc::identity::CompilerId;
use crate::persist::fingerprint::Fingerprint;
use std::fmt;
use std::str::FromStr;

/// Changes when the parts of the fingerprint or the layout of a stored image do.
const SCHEMA: &str = "hapax nvrtc kernel v1";

/// A GPU architecture: `sm_90` is compiled to machine code, `compute_90` to PTX.
///
/// ```
/// use hapax::nvrtc::Arch;
///
/// let arch: Arch = "sm_90a".parse()?;
/// assert!(arch.is_real());
/// assert_eq!(Arch::of_compute_capability((9, 0)).to_string(), "sm_90");
/// # Ok::<(), hapax::nvrtc::NvrtcError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Arch(String);

impl Arch {
    /// The machine code of a card, by what `CudaInfo::compute_capability` says of it.
    pub fn of_compute_capability((major, minor): (u32, u32)) -> Arch {
        Arch(format!("sm_{major}{minor}"))
    }

    /// Whether it stands for machine code (`sm_`), as opposed to PTX (`compute_`), which the driver compiles further on
    /// each load.
    pub fn is_real(&self) -> bool {
        self.0.starts_with("sm_")
    }
}

impl FromStr for Arch {
    type Err = NvrtcError;

    fn from_str(text: &str) -> Result<Arch, NvrtcError> {
        let number = text.strip_prefix("sm_").or_else(|| text.strip_prefix("compute_"));
        let digits = number.map(|number| number.strip_suffix(['a', 'f']).unwrap_or(number));
        match digits {
            Some(digits) if (2..=3).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                Ok(Arch(text.to_owned()))
            }
            _ => Err(NvrtcError::BadArch(text.to_owned())),
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A CUDA C++ source with everything that its image depends on.
///
/// ```
/// use hapax::nvrtc::{Headers, Kernel};
///
/// let headers = Headers::new().file("scale.cuh", "template <class T> __device__ T scale(T x) { return 2 * x; }\n")?;
/// let source = "#include <scale.cuh>\n\
///               template <class T> __global__ void kernel(T *x) { x[threadIdx.x] = scale(x[threadIdx.x]); }\n";
/// let kernel = Kernel::new("scale.cu", source, "sm_90".parse()?)
///     .headers(&headers)
///     .option("--std=c++17")?
///     .name_expression("kernel<float>"); // its mangled name comes with the image
/// # Ok::<(), hapax::nvrtc::NvrtcError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Kernel {
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) arch: Arch,
    pub(crate) headers: Headers,
    pub(crate) options: Vec<String>,
    pub(crate) name_expressions: Vec<String>,
}

impl Kernel {
    /// A kernel source. `name` is for error messages, and part of the fingerprint, since `__FILE__` can put it into the
    /// image.
    pub fn new(name: impl Into<String>, source: impl Into<String>, arch: Arch) -> Kernel {
        let (name, source) = (name.into(), source.into());
        Kernel { name, source, arch, headers: Headers::new(), options: Vec::new(), name_expressions: Vec::new() }
    }

    /// The headers that it may include. All of them count in the fingerprint, included or not.
    pub fn headers(mut self, headers: &Headers) -> Kernel {
        self.headers = headers.clone();
        self
    }

    /// An option of NVRTC, in order, with its value in the same text. Those are allowed of which hapax knows that the image
    /// depends on nothing but their text; it sets the architecture and the headers itself.
    ///
    /// Two things no option shows: `__DATE__` and `__TIME__` give the image of another day, and an `#include` of an absolute
    /// path that macros put together reads a file that no fingerprint knows (one that is written out is refused).
    ///
    /// # Errors
    /// [`NvrtcError::OptionNotAllowed`], which says what to do instead.
    pub fn option(mut self, option: impl Into<String>) -> Result<Kernel, NvrtcError> {
        let option = option.into();
        if let Some(instead) = refused(&option) {
            return Err(NvrtcError::OptionNotAllowed { option, instead });
        }
        self.options.push(option);
        Ok(self)
    }

    /// An option that [`option`](Kernel::option) does not know, such as one of a newer NVRTC. You vouch that the image depends on
    /// nothing but its text: on no file and no variable.
    pub fn option_vouched_for(mut self, option: impl Into<String>) -> Kernel {
        self.options.push(option.into());
        self
    }

    /// Asks for an instance of a template, or for any function by its C++ name; the image then tells its mangled name.
    pub fn name_expression(mut self, expression: impl Into<String>) -> Kernel {
        self.name_expressions.push(expression.into());
        self
    }

    /// The architecture.
    pub fn arch(&self) -> &Arch {
        &self.arch
    }

    /// The name of the compilation: source, name, headers by content, options in order, architecture, name expressions
    /// and the compiler itself.
    pub fn fingerprint(&self, compiler: &CompilerId) -> Fingerprint {
        let mut parts = Fingerprint::of(SCHEMA)
            .part("compiler", compiler.as_bytes())
            .part("arch", &self.arch.0)
            .part("name", &self.name)
            .part("source", &self.source)
            .part("headers", self.headers.digest());
        for option in &self.options {
            parts = parts.part("option", option);
        }
        for expression in &self.name_expressions {
            parts = parts.part("name expression", expression);
        }
        parts.finish()
    }
}

/// Options whose text is all that they add to the image, by their first words. After the NVRTC 12.8 and 13.0 documentation, "Supported
/// Compile Options".
const ALLOWED: &[&str] = &[
    "--brief-diagnostics",
    "--builtin-initializer-list",
    "--builtin-move-forward",
    "--define-macro",
    "--device-as-default-execution-space",
    "--device-c",
    "--device-debug",
    "--device-float128",
    "--device-int128",
    "--device-stack-protector",
    "--device-w",
    "--diag-error",
    "--diag-suppress",
    "--diag-warn",
    "--disable-warnings",
    "--display-error-number",
    "--dopt",
    "--extensible-whole-program",
    "--extra-device-vectorization",
    "--fmad",
    "--ftz",
    "--generate-line-info",
    "--jump-table-density",
    "--maxrregcount",
    "--minimal",
    "--modify-stack-limit",
    "--no-display-error-number",
    "--Ofast-compile",
    "--optimization-info",
    "--prec-div",
    "--prec-sqrt",
    "--ptxas-options",
    "--relocatable-device-code",
    "--restrict",
    "--split-compile",
    "--std",
    "--undefine-macro",
    "--use_fast_math",
    "--version-ident",
    "--Werror",
    "--Wreorder",
    "-brief-diag",
    "-D",
    "-dc",
    "-default-device",
    "-device-float128",
    "-device-int128",
    "-device-stack-protector",
    "-diag-error",
    "-diag-suppress",
    "-diag-warn",
    "-dopt",
    "-dw",
    "-err-no",
    "-ewp",
    "-fmad",
    "-ftz",
    "-G",
    "-jtd",
    "-lineinfo",
    "-maxrregcount",
    "-minimal",
    "-modify-stack-limit",
    "-no-err-no",
    "-Ofc",
    "-opt-info",
    "-prec-div",
    "-prec-sqrt",
    "-rdc",
    "-restrict",
    "-split-compile",
    "-std",
    "-U",
    "-use_fast_math",
    "-w",
    "-Werror",
    "-Wreorder",
    "-Xptxas",
];

/// What to do instead of giving this option; `None` if it may be given.
fn refused(option: &str) -> Option<&'static str> {
    const ARCH: &str = "the architecture is an argument of Kernel::new";
    const HEADERS: &str =
        "add the folder with Headers::directory, which hashes its contents, and include the header in the source";
    const FILES: &str = "it reads or writes files beside the image";
    const NO_IMAGE: &str = "it makes no image that can be loaded";
    const UNKNOWN: &str = "hapax does not know what the image would depend on; if on nothing but this text, beginning with `-` and with \
                           its value in it, give it to Kernel::option_vouched_for";
    // By its first word; the value may follow behind `=` or in the same text behind a space.
    let word = option.split(['=', ' ']).next().unwrap_or_default();
    match word {
        "--gpu-architecture" | "-arch" => Some(ARCH),
        "--include-path" | "--no-source-include" | "-no-source-include" | "--pre-include" | "-include" => Some(HEADERS),
        "--time" | "-time" | "--fdevice-time-trace" | "-fdevice-time-trace" => Some(FILES),
        "--dlink-time-opt" | "-dlto" | "--gen-opt-lto" | "-gen-opt-lto" | "--optix-ir" | "--fdevice-syntax-only" => {
            Some(NO_IMAGE)
        }
        _ if word.contains("pch") => Some(FILES),
        _ if word.starts_with("-I") => Some(HEADERS),
        _ if word.starts_with("-D") || word.starts_with("-U") || ALLOWED.contains(&word) => None,
        _ => Some(UNKNOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel() -> Kernel {
        Kernel::new("k.cu", "__global__ void k() {}", "sm_90".parse().unwrap())
    }

    #[test]
    fn everything_that_changes_the_image_changes_the_fingerprint() {
        let compiler = CompilerId::from_bytes([1; 32]);
        let header = |text: &str| Headers::new().file("a.h", text).unwrap();
        let other_name = Kernel::new("l.cu", "__global__ void k() {}", "sm_90".parse().unwrap());
        let other_source = Kernel::new("k.cu", "__global__ void k() { }", "sm_90".parse().unwrap());
        let other_arch = Kernel::new("k.cu", "__global__ void k() {}", "sm_90a".parse().unwrap());
        let kernels = [
            kernel(),
            other_name,
            other_source,
            other_arch,
            kernel().headers(&header("1")),
            kernel().headers(&header("2")),
            kernel().option("-DA").unwrap().option("-DB").unwrap(),
            kernel().option("-DB").unwrap().option("-DA").unwrap(),
            kernel().name_expression("-DA"),
        ];
        let mut fingerprints: Vec<_> = kernels.iter().map(|kernel| kernel.fingerprint(&compiler)).collect();
        fingerprints.push(kernel().fingerprint(&CompilerId::from_bytes([2; 32])));
        for (at, fingerprint) in fingerprints.iter().enumerate() {
            assert!(!fingerprints[..at].contains(fingerprint), "number {at}");
        }
        assert_eq!(kernel().fingerprint(&compiler), fingerprints[0]);
    }

    #[test]
    fn options_that_would_go_around_the_fingerprint_are_refused() {
        for option in [
            "-I/usr/include",
            "-I",
            "--include-path=/x",
            "-arch=sm_90",
            "--gpu-architecture sm_80",
            "--time=t",
            "--use-pch=x",
            "--pre-include=/x/a.h",
            "-include=/x/a.h",
            " -I/x",
            "\t-arch=sm_90",
            "--fdevice-syntax-only",
            "--optix-ir",
            "--reads-a-file=/x",
            "/x/a.h",
            "",
        ] {
            let refused = kernel().option(option).unwrap_err();
            assert!(matches!(refused, NvrtcError::OptionNotAllowed { .. }), "{option}");
        }
        for option in ["--std=c++17", "-DNAME=1", "-D NAME", "--use_fast_math", "--maxrregcount=32", "-lineinfo"] {
            assert!(kernel().option(option).is_ok(), "{option}");
        }
    }

    #[test]
    fn only_architectures_are_architectures() {
        for good in ["sm_90", "sm_90a", "compute_75", "sm_120", "sm_100f"] {
            assert_eq!(good.parse::<Arch>().unwrap().to_string(), good);
        }
        for bad in ["", "90", "sm_", "sm_9", "sm_9000", "sm_90b", "SM_90", "sm_90 -I/x", "gfx906"] {
            assert_eq!(bad.parse::<Arch>(), Err(NvrtcError::BadArch(bad.to_owned())));
        }
    }
}
