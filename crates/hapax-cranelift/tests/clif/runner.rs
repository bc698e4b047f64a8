//! Runs files of Cranelift's own test format through a `Jit` or a `JitModule`: each function is compiled or loaded, then
//! called as its `; run:` lines say. The format is Cranelift's; the reader crate parses it.
//!
//! Two kinds of comment are added to it, which other readers take for comments: `; data: %name = 0102ff` in front of the
//! functions gives bytes to `symbol %name`, and `; trap: %f(1, 0) == int_divz` after a function says how a call ends.

use crate::call::trap_of;
use cranelift_codegen::data_value::DisplayDataValues;
use cranelift_codegen::ir::{ArgumentPurpose, ExternalName, Function, GlobalValueData, Signature, UserFuncName};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::Flags;
use cranelift_reader::{Feature, IsaSpec, ParseOptions, RunCommand, TestFile, parse_run_command, parse_test};
use hapax::{CodeStore, FingerprintBuilder};
use hapax_cranelift::{CodePtr, Data, Jit, JitStats, LowerError, Lowering, Unit};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What became of the files.
#[derive(Default)]
pub struct Report {
    pub files: usize,
    pub functions: usize,
    /// One line for each call, with its results.
    pub results: Vec<String>,
    pub failures: Vec<String>,
    /// By reason.
    pub skipped: BTreeMap<String, usize>,
    pub compiles: u64,
    pub store_hits: u64,
}

impl Report {
    fn skip(&mut self, reason: impl Into<String>) {
        *self.skipped.entry(reason.into()).or_default() += 1;
    }

    fn count(&mut self, stats: &JitStats) {
        self.compiles += stats.compiles;
        self.store_hits += stats.store_hits;
    }
}

/// Runs a file, or all files below a folder, in the order of their names.
pub fn run_path(path: &Path, store: &Arc<CodeStore>) -> Report {
    let mut report = Report::default();
    for file in clif_files(path) {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        report.files += 1;
        run_text(&name, &text, store, &mut report);
    }
    report
}

fn clif_files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "clif") {
            files.extend(clif_files(&path));
        }
    }
    files.sort();
    files
}

fn run_text(name: &str, text: &str, store: &Arc<CodeStore>, report: &mut Report) {
    let Some(text) = for_this_processor(text) else { return report.skip("for other processors") };
    let text = &*text;
    let file = match parse_test(text, ParseOptions { unwind_info: true, ..ParseOptions::default() }) {
        Ok(file) => file,
        Err(error) => return report.skip(format!("cannot be read: {}", error.message)),
    };
    if !file.commands.iter().any(|command| command.command == "run") {
        return report.skip("no `test run`");
    }
    if file.features.iter().any(|feature| matches!(feature, Feature::With(_))) {
        return report.skip("wants a feature of the compiler");
    }
    let isas = match &file.isa_spec {
        IsaSpec::None(flags) => vec![native(flags.clone())],
        IsaSpec::Some(isas) => isas.iter().filter(|isa| runs_here(isa)).cloned().collect(),
    };
    if isas.is_empty() {
        return report.skip("for other processors");
    }
    for isa in isas {
        let variant = format!("{name} {} {}", isa.name(), isa.flags().opt_level());
        // Cranelift panics on some of what only other processors have.
        let run = std::panic::AssertUnwindSafe(|| run_file(&variant, &file, isa, store, report));
        if std::panic::catch_unwind(run).is_err() {
            report.skip("Cranelift panics");
        }
    }
}

