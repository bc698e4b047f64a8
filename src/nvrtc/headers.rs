//! CUDA C++ headers by content. Knows no compiler.
//!
//! NVRTC is given every header in memory: what is hashed is what is compiled, whatever happens to a directory
//! meanwhile, and no path of the machine gets into the result.

use crate::nvrtc::error::NvrtcError;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// A set of headers that kernels may include, by name and content. A clone shares them.
///
/// ```
/// use hapax::nvrtc::Headers;
///
/// let headers = Headers::new().file("scale.cuh", "#define SCALE 2.0f\n")?;
/// assert_eq!(headers.len(), 1);
/// # Ok::<(), hapax::nvrtc::NvrtcError>(())
/// ```
#[derive(Clone, Default)]
pub struct Headers(Arc<Set>);

#[derive(Default)]
struct Set {
    files: BTreeMap<String, Vec<u8>>,
    digest: OnceLock<[u8; 32]>,
}

/// Headers as NVRTC takes them: names and contents, both ended by 0.
pub(crate) struct Prepared {
    pub(crate) names: Vec<CString>,
    pub(crate) contents: Vec<CString>,
}

impl Headers {
    /// None.
    pub fn new() -> Headers {
        Headers::default()
    }

    /// Adds one, under the name by which it is included. The first of a name counts, as with directories that are
    /// searched in order.
    ///
    /// # Errors
    /// [`NvrtcError::BadHeader`] if the name or the contents hold a NUL byte.
    pub fn file(mut self, name: impl Into<String>, contents: impl Into<Vec<u8>>) -> Result<Headers, NvrtcError> {
        let (name, contents) = (name.into(), contents.into());
        if name.is_empty() || name.contains('\0') || contents.contains(&0) {
            return Err(NvrtcError::BadHeader { name, reason: "it holds a NUL byte, or has no name".to_owned() });
        }
        self.set().files.entry(name).or_insert(contents);
        Ok(self)
    }

    /// Adds every file below `directory`, under its path from there: what `-I directory` would make visible. Reads all
    /// of them now, so do it once a process, and share the result. Files with NUL bytes, which no header has, are left
    /// out, and so are links to directories.
    ///
    /// # Errors
    /// [`NvrtcError::BadHeader`] if something cannot be read.
    pub fn directory(mut self, directory: impl AsRef<Path>) -> Result<Headers, NvrtcError> {
        let root = directory.as_ref();
        let mut found = BTreeMap::new();
        read_below(root, "", &mut found)?;
        let files = &mut self.set().files;
        for (name, contents) in found {
            files.entry(name).or_insert(contents);
        }
        Ok(self)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.files.is_empty()
    }

    /// Bytes of all contents.
    pub fn bytes(&self) -> u64 {
        self.0.files.values().map(|contents| contents.len() as u64).sum()
    }

    /// The BLAKE3 hash of all names and contents; computed once.
    pub fn digest(&self) -> [u8; 32] {
        *self.0.digest.get_or_init(|| {
            let mut hasher = blake3::Hasher::new();
            for (name, contents) in &self.0.files {
                for bytes in [name.as_bytes(), contents] {
                    hasher.update(&(bytes.len() as u64).to_le_bytes());
                    hasher.update(bytes);
                }
            }
            *hasher.finalize().as_bytes()
        })
    }

    /// For NVRTC, which looks an include up by the very text in it and knows no directories: an include in quotes that
    /// names a file beside its includer is given that file's whole name first.
    pub(crate) fn prepared(&self) -> Prepared {
        let files = &self.0.files;
        let whole = |text: &[u8]| CString::new(text).expect("checked when it was added");
        Prepared {
            names: files.keys().map(|name| whole(name.as_bytes())).collect(),
            contents: files.iter().map(|(name, contents)| whole(&with_whole_names(name, contents, files))).collect(),
        }
    }

    fn set(&mut self) -> &mut Set {
        if Arc::get_mut(&mut self.0).is_none() {
            self.0 = Arc::new(Set { files: self.0.files.clone(), digest: OnceLock::new() });
        }
        let set = Arc::get_mut(&mut self.0).expect("unshared now");
        set.digest = OnceLock::new();
        set
    }
}

fn read_below(directory: &Path, prefix: &str, into: &mut BTreeMap<String, Vec<u8>>) -> Result<(), NvrtcError> {
    let cannot = |error: std::io::Error| NvrtcError::BadHeader {
        name: directory.display().to_string(),
        reason: format!("it cannot be read ({error}); check the path"),
    };
    for entry in fs::read_dir(directory).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let Ok(file_name) = entry.file_name().into_string() else { continue }; // no include can name it
        let name = format!("{prefix}{file_name}");
        let kind = entry.file_type().map_err(cannot)?;
        if kind.is_dir() {
            read_below(&entry.path(), &format!("{name}/"), into)?;
        } else if kind.is_file() || entry.path().is_file() {
            let contents = fs::read(entry.path()).map_err(cannot)?;
            if !contents.contains(&0) {
                into.insert(name, contents);
            }
        }
    }
    Ok(())
}

