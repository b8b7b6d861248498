//! Where a text ends among the token ids of a longer one that begins with it.
//!
//! A token may reach over the end of the shorter text, so the shorter one is encoded by itself and the ids that both share
//! are counted. Searching for tokens, or trusting lengths, lets header tokens into the loss.

use crate::text::{TextError, Tokenizer};

/// Ids that two begin with.
pub(in crate::text) fn shared(one: &[u32], other: &[u32]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// How many ids of a text stand before what follows `prefix`, a beginning of that text.
pub(super) fn after(tokenizer: &Tokenizer, prefix: &str, ids: &[u32]) -> Result<usize, TextError> {
    Ok(shared(&tokenizer.encode(prefix, false)?, ids))
}

/// The end of an answer in `ids`, which a template wrote up to there: the token that ends the turn is the last one sampled,
/// so white space that the template writes after it is no part of the answer.
pub(in crate::text) fn end_of_turn(tokenizer: &Tokenizer, ids: &[u32]) -> usize {
    let stop = |id: &u32| tokenizer.stop_ids().contains(id);
    let blank = |ids: &[u32]| ids.iter().all(|&id| tokenizer.token(id).trim().is_empty());
    match ids.iter().rposition(stop) {
        Some(at) if blank(&ids[at + 1..]) => at + 1,
        _ => ids.len(),
    }
}
