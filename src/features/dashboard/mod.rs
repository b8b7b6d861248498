//! Latents as a person reads them: what they fire on, how strongly and how often, what they write, and beside whom.
//!
//! [`collect`] runs some texts through the model once and keeps, for the latents that are followed, a bounded number of
//! examples; [`dashboard`] makes records of that, which the command line, the page (`page.rs`) and the screen show.
//! `choose.rs` says which latents are worth following, `firings.rs` keeps top and sampled examples, `growing.rs` counts values,
//! `traits.rs` and `label.rs` say which token statistic foretells firing, `cofiring.rs` which latents fire together,
//! `writes.rs` what the decoder says of logits and neighbours, `record.rs` is the form on disk, `stored.rs` reads it.
//!
//! Always: the same texts and the same seed give the same records, whatever the batch and the threads. Only texts that the
//! caller gave are kept.

mod choose;
mod cofiring;
mod collect;
mod firings;
mod growing;
mod label;
mod page;
mod record;
mod stored;
#[cfg(test)]
mod tests;
mod traits;
mod writes;

pub use choose::interesting;
pub use cofiring::{Cofiring, CofiringOver, phi};
pub use collect::{CollectOptions, Collected, Followed, collect};
pub use firings::{Firing, Group};
pub use growing::Bins;
pub use label::{Label, Trait};
pub use page::page;
pub use record::{
    DASHBOARD_SCHEMA, Dashboard, Example, LATENT_SCHEMA, LatentRecord, Place, QuantileGroup,
    dashboard,
};
pub use stored::{stored, stored_in};
pub use writes::{LogitEffects, Neighbour, TokenValue, logit_effects, neighbours};
