//! What a compilation depends on beside the unit: code generators, imports, and the fingerprints that name them. Knows no
//! store and no code.

use crate::artifact;
use crate::error::Error;
use crate::imports::Imports;
use crate::unwind;
use cranelift_codegen::isa::{OwnedTargetIsa, TargetIsa};
use hapax::{Fingerprint, FingerprintBuilder};
use target_lexicon::Architecture;

/// Settings that check the compiler and leave its result alone. In a key they would make the checked build miss what the
/// other wrote.
const CHECKS_ONLY: &[&str] =
    &["enable_verifier", "regalloc_checker", "regalloc_verbose_logs", "enable_incremental_compilation_cache_checks"];

/// What digests are over. BLAKE3 takes 64 bytes a step; what a digest begins with is a step of its own, made once.
const UNIT: &str = "hapax-cranelift unit 2, in a front end's IR";
const FUNCTION: &str = "hapax-cranelift function 2, in Cranelift IR";
/// With their lengths and the word "schema" these fill one step, and a byte of the next.
const _: () = assert!(22 + UNIT.len() == 65 && 22 + FUNCTION.len() == 65);

/// What compiles and what it may refer to.
pub(crate) struct Environment {
    pub(crate) tiers: Vec<Generator>,
    pub(crate) imports: Imports,
    pub(crate) architecture: Architecture,
    /// What the unwind tables begin with; empty if no tier makes unwind information.
    pub(crate) common_entry: Vec<u8>,
    unit: FingerprintBuilder,
    clif: FingerprintBuilder,
}

/// A code generator, and the digest of its settings and of whatever else is the same for all units.
pub(crate) struct Generator {
    pub(crate) isa: OwnedTargetIsa,
    digest: Fingerprint,
}

impl Environment {
    pub(crate) fn new(isas: Vec<OwnedTargetIsa>, imports: Imports, build_id: &[u8]) -> Environment {
        let architecture = isas[0].triple().architecture;
        let digest = imports.digest();
        let unwinding = isas.iter().find(|isa| isa.flags().unwind_info());
        let common_entry = unwinding.map_or_else(Vec::new, |isa| unwind::common_entry(&**isa));
        let tiers = isas.into_iter().map(|isa| Generator::new(isa, &digest, build_id)).collect();
        Environment {
            tiers,
            imports,
            architecture,
            common_entry,
            unit: Fingerprint::of(UNIT).hashed(),
            clif: Fingerprint::of(FUNCTION).hashed(),
        }
    }

    /// Starts the digest of a unit: what the front end's own representation says.
    pub(crate) fn unit_digest(&self) -> FingerprintBuilder {
        self.unit.clone()
    }

    /// Starts the digest of a function in Cranelift's representation.
    pub(crate) fn clif_digest(&self) -> FingerprintBuilder {
        self.clif.clone()
    }
}

impl Generator {
    fn new(isa: OwnedTargetIsa, imports: &Fingerprint, build_id: &[u8]) -> Generator {
        let mut settings = Fingerprint::of("hapax-cranelift generator 2")
            .part("format", [artifact::FORMAT_VERSION])
            .part("embedder", build_id)
            .part("cranelift", cranelift_codegen::VERSION)
            .part("isa", isa.name())
            .part("triple", isa.triple().to_string());
        for setting in isa.flags().iter().filter(|setting| !CHECKS_ONLY.contains(&setting.name)) {
            settings = settings.part("flag", setting.to_string());
        }
        for setting in isa.isa_flags() {
            settings = settings.part("feature", setting.to_string());
        }
        Generator { isa, digest: settings.part("imports", imports.as_bytes()).finish() }
    }

    /// The name of what this generator makes of a unit or function with that digest: the sum of both digests, modulo 2 in
    /// each bit. Two names are equal only if two digests of units differ in exactly those bits in which two generators'
    /// do, and to find such a pair is as hard as to find a collision of the hash. A hash of both would cost as much as
    /// hashing another 64 bytes of the unit.
    pub(crate) fn fingerprint(&self, digest: &Fingerprint) -> Fingerprint {
        let (generator, unit) = (self.digest.as_bytes(), digest.as_bytes());
        Fingerprint::from_bytes(std::array::from_fn(|at| generator[at] ^ unit[at]))
    }
}

