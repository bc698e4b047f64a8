//! Kernels through the real NVRTC, which needs no GPU, and through a store.
//!
//! Where there is no libnvrtc the tests skip and say so, unless HAPAX_REQUIRE_NVRTC is set: then they fail. The CUB kernels
//! need the toolkit's headers: HAPAX_CUDA_INCLUDE lists their folders as a search path does.

use hapax::nvrtc::{Arch, CompilerId, Headers, Kernel, KernelCompiler, Nvrtc, NvrtcError, Severity};
use hapax::{CodeStore, Key, Kind, MemoryStore, Meta};
use std::sync::Arc;
use std::time::Instant;

const SAXPY: &str = r#"
extern "C" __global__ void saxpy(float a, const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] += a * x[i];
}
"#;

fn required() -> bool {
    std::env::var_os("HAPAX_REQUIRE_NVRTC").is_some()
}

/// The compiler, or `None` with the reason printed.
fn nvrtc() -> Option<Nvrtc> {
    match Nvrtc::find() {
        Ok(nvrtc) => Some(nvrtc),
        Err(absent) => {
            assert!(!required(), "{absent}");
            println!("skipped: {absent}");
            None
        }
    }
}

fn toolkit_headers() -> Option<Headers> {
    match std::env::var_os("HAPAX_CUDA_INCLUDE") {
        Some(folders) => {
            let mut headers = Headers::new();
            for folder in std::env::split_paths(&folders) {
                headers = headers.directory(folder).unwrap();
            }
            Some(headers)
        }
        None => {
            assert!(!required(), "HAPAX_CUDA_INCLUDE is not set: it lists the folders of the toolkit's headers");
            println!("skipped: HAPAX_CUDA_INCLUDE, which lists the folders of the toolkit's headers, is not set");
            None
        }
    }
}

fn sm_90() -> Arch {
    "sm_90".parse().unwrap()
}

fn store() -> MemoryStore {
    MemoryStore::new(64 << 20)
}

fn compiler(nvrtc: Nvrtc, store: MemoryStore) -> KernelCompiler {
    KernelCompiler::new(nvrtc, CodeStore::over(Arc::new(store)))
}

#[test]
fn a_hit_returns_the_compiled_image_and_loads_no_compiler() {
    let Some(nvrtc) = nvrtc() else { return };
    let (store, kernel) = (store(), Kernel::new("saxpy.cu", SAXPY, sm_90()));
    let first = compiler(nvrtc, store.clone());
    assert!(!first.nvrtc().is_loaded());
    let compiled = first.image(&kernel).unwrap();
    assert!(first.nvrtc().is_loaded() && compiled.starts_with(b"\x7fELF") && compiled.compile_ns() > 0);
    let second = compiler(self::nvrtc().unwrap(), store);
    let stored = second.image(&kernel).unwrap();
    assert_eq!(*stored, *compiled);
    assert!(!second.nvrtc().is_loaded());
    let stats = second.store().stats();
    assert_eq!((stats.compiles, stats.saved_ns), (0, compiled.compile_ns()));
}

#[test]
fn a_store_filled_elsewhere_serves_machines_without_a_compiler() {
    let Some(nvrtc) = nvrtc() else { return };
    let (store, kernel) = (store(), Kernel::new("saxpy.cu", SAXPY, sm_90()));
    let id = nvrtc.id().to_string();
    let compiled = compiler(nvrtc, store.clone()).image(&kernel).unwrap();
    let elsewhere = compiler(Nvrtc::elsewhere(CompilerId::from_hex(&id).unwrap()), store);
    assert_eq!(*elsewhere.image(&kernel).unwrap(), *compiled);
    let missing = elsewhere.image(&Kernel::new("other.cu", SAXPY, sm_90())).unwrap_err();
    assert!(matches!(missing, NvrtcError::Absent { .. }) && missing.to_string().contains("install"), "{missing}");
}

#[test]
fn an_intact_artifact_that_is_no_image_is_replaced() {
    let Some(nvrtc) = nvrtc() else { return };
    let (store, kernel) = (store(), Kernel::new("saxpy.cu", SAXPY, sm_90()));
    let first = compiler(nvrtc, store.clone());
    let key = Key::new(Kind::CODE, first.fingerprint(&kernel));
    first.store().put(&key, &Meta::default(), b"nonsense").unwrap();
    let image = first.image(&kernel).unwrap();
    assert!(image.starts_with(b"\x7fELF"));
    let second = compiler(self::nvrtc().unwrap(), store);
    assert_eq!(*second.image(&kernel).unwrap(), *image);
    assert!(!second.nvrtc().is_loaded());
}

