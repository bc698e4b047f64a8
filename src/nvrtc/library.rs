//! NVRTC's functions, loaded by name when a kernel has to be compiled, and one compilation with them. Knows no store.
#![expect(unsafe_code, reason = "loads and calls foreign functions")]

use crate::nvrtc::error::{NvrtcError, compile_error};
use crate::nvrtc::headers::Prepared;
use crate::nvrtc::identity::{absent, builtins_beside};
use crate::nvrtc::includes;
use crate::nvrtc::kernel::Kernel;
use libloading::Library;
use std::borrow::Cow;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;

type Program = *mut c_void;

const INVALID_OPTION: c_int = 5;
const COMPILATION: c_int = 6;

macro_rules! functions {
    ($($name:ident = $symbol:literal ($($arg:ty),* $(,)?);)*) => {
        pub(crate) struct Functions {
            $($name: unsafe extern "C" fn($($arg),*) -> c_int,)*
            error_string: unsafe extern "C" fn(c_int) -> *const c_char,
            // The functions live in it.
            _library: Library,
            // It looks for these by name, when it compiles.
            _builtins: Vec<Library>,
        }

        impl Functions {
            /// # Safety
            /// `library` is NVRTC, or has the same interface.
            unsafe fn of(library: Library, builtins: Vec<Library>) -> Result<Self, String> {
                Ok(Functions {
                    $($name: {
                        // SAFETY: the symbol has the type that NVRTC's interface gives it.
                        let found = unsafe { library.get::<unsafe extern "C" fn($($arg),*) -> c_int>(concat!($symbol, "\0").as_bytes()) };
                        *found.map_err(|_| format!("it is too old: it lacks {}", $symbol))?
                    },)*
                    error_string: {
                        // SAFETY: as above.
                        let found = unsafe { library.get::<unsafe extern "C" fn(c_int) -> *const c_char>(b"nvrtcGetErrorString\0") };
                        *found.map_err(|_| "it lacks nvrtcGetErrorString".to_owned())?
                    },
                    _library: library,
                    _builtins: builtins,
                })
            }
        }
    };
}

functions! {
    version = "nvrtcVersion"(*mut c_int, *mut c_int);
    supported_archs_count = "nvrtcGetNumSupportedArchs"(*mut c_int);
    supported_archs = "nvrtcGetSupportedArchs"(*mut c_int);
    create = "nvrtcCreateProgram"(*mut Program, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char);
    destroy = "nvrtcDestroyProgram"(*mut Program);
    add_name_expression = "nvrtcAddNameExpression"(Program, *const c_char);
    compile = "nvrtcCompileProgram"(Program, c_int, *const *const c_char);
    log_size = "nvrtcGetProgramLogSize"(Program, *mut usize);
    log = "nvrtcGetProgramLog"(Program, *mut c_char);
    cubin_size = "nvrtcGetCUBINSize"(Program, *mut usize);
    cubin = "nvrtcGetCUBIN"(Program, *mut c_char);
    ptx_size = "nvrtcGetPTXSize"(Program, *mut usize);
    ptx = "nvrtcGetPTX"(Program, *mut c_char);
    lowered_name = "nvrtcGetLoweredName"(Program, *const c_char, *mut *const c_char);
}

/// What a compilation made.
pub(crate) struct Compiled {
    pub(crate) image: Vec<u8>,
    /// Each name expression with its mangled name, in order.
    pub(crate) lowered: Vec<(String, String)>,
    /// Warnings.
    pub(crate) log: String,
}

impl Functions {
    pub(crate) fn load(path: &Path) -> Result<Functions, NvrtcError> {
        let unusable = |reason: String| absent(format!("{}: {reason}", path.display()));
        // First, and by their paths: NVRTC asks the system's loader for its builtins by name, and would else be given those of
        // another folder, such as one of LD_LIBRARY_PATH, which no fingerprint names.
        let mut builtins = Vec::new();
        for path in builtins_beside(path).map_err(|error| unusable(error.to_string()))? {
            // SAFETY: as below.
            builtins.push(unsafe { Library::new(&path) }.map_err(|error| unusable(error.to_string()))?);
        }
        // SAFETY: loading NVRTC runs its initialisers, which is what every program that uses it does.
        let library = unsafe { Library::new(path) }.map_err(|error| unusable(error.to_string()))?;
        // SAFETY: the file answers to NVRTC's name, or the user named it as NVRTC.
        unsafe { Functions::of(library, builtins) }.map_err(unusable)
    }

