//! Kernels from CUDA C++: compiled by NVRTC against taken from a store on disk, in one run. Needs libnvrtc and the toolkit's
//! headers, no GPU: `HAPAX_NVRTC=.. HAPAX_CUDA_INCLUDE=.. cargo bench -p cuda-suite --bench kernels`.
//!
//! A stored kernel is timed as a new process would meet it: the store is opened anew for each round, the compiler's
//! identity is read anew, and NVRTC must not be loaded. Reading the headers is timed alone, since it is done once a process.

use hapax::nvrtc::{Headers, Kernel, KernelCompiler, Nvrtc};
use hapax::{CodeStore, DirectoryOptions};
use std::path::Path;
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;
const SAXPY: &str = "extern \"C\" __global__ void saxpy(float a, const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] += a * x[i];
}\n";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let nvrtc = match Nvrtc::find() {
        Ok(nvrtc) => nvrtc,
        Err(absent) => {
            println!("not measured: {absent}");
            return Ok(());
        }
    };
    let arch = || "sm_90".parse().expect("an architecture");
    let mut kernels = vec![("saxpy", Kernel::new("saxpy.cu", SAXPY, arch()))];
    match std::env::var_os("HAPAX_CUDA_INCLUDE") {
        Some(folders) => {
            let begun = Instant::now();
            let mut headers = Headers::new();
            for folder in std::env::split_paths(&folders) {
                headers = headers.directory(folder)?;
            }
            headers.digest();
            println!(
                "headers: {} files, {} bytes, read and hashed in {:?}, once a process",
                headers.len(),
                headers.bytes(),
                begun.elapsed()
            );
            let cub = Kernel::new("cub.cu", include_str!("../kernels/cub.cu"), arch())
                .headers(&headers)
                .option("--std=c++17")?;
            let cub =
                cub.name_expression("sort<unsigned>").name_expression("scan<int>").name_expression("reduce<float>");
            kernels.push(("CUB sort, scan, reduce", cub));
        }
        None => println!("CUB: not measured, HAPAX_CUDA_INCLUDE does not say where the headers are"),
    }
    drop(nvrtc);
    println!("\n| kernel | compiled | from the store | ratio | least - greatest |\n|---|---|---|---|---|");
    for (name, kernel) in &kernels {
        let mut rounds: Vec<(Duration, Duration)> = Vec::new();
        for _ in 0..ROUNDS {
            let folder = tempfile::tempdir()?;
            rounds.push((time(folder.path(), kernel, true)?, time(folder.path(), kernel, false)?));
        }
        let median = |of: fn(&(Duration, Duration)) -> Duration| {
            let mut times: Vec<Duration> = rounds.iter().map(of).collect();
            times.sort();
            times[ROUNDS / 2]
        };
        let mut ratios: Vec<f64> = rounds.iter().map(|(cold, warm)| cold.as_secs_f64() / warm.as_secs_f64()).collect();
        ratios.sort_by(f64::total_cmp);
        println!(
            "| {name} | {:.1?} | {:.1?} | {:.0}x | {:.0} - {:.0} |",
            median(|round| round.0),
            median(|round| round.1),
            ratios[ROUNDS / 2],
            ratios[0],
            ratios[ROUNDS - 1]
        );
    }
    println!("\nMedians of {ROUNDS} rounds, a compilation and a lookup alternating.");
    Ok(())
}

/// Opens the store and asks for the image, in which NVRTC is loaded or must not be.
fn time(folder: &Path, kernel: &Kernel, compiles: bool) -> Result<Duration, Box<dyn std::error::Error>> {
    let begun = Instant::now();
    let store = CodeStore::open(&DirectoryOptions::new("kernels").dir(folder));
    let compiler = KernelCompiler::new(Nvrtc::find()?, store);
    let image = compiler.image(kernel)?;
    let taken = begun.elapsed();
    assert_eq!(compiler.nvrtc().is_loaded(), compiles, "{} bytes", image.len());
    Ok(taken)
}
