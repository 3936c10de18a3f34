//! `tandem`; under the name `opensips` with the ways of the server it replaces, and under the names
//! `tandemctl` and `opensipsctl` the command line of a running node.

use std::path::Path;
use std::process::ExitCode;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&name).file_name().unwrap_or_default().to_string_lossy().into_owned();
    if matches!(name.as_str(), "tandemctl" | "opensipsctl") {
        return tandemctl::run(std::env::args_os());
    }
    tandem::cli::main(name == "opensips")
}
