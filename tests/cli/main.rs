//! The binary as a user runs it: exit codes, tables and their JSON with a schema, errors that name the file and the field.
//!
//! `binary.rs` runs it; `commands.rs` goes through the commands, `looking.rs` through `lens` and `capture`, `attn.rs`
//! through `attn` and the toy, `built_in.rs` through the models of the binary, `audit_bundle.rs` through bundles of audits,
//! `probe.rs` through `probe`, `sae.rs`, `sae_latents.rs` and `sae_scope.rs` through `sae`, `interrupt.rs` presses Ctrl-C.
#![allow(clippy::unwrap_used)]

mod attn;
mod audit_bundle;
mod binary;
mod built_in;
mod commands;
#[cfg(unix)]
mod interrupt;
mod looking;
mod probe;
mod probe_kinds;
mod sae;
mod sae_latents;
mod sae_scope;