/// The contents with each `#include "x"` whose `x` lies beside `name` changed to the whole name of `x`. Lines stay lines.
fn with_whole_names(name: &str, contents: &[u8], files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let Some((directory, _)) = name.rsplit_once('/') else { return contents.to_vec() };
    let mut out = Vec::with_capacity(contents.len() + 64);
    for line in contents.split_inclusive(|&byte| byte == b'\n') {
        match quoted_include(line) {
            Some((start, end)) => {
                let beside = std::str::from_utf8(&line[start..end]).ok().and_then(|path| join(directory, path));
                match beside.filter(|beside| files.contains_key(beside)) {
                    Some(beside) => {
                        out.extend(&line[..start]);
                        out.extend(beside.as_bytes());
                        out.extend(&line[end..]);
                    }
                    None => out.extend(line),
                }
            }
            None => out.extend(line),
        }
    }
    out
}

/// Where the path stands in a line such as ` # include "path"`.
fn quoted_include(line: &[u8]) -> Option<(usize, usize)> {
    let rest = line.trim_ascii_start().strip_prefix(b"#")?.trim_ascii_start();
    let quoted = rest.strip_prefix(b"include")?.trim_ascii_start().strip_prefix(b"\"")?;
    let length = quoted.iter().position(|&byte| byte == b'"')?;
    let start = line.len() - quoted.len();
    Some((start, start + length))
}

/// `directory/path` without `.` and `..`; `None` if that leads out.
fn join(directory: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = directory.split('/').collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Headers").field("len", &self.len()).field("bytes", &self.bytes()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_names_and_contents_and_not_of_the_order_or_the_place() {
        let two = |a: &str, b: &str| {
            Headers::new().file(a, format!("// {a}")).and_then(|set| set.file(b, format!("// {b}"))).unwrap()
        };
        assert_eq!(two("a.h", "b.h").digest(), two("b.h", "a.h").digest());
        assert_ne!(two("a.h", "b.h").digest(), two("a.h", "c.h").digest());
        let changed = Headers::new().file("a.h", "// b.h").unwrap().file("b.h", "// b.h").unwrap();
        assert_ne!(two("a.h", "b.h").digest(), changed.digest());
        let folders = [1, 2].map(|number| {
            let folder = std::env::temp_dir().join(format!("hapax-headers-{}-{number}", std::process::id()));
            fs::create_dir_all(folder.join("sub")).unwrap();
            fs::write(folder.join("sub/a.h"), "// a.h").unwrap();
            let set = Headers::new().directory(&folder).unwrap();
            fs::remove_dir_all(&folder).unwrap();
            set
        });
        assert_eq!(folders[0].digest(), folders[1].digest());
        assert_eq!(folders[0].digest(), Headers::new().file("sub/a.h", "// a.h").unwrap().digest());
    }

    #[test]
    fn the_first_header_of_a_name_counts_and_shared_sets_do_not_change() {
        let one = Headers::new().file("a.h", "1").unwrap();
        let digest = one.digest();
        let two = one.clone().file("a.h", "2").unwrap().file("b.h", "").unwrap();
        assert_eq!((one.len(), two.len(), one.digest()), (1, 2, digest));
        assert_eq!(two.0.files["a.h"], b"1");
    }

    #[test]
    fn includes_in_quotes_find_the_file_beside_their_includer() {
        let set = Headers::new()
            .file("a/b.h", "#include \"c.h\"\n  #  include \"../d.h\" // d\n#include <c.h>\n#include \"e.h\"\n")
            .and_then(|set| set.file("a/c.h", ""))
            .and_then(|set| set.file("d.h", ""))
            .and_then(|set| set.file("e.h", ""))
            .unwrap();
        let prepared = set.prepared();
        assert_eq!(
            prepared.contents[0].to_str().unwrap(),
            "#include \"a/c.h\"\n  #  include \"d.h\" // d\n#include <c.h>\n#include \"e.h\"\n"
        );
    }

    #[test]
    fn what_cannot_be_a_header_is_refused_by_name() {
        let refused = Headers::new().file("a.h", "a\0b").unwrap_err();
        assert!(matches!(&refused, NvrtcError::BadHeader { name, .. } if name == "a.h"), "{refused}");
        let missing = Headers::new().directory("/nonexistent-headers").unwrap_err();
        assert!(missing.to_string().contains("/nonexistent-headers"), "{missing}");
    }
}
