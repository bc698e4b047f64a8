//! The policy study as a user runs it: on a trace that a cache wrote, and on files that are none.

use hapax::{CacheOptions, Heap, HeapOptions, HostDevice, Lookup, TraceWriter, VramCache};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

#[test]
fn a_cache_writes_a_line_for_each_hit_and_each_fill() {
    let written = written_by_a_cache();
    let fields: Vec<Vec<u64>> =
        written.lines().map(|line| line.split(',').map(|field| field.parse().unwrap()).collect()).collect();
    assert!(fields.is_sorted_by_key(|line| line[0]), "in the order of time");
    let (a, b) = (fields[0][1], fields[1][1]);
    assert_ne!(a, b);
    let rest: Vec<[u64; 3]> = fields.iter().map(|line| [line[1], line[2], line[3]]).collect();
    assert_eq!(rest, [[a, 3, 700], [b, 5, 900], [a, 3, 700], [b, 5, 900], [b, 5, 900]]);
}

#[test]
fn the_study_reads_what_a_cache_wrote_and_draws_it() {
    let folder = folder();
    let trace = folder.join("trace.csv");
    std::fs::write(&trace, written_by_a_cache()).unwrap();
    let picture = folder.join("study.svg");
    let output =
        study(&[trace.as_os_str(), "--out".as_ref(), picture.as_os_str(), "--budgets".as_ref(), "4,100%".as_ref()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("5 requests; all keys together take 8 B"), "{text}");
    // 4 bytes hold the first alone: it is hit once, the other misses all three of its times.
    let row =
        |text: &str, start: &str| text.lines().find(|line| line.trim_start().starts_with(start)).map(str::to_owned);
    let tight: Vec<String> = row(&text, "4 B  LRU").unwrap().split_whitespace().map(str::to_owned).collect();
    assert_eq!(tight[3..], ["0.8000", "0.8571", "0.8293"]);
    let roomy: Vec<String> = row(&text, "8 B  CAMP").unwrap().split_whitespace().map(str::to_owned).collect();
    assert_eq!(roomy[3..], ["0.4000", "0.3810", "0.3902"]);
    let picture = std::fs::read_to_string(picture).unwrap();
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>") && picture.contains("CAMP"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn bad_lines_are_named_by_number_and_left_out() {
    let folder = folder();
    let trace = folder.join("trace.csv");
    std::fs::write(&trace, "time,key,size\n1,a,10\n2,b\n3,b,-4\n4,a,10,x\n\n5,c,0\n6,a,10\n").unwrap();
    let picture = folder.join("study.svg");
    let output = study(&[trace.as_os_str(), "--out".as_ref(), picture.as_os_str()]);
    let (text, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{errors}");
    assert!(text.contains("2 requests"), "{text}");
    for (line, reason) in [(3, "2 fields"), (4, "size is `-4`"), (5, "cost_ns is `x`"), (7, "size is 0")] {
        assert!(errors.contains(&format!("line {line}: {reason}")), "{errors}");
    }
    assert!(errors.contains("4 lines are left out"), "{errors}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_study_says_what_is_wrong_with_its_arguments() {
    let says = |args: &[&str], what: &str| {
        let output = study(&args.iter().map(AsRef::as_ref).collect::<Vec<_>>());
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && errors.contains(what), "{errors}");
    };
    says(&["/nonexistent/trace.csv"], "/nonexistent/trace.csv");
    says(&["--bugdets", "3"], "no option --bugdets");
    says(&["--budgets"], "--budgets has no value");
    says(&["--out", "/nonexistent/study.svg"], "name a file that can be written");
    let help = study(&["--help".as_ref()]);
    assert!(help.status.success() && String::from_utf8(help.stdout).unwrap().contains("--budgets"));
}

#[test]
fn what_cannot_be_added_up_is_refused_and_not_shown_as_less() {
    let folder = folder();
    let trace = folder.join("trace.csv");
    std::fs::write(&trace, (0..20_000).map(|i| format!("{i},{i},{}\n", 1u64 << 50)).collect::<String>()).unwrap();
    let output = study(&[trace.as_os_str(), "--out".as_ref(), folder.join("study.svg").as_os_str()]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && errors.contains("divide the sizes"), "{errors}");
    std::fs::remove_dir_all(folder).unwrap();
}

/// A writer that fails ends the trace, not the cache.
#[test]
fn a_trace_that_cannot_be_written_disturbs_nothing() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let trace = TraceWriter::new(Full);
    use_a_cache(&trace);
    assert_eq!(trace.flush().unwrap_err().kind(), io::ErrorKind::StorageFull);
}

fn written_by_a_cache() -> String {
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let memory = Memory::default();
    use_a_cache(&TraceWriter::new(memory.clone())); // the last clone to go writes the rest
    let bytes = memory.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

/// Fills `a`, inserts `b`, and hits each of them.
fn use_a_cache(trace: &TraceWriter) {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 10).granule_bytes(1)).unwrap();
    let stream = heap.new_stream().unwrap();
    let options = CacheOptions::new(100).trace(trace.clone());
    let cache: VramCache<&str, [u8]> = VramCache::with_options(&heap, options).unwrap();
    match cache.lookup(&"a", &stream).unwrap() {
        Lookup::Miss(vacancy) => drop(vacancy.cost_ns(700).fill_from(&[1; 3]).unwrap()),
        Lookup::Hit(_) => panic!("it is new"),
    }
    let value = heap.alloc_slice::<u8>(5).unwrap().upload_from(&[2; 5]).unwrap();
    cache.insert_with_cost("b", value, 900).unwrap().free_all().unwrap();
    drop(cache.get("a", &stream).unwrap().unwrap());
    drop(cache.lookup(&"b", &stream).unwrap());
    drop(cache.try_lookup(&"b", &stream).unwrap());
    assert!(cache.get("c", &stream).unwrap().is_none(), "a miss that nobody fills leaves no line");
}

fn study(args: &[&std::ffi::OsStr]) -> Output {
    // Beside this test: target/<profile>/deps/study-1234, target/<profile>/examples/policy_study.
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let example = profile.join("examples").join(format!("policy_study{}", std::env::consts::EXE_SUFFIX));
    let advice = "run `cargo build --example policy_study` first (a plain `cargo test` does)";
    assert!(example.is_file(), "{} is missing: {advice}", example.display());
    Command::new(example).args(args).output().unwrap()
}

fn folder() -> PathBuf {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let name = format!("hapax-study-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
