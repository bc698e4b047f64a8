//! Hostile and odd surroundings: each has a stated outcome.
//!
//! Permission bits do not stop root, and these tests run as root too, so other users and file systems are played through
//! `Surroundings` or a faulty disk. What can be made for real is made for real.

use crate::{Artifact, open, options};
use hapax::{
    CodeStore, DirectoryJournal, DirectoryOptions, DirectoryStore, DiskFault, DiskFaults, Distrust, Miss, Refusal,
    Store, Surroundings,
};
use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn user() -> u32 {
    Surroundings::real().user
}

fn private(folder: &Path) -> PathBuf {
    folder.join(format!("test-{}", user()))
}

/// With these environment variables and no others.
fn with_variables(variables: &[(&'static str, &Path)]) -> DirectoryOptions {
    let variables: Vec<(&str, OsString)> =
        variables.iter().map(|(name, value)| (*name, value.as_os_str().to_owned())).collect();
    let variable = move |asked: &str| variables.iter().find(|(name, _)| *name == asked).map(|(_, value)| value.clone());
    let surroundings = Surroundings { variable: Arc::new(variable), ..Surroundings::real() };
    DirectoryOptions::new("test").surroundings(surroundings)
}

/// What an open says that refuses, strict and not.
fn distrust(options: &DirectoryOptions) -> Distrust {
    let why = DirectoryStore::open_strict(options).unwrap_err();
    let store = DirectoryStore::open(options);
    assert_eq!(store.off_reason(), Some(&why));
    let artifact = Artifact::new(1, 10);
    assert_eq!(store.get(&artifact.key).unwrap_err(), Miss::Off);
    let refused = store.put(&artifact.key, &Default::default(), &artifact.payload).unwrap_err();
    assert_eq!(refused.to_string(), format!("the store is off: {why}"));
    assert_eq!((store.stats().misses, store.stats().refusals, store.entries().len()), (1, 1, 0));
    assert_eq!(CodeStore::open(options).off_reason(), Some(&why));
    let journal = DirectoryJournal::open(options);
    assert_eq!(journal.off_reason().is_some(), DirectoryJournal::open_strict(options).is_err());
    why
}

#[test]
fn the_directory_is_hapax_cache_dir_then_the_users_cache_then_home() {
    let folder = tempfile::tempdir().unwrap();
    let [own, cache, home] = ["own", "cache", "home"].map(|name| folder.path().join(name));
    let all = [("HAPAX_CACHE_DIR", &*own), ("XDG_CACHE_HOME", &*cache), ("HOME", &*home)];
    for (skip, expected) in [own.clone(), cache.join("hapax"), home.join(".cache/hapax")].iter().enumerate() {
        let store = DirectoryStore::open_strict(&with_variables(&all[skip..])).unwrap();
        Artifact::new(1, 10).put(&store);
        let made = expected.join(format!("test-{}/v1/code", user()));
        assert!(made.is_dir(), "{}", made.display());
        for part in made.ancestors().take_while(|part| *part != folder.path()) {
            assert_eq!(part.metadata().unwrap().mode() & 0o777, 0o700, "{}", part.display());
        }
    }
    // Relative ones of the base directory specification say nothing, and nor does an empty one.
    let empty = Path::new("");
    let relative =
        with_variables(&[("HAPAX_CACHE_DIR", empty), ("XDG_CACHE_HOME", Path::new("relative")), ("HOME", &home)]);
    assert_eq!(DirectoryStore::open_strict(&relative).unwrap().stats().entries, 1);
}

#[test]
fn a_relative_cache_directory_turns_the_store_off_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let variables = [("HAPAX_CACHE_DIR", Path::new("relative")), ("HOME", folder.path())];
    let why = distrust(&with_variables(&variables)).to_string();
    assert!(why.contains("relative") && why.contains("not an absolute path"), "{why}");
}

#[test]
fn no_home_turns_the_store_off() {
    for variables in [vec![], vec![("HOME", Path::new(""))], vec![("HOME", Path::new("home"))]] {
        assert_eq!(distrust(&with_variables(&variables)), Distrust::NoHome);
    }
}

#[test]
fn an_unmapped_user_turns_the_store_off() {
    let folder = tempfile::tempdir().unwrap();
    let surroundings = Surroundings { user: 65534, ..Surroundings::real() };
    assert_eq!(distrust(&options(&folder).surroundings(surroundings)), Distrust::UnmappedUser { user: 65534 });
}

#[test]
fn a_foreign_owner_turns_the_store_off() {
    let folder = tempfile::tempdir().unwrap();
    let (real, other) = (user(), user() + 1);
    let surroundings = Surroundings { user: other, ..Surroundings::real() };
    // Somebody, who is the real user here, has made the other's directory before them.
    std::fs::create_dir(folder.path().join(format!("test-{other}"))).unwrap();
    let why = distrust(&options(&folder).surroundings(surroundings));
    assert!(matches!(why, Distrust::ForeignOwner { owner, user, .. } if (owner, user) == (real, other)), "{why}");
}

#[test]
fn a_file_of_a_foreign_owner_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let artifact = Artifact::new(1, 10);
    artifact.put(&open(&options(&folder)));
    if user() != 0 {
        println!("skipped: only root can give files away");
        return;
    }
    for file in std::fs::read_dir(private(folder.path()).join("v1/code")).unwrap() {
        std::os::unix::fs::chown(file.unwrap().path(), Some(12345), None).unwrap();
    }
    assert!(!artifact.is_in(&open(&options(&folder))));
}

