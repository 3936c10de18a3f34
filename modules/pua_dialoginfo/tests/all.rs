//! The tests of `pua_dialoginfo`, linked once.

mod calls;
mod common;
mod exports;