/// Refuses platforms whose code cannot be loaded into this process.
pub(crate) fn check_platform(isa: &dyn TargetIsa) -> Result<(), Error> {
    let architecture = isa.triple().architecture;
    let why = if cfg!(target_arch = "x86_64") && architecture != Architecture::X86_64
        || cfg!(target_arch = "aarch64") && !matches!(architecture, Architecture::Aarch64(_))
    {
        "this process runs on another architecture; build the ISA with `cranelift_native::builder()`"
    } else {
        return Ok(());
    };
    Err(Error::Platform { triple: isa.triple().to_string(), why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imports::ImportList;
    use crate::memory::Space;
    use cranelift_codegen::ir::{AbiParam, Signature, types::I64};
    use cranelift_codegen::isa::CallConv;
    use cranelift_codegen::settings::{self, Configurable};

    fn isa(triple: &str, flags: &[(&str, &str)], features: &[&str]) -> OwnedTargetIsa {
        let mut shared = settings::builder();
        for (name, value) in flags {
            shared.set(name, value).unwrap();
        }
        let mut builder = cranelift_codegen::isa::lookup_by_name(triple).unwrap();
        for feature in features {
            builder.enable(feature).unwrap();
        }
        builder.finish(settings::Flags::new(shared)).unwrap()
    }

    fn imports(names: &[(&str, usize)]) -> Imports {
        let mut list = ImportList::default();
        for (name, parameters) in names {
            let mut signature = Signature::new(CallConv::SystemV);
            signature.params = vec![AbiParam::new(I64); *parameters];
            list.function(name, signature, std::ptr::dangling());
        }
        list.into_imports(&Space::reserve(1 << 20).unwrap(), Architecture::X86_64).unwrap()
    }

    fn key(isa: OwnedTargetIsa, names: &[(&str, usize)], build: &str, ir: &str) -> Fingerprint {
        let environment = Environment::new(vec![isa], imports(names), build.as_bytes());
        environment.tiers[0].fingerprint(&environment.unit_digest().part("ir", ir).finish())
    }

    const X86: &str = "x86_64-unknown-linux-gnu";

    #[test]
    fn what_changes_the_code_changes_the_fingerprint() {
        let all = [
            key(isa(X86, &[], &[]), &[("f", 1)], "build 1", "ir"),
            key(isa(X86, &[], &[]), &[("f", 1)], "build 1", "other ir"),
            key(isa(X86, &[], &[]), &[("f", 1)], "build 2", "ir"),
            key(isa(X86, &[], &[]), &[("f", 2)], "build 1", "ir"),
            key(isa(X86, &[], &[]), &[("g", 1)], "build 1", "ir"),
            key(isa(X86, &[("opt_level", "speed")], &[]), &[("f", 1)], "build 1", "ir"),
            key(isa(X86, &[("is_pic", "true")], &[]), &[("f", 1)], "build 1", "ir"),
            key(isa(X86, &[], &["has_avx"]), &[("f", 1)], "build 1", "ir"),
            key(isa("x86_64-unknown-freebsd", &[], &[]), &[("f", 1)], "build 1", "ir"),
            key(isa("aarch64-unknown-linux-gnu", &[], &[]), &[("f", 1)], "build 1", "ir"),
        ];
        for (at, fingerprint) in all.iter().enumerate() {
            assert!(!all[..at].contains(fingerprint), "number {at}");
        }
    }

    #[test]
    fn what_only_checks_the_compiler_leaves_the_fingerprint_alone() {
        let plain = key(isa(X86, &[], &[]), &[], "build", "ir");
        for check in CHECKS_ONLY {
            for value in ["true", "false"] {
                assert_eq!(key(isa(X86, &[(check, value)], &[]), &[], "build", "ir"), plain, "{check} {value}");
            }
        }
    }
}
