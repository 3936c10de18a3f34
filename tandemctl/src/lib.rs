//! The command line of a running node.
