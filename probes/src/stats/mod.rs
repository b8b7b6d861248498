//! Statistics that carry their own uncertainty. One file for each question:
//! how sure is one number ([`interval`], [`bootstrap`]), did two paired runs differ ([`paired`], [`ranks`]),
//! are they the same within a margin ([`equivalence`]), what could this sample have seen ([`power`]),
//! how many tests were run ([`multiplicity`]), do judges agree and how wrong are they ([`agreement`], [`prevalence`]).
//!
//! Every result names its n. A case without an answer is an explicit outcome or an error, never NaN.

pub mod agreement;
pub mod bootstrap;
pub mod equivalence;
pub mod interval;
pub mod multiplicity;
pub mod paired;
pub mod power;
pub mod prevalence;
pub mod ranks;
pub mod special;
