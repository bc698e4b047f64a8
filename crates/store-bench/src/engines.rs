//! Each store behind the same two calls, set as its users would set it for a cache: no sync for each put.

use hapax::{DirectoryOptions, DirectoryStore, Fingerprint, Key, Kind, Meta, Record, Store as _};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use twox_hash::XxHash3_128;

pub struct Engine {
    pub name: &'static str,
    pub open: fn(&Path) -> Box<dyn Store>,
}

pub trait Store {
    fn put(&mut self, key: &[u8; 32], payload: &[u8]);
    fn get(&self, key: &[u8; 32]) -> Option<Got>;
}

/// Bytes that outlive the call.
pub enum Got {
    Vector(Vec<u8>),
    Record(Record),
}

impl Deref for Got {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Got::Vector(bytes) => bytes,
            Got::Record(record) => record,
        }
    }
}

pub const ENGINES: [Engine; 7] = [
    Engine { name: "hapax", open: |folder| Box::new(Hapax::open(folder)) },
    Engine { name: "file per entry", open: |folder| Box::new(Files { folder: folder.to_owned(), written: 0 }) },
    Engine { name: "redb", open: |folder| Box::new(Redb::open(folder)) },
    Engine { name: "heed", open: |folder| Box::new(Heed::open(folder, false)) },
    Engine { name: "heed, checked", open: |folder| Box::new(Heed::open(folder, true)) },
    Engine { name: "cacache", open: |folder| Box::new(Cacache(folder.to_owned())) },
    Engine { name: "SQLite", open: |folder| Box::new(Sqlite::open(folder)) },
];

struct Hapax(DirectoryStore);

impl Hapax {
    fn open(folder: &Path) -> Hapax {
        let options = DirectoryOptions::new("bench").dir(folder).budget_bytes(8 << 30);
        Hapax(DirectoryStore::open_strict(&options).expect("it opens"))
    }
}

impl Store for Hapax {
    fn put(&mut self, key: &[u8; 32], payload: &[u8]) {
        let key = Key::new(Kind::CODE, Fingerprint::from_bytes(*key));
        self.0.put(&key, &Meta::default(), payload).expect("it is stored");
    }

    fn get(&self, key: &[u8; 32]) -> Option<Got> {
        self.0.get(&Key::new(Kind::CODE, Fingerprint::from_bytes(*key))).ok().map(Got::Record)
    }
}

/// A checksum and the payload, written beside and renamed, in 256 folders.
struct Files {
    folder: PathBuf,
    written: u64,
}

impl Files {
    fn path(&self, key: &[u8; 32]) -> (PathBuf, String) {
        let name: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        (self.folder.join(&name[..2]), name)
    }
}

impl Store for Files {
    fn put(&mut self, key: &[u8; 32], payload: &[u8]) {
        let (folder, name) = self.path(key);
        self.written += 1;
        let temporary = folder.join(format!("{}.tmp", self.written));
        let mut bytes = XxHash3_128::oneshot(payload).to_le_bytes().to_vec();
        bytes.extend(payload);
        if std::fs::write(&temporary, &bytes).is_err() {
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(&temporary, &bytes).expect("it is written");
        }
        std::fs::rename(&temporary, folder.join(name)).expect("it is renamed");
    }

    fn get(&self, key: &[u8; 32]) -> Option<Got> {
        let (folder, name) = self.path(key);
        let mut bytes = std::fs::read(folder.join(name)).ok()?;
        let payload = bytes.split_off(16);
        (XxHash3_128::oneshot(&payload).to_le_bytes() == *bytes).then_some(Got::Vector(payload))
    }
}

const TABLE: redb::TableDefinition<&[u8; 32], &[u8]> = redb::TableDefinition::new("artifacts");

struct Redb(redb::Database);

impl Redb {
    fn open(folder: &Path) -> Redb {
        Redb(redb::Database::create(folder.join("store.redb")).expect("it opens"))
    }
}

impl Store for Redb {
    fn put(&mut self, key: &[u8; 32], payload: &[u8]) {
        let mut write = self.0.begin_write().expect("a transaction");
        write.set_durability(redb::Durability::None).expect("no sync");
        write.open_table(TABLE).expect("the table").insert(key, payload).expect("it is stored");
        write.commit().expect("it is committed");
    }