/// Without the targets that Cranelift is not built for here: the reader takes the settings in front of one for a mistake.
/// `None` if no target is left of some.
fn for_this_processor(text: &str) -> Option<String> {
    let here = if cfg!(target_arch = "x86_64") { "target x86_64" } else { "target aarch64" };
    let other = |line: &str| line.starts_with("target ") && !line.starts_with(here);
    let is_preamble = |line: &&str| !line.starts_with("function ");
    let last = text.lines().take_while(is_preamble).enumerate().filter(|(_, line)| line.starts_with(here)).last();
    let none_named = !text.lines().take_while(is_preamble).any(|line| line.starts_with("target "));
    let Some((last, _)) = last else { return none_named.then(|| text.to_owned()) };
    let mut in_preamble = true;
    let lines = text.lines().enumerate().map(|(at, line)| {
        in_preamble &= !line.starts_with("function ");
        let idle = at > last && line.starts_with("set ");
        if in_preamble && (other(line) || idle) { "" } else { line }
    });
    Some(lines.collect::<Vec<_>>().join("\n"))
}

fn native(flags: Flags) -> OwnedTargetIsa {
    cranelift_native::builder().unwrap().finish(flags).unwrap()
}

/// Whether this processor is of the kind, and has what the ISA uses.
fn runs_here(isa: &OwnedTargetIsa) -> bool {
    let here = native(isa.flags().clone());
    let has = here.isa_flags();
    let has = |name: &str| has.iter().any(|flag| flag.name == name && flag.as_bool() == Some(true));
    isa.triple().architecture == here.triple().architecture
        && isa.isa_flags().iter().all(|flag| flag.as_bool() != Some(true) || has(flag.name))
}

/// A function of a file, or one that calls such a function with arguments from memory.
pub struct ClifUnit {
    name: String,
    text: String,
    function: Function,
    data: Arc<HashMap<String, Vec<u8>>>,
}

impl Unit for ClifUnit {
    fn name(&self) -> &str {
        &self.name
    }

    fn key(&self, mut key: FingerprintBuilder) -> FingerprintBuilder {
        key = key.part("clif", &self.text);
        let mut data: Vec<_> = self.data.iter().collect();
        data.sort();
        for (name, bytes) in data {
            key = key.part("name", name).part("data", bytes);
        }
        key
    }
}

/// Names become the `Jit`'s; all else stays.
fn lower(unit: &ClifUnit, lowering: &mut Lowering<'_>, function: &mut Function) -> Result<(), LowerError> {
    *function = unit.function.clone();
    let callees: Vec<_> = function.dfg.ext_funcs.keys().collect();
    for callee in callees {
        let data = &function.dfg.ext_funcs[callee];
        let signature = function.dfg.signatures[data.signature].clone();
        let name = match &data.name {
            ExternalName::LibCall(_) => continue,
            ExternalName::User(name) => function.params.user_named_funcs()[*name].to_string(),
            other => other.display(None).to_string(),
        };
        let renamed = lowering.function(&name, &signature, function);
        function.dfg.ext_funcs[callee].name = function.dfg.ext_funcs[renamed].name.clone();
    }
    let globals: Vec<_> = function.global_values.keys().collect();
    for global in globals {
        let GlobalValueData::Symbol { name, .. } = &function.global_values[global] else { continue };
        let name = name.display(None).to_string();
        let bytes = unit.data.get(&name).ok_or_else(|| format!("the file has no `; data: {name}`"))?;
        let own = lowering.data(Data::bytes(bytes.clone()), function)?;
        let GlobalValueData::Symbol { name: own, .. } = function.global_values[own].clone() else { unreachable!() };
        if let GlobalValueData::Symbol { name, .. } = &mut function.global_values[global] {
            *name = own;
        }
    }
    Ok(())
}

