//! The command `hapax`, run as people and programs run it, over stores that the library has made.

mod looking;
mod packs;
mod page;
mod removing;
mod usage;
mod verifying;

use hapax::{
    DirectoryJournal, DirectoryOptions, DirectoryStore, Fingerprint, HintOptions, HintStore, Key, Kind, Meta, Store,
};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, UNIX_EPOCH};

const NAME: &str = "test-compiler";
const DAY_S: u64 = 86_400;

/// A directory with stores in it.
struct Site {
    folder: tempfile::TempDir,
}

/// What the command said.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Site {
    fn empty() -> Site {
        Site { folder: tempfile::tempdir().unwrap() }
    }

    /// Three artifacts, one of them large and one of the embedder's own kind, and the hints of two versions.
    fn furnished() -> Site {
        let site = Site::empty();
        site.put(1, Kind::CODE, 1_000);
        site.put(2, Kind::custom(7), 2_000);
        site.put(3, Kind::CODE, 400_000);
        site.record();
        site
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn options(&self) -> DirectoryOptions {
        DirectoryOptions::new(NAME).dir(self.root())
    }

    fn store(&self) -> DirectoryStore {
        DirectoryStore::open_strict(&self.options()).unwrap()
    }

    fn put(&self, number: u64, kind: Kind, bytes: usize) {
        let meta = Meta {
            label: format!("unit <{number}> & co"),
            compile_ns: number * 1_000_000,
            written_unix_s: (20_400 + number) * DAY_S,
            ..Meta::default()
        };
        self.store().put(&Key::new(kind, unit(number)), &meta, &payload(number, bytes)).unwrap();
    }

    /// Unit 1 is used most, unit 2 takes longest to compile, unit 4 is not in the store.
    fn record(&self) {
        let day = |day: u64| UNIX_EPOCH + Duration::from_secs((20_400 + day) * DAY_S + 100);
        let hints = |version: &str, at: u64| {
            HintStore::open(HintOptions::new(&self.options()).version(version).clock(move || day(at)))
        };
        let first = hints("1", 0);
        first.record_compile(&unit(1), 1_000, Duration::from_millis(10));
        first.record_compile(&unit(2), 2_000, Duration::from_millis(500));
        (0..8).for_each(|_| first.record_hit(&unit(1)));
        drop(first);
        let second = hints("2", 3);
        second.record_compile(&unit(4), 4_000, Duration::from_millis(40));
        second.record_hit(&unit(4));
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        ran(command().arg(arguments[0]).arg(NAME).arg("--dir").arg(self.root()).args(&arguments[1..]).output())
    }

    /// The answer for programs, and the code.
    fn json(&self, arguments: &[&str]) -> (Value, i32) {
        let ran = self.run(&[arguments, &["--json"]].concat());
        (ran.json(), ran.code)
    }

    /// The files of a part of the store, `code` or `hints`, that end so.
    fn files(&self, part: &str, ending: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.root().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if folder.ends_with(part) && path.to_string_lossy().ends_with(ending) {
                    files.push(path);
                }
            }
        }
        files
    }
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|why| panic!("{why}: {self:?}"))
    }
}

impl std::fmt::Debug for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}\n{}\n{}", self.code, self.stdout, self.stderr)
    }
}

/// The command, in an environment that names no directory.
fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hapax"));
    for name in ["HAPAX_CACHE_DIR", "XDG_CACHE_HOME", "HOME"] {
        command.env_remove(name);
    }
    command
}

fn ran(output: std::io::Result<Output>) -> Ran {
    let output = output.unwrap();
    Ran {
        code: output.status.code().expect("no signal ends it"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn unit(number: u64) -> Fingerprint {
    Fingerprint::of("tests/cli").part("unit", number.to_le_bytes()).finish()
}

fn payload(number: u64, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at as u64 * 31 + number) as u8).collect()
}

/// Changes one bit in the middle of a file.
fn flip_a_bit(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// Opens the hints' directory only, as an application without code does.
fn journal(site: &Site) -> DirectoryJournal {
    DirectoryJournal::open_strict(&site.options()).unwrap()
}