#[test]
fn ptx_is_text_that_ends_with_nul_and_names_its_target() {
    let Some(nvrtc) = nvrtc() else { return };
    let kernel = Kernel::new("saxpy.cu", SAXPY, "compute_90".parse().unwrap());
    let image = compiler(nvrtc, store()).image(&kernel).unwrap();
    let text = std::str::from_utf8(&image).unwrap();
    assert!(text.contains(".target sm_90") && text.contains(".entry saxpy") && text.ends_with('\0'), "{text}");
}

#[test]
fn name_expressions_come_with_their_mangled_names_also_from_the_store() {
    let Some(nvrtc) = nvrtc() else { return };
    let source = "template <class T> __global__ void twice(T *x) { x[threadIdx.x] *= 2; }";
    let kernel = Kernel::new("twice.cu", source, sm_90()).name_expression("twice<float>").name_expression("twice<int>");
    let compiler = self::compiler(nvrtc, store());
    for _ in 0..2 {
        let image = compiler.image(&kernel).unwrap();
        let names = ["twice<float>", "twice<int>"].map(|name| image.lowered_name(name).unwrap().to_owned());
        assert_eq!(names, ["_Z5twiceIfEvPT_", "_Z5twiceIiEvPT_"]);
    }
    assert_eq!(compiler.store().stats().compiles, 1);
}

#[test]
fn an_error_carries_the_log_with_line_numbers() {
    let Some(nvrtc) = nvrtc() else { return };
    let compiler = self::compiler(nvrtc, store());
    let source = "extern \"C\" __global__ void k(int *x) {\n    *x = undefined;\n    int y = \"text\";\n}\n";
    let error = compiler.image(&Kernel::new("k.cu", source, sm_90())).unwrap_err();
    let NvrtcError::Compile { diagnostics, log } = &error else { panic!("{error}") };
    let errors: Vec<u32> = diagnostics
        .iter()
        .filter(|said| said.severity == Severity::Error && said.file == "k.cu")
        .map(|said| said.line)
        .collect();
    assert_eq!(errors, [2, 3], "{log}");
    assert!(
        error.to_string().starts_with("k.cu:2: error: identifier \"undefined\" is undefined (and 1 more)"),
        "{error}"
    );
    assert_eq!(compiler.store().stats().store.puts, 0);
}

#[test]
fn what_is_missing_is_said_with_what_to_do() {
    let Some(nvrtc) = nvrtc() else { return };
    let compiler = self::compiler(nvrtc, store());
    let error = compiler.image(&Kernel::new("k.cu", "\n#include <cub/cub.cuh>\n", sm_90())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "k.cu:2: the header cub/cub.cuh is not among the kernel's headers; add it with Headers::file or its folder with \
         Headers::directory"
    );
    let error = compiler.image(&Kernel::new("k.cu", SAXPY, "sm_31".parse().unwrap())).unwrap_err();
    let NvrtcError::UnknownArch { supported, .. } = &error else { panic!("{error}") };
    assert!(supported.contains(&90) && error.to_string().contains("sm_90"), "{error}");
    let bogus = Kernel::new("k.cu", SAXPY, sm_90()).option_vouched_for("--bogus");
    let error = compiler.image(&bogus).unwrap_err();
    assert!(matches!(&error, NvrtcError::BadOption { log } if log.contains("--bogus")), "{error}");
}

