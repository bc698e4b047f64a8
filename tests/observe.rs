//! What listeners are told: with the features `tracing` and `metrics`, every miss, eviction, refusal and fault of the cache, of
//! the device, of the hints and of the code store. The listeners here are the facades' own traits, and they call back into what they listen to.

use hapax::{
    CodeError, CodeMode, CodeStore, DirectoryOptions, Fault, FaultDevice, Fingerprint, Heap, HeapOptions, HintOptions,
    HintStore, HostDevice, Key, Kind, LateDevice, Lookup, MemoryStore, Meta, Unit, VramCache,
};
use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, KeyName, Label, Metadata as MetricMetadata, Recorder,
    SharedString, Unit as MetricUnit,
};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

fn unit(number: u64) -> Fingerprint {
    Fingerprint::of("tests/observe").part("unit", number.to_le_bytes()).finish()
}

/// Lines of `LEVEL message field=value ..`, of events and of spans entered.
#[derive(Clone, Default)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    spans: Arc<Mutex<Vec<String>>>,
    /// Used at each event, as a listener may: a lock that is held then would be waited for, by ourselves, for ever.
    uses: Arc<Mutex<Option<HintStore>>>,
    /// Asked at each event, likewise.
    asks: Arc<Mutex<Option<Arc<VramCache<u32, [u8]>>>>>,
    /// Used at each event, likewise: a copy, a slab taken and given back.
    heap: Arc<Mutex<Option<Heap>>>,
}

impl Log {
    fn listen<T>(&self, work: impl FnOnce() -> T) -> T {
        tracing::subscriber::with_default(self.clone(), work)
    }

    fn has(&self, parts: &[&str]) -> bool {
        self.lines.lock().unwrap().iter().any(|line| parts.iter().all(|part| line.contains(part)))
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &match field.name() {
            "message" => format!(" {value:?}"),
            name => format!(" {name}={value:?}"),
        };
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "hapax"
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut line = Line(attributes.metadata().name().to_owned());
        attributes.record(&mut line);
        let mut spans = self.spans.lock().unwrap();
        spans.push(line.0);
        span::Id::from_u64(spans.len() as u64)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.lines.lock().unwrap().push(line.0);
        let hints = self.uses.lock().unwrap().take();
        if let Some(hints) = hints {
            hints.record_hit(&unit(1_000_000));
            hints.stats();
            hints.refresh().unwrap();
            *self.uses.lock().unwrap() = Some(hints);
        }
        let cache = self.asks.lock().unwrap().clone();
        if let Some(cache) = cache {
            cache.stats();
            assert!(!cache.contains(&1_000_000));
        }
        let heap = self.heap.lock().unwrap().take();
        if let Some(heap) = heap {
            heap.alloc_slice(4096).unwrap().upload_from(&[1u8; 4096]).unwrap().free().unwrap();
            heap.trim().unwrap();
            *self.heap.lock().unwrap() = Some(heap);
        }
    }

    fn enter(&self, span: &span::Id) {
        let name = self.spans.lock().unwrap()[span.into_u64() as usize - 1].clone();
        self.lines.lock().unwrap().push(format!("enter {name}"));
    }

    fn exit(&self, _: &span::Id) {}
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
}

#[derive(Clone, Default)]
struct Counts(Arc<Mutex<BTreeMap<String, u64>>>);

struct One(Counts, String);

impl Counts {
    fn of(&self, name: &str) -> u64 {
        self.0.lock().unwrap().get(name).copied().unwrap_or(0)
    }

    fn add(&self, name: &str, by: u64) {
        *self.0.lock().unwrap().entry(name.to_owned()).or_default() += by;
    }
}

impl CounterFn for One {
    fn increment(&self, by: u64) {
        self.0.add(&self.1, by);
    }

    fn absolute(&self, _: u64) {
        unreachable!("hapax only adds");
    }
}

impl HistogramFn for One {
    fn record(&self, seconds: f64) {
        assert!((0.0..100.0).contains(&seconds));
        self.0.add(&self.1, 1);
    }
}

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<MetricUnit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<MetricUnit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<MetricUnit>, _: SharedString) {}

    fn register_counter(&self, key: &metrics::Key, _: &MetricMetadata<'_>) -> Counter {
        assert_eq!(key.labels().collect::<Vec<&Label>>(), Vec::<&Label>::new());
        Counter::from_arc(Arc::new(One(self.clone(), key.name().to_owned())))
    }

    fn register_gauge(&self, _: &metrics::Key, _: &MetricMetadata<'_>) -> Gauge {
        unreachable!("hapax has no gauges")
    }

    fn register_histogram(&self, key: &metrics::Key, _: &MetricMetadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(One(self.clone(), key.name().to_owned())))
    }
}

