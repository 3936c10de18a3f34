//! The running module.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_db::{DbError, Rows};
use tandem_engine::cached::Cached;
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Cx, Module};

use crate::address::Addresses;
use crate::files::{Answer, Files, Names};
use crate::params::{Params, partitions};

/// The state of the module.
pub(crate) struct Permissions {
    pub(crate) params: Params,
    pub(crate) partitions: Cached<Addresses>,
    pub(crate) files: Mutex<Files>,
    /// Pairs that the script names.
    named: BTreeSet<Names>,
}

impl Permissions {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let params = Params::read(build);
        let mut named = BTreeSet::new();
        for function in ["allow_routing", "allow_register", "allow_uri"] {
            for name in build.program.texts(build.slot, function, 0) {
                named.insert(params.names(&String::from_utf8_lossy(name)));
            }
        }
        if build.program.calls(build.slot, "allow_routing") {
            named.insert(params.default_names());
        }
        let partitions = partitions(build)?;
        Ok(Arc::new(Self { params, partitions, files: Mutex::default(), named }))
    }
}

impl Params {
    /// The files of a basename.
    pub(crate) fn names(&self, basename: &str) -> Names {
        let allow = format!("{basename}{}", self.allow_suffix);
        Names { allow, deny: format!("{basename}{}", self.deny_suffix) }
    }

    pub(crate) fn default_names(&self) -> Names {
        Names { allow: self.allow_file.clone(), deny: self.deny_file.clone() }
    }
}

impl Module for Permissions {
    fn start(&self, cx: &mut Cx<'_>) {
        self.partitions.start(cx);
        for names in &self.named {
            let answer = self.files.lock().ask(names, None);
            if let Answer::Later(Some(at)) = answer {
                Self::read_pair(cx, names, at);
            }
        }
    }

    fn db(&self, cx: &mut Cx<'_>, token: u64, result: Result<Rows, DbError>) {
        self.partitions.answered(cx, token, result, |cx, rows| {
            let (table, faults) = Addresses::of(rows);
            for why in faults {
                cx.log(Level::Error, format!("permissions: a row is left out: {why}"));
            }
            table
        });
    }

    fn file_read(&self, cx: &mut Cx<'_>, token: u64, result: Result<Option<Bytes>, String>) {
        self.file_came(cx, token, result);
    }
}
