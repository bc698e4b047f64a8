//! Finding the directory, and deciding whether it can be trusted. The boundary is the user: what only this user, and
//! root, can write is believed. Knows no records.

use crate::persist::store::directory::options::DirectoryOptions;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a directory is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Distrust {
    /// Neither `HAPAX_CACHE_DIR`, nor `XDG_CACHE_HOME`, nor `HOME` is an absolute path.
    #[error("no absolute path in HAPAX_CACHE_DIR, XDG_CACHE_HOME or HOME; set HAPAX_CACHE_DIR")]
    NoHome,
    /// The user id stands for all that have none here, as in a container that does not map it; so an owner proves nothing.
    #[error("user {user} stands for every user that is not mapped here; run as a mapped user")]
    UnmappedUser {
        /// The user id.
        user: u32,
    },
    /// The name cannot be part of a path.
    #[error("the name {name:?} is not 1 to 64 letters, digits, `-`, `_` and `.` that begin with no `.`")]
    BadName {
        /// The name.
        name: String,
    },
    /// There is a symbolic link, or something else than a directory, in its place.
    #[error("{path} is not a directory; symbolic links are not followed there")]
    NotADirectory {
        /// Where.
        path: String,
    },
    /// It belongs to somebody else.
    #[error("{path} belongs to user {owner}, not to user {user}; remove it, or set HAPAX_CACHE_DIR")]
    ForeignOwner {
        /// Where.
        path: String,
        /// Whose it is.
        owner: u32,
        /// Who asks.
        user: u32,
    },
    /// Others may write to it.
    #[error("{path} can be written by others (mode {mode:o}); make it 0700, if nobody has written to it")]
    WritableByOthers {
        /// Where.
        path: String,
        /// Its permissions.
        mode: u32,
    },
    /// It is on a file system whose locks and renames other machines may not see in order.
    #[error("{path} is on a network file system ({file_system}); set HAPAX_CACHE_DIR to a local one, or allow it")]
    NetworkFileSystem {
        /// Where.
        path: String,
        /// Which.
        file_system: &'static str,
    },
    /// It cannot be made or opened.
    #[error("cannot open {path}: {message}")]
    CannotOpen {
        /// Where.
        path: String,
        /// What the system said, and what to do.
        message: String,
    },
}

/// What the decision depends on beside the directory itself. Tests play others.
#[derive(Clone)]
pub struct Surroundings {
    /// The user that runs.
    pub user: u32,
    /// The user id that stands for those that are not mapped.
    pub unmapped_user: u32,
    /// Reads an environment variable.
    pub variable: Arc<dyn Fn(&str) -> Option<OsString> + Send + Sync>,
    /// The `f_type` of the file system that an open directory is on.
    pub file_system: Arc<dyn Fn(&OwnedFd) -> io::Result<u64> + Send + Sync>,
}