struct Source(u64);

impl Unit for Source {
    fn fingerprint(&self) -> Fingerprint {
        unit(self.0)
    }
}

fn compile(source: &Source) -> Result<Vec<u8>, fmt::Error> {
    Ok(vec![source.0 as u8; 100])
}

#[test]
fn hints_tell_of_misses_evictions_refusals_and_faults() {
    let folder = tempfile::tempdir().unwrap();
    let directory = DirectoryOptions::new("observe").dir(folder.path());
    let options = HintOptions::new(&directory).budget_bytes(5_000).write_behind(Duration::MAX);
    let (log, counts) = (Log::default(), Counts::default());
    metrics::with_local_recorder(&counts, || {
        log.listen(|| {
            let hints = HintStore::open(options.clone());
            *log.uses.lock().unwrap() = Some(hints.clone());
            assert!(hints.get(&unit(0)).is_none());
            assert!(log.has(&["TRACE", "no hint", &format!("fingerprint={}", unit(0))]));
            for number in 0..100 {
                hints.record_hit(&unit(number));
            }
            assert!(log.has(&["DEBUG", "forgot the least recently used", "records="]));
            hints.gc().unwrap();
            assert!(log.has(&["DEBUG", "folded the journal"]) && log.has(&["enter", "hints", "action=\"fold\""]));
            assert!(hints.get(&unit(99)).is_some());
            *log.uses.lock().unwrap() = None;

            let reader =
                HintStore::open(HintOptions::new(&directory.clone().read_only(true)).write_behind(Duration::MAX));
            reader.record_hit(&unit(0));
            reader.flush().unwrap_err();
            assert!(log.has(&["WARN", "the journal refused", "read-only"]));

            let file = folder.path().join("file");
            std::fs::write(&file, "").unwrap();
            HintStore::open(HintOptions::new(&directory).dir(&file));
            assert!(log.has(&["WARN", "hints are off", "why="]));
            assert_eq!(counts.of("hapax.hints.evictions"), hints.stats().evictions);
            assert_eq!((counts.of("hapax.hints.hits"), counts.of("hapax.hints.misses")), (1, 1));
            assert!(counts.of("hapax.hints.written") >= 100);
            // The reader refuses once more when it goes.
            assert_eq!(counts.of("hapax.hints.refusals"), 1);
            drop(reader);
            assert_eq!((counts.of("hapax.hints.refusals"), counts.of("hapax.hints.folds")), (2, 1));
        });
    });
}

#[test]
fn the_code_store_tells_of_misses_compilations_evictions_and_refusals() {
    let (log, counts) = (Log::default(), Counts::default());
    metrics::with_local_recorder(&counts, || {
        log.listen(|| {
            let code = CodeStore::over(Arc::new(MemoryStore::new(250)));
            for number in [0, 0, 1, 2] {
                code.get_or_compile(&Source(number), compile).unwrap();
            }
            assert!(log.has(&["DEBUG", "no code", &format!("fingerprint={}", unit(2)), "nothing is stored"]));
            assert!(log.has(&["enter", "compile", &unit(1).to_string()]));
            assert!(log.has(&["DEBUG", "evicted code", "entries=1"]));
            code.put(&Key::new(Kind::CODE, unit(9)), &Meta::default(), &[0; 300]).unwrap_err();
            assert!(log.has(&["WARN", "code was not stored", &unit(9).to_string(), "300"]));
            let of = |name| counts.of(name);
            assert_eq!((of("hapax.code.hits"), of("hapax.code.misses"), of("hapax.code.compile_seconds")), (1, 3, 3));
            assert_eq!((of("hapax.code.evictions"), of("hapax.code.refusals"), of("hapax.code.faults")), (1, 1, 0));

            let verified = code.verify_every(1);
            let differs = verified.get_or_compile(&Source(2), |_| Ok::<_, fmt::Error>(vec![7]));
            assert!(matches!(differs, Err(CodeError::Differs(_))));
            assert!(log.has(&["WARN", "differs", &unit(2).to_string()]) && of("hapax.code.differences") == 1);
            let must_hit = verified.mode(CodeMode::MustHit);
            assert!(must_hit.get_or_compile(&Source(77), compile).is_err());
        });
    });
}

