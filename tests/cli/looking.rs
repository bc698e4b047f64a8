//! `stats` and `top`: what they say is what the library put there.

use super::*;
use std::fs;

#[test]
fn stats_count_what_was_stored_and_recorded() {
    let site = Site::furnished();
    let (found, code) = site.json(&["stats", "--budget", "1MiB"]);
    assert_eq!(code, 0);
    assert_eq!(found["code"]["entries"], 3);
    assert_eq!(found["code"]["budget_bytes"], 1 << 20);
    assert_eq!(found["code"]["resident_bytes"], site.store().stats().resident_bytes);
    assert_eq!(found["code"]["by_kind"]["code"]["entries"], 2);
    assert_eq!(found["code"]["by_kind"]["custom-7"]["entries"], 1);
    let hints = &found["hints"];
    assert_eq!([&hints["versions"], &hints["records"], &hints["compiles"], &hints["hits"]], [2, 3, 3, 9]);
    assert_eq!(hints["compile_ns"], 550_000_000);
    assert_eq!(hints["hit_rate"], 0.75);
    assert_eq!(hints["saved_ns"], 8 * 10_000_000 + 40_000_000);
    assert!(Path::new(found["directory"].as_str().unwrap()).join("code").is_dir());
}

#[test]
fn stats_for_people_say_the_same() {
    let ran = Site::furnished().run(&["stats", "--budget", "1MiB"]);
    assert_eq!((ran.code, &*ran.stderr), (0, ""), "{ran:?}");
    for expected in
        ["entries   3\n", " of 1.0 MiB, ", "custom-7  1 entry, ", "3 of 2 versions\n", "75.0 %\n", "about 120.0 ms,"]
    {
        assert!(ran.stdout.contains(expected), "{expected}: {ran:?}");
    }
}

#[test]
fn a_part_that_the_application_never_used_is_no_failure_and_is_not_made() {
    let site = Site::empty();
    site.put(1, Kind::CODE, 10);
    let (found, code) = site.json(&["stats"]);
    assert_eq!((code, &found["hints"], &found["code"]["entries"]), (0, &Value::Null, &Value::from(1)));
    for command in ["verify", "gc", "clear", "top"] {
        assert_eq!(site.run(&[command]).code, 0, "{command}");
    }
    let parts: Vec<_> = fs::read_dir(found["directory"].as_str().unwrap()).unwrap().collect();
    assert_eq!(parts.len(), 1, "{parts:?}");

    let site = Site::empty();
    drop(journal(&site));
    let (found, code) = site.json(&["stats"]);
    assert_eq!((code, &found["code"], &found["hints"]["hit_rate"]), (0, &Value::Null, &Value::Null));
    assert!(site.run(&["stats"]).stdout.contains("no uses were recorded"));
}

#[test]
fn looking_changes_no_file() {
    let site = Site::furnished();
    let image = || {
        let mut files: Vec<(PathBuf, Vec<u8>)> = ["code", "hints"]
            .iter()
            .flat_map(|part| site.files(part, ""))
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = image();
    for command in ["stats", "top", "verify"] {
        assert_eq!(site.run(&[command]).code, 0, "{command}");
    }
    assert!(image() == before);
}

#[test]
fn top_ranks_by_heat_and_by_compile_time() {
    let site = Site::furnished();
    let (found, code) = site.json(&["top"]);
    assert_eq!(code, 0);
    let prints = |list: &str| -> Vec<String> {
        found[list].as_array().unwrap().iter().map(|unit| unit["fingerprint"].as_str().unwrap().to_owned()).collect()
    };
    let expected =
        |numbers: &[u64]| -> Vec<String> { numbers.iter().map(|number| unit(*number).to_string()).collect() };
    assert_eq!(prints("hottest"), expected(&[1, 4, 2]), "9 uses, 2 later ones, 1");
    assert_eq!(prints("dearest"), expected(&[2, 4, 1, 3]), "500, 40 and 10 ms by their hints, 3 ms by its artifact");
    let (hottest, second) = (&found["hottest"][0], &found["hottest"][1]);
    assert_eq!([&hottest["hits"], &hottest["compile_count"]], [8, 1]);
    assert_eq!([&hottest["label"], &second["label"]], ["unit <1> & co", ""]);
    assert_eq!(second["stored_bytes"], 0, "it is not in the store");
    assert_eq!(found["dearest"][3]["version"], Value::Null, "it has no hints");
}

#[test]
fn top_names_a_unit_whose_hints_are_under_a_fingerprint_of_their_own_and_adds_its_artifacts() {
    let site = Site::furnished();
    let meta = Meta { label: "the fourth".to_owned(), hinted_as: Some(unit(4)), ..Meta::default() };
    for tier in [41, 42] {
        site.store().put(&Key::new(Kind::CODE, unit(tier)), &meta, &[7; 100]).unwrap();
    }
    let (found, _) = site.json(&["top"]);
    let second = &found["hottest"][1];
    assert_eq!([&second["label"], &second["fingerprint"]], ["the fourth", &*unit(4).to_string()]);
    assert_eq!((&second["kinds"], &second["hits"]), (&Value::from(vec!["code"]), &Value::from(1)));
    assert!(second["stored_bytes"].as_u64().unwrap() > 200, "both: {second}");
    assert_eq!(found["dearest"].as_array().unwrap().len(), 4, "it is one unit: {found}");
}

#[test]
fn top_shows_as_many_as_asked_for_and_names_units_by_label() {
    let site = Site::furnished();
    let (found, _) = site.json(&["top", "-n", "1"]);
    assert_eq!((found["hottest"].as_array().unwrap().len(), found["dearest"].as_array().unwrap().len()), (1, 1));
    let ran = site.run(&["top"]);
    assert!(ran.stdout.contains("unit <1> & co") && ran.stdout.contains(&format!("{:?}", unit(4))), "{ran:?}");
}

#[test]
fn a_label_cannot_command_the_terminal() {
    let site = Site::empty();
    let meta = Meta { label: "\x1b[2Jgone".to_owned(), compile_ns: 5, ..Meta::default() };
    site.store().put(&Key::new(Kind::CODE, unit(1)), &meta, b"code").unwrap();
    let ran = site.run(&["top"]);
    assert!(ran.stdout.contains("[2Jgone") && !ran.stdout.contains('\x1b'), "{ran:?}");
    assert_eq!(site.json(&["top"]).0["dearest"][0]["label"], "\x1b[2Jgone", "programs get it as it is");
}
