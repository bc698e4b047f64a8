//! What can go wrong, with the name of the function it went wrong for.

use std::error::Error as StdError;
use std::sync::Arc;

/// Why code could not be compiled or loaded. A store that fails is never among the reasons: its faults are misses.
/// [`Error::Store`] is a store that was told to forbid something, and did.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Code for this platform cannot be loaded here.
    #[error("{triple}: {why}")]
    Platform {
        /// What the ISA compiles for.
        triple: String,
        /// What is missing, and what to do.
        why: &'static str,
    },
    /// There is a store and no build id.
    #[error(
        "what is compiled goes into a store, and nothing says which build of the front end made it: the next one would run what \
         this one made; give `JitBuilder::build_id` what changes with `lower`, such as the hash of the build"
    )]
    NoBuildId,
    /// A function refers to a symbol that the allow-list does not have.
    #[error(
        "`{function}` refers to `{symbol}`, which is not on the allow-list; add it with `JitBuilder::import`, or \
         `import_data` if it is data"
    )]
    NotListed {
        /// The function that refers to it.
        function: Arc<str>,
        /// What it refers to.
        symbol: Arc<str>,
    },
    /// A function needs a helper that Cranelift calls by itself, and that the allow-list does not have.
    #[error("`{function}` needs Cranelift's helper `{call}`; give its address with `JitBuilder::lib_call`{advice}")]
    NoLibCall {
        /// The function that needs it.
        function: Arc<str>,
        /// The helper.
        call: Arc<str>,
        /// What else would do.
        advice: &'static str,
    },
    /// A symbol is used with another signature than it has.
    #[error("`{function}` uses `{symbol}` as {used}, and it is {is}{}", signature_advice(.function, .symbol))]
    Signature {
        /// The function that uses it.
        function: Arc<str>,
        /// The symbol.
        symbol: Arc<str>,
        /// The signature that it is used with.
        used: String,
        /// The signature that it was given.
        is: String,
    },
    /// A function refers to another that nobody has defined.
    #[error("`{function}` refers to `{symbol}`, which is declared and not defined")]
    Undefined {
        /// The function that refers to it.
        function: Arc<str>,
        /// What it refers to.
        symbol: Arc<str>,
    },
    /// The code has something in it that cannot be kept for another process.
    #[error("`{function}` cannot be kept: {reason}")]
    Unkept {
        /// The function.
        function: Arc<str>,
        /// What is in it, and what to do instead.
        reason: String,
    },
    /// The front end's `lower` returned an error.
    #[error("`{function}` could not be lowered: {source}")]
    Lower {
        /// The function.
        function: Arc<str>,
        /// What `lower` returned.
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// Cranelift refused the function.
    #[error("Cranelift cannot compile `{function}`: {message}")]
    Codegen {
        /// The function.
        function: Arc<str>,
        /// What it said.
        message: String,
    },
    /// `lower` called the `Jit` that is waiting for it.
    #[error(
        "`{function}` is compiled from inside `lower`; name it with `Lowering::function` and compile it afterwards"
    )]
    Nested {
        /// The function that was asked for.
        function: Arc<str>,
    },
    /// The reserved addresses are used up.
    #[error(
        "{need_bytes} bytes of code do not fit: the longest free run is {largest_bytes} bytes; \
         free retired code, or raise `JitBuilder::code_space_bytes`"
    )]
    Full {
        /// Bytes that were needed.
        need_bytes: usize,
        /// Bytes of the longest run that is free.
        largest_bytes: usize,
    },
    /// A target is too far away for the instruction that refers to it.
    #[error("`{function}` cannot reach `{symbol}`; refer to it as not colocated")]
    Reach {
        /// The function.
        function: Arc<str>,
        /// What it refers to.
        symbol: Arc<str>,
    },
    /// The system refused memory, or refused to make it executable.
    #[error(
        "the system refuses memory for code: {0}; a hardening policy may forbid making pages executable, or the process has as \
         many mappings as `vm.max_map_count` allows: compile in batches, which share pages, or raise that"
    )]
    Memory(Arc<std::io::Error>),
    /// The store is told to refuse misses, or to check its hits, and did.
    #[error("`{function}`: {message}")]
    Store {
        /// The function.
        function: Arc<str>,
        /// What the store said.
        message: String,
    },
}

/// What else may be meant by another signature: of a unit's own name, that it is to have another one.
fn signature_advice(function: &str, symbol: &str) -> &'static str {
    if function == symbol { "; if it is meant to have another signature now, `Jit::remove` it before" } else { "" }
}

impl Error {
    pub(crate) fn no_lib_call(function: &Arc<str>, call: &str) -> Error {
        let advice = match call {
            "Probestack" => ", or set `probestack_strategy` to `inline`, which needs none",
            _ => "",
        };
        Error::NoLibCall { function: function.clone(), call: call.into(), advice }
    }

    /// Whether another artifact of the same unit may be without it: then it is compiled again. What the system or the space
    /// refuses is no artifact's fault, unless it wants more than a space of that size has.
    pub(crate) fn is_of_artifact(&self, space_bytes: usize) -> bool {
        match self {
            Error::NotListed { .. } | Error::NoLibCall { .. } | Error::Signature { .. } => true,
            Error::Unkept { .. } | Error::Reach { .. } => true,
            Error::Full { need_bytes, .. } => *need_bytes > space_bytes,
            _ => false,
        }
    }
}