#[test]
fn damaged_code_is_told_as_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let options = DirectoryOptions::new("observe").dir(folder.path());
    let (log, counts) = (Log::default(), Counts::default());
    let large = Source(3);
    CodeStore::open(&options).put(&Key::new(Kind::CODE, large.fingerprint()), &Meta::default(), &[1; 500_000]).unwrap();
    for path in files_below(folder.path()) {
        let mut bytes = std::fs::read(&path).unwrap();
        if bytes.len() > 400_000 {
            bytes[250_000] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }
    }
    metrics::with_local_recorder(&counts, || {
        log.listen(|| CodeStore::open(&options).get_or_compile(&large, compile).unwrap());
    });
    assert!(log.has(&["WARN", "stored code cannot be used", "checksum"]));
    assert_eq!((counts.of("hapax.code.faults"), counts.of("hapax.code.misses")), (1, 1));
}

/// The heap's own locks are free when a failed call is told: for a slab, for a copy, for giving a slab back.
#[test]
fn the_heap_may_be_used_by_who_hears_of_a_device_call_that_failed() {
    let (late, _) = LateDevice::new();
    let (device, faults) = FaultDevice::new(late);
    let heap = Heap::new(device, HeapOptions::new(1 << 16).slab_bytes(4096)).unwrap();
    let log = Log::default();
    let failing = |name: &str, work: &dyn Fn() -> bool| {
        assert!(work(), "{name}: without a fault it works");
        // From the second time on the calls are the same.
        let before = faults.calls() as usize;
        assert!(work());
        let nth = faults.log()[before..].iter().position(|call| *call == name).expect("the call is made") + 1;
        faults.fail_call(nth as u64, Fault::Failed);
        *log.heap.lock().unwrap() = Some(heap.clone());
        let _ = log.listen(work); // the heap may find another way
        *log.heap.lock().unwrap() = None;
        assert!(log.has(&["WARN", "device call failed", name]));
        faults.disarm();
    };
    let slab = || {
        let _ = heap.trim();
        heap.alloc_slice::<u8>(4096).is_ok()
    };
    failing("alloc", &slab);
    failing("free", &|| slab() && heap.trim().is_ok());
    failing("copy_in", &|| heap.alloc_slice(100).unwrap().upload_from(&[7u8; 100]).is_ok());
}

#[test]
fn the_cache_tells_of_misses_evictions_refusals_and_faults_and_may_be_used_by_who_listens() {
    let (device, faults) = FaultDevice::new(HostDevice::new());
    let heap = Heap::new(device, HeapOptions::new(1 << 16)).unwrap();
    let stream = heap.new_stream().unwrap();
    let cache: Arc<VramCache<u32, [u8]>> = Arc::new(VramCache::new(&heap, 512).unwrap());
    let (log, counts) = (Log::default(), Counts::default());
    *log.asks.lock().unwrap() = Some(cache.clone());
    metrics::with_local_recorder(&counts, || {
        log.listen(|| {
            assert!(cache.get(&0, &stream).unwrap().is_none());
            assert!(log.has(&["TRACE", "not resident"]));
            for key in 0..3 {
                let Lookup::Miss(vacancy) = cache.lookup(&key, &stream).unwrap() else { panic!("{key} is new") };
                drop(vacancy.fill_from(&[0; 256]).unwrap());
            }
            assert!(log.has(&["DEBUG", "made room", "entries=1"]));
            drop(cache.get(&2, &stream).unwrap().expect("resident"));
            let large = heap.alloc_slice(1000).unwrap().upload_from(&[0; 1000]).unwrap();
            cache.insert(9, large).unwrap_err().handle.1.free().unwrap();
            assert!(log.has(&["DEBUG", "refused", "1024 bytes", "512"]));
            assert!(!log.has(&["WARN"]));
            faults.fail_call(1, Fault::Failed);
            heap.new_stream().unwrap_err();
            assert!(log.has(&["WARN", "device call failed", "call=\"create_stream\""]));
        });
    });
    let of = |name| counts.of(name);
    assert_eq!((of("hapax.cache.hits"), of("hapax.cache.misses"), of("hapax.cache.evictions")), (1, 4, 1));
    assert_eq!((of("hapax.cache.refusals"), of("hapax.device.faults")), (1, 1));
    *log.asks.lock().unwrap() = None;
}

fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
