//! Launches kernels on the first card, through hapax's kernel cache; and shows what that costs, cold and from the store. Where there is
//! no card, it still compiles them, which needs none.

#![expect(unsafe_code, reason = "launches kernels that it has written itself")]

use crate::back::engine::{Engine, Launcher, Parts};
use crate::back::machine::Machine;
use crate::ir::{Function, Kind};
use crate::kernels::cuda;
use crate::program::Program;
use crate::report::{check, field, size, time};
use crate::session::{AnyError, Work, open};
use hapax::nvrtc::{Arch, Kernel, KernelCache, KernelCompiler, KernelImage, Nvrtc};
use hapax::{CodeStore, CudaDevice, DevBox, DirectoryOptions, Heap, HeapOptions, Launch, LaunchShape, Stream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Device memory for a kernel's arrays, and for modules beside them.
const HEAP_BYTES: u64 = 256 << 20;
const MODULE_BUDGET_BYTES: u64 = 1 << 20;
const BLOCK_THREADS: u32 = 128;
/// What kernels are compiled for where there is no card.
const ARCH_WITHOUT_CARD: &str = "sm_90";

/// A card that runs kernels.
pub struct CardLauncher {
    heap: Heap,
    stream: Stream,
    kernels: KernelCache,
    arch: Arch,
    launches: AtomicU64,
}

impl CardLauncher {
    /// The first card. Kernels are kept in that directory.
    pub fn open(card: CudaDevice, nvrtc: Nvrtc, store: CodeStore) -> Result<CardLauncher, AnyError> {
        let arch = Arch::of_compute_capability(card.info().compute_capability);
        let heap = Heap::new(card, HeapOptions::new(HEAP_BYTES))?;
        let stream = heap.new_stream()?;
        let kernels = KernelCache::new(KernelCompiler::new(nvrtc, store), &heap, MODULE_BUDGET_BYTES)?;
        Ok(CardLauncher { heap, stream, kernels, arch, launches: AtomicU64::new(0) })
    }

    fn try_launch(
        &self,
        program: &Program,
        kernel: &Function,
        count: u64,
        words: &[u64],
        machine: &mut Machine,
    ) -> Result<bool, AnyError> {
        let lease = self.kernels.get(&cuda_kernel(program, kernel, self.arch.clone())?, &self.stream)?;
        let function = lease.function(&cuda::entry_name(kernel))?;
        // One buffer for each array, however often it is passed: a kernel may write through one name and read another.
        let mut arrays: Vec<(u64, DevBox<[u64]>)> = Vec::new();
        for (kind, word) in kernel.registers[1..].iter().zip(words) {
            if *kind == Kind::Array && !arrays.iter().any(|(known, _)| known == word) {
                let elements = machine.elements(*word);
                arrays.push((*word, self.heap.alloc_slice(elements.len())?.upload_from(elements)?));
            }
        }
        let mut failed = self.heap.alloc_slice::<i32>(1)?.upload_from(&[0])?;
        {
            let mut failed_view = failed.on_mut(&self.stream)?;
            let mut views = Vec::new();
            for (_, array) in &mut arrays {
                views.push(array.on_mut(&self.stream)?);
            }
            let addresses: Vec<(u64, u64)> =
                views.iter_mut().map(|view| (view.device_address(), view.len() as u64)).collect();
            let shape = LaunchShape::linear(count, BLOCK_THREADS);
            let mut launch = Launch::new(&function, shape).value(count).memory(&mut failed_view);
            let names: Vec<u64> = arrays_in_order(kernel, words);
            for (kind, word) in kernel.registers[1..].iter().zip(words) {
                launch = match names.iter().position(|name| *kind == Kind::Array && name == word) {
                    Some(array) => launch.value(addresses[array].0).value(addresses[array].1),
                    None => launch.value(*word),
                };
            }
            // SAFETY: The entry takes these arguments, in this order, as `cuda::source` has written it; it checks each index
            // against the length that is passed. The views live until the download below has waited for the stream.
            unsafe { launch.launch() }?;
        }
        let mut outcome = [0];
        failed.download_to(&mut outcome)?;
        failed.free()?;
        for (word, array) in arrays {
            if outcome[0] == 0 {
                array.download_to(machine.elements(word))?;
            }
            array.free()?;
        }
        self.launches.fetch_add(1, Ordering::Relaxed);
        // What failed runs again on the processor, which says where.
        Ok(outcome[0] == 0)
    }
}

/// The arrays among a kernel's arguments, each once, in the order in which they are first passed.
fn arrays_in_order(kernel: &Function, words: &[u64]) -> Vec<u64> {
    let mut names = Vec::new();
    for (kind, word) in kernel.registers[1..].iter().zip(words) {
        if *kind == Kind::Array && !names.contains(word) {
            names.push(*word);
        }
    }
    names
}

impl Launcher for CardLauncher {
    fn launch(&self, program: &Program, kernel: &Function, count: u64, words: &[u64], machine: &mut Machine) -> bool {
        if count == 0 || (count as i64) < 0 {
            return false;
        }
        match self.try_launch(program, kernel, count, words, machine) {
            Ok(ran) => ran,
            Err(error) => {
                // The program is right without a card, too.
                eprintln!("kernel `{}` runs on the processor: {error}", kernel.name);
                false
            }
        }
    }
}

fn cuda_kernel(program: &Program, kernel: &Function, arch: Arch) -> Result<Kernel, AnyError> {
    let source = cuda::source(program, kernel)?;
    // As on the processor: no multiplication is fused with an addition.
    Ok(Kernel::new(format!("{}.cu", kernel.name), source, arch).option("--fmad=false")?)
}

/// Runs the kernels of these programs on a card, or compiles them where there is none.
pub fn show(work: &Work) -> Result<(), AnyError> {
    let nvrtc = match Nvrtc::find() {
        Ok(nvrtc) => nvrtc,
        Err(absent) => return field("kernels", format!("run on the processor: {absent}")),
    };
    let programs = work.programs.iter().map(|name| open(name)).collect::<Result<Vec<_>, _>>()?;
    let with_kernels: Vec<Program> =
        programs.into_iter().filter(|program| program.functions.iter().any(|function| function.is_kernel)).collect();
    if with_kernels.is_empty() {
        return field("kernels", "none in these programs");
    }
    let store = || CodeStore::open(&DirectoryOptions::new("mica-kernels").dir(&work.cache));
    match CudaDevice::open(0) {
        Ok(card) => on_card(card, nvrtc, store(), with_kernels),
        Err(absent) => without_card(&absent.to_string(), nvrtc, store, &with_kernels),
    }
}

fn without_card(
    absent: &str,
    nvrtc: Nvrtc,
    store: impl Fn() -> CodeStore,
    programs: &[Program],
) -> Result<(), AnyError> {
    field("kernels", format!("run on the processor ({absent}); compiled all the same, for {ARCH_WITHOUT_CARD}:"))?;
    let mut kernels = Vec::new();
    for program in programs {
        for kernel in program.functions.iter().filter(|function| function.is_kernel) {
            kernels.push(cuda_kernel(program, kernel, ARCH_WITHOUT_CARD.parse()?)?);
        }
    }
    let images_of = |compiler: &KernelCompiler| -> Result<(Vec<KernelImage>, u64), AnyError> {
        let begun = Instant::now();
        let images = kernels.iter().map(|kernel| compiler.image(kernel)).collect::<Result<Vec<_>, _>>()?;
        Ok((images, begun.elapsed().as_nanos() as u64))
    };
    let cold = KernelCompiler::new(nvrtc, store());
    let (compiled, cold_ns) = images_of(&cold)?;
    // Opened only now, as by a later process: an open store looks at what others have put only now and then.
    let warm = KernelCompiler::new(Nvrtc::find()?, store());
    let (stored, warm_ns) = images_of(&warm)?;
    let holds = compiled.iter().zip(&stored).all(|(compiled, stored)| **compiled == **stored);
    let (count, bytes) = (kernels.len(), compiled.iter().map(|image| image.len() as u64).sum());
    let compiles = cold.store().stats().compiles;
    let loaded = if warm.nvrtc().is_loaded() { "loaded" } else { "not loaded" };
    let ratio = cold_ns as f64 / warm_ns.max(1) as f64;
    field("", format!("{count} kernels, {} of images, {compiles} compiled in {}", size(bytes), time(cold_ns)))?;
    field("", format!("again from the store in {} ({ratio:.0}x less), NVRTC {loaded}", time(warm_ns)))?;
    if check(holds, "kernels: stored images are those that were compiled")? {
        return field("", "(no kernel was launched: that takes a card)");
    }
    Err("a check failed".into())
}

fn on_card(card: CudaDevice, nvrtc: Nvrtc, store: CodeStore, programs: Vec<Program>) -> Result<(), AnyError> {
    let launcher = Arc::new(CardLauncher::open(card, nvrtc, store)?);
    field("kernels", format!("run on {}", launcher.heap.device().name()))?;
    let mut holds = true;
    for program in programs {
        let program = Arc::new(program);
        let run = |launcher: Option<Arc<dyn Launcher>>| -> Result<(Result<i64, _>, Vec<u8>, u64), AnyError> {
            let engine = Engine::new(program.clone(), Parts { launcher, ..Parts::default() })?;
            let mut machine = Machine::new();
            let begun = Instant::now();
            let ended = engine.run(&mut machine);
            Ok((ended, machine.output().to_vec(), begun.elapsed().as_nanos() as u64))
        };
        let here = run(None)?;
        let before = launcher.launches.load(Ordering::Relaxed);
        let (first, again) = (run(Some(launcher.clone()))?, run(Some(launcher.clone()))?);
        let launches = launcher.launches.load(Ordering::Relaxed) - before;
        field(
            "",
            format!(
                "{launches} launches; {} with kernels compiled or from the store, {} with resident ones",
                time(first.2),
                time(again.2)
            ),
        )?;
        let equal =
            launches > 0 && (&here.0, &here.1) == (&first.0, &first.1) && (&here.0, &here.1) == (&again.0, &again.1);
        holds &= check(equal, "kernels: what the card computed is what the processor did")?;
    }
    let (modules, compiled) = (launcher.kernels.modules().stats(), launcher.kernels.compiler().store().stats());
    field(
        "",
        format!(
            "{} compiled in {}, {} from the store",
            compiled.compiles,
            time(compiled.compile_ns),
            compiled.store.hits
        ),
    )?;
    field("", format!("{} of images resident, budget {}", size(modules.resident_bytes), size(modules.budget_bytes)))?;
    if holds { Ok(()) } else { Err("a check failed".into()) }
}
