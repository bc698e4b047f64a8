//! Where the names of a module lead: to what it defines, else to the allow-list.

use super::{JitModule, Place};
use crate::artifact::{DataView, Named, Symbol, View};
use crate::error::Error;
use crate::imports;
use crate::link::{Batch, Linked, Target};
use cranelift_codegen::ir::Signature;
use cranelift_module::{DataId, FuncId, FuncOrDataId, Linkage, ModuleRelocTarget};
use std::sync::Arc;

impl JitModule {
    pub(super) fn link(&self) -> Result<Linked, Error> {
        let environment = self.environment();
        // The objects come first: then their numbers are the same in the batch, whatever the functions bring along.
        let mut batch = Batch::with_capacity(self.pending_functions.len());
        for (id, object, targets) in &self.pending_objects {
            let declared = self.declarations.get_data_decl(*id);
            let name: Arc<str> = declared.linkage_name(*id).into();
            let targets: Result<Vec<Target>, Error> =
                targets.iter().map(|target| self.target_of(target, &name)).collect();
            batch.object(name, DataView::of(object), targets?);
        }
        for (id, record) in &self.pending_functions {
            let declared = self.declarations.get_function_decl(*id);
            let name: Arc<str> = declared.linkage_name(*id).into();
            let view = View::parse(record, environment.architecture).ok_or_else(|| Error::Unkept {
                function: name.clone(),
                reason: "its artifact is not of this format".to_owned(),
            })?;
            batch.function(name.clone(), view, |symbol| self.resolve(symbol, &name))?;
        }
        batch.link(|sections| self.jit.0.space.take(sections), &environment.common_entry)
    }

    fn resolve(&self, symbol: &Symbol<'_>, function: &Arc<str>) -> Result<Target, Error> {
        let undeclared = |name: &str| Error::NotListed { function: function.clone(), symbol: name.into() };
        match symbol.named {
            Named::Function(name) | Named::Import(name) => {
                let id = self.function_named(name).ok_or_else(|| undeclared(name))?;
                self.function_target(id, function)
            }
            Named::Object(name) => {
                let id = self.object_named(name).ok_or_else(|| undeclared(name))?;
                self.object_target(id, function)
            }
            Named::LibCall(name) => {
                let listed = self.environment().imports.lib_call(name);
                listed.ok_or_else(|| Error::no_lib_call(function, name))
            }
            Named::Itself | Named::Own(_) => Err(undeclared("itself")),
        }
    }

    fn target_of(&self, target: &ModuleRelocTarget, referrer: &Arc<str>) -> Result<Target, Error> {
        match target {
            ModuleRelocTarget::User { namespace: 0, index } => self.function_target(FuncId::from_u32(*index), referrer),
            ModuleRelocTarget::User { index, .. } => self.object_target(DataId::from_u32(*index), referrer),
            other => Err(Error::Unkept {
                function: referrer.clone(),
                reason: format!("its data refers to {other}, which is no function or data object"),
            }),
        }
    }

    fn function_target(&self, id: FuncId, referrer: &Arc<str>) -> Result<Target, Error> {
        match self.functions.get(&id) {
            Some(Place::Pending(number)) => Ok(Target::Function(*number)),
            Some(place) => {
                let (linked, number) = self.finished(Some(place));
                Ok(Target::inside(linked.functions()[number].code.start))
            }
            None => {
                let declared = self.declarations.get_function_decl(id);
                self.import_target(&declared.linkage_name(id), declared.linkage, Some(&declared.signature), referrer)
            }
        }
    }

    fn object_target(&self, id: DataId, referrer: &Arc<str>) -> Result<Target, Error> {
        match self.objects.get(&id) {
            Some(Place::Pending(number)) => Ok(Target::Object(*number)),
            Some(place) => {
                let (linked, number) = self.finished(Some(place));
                Ok(Target::inside(linked.objects()[number].start))
            }
            None => {
                let declared = self.declarations.get_data_decl(id);
                self.import_target(&declared.linkage_name(id), declared.linkage, None, referrer)
            }
        }
    }

    /// What is not defined here is the host's, if it may be.
    fn import_target(
        &self,
        name: &str,
        linkage: Linkage,
        signature: Option<&Signature>,
        referrer: &Arc<str>,
    ) -> Result<Target, Error> {
        let imports = &self.environment().imports;
        let listed = match signature {
            None => imports.object(name),
            Some(signature) => match imports.function(name) {
                Some(import) if import.abi != imports::abi(signature) => {
                    return Err(Error::Signature {
                        function: referrer.clone(),
                        symbol: name.into(),
                        used: signature.to_string(),
                        is: import.signature.to_string(),
                    });
                }
                listed => listed.map(|import| import.target),
            },
        };
        match (linkage, listed) {
            (Linkage::Import, Some(target)) => Ok(target),
            (Linkage::Import, None) => Err(Error::NotListed { function: referrer.clone(), symbol: name.into() }),
            // What may be replaced and is defined nowhere is null, for the code to compare with.
            (Linkage::Preemptible, listed) => Ok(listed.unwrap_or(Target::inside(0))),
            _ => Err(Error::Undefined { function: referrer.clone(), symbol: name.into() }),
        }
    }

    /// The function with that name; anonymous ones have a name made of their number.
    pub(super) fn function_named(&self, name: &str) -> Option<FuncId> {
        let id = match (self.declarations.get_name(name), name.strip_prefix(".Lfn")) {
            (Some(FuncOrDataId::Func(id)), _) => id,
            (None, Some(digits)) => FuncId::from_u32(u32::from_str_radix(digits, 16).ok()?),
            _ => return None,
        };
        self.known_function(id).map(|_| id)
    }

    pub(super) fn object_named(&self, name: &str) -> Option<DataId> {
        let id = match (self.declarations.get_name(name), name.strip_prefix(".Ldata")) {
            (Some(FuncOrDataId::Data(id)), _) => id,
            (None, Some(digits)) => DataId::from_u32(u32::from_str_radix(digits, 16).ok()?),
            _ => return None,
        };
        self.known_object(id).map(|_| id)
    }
}
