//! The command line as its users meet it: the real binary, its output, its exit codes.
#![cfg(test)]

mod commands;
mod doctor;
mod doctor_machine;
mod documents;
mod jobs;
mod keys;
mod scan;
mod service;
mod support;
