//! `export` and `import`: every entry arrives as it was, and nothing is replaced by surprise.

use super::*;
use hapax::LayeredStore;
use std::fs;
use std::sync::Arc;

fn pack_of(site: &Site) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().join("pack").to_str().unwrap().to_owned();
    let (exported, code) = site.json(&["export", &pack]);
    assert_eq!((code, &exported["entries"], &exported["pack"]), (0, &Value::from(3), &Value::from(&*pack)));
    (folder, pack)
}

/// All entries with everything that is known of them, the least recently used first.
fn contents(site: &Site) -> Vec<(Key, Meta, Vec<u8>)> {
    let store = site.store();
    let entry = |key| {
        let record = store.get(&key).unwrap();
        (key, record.meta().clone(), record.to_vec())
    };
    store.entries().into_iter().map(|stored| entry(stored.key)).collect()
}

#[test]
fn a_pack_gives_an_empty_store_the_same_entries_in_the_same_order() {
    let (from, to) = (Site::furnished(), Site::empty());
    let (folder, pack) = pack_of(&from);
    let (imported, code) = to.json(&["import", &pack]);
    assert_eq!((code, &imported["imported"], &imported["already_there"]), (0, &Value::from(3), &Value::from(0)));
    let expected = contents(&from);
    assert_eq!(expected.len(), 3);
    assert!(contents(&to) == expected);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left beside the pack");
}

#[test]
fn a_pack_is_found_below_a_store_and_everybody_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, pack) = pack_of(&Site::furnished());
    let own = Site::empty();
    let below = DirectoryStore::open_strict(&DirectoryOptions::pack(&pack).read_only(true)).unwrap();
    let layered = LayeredStore::new(Arc::new(own.store()), vec![Arc::new(below)]);
    for (number, kind, bytes) in [(1, Kind::CODE, 1_000), (2, Kind::custom(7), 2_000), (3, Kind::CODE, 400_000)] {
        assert_eq!(*layered.get(&Key::new(kind, unit(number))).unwrap(), *payload(number, bytes));
    }
    for entry in fs::read_dir(&pack).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o644);
    }
    assert_eq!(fs::metadata(&pack).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn importing_again_changes_nothing_and_replaces_what_is_damaged() {
    let site = Site::furnished();
    let (_folder, pack) = pack_of(&site);
    let (imported, code) = site.json(&["import", &pack]);
    assert_eq!((code, &imported["imported"], &imported["already_there"]), (0, &Value::from(0), &Value::from(3)));
    flip_a_bit(&site.files("code", ".art")[0]);
    assert_eq!(site.run(&["verify"]).code, 1);
    let (imported, code) = site.json(&["import", &pack]);
    assert_eq!((code, &imported["imported"], &imported["already_there"]), (0, &Value::from(1), &Value::from(2)));
    assert_eq!(site.run(&["verify"]).code, 0);
}

#[test]
fn an_export_leaves_damaged_entries_out_and_says_so() {
    let site = Site::furnished();
    flip_a_bit(&site.files("code", ".art")[0]);
    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().join("pack");
    let (exported, code) = site.json(&["export", pack.to_str().unwrap()]);
    assert_eq!((code, &exported["entries"], &exported["damaged"]), (1, &Value::from(2), &Value::from(1)));
    assert_eq!(Site::empty().json(&["import", pack.to_str().unwrap()]).0["imported"], 2);
}

#[test]
fn an_export_replaces_nothing() {
    let site = Site::furnished();
    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().join("pack");
    fs::write(&pack, b"mine").unwrap();
    assert_eq!(site.run(&["export", pack.to_str().unwrap()]).code, 3);
    assert_eq!(fs::read(&pack).unwrap(), b"mine");
    fs::remove_file(&pack).unwrap();
    fs::create_dir(&pack).unwrap();
    fs::write(pack.join("notes.txt"), b"mine").unwrap();
    let ran = site.run(&["export", pack.to_str().unwrap()]);
    assert!(ran.code == 3 && ran.stderr.contains("is in the way"), "{ran:?}");
    fs::remove_file(pack.join("notes.txt")).unwrap();
    let with_a_slash = format!("{}/", pack.display());
    assert_eq!(site.run(&["export", &with_a_slash]).code, 0, "an empty directory is taken");
}

#[test]
fn an_export_of_nothing_leaves_nothing() {
    let site = Site::empty();
    drop(site.store());
    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().join("pack");
    let ran = site.run(&["export", pack.to_str().unwrap()]);
    assert!(ran.code == 1 && ran.stderr.contains("no code that could be exported"), "{ran:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_import_keeps_to_its_budget() {
    let (from, to) = (Site::furnished(), Site::empty());
    let (_folder, pack) = pack_of(&from);
    let (imported, code) = to.json(&["import", &pack, "--budget", "100KiB"]);
    assert_eq!((code, &imported["imported"], &imported["refused"]), (1, &Value::from(2), &Value::from(1)));
    assert!(to.json(&["stats"]).0["code"]["resident_bytes"].as_u64().unwrap() <= 100 << 10);
}

#[test]
fn what_is_no_pack_is_not_imported() {
    let site = Site::empty();
    let folder = tempfile::tempdir().unwrap();
    for (pack, code) in [(folder.path().join("nowhere"), 3), (folder.path().to_owned(), 1)] {
        let ran = site.run(&["import", pack.to_str().unwrap()]);
        assert!(ran.code == code && ran.stderr.contains(pack.to_str().unwrap()), "{ran:?}");
    }
    assert_eq!(fs::read_dir(site.root()).unwrap().count(), 0, "no store is made for it");
}

#[test]
fn a_pack_can_be_looked_at_as_it_is() {
    let (folder, pack) = pack_of(&Site::furnished());
    let look = |arguments: &[&str]| ran(command().args(arguments).args(["--pack", &pack, "--json"]).output());
    assert_eq!(look(&["stats"]).json()["code"]["entries"], 3);
    assert_eq!(look(&["top"]).json()["dearest"][0]["fingerprint"], unit(3).to_string());
    assert_eq!(look(&["verify"]).code, 0);
    let files = fs::read_dir(&pack).unwrap().map(|entry| entry.unwrap().path());
    let large = files.filter(|path| path.extension().is_some_and(|ending| ending == "art")).collect::<Vec<_>>();
    flip_a_bit(&large[0]);
    let verified = look(&["verify"]);
    assert_eq!((verified.code, &verified.json()["code"]["intact_entries"]), (1, &Value::from(2)), "{verified:?}");
    let nowhere = folder.path().join("nowhere");
    assert_eq!(ran(command().args(["verify", "--pack"]).arg(nowhere).output()).code, 3);
}
