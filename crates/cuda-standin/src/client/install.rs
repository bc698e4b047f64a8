//! Which driver this process has, and how the stand-in becomes it. Knows no driver call.
//!
//! The loader hands out a library that is already loaded when one is opened by its `DT_SONAME`, before it searches
//! any directory. The built library is called `libcuda.so` in its own records, whatever its file is called; so
//! opening that file once by its path is enough for every later `dlopen("libcuda.so")`, cudarc's included. No
//! environment variable takes part, and nothing happens in a process that does not ask for it.
#![expect(unsafe_code, reason = "loads libraries")]

use crate::client::{Control, alias};
use crate::control::MARKER;
use std::ffi::{CStr, CString, c_int, c_void};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What `libcuda.so` is in this process.
#[derive(Clone, Copy, Debug)]
pub enum Driver {
    /// The stand-in.
    StandIn(Control),
    /// Another library: a real driver, or a toolkit's stub.
    Other,
    /// There is none.
    Absent,
}

/// Why the stand-in is not this process's driver.
#[derive(Debug)]
#[non_exhaustive]
pub enum InstallError {
    /// No built library lies beside this test, in a directory of `LD_LIBRARY_PATH`, or at `CUDA_STANDIN_LIBRARY`.
    /// Is `cuda-standin` a dev-dependency of the package under test?
    NotFound,
    /// The loader's words about a library that it could not load.
    NotLoaded(String),
    /// The library is of another release of this crate: its marker.
    OtherRelease(String),
    /// Another driver was loaded before: install the stand-in first.
    OtherDriver,
}

const NAMES: [&CStr; 2] = [c"libcuda.so", c"libcuda.so.1"];

/// Which driver this process gets by opening `libcuda.so`, or else `libcuda.so.1`. Loads it if it is not loaded.
pub fn driver() -> Driver {
    let Some(library) = NAMES.iter().find_map(|name| open(name, libc::RTLD_LAZY)) else { return Driver::Absent };
    // SAFETY: just opened, and never closed.
    unsafe { Control::of(library) }.map_or(Driver::Other, Driver::StandIn)
}

pub fn install() -> Result<Control, InstallError> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for name in NAMES {
        if let Some(library) = open(name, libc::RTLD_LAZY | libc::RTLD_NOLOAD) {
            // SAFETY: open, and never closed.
            let control = unsafe { Control::of(library) }.ok_or(InstallError::OtherDriver)?;
            return same_release(control);
        }
    }
    let path = library_path().ok_or(InstallError::NotFound)?;
    let text = CString::new(path.as_os_str().as_bytes()).map_err(|_| InstallError::NotFound)?;
    let library = open(&text, libc::RTLD_NOW | libc::RTLD_GLOBAL).ok_or_else(loader_says)?;
    // SAFETY: just opened, and never closed.
    let control = unsafe { Control::of(library) }.ok_or(InstallError::OtherDriver)?;
    same_release(control)?;
    second_name().ok_or_else(loader_says)?;
    Ok(control)
}

/// The library that was built with this crate: beside the test that runs, which is where Cargo puts what a test
/// depends on, or where the environment says.
pub fn library_path() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("CUDA_STANDIN_LIBRARY") {
        return Some(PathBuf::from(given));
    }
    let test = std::env::current_exe().ok()?;
    let beside = test.ancestors().skip(1).take(3).flat_map(|dir| [dir.to_owned(), dir.join("deps")]);
    let listed = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let listed: Vec<PathBuf> = std::env::split_paths(&listed).collect();
    beside.chain(listed).find_map(|dir| newest_in(&dir))
}

pub fn search_dir() -> std::io::Result<PathBuf> {
    let library = library_path().ok_or_else(|| std::io::Error::other(InstallError::NotFound))?;
    let dir = library.with_file_name("cuda-standin-driver");
    std::fs::create_dir_all(&dir)?;
    for name in NAMES {
        let link = dir.join(name.to_str().expect("a constant"));
        if std::fs::read_link(&link).ok().as_ref() == Some(&library) {
            continue;
        }
        // Made under another name and moved, so that two processes can do it at once.
        let made = dir.join(format!("{}.{}", link.display(), std::process::id()));
        let _ = std::fs::remove_file(&made);
        std::os::unix::fs::symlink(&library, &made)?;
        std::fs::rename(&made, &link)?;
    }
    Ok(dir)
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InstallError::NotFound => f.write_str(
                "no built libcuda_standin.so beside this test, in LD_LIBRARY_PATH or at CUDA_STANDIN_LIBRARY: make \
                 cuda-standin a dev-dependency of the package under test",
            ),
            InstallError::NotLoaded(why) => write!(f, "the stand-in cannot be loaded: {why}"),
            InstallError::OtherRelease(marker) => {
                write!(f, "the library found is {marker}, this is {}: build again", MARKER.to_string_lossy())
            }
            InstallError::OtherDriver => f.write_str(
                "another CUDA driver is loaded in this process: install the stand-in before anything opens libcuda.so",
            ),
        }
    }
}

impl std::error::Error for InstallError {}

fn same_release(control: Control) -> Result<Control, InstallError> {
    if Some(control.marker()) == MARKER.to_str().ok() {
        return Ok(control);
    }
    Err(InstallError::OtherRelease(control.marker().to_owned()))
}

/// Loads an empty library that is called `libcuda.so.1` and needs `libcuda.so`.
fn second_name() -> Option<*mut c_void> {
    let bytes = alias::file("libcuda.so.1", "libcuda.so");
    // SAFETY: the name is a C string that lives for ever.
    let file = unsafe { libc::memfd_create(c"libcuda.so.1".as_ptr(), libc::MFD_CLOEXEC) };
    // SAFETY: `bytes` is as long as is said. A `file` that is no file fails here.
    let written = unsafe { libc::write(file, bytes.as_ptr().cast(), bytes.len()) };
    if written != bytes.len() as isize {
        return None;
    }
    let path = CString::new(format!("/proc/self/fd/{file}")).expect("digits hold no zero");
    let library = open(&path, libc::RTLD_NOW | libc::RTLD_GLOBAL);
    // SAFETY: opened above and named nowhere else; what is loaded stays loaded.
    unsafe { libc::close(file) };
    library
}

fn newest_in(dir: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(dir).ok()?.flatten().filter(|file| {
        let name = file.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libcuda_standin") && name.ends_with(".so")
    });
    files.max_by_key(|file| file.metadata().and_then(|data| data.modified()).ok()).map(|file| file.path())
}

fn open(path: &CStr, flags: c_int) -> Option<*mut c_void> {
    // SAFETY: a C string; the libraries named here run no code on loading that could do harm.
    let library = unsafe { libc::dlopen(path.as_ptr(), flags) };
    (!library.is_null()).then_some(library)
}

fn loader_says() -> InstallError {
    // SAFETY: returns null or text that stays until the thread's next call of the loader.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return InstallError::NotLoaded("no reason given".to_owned());
    }
    // SAFETY: not null, so text as said above.
    InstallError::NotLoaded(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}
