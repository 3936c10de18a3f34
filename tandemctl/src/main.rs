//! `tandemctl`: see the library.

fn main() -> std::process::ExitCode {
    tandemctl::run(std::env::args_os())
}
