//! Expressions in the form that texts with lines need, compiled once.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use regex::bytes::{Regex, RegexBuilder};
use tandem_engine::module::Call;
use tandem_script::program::Ready;
use tandem_script::vm::compile_posix;

/// Expressions that are kept; what a script computes may be different for each message.
const KEPT_MAX: usize = 256;

/// Text of the expression, whether it came from a script's variables, whether lines bound it.
type Key = (Vec<u8>, bool, bool);

/// Compiled expressions.
#[derive(Default)]
pub(crate) struct Expressions(RwLock<HashMap<Key, Arc<Regex>>>);

impl Expressions {
    /// The expression of an argument. With `by_line`, `.`, `^` and `$` stop at line ends.
    ///
    /// # Errors
    /// What is wrong with an expression that the script computed.
    pub(crate) fn of(
        &self,
        call: &Call<'_, '_, '_>,
        index: usize,
        by_line: bool,
    ) -> Result<Arc<Regex>, String> {
        match call.ready(index) {
            Some(Ready::Regex(compiled)) if !by_line => Ok(Arc::clone(compiled)),
            Some(Ready::Regex(compiled)) => {
                let text = compiled.as_str();
                self.kept((text.as_bytes().to_vec(), false, by_line), || {
                    let mut builder = RegexBuilder::new(text);
                    builder.case_insensitive(true).unicode(false).multi_line(true);
                    builder.dot_matches_new_line(false).build().map_err(|e| e.to_string())
                })
            }
            _ => {
                let text = call.text(index);
                let key = (text.to_vec(), true, by_line);
                self.kept(key, || compile_posix(&text, true, by_line))
            }
        }
    }

    fn kept(
        &self,
        key: Key,
        compile: impl FnOnce() -> Result<Regex, String>,
    ) -> Result<Arc<Regex>, String> {
        if let Some(known) = self.0.read().get(&key) {
            return Ok(Arc::clone(known));
        }
        let made = Arc::new(compile()?);
        let mut kept = self.0.write();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(key, Arc::clone(&made));
        Ok(made)
    }
}
