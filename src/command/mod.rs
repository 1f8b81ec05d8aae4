//! The commands: one file each. `main` parses the command line and calls them.

pub mod check;
pub mod key;