impl Surroundings {
    /// Those that there are.
    pub fn real() -> Surroundings {
        let unmapped = std::fs::read_to_string("/proc/sys/kernel/overflowuid");
        Surroundings {
            user: rustix::process::geteuid().as_raw(),
            unmapped_user: unmapped.ok().and_then(|number| number.trim().parse().ok()).unwrap_or(65534),
            variable: Arc::new(|name| std::env::var_os(name)),
            file_system: Arc::new(|directory| Ok(rustix::fs::fstatfs(directory)?.f_type as u64)),
        }
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Format versions live side by side and see nothing of each other.
const VERSION: &str = "v1";

/// Linux's numbers of file systems whose files other machines may hold open, from its `statfs(2)`.
const NETWORK: &[(u64, &str)] = &[
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xfe53_4d42, "SMB2"),
    (0xff53_4d42, "CIFS"),
    (0x00c3_6400, "Ceph"),
    (0x0102_1997, "9p"),
    (0x0bd0_0bd0, "Lustre"),
    (0x1983_0326, "BeeGFS"),
    (0x4750_4653, "GPFS"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7461_636f, "OCFS2"),
    (0x0116_1970, "GFS2"),
    (0x7375_7245, "Coda"),
    (0x564c, "NCP"),
];

/// Opens `ROOT/NAME-UID/v1/PART`, checked from `NAME-UID` on, and makes what is missing unless only reading is asked for.
pub(super) fn open(options: &DirectoryOptions, surroundings: &Surroundings, part: &str) -> Result<OwnedFd, Distrust> {
    let user = surroundings.user;
    if user == surroundings.unmapped_user {
        return Err(Distrust::UnmappedUser { user });
    }
    if !is_name(&options.name) {
        return Err(Distrust::BadName { name: options.name.clone() });
    }
    let root = root(options, surroundings)?;
    let make = !options.read_only;
    if make {
        make_root(&root)?;
    }
    let mut path = root.clone();
    let mut directory = open_directory(CWD, &root, &root)?;
    if options.pack.is_some() {
        check_private(&directory, &root, user, make)?;
        return Ok(directory);
    }
    for step in [&format!("{}-{user}", options.name), VERSION, part] {
        path.push(step);
        directory = private_directory(&directory, step, &path, user, make)?;
    }
    let file_system = (surroundings.file_system)(&directory).map_err(|error| cannot_open(&path, &error))?;
    match NETWORK.iter().find(|(number, _)| *number == file_system & 0xffff_ffff) {
        Some((_, file_system)) if !options.allow_network => {
            Err(Distrust::NetworkFileSystem { path: shown(&path), file_system })
        }
        _ => Ok(directory),
    }
}

/// `ROOT/NAME-UID/v1`, or a pack's own directory; unchecked.
pub(super) fn path(options: &DirectoryOptions, surroundings: &Surroundings) -> Result<PathBuf, Distrust> {
    if !is_name(&options.name) {
        return Err(Distrust::BadName { name: options.name.clone() });
    }
    let root = root(options, surroundings)?;
    if options.pack.is_some() {
        return Ok(root);
    }
    Ok(root.join(format!("{}-{}", options.name, surroundings.user)).join(VERSION))
}

fn is_name(name: &str) -> bool {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    (1..=64).contains(&name.len()) && name.chars().all(allowed) && !name.starts_with('.')
}

fn root(options: &DirectoryOptions, surroundings: &Surroundings) -> Result<PathBuf, Distrust> {
    let variable = |name: &str| (surroundings.variable)(name).map(PathBuf::from);
    // Asked for by name, so one that makes no sense is an error; of the others the base directory specification says to ignore it.
    let asked_for = options.pack.clone().or_else(|| options.dir.clone());
    let named = || variable("HAPAX_CACHE_DIR").filter(|dir| !dir.as_os_str().is_empty());
    if let Some(dir) = asked_for.or_else(named) {
        let refused = || cannot_open(&dir, &io::Error::other("it is not an absolute path"));
        return if dir.is_absolute() { Ok(dir) } else { Err(refused()) };
    }
    let base = |name: &str| variable(name).filter(|path| path.is_absolute());
    base("XDG_CACHE_HOME")
        .map(|cache| cache.join("hapax"))
        .or_else(|| base("HOME").map(|home| home.join(".cache/hapax")))
        .ok_or(Distrust::NoHome)
}

/// What is made is private; what is there stays as it is.
fn make_root(root: &Path) -> Result<(), Distrust> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root) {
        Ok(()) => Ok(()),
        // It may exist and be read-only, or be a link, which opening it will tell.
        Err(_) if root.symlink_metadata().is_ok() => Ok(()),
        Err(error) => Err(cannot_open(root, &error)),
    }
}

fn private_directory(parent: &OwnedFd, name: &str, path: &Path, user: u32, make: bool) -> Result<OwnedFd, Distrust> {
    let mut directory = open_directory(parent, Path::new(name), path);
    if make && directory.is_err() {
        match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            // If it is there, it cannot be opened, or was made just now by another process: opening it again tells which.
            Ok(()) | Err(Errno::EXIST) => directory = open_directory(parent, Path::new(name), path),
            Err(error) => return Err(cannot_open(path, &error.into())),
        }
    }
    let directory = directory?;
    check_private(&directory, path, user, make)?;
    Ok(directory)
}

/// What root has made can be read: root could do anything anyway.
fn check_private(directory: &OwnedFd, path: &Path, user: u32, to_write: bool) -> Result<(), Distrust> {
    let stat = rustix::fs::fstat(directory).map_err(|error| cannot_open(path, &error.into()))?;
    if stat.st_uid != user && (to_write || stat.st_uid != 0) {
        return Err(Distrust::ForeignOwner { path: shown(path), owner: stat.st_uid, user });
    }
    let mode = u64::from(stat.st_mode) as u32 & 0o7777;
    if mode & 0o022 != 0 {
        return Err(Distrust::WritableByOthers { path: shown(path), mode });
    }
    Ok(())
}

fn open_directory(parent: impl rustix::fd::AsFd, name: &Path, path: &Path) -> Result<OwnedFd, Distrust> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Ok(directory) => {
            let stat = rustix::fs::fstat(&directory).map_err(|error| cannot_open(path, &error.into()))?;
            debug_assert_eq!(FileType::from_raw_mode(stat.st_mode), FileType::Directory);
            Ok(directory)
        }
        Err(Errno::LOOP | Errno::NOTDIR) => Err(Distrust::NotADirectory { path: shown(path) }),
        Err(error) => Err(cannot_open(path, &error.into())),
    }
}

fn cannot_open(path: &Path, error: &io::Error) -> Distrust {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; let this user read and write there, or choose another directory, as with HAPAX_CACHE_DIR"
        }
        _ => "",
    };
    Distrust::CannotOpen { path: shown(path), message: format!("{error}{advice}") }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Permissions do not stop root, which tests may run as.
    #[test]
    fn what_cannot_be_opened_for_lack_of_rights_says_what_to_do() {
        let told = |kind: io::ErrorKind| cannot_open(Path::new("/there"), &kind.into()).to_string();
        assert!(told(io::ErrorKind::PermissionDenied).ends_with("choose another directory, as with HAPAX_CACHE_DIR"));
        assert_eq!(told(io::ErrorKind::NotFound), "cannot open /there: entity not found");
    }
}
