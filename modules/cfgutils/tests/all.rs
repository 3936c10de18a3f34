//! The tests of `cfgutils`, linked once.

mod exports;
mod recurrences;