#[test]
fn others_who_can_write_to_the_directory_turn_the_store_off() {
    for part in ["", "v1", "v1/code"] {
        let folder = tempfile::tempdir().unwrap();
        drop(open(&options(&folder)));
        let path = private(folder.path()).join(part);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o770)).unwrap();
        let why = distrust(&options(&folder));
        assert!(matches!(&why, Distrust::WritableByOthers { mode: 0o770, .. }), "{why}");
    }
}

#[test]
fn in_a_parent_that_others_can_write_to_the_store_has_a_private_directory() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let artifact = Artifact::new(1, 10);
    artifact.put(&open(&options(&folder)));
    assert!(artifact.is_in(&open(&options(&folder))));
    assert_eq!(private(folder.path()).metadata().unwrap().mode() & 0o777, 0o700);
    assert_eq!(folder.path().metadata().unwrap().mode() & 0o777, 0o777, "what was there stays as it is");
}

#[test]
fn symbolic_links_turn_the_store_off() {
    let (folder, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(open(&options(&target)));
    let link = folder.path().join("link");
    symlink(target.path(), &link).unwrap();
    let linked = DirectoryOptions::new("test").dir(&link);
    assert!(matches!(distrust(&linked), Distrust::NotADirectory { path } if path == link.display().to_string()));

    symlink(private(target.path()), private(folder.path())).unwrap();
    assert!(matches!(distrust(&options(&folder)), Distrust::NotADirectory { .. }));
    std::fs::remove_file(private(folder.path())).unwrap();

    std::fs::create_dir_all(private(folder.path()).join("v1")).unwrap();
    std::fs::set_permissions(private(folder.path()), PermissionsExt::from_mode(0o700)).unwrap();
    symlink(private(target.path()).join("v1/code"), private(folder.path()).join("v1/code")).unwrap();
    assert!(matches!(distrust(&options(&folder)), Distrust::NotADirectory { .. }));
}

#[test]
fn a_linked_file_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let artifact = Artifact::new(1, 400_000);
    artifact.put(&open(&options(&folder)));
    let code = private(folder.path()).join("v1/code");
    let file = std::fs::read_dir(&code)
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "art"))
        .unwrap();
    let elsewhere = folder.path().join("elsewhere");
    std::fs::rename(&file, &elsewhere).unwrap();
    symlink(&elsewhere, &file).unwrap();
    let store = open(&options(&folder));
    assert_eq!(store.get(&artifact.key).unwrap_err(), Miss::Unreadable);
    assert_eq!(store.stats().unreadable, 1);
    store.clear().unwrap();
    assert!(elsewhere.exists(), "the link went, and not what it points to");
}

#[test]
fn a_name_that_is_no_name_turns_the_store_off() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["", ".hidden", "../up", "a/b", "é", &"x".repeat(65)] {
        let why = distrust(&DirectoryOptions::new(name).dir(folder.path()));
        assert!(matches!(why, Distrust::BadName { .. }), "{name}: {why}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_network_file_system_turns_the_store_off_unless_it_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    for (number, name) in [(0x6969, "NFS"), (0xff53_4d42, "CIFS"), (0x0102_1997, "9p")] {
        let surroundings = Surroundings { file_system: Arc::new(move |_| Ok(number)), ..Surroundings::real() };
        let played = options(&folder).surroundings(surroundings);
        assert!(matches!(distrust(&played), Distrust::NetworkFileSystem { file_system, .. } if file_system == name));
        let store = DirectoryStore::open_strict(&played.allow_network(true)).unwrap();
        Artifact::new(1, 10).put(&store);
    }
}

#[test]
fn on_a_file_system_that_became_read_only_lookups_go_on_and_puts_are_counted_refusals() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Artifact::new(1, 10), Artifact::new(2, 10));
    old.put(&open(&options(&folder)));
    let faults = DiskFaults::default();
    faults.fail_from(1, DiskFault::ReadOnly);
    let store = DirectoryStore::open_behind(&options(&folder), &faults).unwrap();
    assert!(old.is_in(&store));
    assert_eq!(store.put(&new.key, &Default::default(), &new.payload), Err(Refusal::ReadOnly));
    assert!(old.is_in(&store) && !new.is_in(&store));
    assert_eq!((store.stats().hits, store.stats().refusals), (2, 1));
}

