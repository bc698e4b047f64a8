//! Finding a store and opening its parts. A part that the application never used is absent, which is no failure; all that
//! is there must open.

use crate::arguments::{Store, StoreOrPack};
use crate::outcome::Failure;
use hapax::{DirectoryJournal, DirectoryOptions, DirectoryStore, Distrust, HintRecords};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What a hint store takes unless it is told otherwise.
pub const HALF_LIFE: Duration = Duration::from_secs(7 * 86_400);

/// Where an application's store is.
pub struct Place {
    pub name: String,
    pub path: PathBuf,
    options: DirectoryOptions,
    /// It has code only.
    is_pack: bool,
}

/// What is there of it, opened for reading. At least one part is.
pub struct Parts {
    pub code: Option<DirectoryStore>,
    pub journal: Option<DirectoryJournal>,
}

impl Place {
    pub fn find(store: &Store) -> Result<Place, Failure> {
        let mut options = DirectoryOptions::new(&store.name).allow_network(store.allow_network);
        if let Some(dir) = &store.dir {
            options = options.dir(absolute(dir)?);
        }
        Ok(Place { name: store.name.clone(), path: options.path()?, options, is_pack: false })
    }

    pub fn find_either(source: &StoreOrPack) -> Result<Place, Failure> {
        if !source.pack {
            return Place::find(&source.store);
        }
        let path = absolute(Path::new(&source.store.name))?;
        let options = DirectoryOptions::pack(&path);
        Ok(Place { name: source.store.name.clone(), path, options, is_pack: true })
    }

    /// Opens what is there. Makes and changes nothing.
    pub fn open(&self) -> Result<Parts, Failure> {
        let options = self.options.clone().read_only(true);
        let code = unless_absent(DirectoryStore::open_strict(&options))?;
        let journal = if self.is_pack { None } else { unless_absent(DirectoryJournal::open_strict(&options))? };
        if code.is_none() && journal.is_none() {
            return Err(self.absent());
        }
        Ok(Parts { code, journal })
    }

    /// To write. Makes what is missing.
    pub fn open_code(&self, budget_bytes: Option<u64>) -> Result<DirectoryStore, Failure> {
        let options = self.options.clone().budget_bytes(budget_bytes.unwrap_or(u64::MAX));
        Ok(DirectoryStore::open_strict(&options)?)
    }

    /// To write. Makes what is missing.
    pub fn open_journal(&self) -> Result<DirectoryJournal, Failure> {
        Ok(DirectoryJournal::open_strict(&self.options)?)
    }

    fn absent(&self) -> Failure {
        if self.is_pack {
            return Failure::CannotOpen(format!("there is no pack at {}", self.path.display()));
        }
        let mut message = format!("there is no store of {:?} at {}", self.name, self.path.display());
        let others = self.neighbours();
        if others.is_empty() {
            message += "; check the name, and --dir or HAPAX_CACHE_DIR";
        } else {
            message += &format!("; there are stores of {}", others.join(", "));
        }
        Failure::CannotOpen(message)
    }

    /// The names of this user's other stores beside this one.
    fn neighbours(&self) -> Vec<String> {
        let Some((home, root)) = self.path.parent().and_then(|home| Some((home, home.parent()?))) else {
            return Vec::new();
        };
        let home = home.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let user = home.strip_prefix(&self.name).unwrap_or_default();
        let entries = fs::read_dir(root).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter(|entry| entry.path().is_dir())
            .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(user)?.to_owned()))
            .collect();
        names.sort();
        names
    }
}

impl Parts {
    pub fn hints(&self) -> Result<Option<HintRecords>, Failure> {
        let Some(journal) = &self.journal else { return Ok(None) };
        let read = HintRecords::read(journal, HALF_LIFE, SystemTime::now());
        read.map(Some).map_err(|why| Failure::CannotOpen(why.to_string()))
    }
}

pub fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    // By its components: without a slash at the end.
    std::path::absolute(path)
        .map(|path| path.components().collect())
        .map_err(|error| Failure::CannotOpen(format!("{}: {error}", path.display())))
}

fn unless_absent<T>(opened: Result<T, Distrust>) -> Result<Option<T>, Failure> {
    match opened {
        Ok(part) => Ok(Some(part)),
        Err(Distrust::CannotOpen { path, .. }) if is_absent(Path::new(&path)) => Ok(None),
        Err(why) => Err(why.into()),
    }
}

fn is_absent(path: &Path) -> bool {
    matches!(path.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound)
}
