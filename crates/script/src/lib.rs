//! The configuration language: text to syntax tree with spans to a checked program to bytecode
//! for a small virtual machine.
//!
//! The crate knows no module. What functions, variables, parameters and globals exist is data
//! ([`sig`]), and everything a running script does to the world goes through [`host::Host`].

pub mod host;
pub mod sig;
pub mod value;
