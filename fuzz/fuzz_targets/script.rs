//! Any script: the checker says what is wrong, and where.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use tandem_engine::catalogue::{Modules, Tables};
use tandem_script::diag::render_all;
use tandem_script::source::{Loaded, Loader};

static MODULES: Modules =
    &[&tandem_engine::core::CORE, &tandem_sl::MODULE, &tandem_tm::MODULE];

struct Files(BTreeMap<String, Vec<u8>>);

impl Loader for Files {
    fn load(&mut self, name: &str, _from: Option<&str>) -> Result<Loaded, String> {
        let text = self.0.get(name).ok_or("no such file")?;
        Ok(Loaded { name: name.to_owned(), text: text.clone() })
    }
}

fuzz_target!(|data: &[u8]| {
    let mut files = Files([("fuzz.cfg".to_owned(), data.to_vec())].into());
    let (program, diags, map) =
        Tables::new(MODULES).with(|c| tandem_script::compile(&mut files, "fuzz.cfg", c));
    let _ = render_all(&diags, &map);
    assert!(program.is_some() || !diags.is_empty());
});