#[test]
fn a_store_opened_for_reading_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let reading = options(&folder).read_only(true);
    assert!(matches!(distrust(&reading), Distrust::CannotOpen { .. }));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let artifact = Artifact::new(1, 10);
    artifact.put(&open(&options(&folder)));
    let files = |_: ()| {
        std::fs::read_dir(private(folder.path()).join("v1/code"))
            .unwrap()
            .map(|file| {
                let file = file.unwrap();
                (file.file_name(), file.metadata().unwrap().modified().unwrap())
            })
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let before = files(());
    let store = open(&reading);
    assert!(artifact.is_in(&store));
    for refused in [store.put(&artifact.key, &Default::default(), b""), store.clear(), store.gc().map(|_| ())] {
        assert_eq!(refused, Err(Refusal::ReadOnly));
    }
    drop(store);
    assert_eq!(files(()), before);
}

#[test]
fn on_a_full_disk_lookups_go_on_and_puts_are_counted_refusals_until_there_is_space() {
    let folder = tempfile::tempdir().unwrap();
    let faults = DiskFaults::default();
    let store = DirectoryStore::open_behind(&options(&folder), &faults).unwrap();
    let artifacts: Vec<Artifact> = (0..4).map(|number| Artifact::new(number, 100)).collect();
    artifacts[0].put(&store);
    faults.fail_from(1, DiskFault::ShortWrite);
    for artifact in &artifacts[1..] {
        assert_eq!(store.put(&artifact.key, &Default::default(), &artifact.payload), Err(Refusal::DiskFull));
    }
    assert!(artifacts[0].is_in(&store));
    faults.disarm();
    artifacts.iter().for_each(|artifact| artifact.put(&store));
    drop(store);
    let store = open(&options(&folder));
    assert!(artifacts.iter().all(|artifact| artifact.is_in(&store)));
}

#[test]
fn a_directory_removed_while_open_misses_and_refuses_and_loses_no_acknowledged_put_silently() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&options(&folder));
    let (small, large) = (Artifact::new(1, 10), Artifact::new(2, 400_000));
    small.put(&store);
    large.put(&store);
    std::fs::remove_dir_all(private(folder.path())).unwrap();
    assert!(!large.is_in(&store));
    for artifact in [&small, &large] {
        let refused = store.put(&artifact.key, &Default::default(), &artifact.payload).unwrap_err();
        assert!(matches!(refused, Refusal::Io { .. }), "{refused}");
    }
    drop(store);
    let store = open(&options(&folder));
    small.put(&store);
    assert!(small.is_in(&store));
}

#[test]
fn two_versions_live_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let artifact = Artifact::new(1, 10);
    artifact.put(&open(&options(&folder)));
    // Another version has a directory of its own, whatever is in it.
    let other = private(folder.path()).join("v2/code");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join("0000000000000001.seg"), "of another format").unwrap();
    let store = open(&options(&folder));
    assert!(artifact.is_in(&store) && store.stats().damaged == 0);
    store.gc().unwrap();
    store.clear().unwrap();
    assert!(other.join("0000000000000001.seg").exists());
    drop(store);
    // And if its files came here all the same, they are not ours to read.
    artifact.put(&open(&options(&folder)));
    let code = private(folder.path()).join("v1/code");
    for file in std::fs::read_dir(&code).unwrap().map(|file| file.unwrap().path()) {
        let mut bytes = std::fs::read(&file).unwrap();
        if bytes.starts_with(b"HPXF") {
            bytes[4] = 2;
            std::fs::write(&file, bytes).unwrap();
        }
    }
    let store = open(&options(&folder));
    assert!(!artifact.is_in(&store) && store.stats().damaged > 0);
    artifact.put(&store);
    assert!(artifact.is_in(&store));
}

#[test]
fn a_clock_that_goes_backwards_changes_neither_order_nor_bound() {
    const BUDGET: u64 = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let options = options(&folder).budget_bytes(BUDGET);
    let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
    for round in 0..10u64 {
        let store = open(&options);
        for number in round * 200..(round + 1) * 200 {
            Artifact::new(number, 1000).put(&store);
        }
        drop(store);
        // As if each process had run before the one before it.
        for file in std::fs::read_dir(private(folder.path()).join("v1/code")).unwrap() {
            let file = std::fs::File::options().write(true).open(file.unwrap().path()).unwrap();
            file.set_modified(past - std::time::Duration::from_secs(round * 60)).unwrap();
        }
    }
    let store = open(&options);
    assert!((1600..2000).all(|number| Artifact::new(number, 1000).is_in(&store)), "the latest are there");
    assert!(store.stats().resident_bytes <= BUDGET + BUDGET / 32);
}
