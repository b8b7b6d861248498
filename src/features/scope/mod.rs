//! The oscilloscope: what a dictionary's latents, probes and directions do token by token while a model generates, with
//! latents turned on the way.
//!
//! `turns.rs` says which latents are edited from which token on, `tape.rs` reads and edits codes inside a pass, `channel.rs`
//! reads probes and directions, `trace.rs` is what was recorded, `recorder.rs` generates and records, branches included,
//! `compare.rs` sets two traces against each other, `divergence.rs` their distributions; `record.rs` is all of it for files.
//!
//! Always: a trace is what the pass did that chose its tokens, not a second pass over them; with no latent edited the tokens
//! are those of plain generation.

mod channel;
mod compare;
mod divergence;
mod record;
mod recorder;
mod tape;
mod trace;
mod turns;

pub use channel::{Channel, ChannelInfo, ChannelKind};
pub use compare::{Comparison, LaneDifference, LatentDifference, compare};
pub use record::{Record, Run, SCHEMA};
pub use recorder::{Limits, Recorder, Scope};
pub use trace::{End, Lane, Step, Trace};
pub use turns::{Turn, Turns};
