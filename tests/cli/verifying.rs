//! `verify` finds what is damaged, wherever it is, and removes nothing.

use super::*;

#[test]
fn an_intact_store_is_said_to_be_intact() {
    let site = Site::furnished();
    let ran = site.run(&["verify"]);
    assert_eq!((ran.code, &*ran.stderr), (0, ""), "{ran:?}");
    assert!(ran.stdout.contains("3 entries are intact") && ran.stdout.contains("3 records are intact"), "{ran:?}");
    let (found, code) = site.json(&["verify"]);
    assert_eq!((code, &found["intact"], &found["code"]["intact_entries"]), (0, &Value::from(true), &Value::from(3)));
}

#[test]
fn a_flipped_bit_of_a_large_entry_is_found_and_named() {
    let site = Site::furnished();
    let files = site.files("code", ".art");
    assert_eq!(files.len(), 1);
    flip_a_bit(&files[0]);
    let (found, code) = site.json(&["verify"]);
    assert_eq!((code, &found["intact"], &found["code"]["intact_entries"]), (1, &Value::from(false), &Value::from(2)));
    let damaged = found["code"]["damaged"].as_array().unwrap();
    assert_eq!(damaged.len(), 1);
    assert_eq!(
        (&damaged[0]["fingerprint"], &damaged[0]["kind"]),
        (&Value::from(unit(3).to_string()), &Value::from("code"))
    );
    assert!(files[0].exists(), "it only looks");
    let ran = site.run(&["verify"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains(&unit(3).to_string()) && ran.stdout.contains("its checksum disagrees"), "{ran:?}");
    assert!(ran.stderr.contains("1 place is damaged"), "{ran:?}");
}

#[test]
fn a_flipped_bit_is_found_in_every_kind_of_file() {
    for (part, ending) in [("code", ".seg"), ("code", ".idx"), ("hints", ".log")] {
        let site = Site::furnished();
        let files = site.files(part, ending);
        assert!(!files.is_empty(), "{ending}");
        flip_a_bit(&files[0]);
        let (found, code) = site.json(&["verify"]);
        assert_eq!((code, &found["intact"]), (1, &Value::from(false)), "{ending}: {found}");
    }
}

#[test]
fn damage_is_no_reason_for_other_commands_to_fail() {
    let site = Site::furnished();
    flip_a_bit(&site.files("code", ".art")[0]);
    flip_a_bit(&site.files("hints", ".log")[0]);
    for command in ["stats", "top", "gc"] {
        assert_eq!(site.run(&[command]).code, 0, "{command}");
    }
}

/// Drawn for people at a terminal only: nothing but the answer goes into files and pipes.
#[test]
fn no_progress_is_drawn_where_nobody_looks_on() {
    let ran = Site::furnished().run(&["verify"]);
    assert_eq!(ran.stderr, "");
    assert!(!ran.stdout.contains('\x1b') && !ran.stdout.contains('\r'), "{ran:?}");
}
