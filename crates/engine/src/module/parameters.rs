//! What a module is built from: the values of its parameters.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tandem_clock::{Chance, HashKey};
use tandem_db::{Backend, DbUrl};
use tandem_script::program::{ModParam, Program, TextPart, VarId};
use tandem_script::sig::ParamSig;

use super::Module;
use crate::effect::DatabaseId;
use crate::sockets::Sockets;

/// A value of `modparam` or of a global.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParamValue {
    Int(i32),
    Str(String),
}

/// What a module is built from.
pub struct Build<'a> {
    pub(crate) values: &'a BTreeMap<String, Vec<ParamValue>>,
    pub(crate) globals: &'a BTreeMap<String, Vec<ParamValue>>,
    pub(crate) built: &'a [Option<Arc<dyn Module>>],
    pub(crate) databases: &'a mut Vec<DbUrl>,
    pub(crate) loaded_names: &'a [&'static str],
    pub program: &'a Program,
    pub sockets: &'a Sockets,
    pub chance: &'a mut Chance,
    /// The module's own slot.
    pub slot: u16,
}

impl Build<'_> {
    /// Whether the script loads a module, whatever the order.
    pub fn loads(&self, module: &str) -> bool {
        self.loaded_names.contains(&module)
    }

    /// The last value given for an integer parameter, or its default from the table.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.values.get(name)?.last()? {
            ParamValue::Int(n) => Some(i64::from(*n)),
            ParamValue::Str(s) => s.parse().ok(),
        }
    }

    /// The last value given for a text parameter.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.values.get(name)?.last()? {
            ParamValue::Str(s) => Some(s),
            ParamValue::Int(_) => None,
        }
    }

    /// Every value given for a parameter that may be given several times.
    pub fn all(&self, name: &str) -> &[ParamValue] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    pub fn global_text(&self, name: &str) -> Option<&str> {
        match self.globals.get(name)?.last()? {
            ParamValue::Str(s) => Some(s),
            ParamValue::Int(_) => None,
        }
    }

    pub fn global_int(&self, name: &str) -> Option<i64> {
        match self.globals.get(name)?.last()? {
            ParamValue::Int(n) => Some(i64::from(*n)),
            ParamValue::Str(_) => None,
        }
    }

    /// The state of a module this one uses, built before it.
    pub fn module<T: Module>(&self) -> Option<Arc<T>> {
        self.built.iter().flatten().find_map(|m| {
            let any: Arc<dyn Any + Send + Sync> = Arc::clone(m) as _;
            any.downcast::<T>().ok()
        })
    }

    /// The mask of the branch flag that a parameter names; 0 when the parameter is unset.
    pub fn branch_flag(&self, param: &str) -> u32 {
        let name = self.text(param);
        let bit = name.and_then(|n| self.program.branch_flags.iter().position(|f| f == n));
        bit.and_then(|bit| 1u32.checked_shl(bit as u32)).unwrap_or(0)
    }

    /// The mask of the message flag that a parameter names; 0 when the parameter is unset.
    pub fn message_flag(&self, param: &str) -> u32 {
        let name = self.text(param);
        let bit = name.and_then(|n| self.program.message_flags.iter().position(|f| f == n));
        bit.and_then(|bit| 1u32.checked_shl(bit as u32)).unwrap_or(0)
    }

    /// The name of the AVP that a parameter of the form `$avp(name)` names.
    pub fn avp(&self, param: &str) -> Option<Bytes> {
        let name = self.text(param)?.strip_prefix("$avp(")?.strip_suffix(')')?;
        Some(Bytes::copy_from_slice(name.as_bytes()))
    }

    /// The variable that the last value of a parameter of kind `Var` names. `table` is the
    /// module's own parameter table.
    pub fn var(&self, table: &[ParamSig], param: &str) -> Option<VarId> {
        let index = table.iter().position(|p| p.name == param)?;
        let mut given = self.program.modparams.iter().rev();
        given.find(|p| p.module == self.slot && usize::from(p.param) == index)?.var
    }

    /// The texts with variables of a parameter, each with its place in the script.
    pub fn texts_with_vars(&self, table: &[ParamSig], param: &str) -> Vec<(String, Vec<TextPart>)> {
        let index = table.iter().position(|p| p.name == param);
        let given = self.program.modparams.iter();
        let mine = given.filter(|p| p.module == self.slot && Some(usize::from(p.param)) == index);
        let text = |param: &ModParam| {
            let place = format!("{}:{}", self.program.file_name(param.place), param.place.line);
            (place, self.program.parts_of(param))
        };
        mine.map(text).collect()
    }

    /// The database of a parameter, else the one of `db_default_url`; `None` if neither is set.
    ///
    /// # Errors
    /// What is wrong with the url.
    pub fn database_param(
        &mut self,
        param: &'static str,
    ) -> Result<Option<DatabaseId>, BuildError> {
        let url = self.text(param).or_else(|| self.global_text("db_default_url"));
        let Some(url) = url.filter(|u| !u.is_empty()).map(str::to_owned) else { return Ok(None) };
        self.database(&url).map(Some).map_err(|e| BuildError::new(param, e))
    }

    /// A database handle for a url; the same url gives the same handle.
    pub fn database(&mut self, url: &str) -> Result<DatabaseId, String> {
        let url = DbUrl::parse(url).map_err(|e| e.to_string())?;
        let needed = match url.backend {
            Backend::Sqlite => "db_sqlite",
            Backend::MySql => "db_mysql",
            Backend::Postgres => "db_postgres",
        };
        if !self.loaded_names.contains(&needed) {
            return Err(format!("this url needs the module {needed}: load it"));
        }
        let at = self.databases.iter().position(|u| *u == url).unwrap_or_else(|| {
            self.databases.push(url);
            self.databases.len() - 1
        });
        u16::try_from(at).map(DatabaseId).map_err(|_| "too many databases".into())
    }

    /// The url behind a handle, without its password.
    pub fn database_text(&self, database: DatabaseId) -> String {
        self.databases.get(usize::from(database.0)).map_or_else(String::new, DbUrl::to_string)
    }

    pub fn hash_key(&mut self) -> HashKey {
        self.chance.hash_key()
    }
}

/// Why a module cannot be built; shown to the operator under the parameter's line.
#[derive(Debug)]
pub struct BuildError {
    /// Parameter at fault; empty: the module as a whole.
    pub param: &'static str,
    pub message: String,
    pub help: Option<String>,
}

impl BuildError {
    pub fn new(param: &'static str, message: impl Into<String>) -> Self {
        Self { param, message: message.into(), help: None }
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