/// Were it read, a change of the file would not change the fingerprint.
#[test]
fn a_header_in_the_current_directory_is_not_seen() {
    let Some(nvrtc) = nvrtc() else { return };
    let folder = std::env::temp_dir().join(format!("hapax-nvrtc-cwd-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("unkeyed.h"), "#define VALUE 1\n").unwrap();
    std::env::set_current_dir(&folder).unwrap();
    let source = "#include \"unkeyed.h\"\nextern \"C\" __global__ void k(int *x) { *x = VALUE; }\n";
    let kernel = Kernel::new("k.cu", source, sm_90());
    let compiler = self::compiler(nvrtc, store());
    let error = compiler.image(&kernel).unwrap_err();
    assert!(matches!(&error, NvrtcError::MissingHeader { header, .. } if header == "unkeyed.h"), "{error}");
    let headers = Headers::new().file("unkeyed.h", "#define VALUE 2\n").unwrap();
    compiler.image(&kernel.headers(&headers)).unwrap();
    std::env::set_current_dir(std::env::temp_dir()).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

/// NVRTC reads them itself, whatever it is told; no fingerprint would know what is in them.
#[test]
fn a_header_by_its_absolute_path_is_one_of_the_kernels_or_an_error() {
    let Some(nvrtc) = nvrtc() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("value.h").display().to_string();
    std::fs::write(&path, "#define VALUE 4101\n").unwrap();
    let uses = "extern \"C\" __global__ void k(int *x) { *x = VALUE; }\n";
    let compiler = compiler(nvrtc, store());
    let kernel = |source: String| Kernel::new("k.cu", source, "compute_90".parse().unwrap());
    let included = [format!("#include \"{path}\"\n{uses}"), format!("#if __has_include(<{path}>)\n#endif\n{uses}")];
    for source in included {
        let missing = compiler.image(&kernel(source)).unwrap_err();
        let expected = NvrtcError::MissingHeader { header: path.clone(), file: "k.cu".to_owned(), line: 1 };
        assert_eq!(missing, expected);
    }
    let by_a_header = Headers::new().file("a.h", format!("\n#include \"{path}\"\n")).unwrap();
    let missing = compiler.image(&kernel(format!("#include <a.h>\n{uses}")).headers(&by_a_header)).unwrap_err();
    assert_eq!(missing, NvrtcError::MissingHeader { header: path.clone(), file: "a.h".to_owned(), line: 2 });
    // As one of the kernel's it comes from memory, and counts by its contents.
    let given = Headers::new().file(&path, "#define VALUE 4202\n").unwrap();
    let image = compiler.image(&kernel(format!("#include \"{path}\"\n{uses}")).headers(&given)).unwrap();
    assert!(String::from_utf8_lossy(&image).contains("4202"));
}

/// A name without a slash is one thing to who opens it and another to the system's loader, which reads its search path when a
/// process begins: so this test runs itself again.
#[test]
fn the_library_that_is_loaded_is_the_one_that_was_identified() {
    const AGAIN: &str = "HAPAX_TEST_NVRTC_BY_NAME";
    let name = "the_library_that_is_loaded_is_the_one_that_was_identified";
    if std::env::var_os(AGAIN).is_some() {
        let compiler = compiler(Nvrtc::at("libnvrtc.so.12").unwrap(), store());
        let compiled = compiler.image(&Kernel::new("k.cu", SAXPY, sm_90()));
        assert!(matches!(compiled, Err(NvrtcError::Absent { .. })), "{compiled:?}");
        return;
    }
    let Some(_) = nvrtc() else { return };
    let Some(real) = std::env::var_os("HAPAX_NVRTC").map(std::path::PathBuf::from) else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("libnvrtc.so.12"), "no library at all").unwrap();
    let again = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(AGAIN, "1")
        .env("LD_LIBRARY_PATH", real.parent().unwrap())
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stdout));
}

#[test]
fn headers_may_include_what_lies_beside_them() {
    let Some(nvrtc) = nvrtc() else { return };
    let headers = Headers::new()
        .file("lib/api.h", "#include \"detail/value.h\"\n")
        .and_then(|set| set.file("lib/detail/value.h", "#include \"../base.h\"\n#define VALUE BASE\n"))
        .and_then(|set| set.file("lib/base.h", "#define BASE 3\n"))
        .unwrap();
    let source = "#include <lib/api.h>\nextern \"C\" __global__ void k(int *x) { *x = VALUE; }\n";
    compiler(nvrtc, store()).image(&Kernel::new("k.cu", source, sm_90()).headers(&headers)).unwrap();
}

#[test]
fn sort_scan_and_reduction_of_cub_compile_once() {
    let (Some(nvrtc), Some(headers)) = (nvrtc(), toolkit_headers()) else { return };
    let kernel = Kernel::new("cub.cu", include_str!("../kernels/cub.cu"), sm_90())
        .headers(&headers)
        .option("--std=c++17")
        .unwrap()
        .name_expression("sort<unsigned>")
        .name_expression("scan<int>")
        .name_expression("reduce<float>");
    let store = store();
    let compiler = self::compiler(nvrtc, store.clone());
    let compiled = compiler.image(&kernel).unwrap();
    let again = self::compiler(self::nvrtc().unwrap(), store);
    let begun = Instant::now();
    let stored = again.image(&kernel).unwrap();
    println!(
        "CUB: compiled in {:?}, from the store in {:?}",
        std::time::Duration::from_nanos(compiled.compile_ns()),
        begun.elapsed()
    );
    assert_eq!(*stored, *compiled);
    assert!(!again.nvrtc().is_loaded() && stored.lowered_name("sort<unsigned>").is_some());
}

#[test]
fn the_same_kernel_compiles_to_the_same_image() {
    let Some(nvrtc) = nvrtc() else { return };
    let kernel = Kernel::new("saxpy.cu", SAXPY, sm_90());
    let first = compiler(nvrtc, store()).image(&kernel).unwrap();
    let second = compiler(self::nvrtc().unwrap(), store()).image(&kernel).unwrap();
    assert_eq!(*first, *second);
}