fn run_file(variant: &str, file: &TestFile<'_>, isa: OwnedTargetIsa, store: &Arc<CodeStore>, report: &mut Report) {
    let jit = Jit::builder(isa.clone()).build_id("clif runner 1").store(store.clone());
    let jit = jit.code_space_bytes(64 << 20).build().unwrap();
    let data = Arc::new(data_of(file));
    let mut units: Vec<ClifUnit> = Vec::new();
    let mut signatures = BTreeSet::new();
    for (function, _) in &file.functions {
        let name = name_of(&function.name);
        let text = function.display().to_string();
        units.push(ClifUnit { name, text, function: function.clone(), data: data.clone() });
        let trampoline = crate::call::trampoline(&function.signature, &*isa);
        let name = format!("calls {}", function.signature);
        if callable(&function.signature) && signatures.insert(name.clone()) {
            let text = trampoline.display().to_string();
            units.push(ClifUnit { name, text, function: trampoline, data: Arc::default() });
        }
    }
    let results = jit.compile_batch(&units, lower);
    let mut codes: HashMap<&str, CodePtr> = HashMap::new();
    for (unit, result) in units.iter().zip(results) {
        match result {
            Ok(code) => {
                codes.insert(&unit.name, code);
            }
            // What calls it must not run.
            Err(error) => {
                let text = error.to_string();
                return report.skip(format!("refused: {}", text.split_once("` ").map_or(&*text, |(_, what)| what)));
            }
        }
    }
    report.functions += file.functions.len();
    for (function, details) in &file.functions {
        let code = &codes[&*name_of(&function.name)];
        for comment in &details.comments {
            let line = comment.text.trim_start_matches([';', ' ']);
            // The name in a line is for its readers: it is the function before it that is called.
            let is_trap = line.starts_with("trap: ");
            let Some(trampoline) = codes.get(&*format!("calls {}", function.signature)) else {
                report.skip("takes what has no place in memory");
                continue;
            };
            if is_trap {
                run_trap(variant, &line["trap: ".len()..], function, (&jit, trampoline, code), report);
                continue;
            }
            match parse_run_command(comment.text, &function.signature) {
                Ok(Some(command)) => run_command(variant, &command, function, trampoline, code, report),
                Ok(None) => {}
                Err(error) => report.skip(format!("cannot be read: {}", error.message)),
            }
        }
    }
    report.count(&jit.stats());
}

fn run_command(
    variant: &str,
    command: &RunCommand,
    function: &Function,
    trampoline: &CodePtr,
    code: &CodePtr,
    report: &mut Report,
) {
    let (RunCommand::Print(invocation) | RunCommand::Run(invocation, ..)) = command;
    let results = crate::call::call(trampoline, code, &function.signature, &invocation.args);
    report.results.push(format!("{variant} {invocation} = {}", DisplayDataValues(&results)));
    // Cranelift's own judgement: bits for bits.
    if let Err(message) = command.run(|_, _| Ok(results)) {
        report.failures.push(format!("{variant}: {message}"));
    }
}

/// `%f(1, 0) == int_divz`
fn run_trap(variant: &str, line: &str, function: &Function, code: (&Jit, &CodePtr, &CodePtr), report: &mut Report) {
    let (jit, trampoline, code) = code;
    let (call, expected) = line.split_once(" == ").expect("a trap line has ==");
    let parsed = parse_run_command(&format!("; print: {call}"), &function.signature);
    let Ok(Some(RunCommand::Print(invocation))) = parsed else { panic!("{variant}: cannot read `{line}`") };
    let trap = trap_of(jit, trampoline, code, &function.signature, &invocation.args);
    report.results.push(format!("{variant} {invocation} = {trap}"));
    if trap != format!("{} {expected}", function.name) {
        report.failures.push(format!("{variant}: {line}, actual: {trap}"));
    }
}

fn name_of(name: &UserFuncName) -> String {
    name.to_string()
}

fn data_of(file: &TestFile<'_>) -> HashMap<String, Vec<u8>> {
    let lines = file.preamble_comments.iter().map(|comment| comment.text.trim_start_matches([';', ' ']));
    let named = lines.filter_map(|line| line.strip_prefix("data: ")?.split_once(" = "));
    named.map(|(name, digits)| (name.to_owned(), hex(digits))).collect()
}

fn hex(digits: &str) -> Vec<u8> {
    let pairs = digits.trim().as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Whether all parameters and results are plain values of at most 16 bytes.
fn callable(signature: &Signature) -> bool {
    signature.params.iter().chain(&signature.returns).all(|value| {
        value.purpose == ArgumentPurpose::Normal
            && !value.value_type.is_dynamic_vector()
            && value.value_type.bytes() <= 16
    })
}
