//! Which compiler would be used, told from its files without loading them: a hit in the store needs no compiler, but its
//! fingerprint names one.

use crate::nvrtc::error::NvrtcError;
use crate::persist::fingerprint::Fingerprint;
use object::{Object, ReadCache};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The identity of a compiler: a hash over the build ids of libnvrtc and of the builtins library beside it.
///
/// It prints and parses as 64 hexadecimal digits, so that a fleet can pin the compiler whose kernels a store was
/// filled with, on machines that have none.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CompilerId([u8; 32]);

impl CompilerId {
    /// An identity known from elsewhere.
    pub const fn from_bytes(bytes: [u8; 32]) -> CompilerId {
        CompilerId(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads what [`Display`](fmt::Display) writes. `None` if it is anything else.
    pub fn from_hex(digits: &str) -> Option<CompilerId> {
        Fingerprint::from_hex(digits).map(|bytes| CompilerId(*bytes.as_bytes()))
    }

    /// Of the library at `path` and its builtins. Reads a few pages of each file; a file without a build id is hashed
    /// whole.
    pub(crate) fn of_library(path: &Path) -> io::Result<CompilerId> {
        let mut parts = Fingerprint::of("hapax nvrtc compiler v1").part("libnvrtc", file_identity(path)?);
        for builtins in builtins_beside(path)? {
            let name = builtins.file_name().unwrap_or_default().to_string_lossy().into_owned();
            parts = parts.part(&name, file_identity(&builtins)?);
        }
        Ok(CompilerId(*parts.finish().as_bytes()))
    }
}

/// As 64 hexadecimal digits.
impl fmt::Display for CompilerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Fingerprint::from_bytes(self.0).fmt(f)
    }
}

impl fmt::Debug for CompilerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&Fingerprint::from_bytes(self.0), f)
    }
}

/// The first libnvrtc of the usual places, in this order: `HAPAX_NVRTC` (a file, and then the only place), the `lib64`
/// of `CUDA_PATH` and `CUDA_HOME`, `LD_LIBRARY_PATH`, and where the toolkit and distributions put it.
pub(crate) fn find_library() -> Result<PathBuf, NvrtcError> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = variable("HAPAX_NVRTC").map(PathBuf::from) {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(absent(format!("HAPAX_NVRTC names {}, which is no file", path.display())))
        };
    }
    let mut folders: Vec<PathBuf> = Vec::new();
    for root in ["CUDA_PATH", "CUDA_HOME"].iter().filter_map(|name| variable(name)) {
        folders.push(PathBuf::from(root).join(if cfg!(windows) { "bin" } else { "lib64" }));
    }
    let search_path = if cfg!(windows) { "PATH" } else { "LD_LIBRARY_PATH" };
    folders.extend(variable(search_path).iter().flat_map(std::env::split_paths));
    folders.extend(SYSTEM_FOLDERS.iter().map(PathBuf::from));
    let candidates = folders.iter().flat_map(|folder| LIBRARY_NAMES.iter().map(move |name| folder.join(name)));
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        absent(format!(
            "none of {} in CUDA_PATH, CUDA_HOME, {search_path} or the system's folders",
            LIBRARY_NAMES.join(", ")
        ))
    })
}

#[cfg(windows)]
const LIBRARY_NAMES: &[&str] = &["nvrtc64_130_0.dll", "nvrtc64_120_0.dll"];
#[cfg(not(windows))]
const LIBRARY_NAMES: &[&str] = &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"];

#[cfg(windows)]
const SYSTEM_FOLDERS: &[&str] = &[];
#[cfg(not(windows))]
const SYSTEM_FOLDERS: &[&str] = &[
    "/usr/local/cuda/lib64",
    "/opt/cuda/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
];

pub(crate) fn absent(reason: String) -> NvrtcError {
    NvrtcError::Absent { reason }
}

/// The builtins of NVRTC are a library of their own, which it loads from its own folder.
pub(crate) fn builtins_beside(library: &Path) -> io::Result<Vec<PathBuf>> {
    // A link such as libnvrtc.so may stand elsewhere than what it points to.
    let library = fs::canonicalize(library)?;
    let folder = library.parent().unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("libnvrtc-builtins") || name.starts_with("nvrtc-builtins") {
            found.push(path.clone());
        }
    }
    found.sort();
    Ok(found)
}

fn file_identity(path: &Path) -> io::Result<Vec<u8>> {
    let reader = ReadCache::new(File::open(path)?);
    let build_id =
        object::File::parse(&reader).ok().and_then(|file| file.build_id().ok().flatten().map(<[u8]>::to_vec));
    match build_id {
        Some(build_id) if !build_id.is_empty() => Ok(build_id),
        _ => Ok(blake3::hash(&fs::read(path)?).as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_that_of_the_contents_and_not_of_the_place() {
        let folders =
            [1, 2].map(|number| std::env::temp_dir().join(format!("hapax-nvrtc-{}-{number}", std::process::id())));
        let ids = folders.each_ref().map(|folder| {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join("libnvrtc.so.12"), "compiler").unwrap();
            fs::write(folder.join("libnvrtc-builtins.so.12.8"), "builtins").unwrap();
            CompilerId::of_library(&folder.join("libnvrtc.so.12")).unwrap()
        });
        assert_eq!(ids[0], ids[1]);
        assert_eq!(CompilerId::from_hex(&ids[0].to_string()), Some(ids[0]));
        fs::write(folders[1].join("libnvrtc-builtins.so.12.8"), "others").unwrap();
        assert_ne!(CompilerId::of_library(&folders[1].join("libnvrtc.so.12")).unwrap(), ids[0]);
        for folder in folders {
            fs::remove_dir_all(folder).unwrap();
        }
    }

    #[test]
    fn a_program_with_a_build_id_is_known_by_it() {
        let this = std::env::current_exe().unwrap();
        let once = file_identity(&this).unwrap();
        assert!(once == file_identity(&this).unwrap() && !once.is_empty());
    }
}
