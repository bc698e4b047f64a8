//! `gc` and `clear`: what goes, and above all what stays.

use super::*;
use std::fs;

#[test]
fn clear_leaves_nothing_but_what_others_put_there() {
    let site = Site::furnished();
    let foreign: Vec<PathBuf> = ["code", "hints"]
        .iter()
        .flat_map(|part| {
            let folder = site.files(part, "")[0].parent().unwrap().to_owned();
            ["notes.txt", "0123.seg", "README.log"].map(|name| folder.join(name))
        })
        .collect();
    foreign.iter().for_each(|path| fs::write(path, b"mine").unwrap());
    let (cleared, code) = site.json(&["clear"]);
    assert_eq!((code, &cleared["code"]["entries"]), (0, &Value::from(3)));
    assert!(cleared["hints"]["bytes"].as_u64().unwrap() > 0);
    for path in &foreign {
        assert_eq!(fs::read(path).unwrap(), b"mine", "{path:?}");
    }
    let (found, _) = site.json(&["stats"]);
    assert_eq!((&found["code"]["entries"], &found["hints"]["records"]), (&Value::from(0), &Value::from(0)));
    let ours =
        |part| site.files(part, "").into_iter().filter(|path| !foreign.contains(path) && !path.ends_with("lock"));
    assert_eq!(ours("hints").collect::<Vec<_>>(), Vec::<PathBuf>::new());
}

#[test]
fn clear_leaves_the_part_that_is_not_asked_for() {
    let site = Site::furnished();
    assert_eq!(site.run(&["clear", "--only", "code"]).code, 0);
    let (found, _) = site.json(&["stats"]);
    assert_eq!((&found["code"]["entries"], &found["hints"]["records"]), (&Value::from(0), &Value::from(3)));
    assert_eq!(site.run(&["clear", "--only", "hints"]).code, 0);
    assert_eq!(site.json(&["stats"]).0["hints"]["records"], 0);
}

#[test]
fn clearing_a_part_that_never_was_is_a_finding() {
    let site = Site::empty();
    site.put(1, Kind::CODE, 10);
    let ran = site.run(&["clear", "--only", "hints"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("nothing is removed"), "{ran:?}");
    assert_eq!(site.store().stats().entries, 1);
}

#[test]
fn gc_removes_what_a_crash_left_behind_and_no_entry() {
    let site = Site::furnished();
    let folder = site.files("code", ".seg")[0].parent().unwrap().to_owned();
    let left_behind = folder.join("0123456789abcdef-00000010.tmp");
    fs::write(&left_behind, [0; 16]).unwrap();
    let (collected, code) = site.json(&["gc"]);
    assert_eq!((code, &collected["code"]["files_left_behind"]), (0, &Value::from(1)));
    assert!(!left_behind.exists());
    assert_eq!(site.store().stats().entries, 3);
}

#[test]
fn gc_evicts_to_a_budget_and_only_then() {
    let site = Site::furnished();
    let (collected, _) = site.json(&["gc"]);
    assert_eq!(collected["code"]["evicted_entries"], 0);
    let (collected, code) = site.json(&["gc", "--budget", "100KiB"]);
    assert_eq!((code, &collected["code"]["evicted_entries"]), (0, &Value::from(1)), "{collected}");
    assert!(collected["code"]["resident_bytes"].as_u64().unwrap() <= 100 << 10);
    let keys: Vec<Key> = site.store().entries().iter().map(|entry| entry.key).collect();
    assert!(keys.contains(&Key::new(Kind::CODE, unit(1))) && !keys.contains(&Key::new(Kind::CODE, unit(3))));
}

#[test]
fn gc_folds_the_hints_of_all_versions_and_keeps_their_sums() {
    let site = Site::furnished();
    let before = site.json(&["stats"]).0["hints"].clone();
    assert_eq!(site.files("hints", ".log").len(), 2);
    let (collected, _) = site.json(&["gc"]);
    assert_eq!(collected["hints"]["folded"], true);
    assert_eq!((site.files("hints", ".log").len(), site.files("hints", ".base").len()), (0, 1));
    let after = site.json(&["stats"]).0["hints"].clone();
    for sum in ["versions", "records", "compiles", "compile_ns", "hits", "saved_ns"] {
        assert_eq!(before[sum], after[sum], "{sum}");
    }
}

#[test]
fn gc_forgets_the_least_recently_used_hints_beyond_a_budget() {
    let site = Site::furnished();
    assert_eq!(site.run(&["gc", "--hints-budget", "150"]).code, 0);
    let (found, _) = site.json(&["top"]);
    let hottest = found["hottest"].as_array().unwrap();
    assert_eq!((hottest.len(), &hottest[0]["fingerprint"]), (1, &Value::from(unit(4).to_string())), "it was used last");
}
