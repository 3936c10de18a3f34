//! The tests of `sim`, linked once.

mod checkers;
mod field;
mod routing;