    /// Such as `12.8`.
    pub(crate) fn version_text(&self) -> String {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: both integers are writable.
        unsafe { (self.version)(&mut major, &mut minor) };
        format!("{major}.{minor}")
    }

    pub(crate) fn compile(&self, kernel: &Kernel, headers: &Prepared) -> Result<Compiled, NvrtcError> {
        check_includes(kernel, headers)?;
        let source = c_string(&kernel.source, "source")?;
        let name = c_string(&kernel.name, "name")?;
        let program = self.create_program(&source, &name, headers)?;
        let expressions = c_strings(&kernel.name_expressions, "name expression")?;
        for expression in &expressions {
            // SAFETY: the program is alive and not compiled yet; the text ends with 0.
            let code = unsafe { (self.add_name_expression)(program.raw, expression.as_ptr()) };
            self.check("nvrtcAddNameExpression", code)?;
        }
        let mut options = vec![format!("--gpu-architecture={}", kernel.arch)];
        // Without it an include in quotes is also looked for in the current directory, which no fingerprint knows.
        options.push("--no-source-include".to_owned());
        options.extend(kernel.options.iter().cloned());
        let options = c_strings(&options, "option")?;
        let pointers = pointers(&options);
        // SAFETY: the program is alive; the array has as many texts as told, each ended by 0.
        let code = unsafe { (self.compile)(program.raw, pointers.len() as c_int, pointers.as_ptr()) };
        let log = program.log()?;
        match code {
            0 => {}
            COMPILATION => return Err(compile_error(log)),
            INVALID_OPTION => return Err(self.option_error(kernel, log)),
            code => return Err(self.failed("nvrtcCompileProgram", code, &log)),
        }
        let mut lowered = Vec::with_capacity(expressions.len());
        for (expression, asked) in expressions.iter().zip(&kernel.name_expressions) {
            lowered.push((asked.clone(), program.lowered_name(expression)?));
        }
        Ok(Compiled { image: program.image(kernel.arch.is_real())?, lowered, log })
    }

    fn create_program<'f>(
        &'f self,
        source: &CStr,
        name: &CStr,
        headers: &Prepared,
    ) -> Result<OwnedProgram<'f>, NvrtcError> {
        let (contents, names) = (pointers(&headers.contents), pointers(&headers.names));
        let mut raw = ptr::null_mut();
        // SAFETY: all texts end with 0, both arrays have as many as told, and NVRTC copies them; `raw` is writable.
        let code = unsafe {
            (self.create)(
                &mut raw,
                source.as_ptr(),
                name.as_ptr(),
                names.len() as c_int,
                contents.as_ptr(),
                names.as_ptr(),
            )
        };
        self.check("nvrtcCreateProgram", code)?;
        Ok(OwnedProgram { functions: self, raw })
    }

    fn option_error(&self, kernel: &Kernel, log: String) -> NvrtcError {
        if !log.contains("gpu-architecture") {
            return NvrtcError::BadOption { log: log.trim().to_owned() };
        }
        NvrtcError::UnknownArch {
            arch: kernel.arch.to_string(),
            version: self.version_text(),
            supported: self.supported(),
        }
    }

    fn supported(&self) -> Vec<u32> {
        let mut count = 0;
        // SAFETY: the integer is writable.
        if unsafe { (self.supported_archs_count)(&mut count) } != 0 || count <= 0 {
            return Vec::new();
        }
        let mut archs: Vec<c_int> = vec![0; count as usize];
        // SAFETY: the array has room for as many as it said.
        unsafe { (self.supported_archs)(archs.as_mut_ptr()) };
        archs.into_iter().map(|arch| arch as u32).collect()
    }

    fn check(&self, call: &'static str, code: c_int) -> Result<(), NvrtcError> {
        if code == 0 { Ok(()) } else { Err(self.failed(call, code, "")) }
    }

    fn failed(&self, call: &'static str, code: c_int, log: &str) -> NvrtcError {
        // SAFETY: any code may be asked for; the answer is a constant text, or null.
        let text = unsafe { (self.error_string)(code) };
        let said = if text.is_null() {
            "a code that it does not explain".to_owned()
        } else {
            // SAFETY: checked for null; the text ends with 0.
            unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
        };
        let message = if log.trim().is_empty() { said } else { format!("{said}: {}", log.trim()) };
        NvrtcError::Failed { call, code, message }
    }
}

