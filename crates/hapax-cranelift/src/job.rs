//! A unit on its way through the compiler: what the store calls when it misses. Knows no memory and loads nothing.

use crate::compile::{Compiled, Request};
use crate::error::Error;
use crate::jit::Inner;
use crate::unit::{Lower, Lowering, Lowers, Unit};
use cranelift_codegen::Context;
use cranelift_control::ControlPlane;
use hapax::{Fingerprint, Key, Kind, Meta, Record};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A unit that is not in memory.
#[derive(Clone)]
pub(crate) struct Wanted {
    /// Its place among the units that were asked for.
    pub(crate) at: usize,
    pub(crate) name: Arc<str>,
    pub(crate) digest: Fingerprint,
    pub(crate) tier: usize,
}

/// A unit that is compiled if the store does not have it.
pub(crate) struct Job<'a, U> {
    pub(crate) inner: &'a Inner,
    pub(crate) unit: &'a U,
    pub(crate) wanted: Wanted,
    pub(crate) lower: Lower<U>,
}

/// Why a job's result is not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotStored {
    #[error("{0}")]
    Error(Error),
    #[error("it can run in this process alone")]
    Unkept(Record),
}

impl<U: Unit> hapax::Unit for Job<'_, U> {
    fn fingerprint(&self) -> Fingerprint {
        self.inner.environment.tiers[self.wanted.tier].fingerprint(&self.wanted.digest)
    }

    fn label(&self) -> String {
        self.wanted.name.to_string()
    }

    fn hinted_as(&self) -> Option<Fingerprint> {
        Some(self.wanted.digest)
    }
}

impl<U: Unit> Job<'_, U> {
    pub(crate) fn compile(&self) -> Result<Vec<u8>, NotStored> {
        let (compiled, compile_ns) = self.run().map_err(NotStored::Error)?;
        if compiled.keep {
            return Ok(compiled.bytes);
        }
        Err(NotStored::Unkept(Record::from_vec(compiled.bytes, self.wanted.meta(compile_ns))))
    }

    /// Compiles, whatever the store has; also says how long that took.
    pub(crate) fn run(&self) -> Result<(Compiled, u64), Error> {
        let begun = Instant::now();
        let compiled = self.inner.lower_and_compile(&self.wanted.name, self.unit, self.lower, self.wanted.tier)?;
        let compile_ns = begun.elapsed().as_nanos() as u64;
        self.inner.counters.compiled(compile_ns, compiled.keep);
        if let Some(hints) = &self.inner.hints {
            hints.compiled(&self.wanted.digest, compile_ns, compiled.bytes.len() as u64);
        }
        Ok((compiled, compile_ns))
    }
}

impl Inner {
    /// A store that refuses is slow, not broken: the code is as good as before.
    pub(crate) fn put(&self, fingerprint: Fingerprint, meta: &Meta, bytes: &[u8]) {
        let refused = self.store.put(&Key::new(Kind::CODE, fingerprint), meta, bytes);
        self.counters.put(refused.is_ok());
    }

    fn lower_and_compile<U: Unit>(
        &self,
        name: &Arc<str>,
        unit: &U,
        lower: Lower<U>,
        tier: usize,
    ) -> Result<Compiled, Error> {
        let isa = &*self.environment.tiers[tier].isa;
        let mut context = Context::new();
        context.func.signature.call_conv = isa.default_call_conv();
        let mut lowering = Lowering::new(&self.environment, tier, name.clone());
        let lowered = {
            let _inside = Lowers::begin();
            lower(unit, &mut lowering, &mut context.func)
        };
        lowered.map_err(|error| match error.downcast::<Error>() {
            Ok(own) => *own,
            Err(source) => Error::Lower { function: name.clone(), source: source.into() },
        })?;
        let (symbols, data) = lowering.collected();
        let abi = self.environment.imports.abi(&context.func.signature);
        let environment = &self.environment;
        let request = Request { environment, tier, name, abi, data, symbols: &symbols, baked: self.baked };
        request.compile(&mut context, &mut ControlPlane::default(), |name| {
            symbols.get(name.index as usize).filter(|_| name.namespace == 0).copied()
        })
    }
}

impl Wanted {
    /// What is stored beside the artifact: with the name of its hints, which all tiers share.
    pub(crate) fn meta(&self, compile_ns: u64) -> Meta {
        Meta { hinted_as: Some(self.digest), ..meta(&self.name, compile_ns) }
    }
}

/// What is stored beside an artifact of which no hints are kept.
pub(crate) fn meta(name: &str, compile_ns: u64) -> Meta {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let written_unix_s = now.map_or(0, |now| now.as_secs());
    Meta { label: name.to_owned(), compile_ns, written_unix_s, hinted_as: None }
}
