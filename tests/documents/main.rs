//! The documents are kept true: their commands are run against the real binary, their tables compared with the code.
#![cfg(test)]

mod incidents;
mod instance;
mod keys;
mod operations;
mod page;
mod readme;
mod shell;
mod tables;