/// A program of NVRTC, destroyed with this.
struct OwnedProgram<'f> {
    functions: &'f Functions,
    raw: Program,
}

impl OwnedProgram<'_> {
    fn log(&self) -> Result<String, NvrtcError> {
        let functions = self.functions;
        let mut bytes = self.bytes("nvrtcGetProgramLog", functions.log_size, functions.log)?;
        if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
            bytes.truncate(end);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn image(&self, machine_code: bool) -> Result<Vec<u8>, NvrtcError> {
        let functions = self.functions;
        if machine_code {
            self.bytes("nvrtcGetCUBIN", functions.cubin_size, functions.cubin)
        } else {
            self.bytes("nvrtcGetPTX", functions.ptx_size, functions.ptx) // ended by 0, as the driver wants it
        }
    }

    fn lowered_name(&self, expression: &CStr) -> Result<String, NvrtcError> {
        let mut text = ptr::null();
        // SAFETY: the program is alive and compiled; the expression is one of its own; the pointer is writable.
        let code = unsafe { (self.functions.lowered_name)(self.raw, expression.as_ptr(), &mut text) };
        self.functions.check("nvrtcGetLoweredName", code)?;
        // SAFETY: on success it points to a text that lives as long as the program.
        Ok(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    }

    fn bytes(
        &self,
        call: &'static str,
        size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
        fill: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    ) -> Result<Vec<u8>, NvrtcError> {
        let mut length = 0;
        // SAFETY: the program is alive; the size is writable.
        let code = unsafe { size(self.raw, &mut length) };
        self.functions.check(call, code)?;
        let mut bytes = vec![0u8; length];
        // SAFETY: the program is alive; the buffer has the length that it said.
        let code = unsafe { fill(self.raw, bytes.as_mut_ptr().cast()) };
        self.functions.check(call, code)?;
        Ok(bytes)
    }
}

impl Drop for OwnedProgram<'_> {
    fn drop(&mut self) {
        // SAFETY: created by the same library, and destroyed once.
        unsafe { (self.functions.destroy)(&mut self.raw) };
    }
}

/// That all it includes by name is in its fingerprint.
fn check_includes(kernel: &Kernel, headers: &Prepared) -> Result<(), NvrtcError> {
    let given = |path: &str| headers.names.iter().any(|name| name.to_bytes() == path.as_bytes());
    let of_headers = headers.names.iter().zip(&headers.contents);
    let of_headers = of_headers.map(|(name, text)| (name.to_string_lossy(), text.to_bytes()));
    for (file, text) in std::iter::once((Cow::from(&kernel.name), kernel.source.as_bytes())).chain(of_headers) {
        if let Some((line, path)) = includes::absolute(text).find(|(_, path)| !given(path)) {
            return Err(NvrtcError::MissingHeader { header: path.to_owned(), file: file.into_owned(), line });
        }
    }
    Ok(())
}

fn c_string(text: &str, what: &'static str) -> Result<CString, NvrtcError> {
    CString::new(text).map_err(|_| NvrtcError::NulByte { what })
}

fn c_strings(texts: &[String], what: &'static str) -> Result<Vec<CString>, NvrtcError> {
    texts.iter().map(|text| c_string(text, what)).collect()
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).collect()
}