    fn get(&self, key: &[u8; 32]) -> Option<Got> {
        use redb::ReadableDatabase;
        let read = self.0.begin_read().expect("a transaction");
        let got = read.open_table(TABLE).expect("the table").get(key).expect("it is read");
        got.map(|payload| Got::Vector(payload.value().to_vec()))
    }
}

/// The last transaction of a run was not durable, and closing alone would roll it back.
impl Drop for Redb {
    fn drop(&mut self) {
        self.0.begin_write().expect("a transaction").commit().expect("it is committed");
    }
}

type Bytes = heed::types::Bytes;

struct Heed {
    environment: heed::Env,
    database: heed::Database<Bytes, Bytes>,
    /// LMDB does not check what it reads. This one stores a checksum before each payload, and checks it.
    checked: bool,
}

impl Heed {
    fn open(folder: &Path, checked: bool) -> Heed {
        let mut options = heed::EnvOpenOptions::new();
        options.map_size(8 << 30);
        // SAFETY: nothing else touches the new folder, so the map changes under nobody, and losing what was not synced is
        // what this run asks for.
        let environment = unsafe { options.flags(heed::EnvFlags::NO_SYNC).open(folder) }.expect("it opens");
        let mut write = environment.write_txn().expect("a transaction");
        let database = environment.create_database(&mut write, None).expect("the database");
        write.commit().expect("it is committed");
        Heed { environment, database, checked }
    }
}

impl Store for Heed {
    fn put(&mut self, key: &[u8; 32], payload: &[u8]) {
        let mut write = self.environment.write_txn().expect("a transaction");
        if self.checked {
            let mut bytes = XxHash3_128::oneshot(payload).to_le_bytes().to_vec();
            bytes.extend(payload);
            self.database.put(&mut write, key, &bytes).expect("it is stored");
        } else {
            self.database.put(&mut write, key, payload).expect("it is stored");
        }
        write.commit().expect("it is committed");
    }

    fn get(&self, key: &[u8; 32]) -> Option<Got> {
        let read = self.environment.read_txn().expect("a transaction");
        let got = self.database.get(&read, key).expect("it is read")?;
        if !self.checked {
            return Some(Got::Vector(got.to_vec()));
        }
        let payload = got[16..].to_vec();
        (XxHash3_128::oneshot(&payload).to_le_bytes() == got[..16]).then_some(Got::Vector(payload))
    }
}

struct Cacache(PathBuf);

impl Cacache {
    fn name(key: &[u8; 32]) -> String {
        key.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Store for Cacache {
    fn put(&mut self, key: &[u8; 32], payload: &[u8]) {
        cacache::write_sync_with_algo(cacache::Algorithm::Xxh3, &self.0, Self::name(key), payload)
            .expect("it is stored");
    }

    fn get(&self, key: &[u8; 32]) -> Option<Got> {
        cacache::read_sync(&self.0, Self::name(key)).ok().map(Got::Vector)
    }
}

struct Sqlite(rusqlite::Connection);

impl Sqlite {
    fn open(folder: &Path) -> Sqlite {
        let connection = rusqlite::Connection::open(folder.join("store.sqlite")).expect("it opens");
        let settings = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA mmap_size = 1073741824;
            CREATE TABLE IF NOT EXISTS artifacts (key BLOB PRIMARY KEY, payload BLOB) WITHOUT ROWID;";
        connection.execute_batch(settings).expect("it is set");
        Sqlite(connection)
    }
}

impl Store for Sqlite {
    fn put(&mut self, key: &[u8; 32], payload: &[u8]) {
        let mut insert = self.0.prepare_cached("INSERT OR REPLACE INTO artifacts VALUES (?, ?)").expect("a statement");
        insert.execute((&key[..], payload)).expect("it is stored");
    }

    fn get(&self, key: &[u8; 32]) -> Option<Got> {
        use rusqlite::OptionalExtension;
        let mut select = self.0.prepare_cached("SELECT payload FROM artifacts WHERE key = ?").expect("a statement");
        select.query_row((&key[..],), |row| row.get(0)).optional().expect("it is read").map(Got::Vector)
    }
}
