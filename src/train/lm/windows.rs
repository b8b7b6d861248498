//! Documents cut into windows of the longest row.
//!
//! Always: every token of a document but its first is a target exactly once: a window begins with the last token of the one
//! before it, which is context there and no target.

use rayon::prelude::*;

use super::texts::Document;
use crate::text::dataset::Example;
use crate::text::{TextError, Tokenizer};
use crate::train::{TrainError, data::Loaded};

/// The windows of all documents, each with the token a text begins with in front and the one that ends it behind.
///
/// # Errors
/// A text that the tokenizer refuses; nothing to predict at all.
pub fn cut(
    documents: &[Document],
    tokenizer: &Tokenizer,
    longest: usize,
) -> Result<Loaded<Example>, TrainError> {
    let encode = |document: &Document| -> Result<Vec<u32>, TextError> {
        let mut ids = tokenizer.encode(&document.text, true)?;
        let stop = tokenizer.stop_ids();
        if ids.last().is_none_or(|last| !stop.contains(last)) {
            ids.extend(tokenizer.eos().or_else(|| stop.first().copied()));
        }
        Ok(ids)
    };
    let encoded: Vec<Vec<u32>> = documents.par_iter().map(encode).collect::<Result<_, _>>()?;
    let mut places = Vec::new();
    let mut items = Vec::new();
    let mut short = 0;
    for (document, ids) in documents.iter().zip(&encoded) {
        let before = items.len();
        items.extend(windows(ids, longest));
        short += usize::from(items.len() == before);
        places.resize(items.len(), document.place.clone());
    }
    if items.is_empty() {
        return Err(TrainError::Empty {
            what: "the texts".to_owned(),
            found: format!("{} documents of one token each", documents.len()),
            hint: "a token is predicted from one before it".to_owned(),
        });
    }
    let dropped = (short > 0).then(|| ("without a token to predict".to_owned(), short));
    let stop = tokenizer.stop_ids().to_vec();
    Ok(Loaded::of(
        (items, places),
        stop,
        dropped.into_iter().collect(),
    ))
}

fn windows(ids: &[u32], longest: usize) -> impl Iterator<Item = Example> {
    let starts = (0..ids.len().saturating_sub(1)).step_by(longest - 1);
    starts.map(move |start| {
        let ids = &ids[start..ids.len().min(start + longest)];
        Example {
            ids: ids.to_vec(),
            supervised: (0..ids.len()).map(|i| i > 0).collect(),
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn windows_overlap_by_their_context() {
        let ids: Vec<u32> = (0..9).collect();
        let of = |longest| windows(&ids, longest).map(|e| e.ids).collect::<Vec<_>>();
        assert_eq!(of(4), [vec![0, 1, 2, 3], vec![3, 4, 5, 6], vec![6, 7, 8]]);
        assert_eq!(of(5), [vec![0, 1, 2, 3, 4], vec![4, 5, 6, 7, 8]]);
        assert_eq!(of(9), std::slice::from_ref(&ids));
        assert_eq!(windows(&[7], 4).count(), 0);
    }

    proptest! {
        #[test]
        fn every_token_but_the_first_is_a_target_once(len in 2usize..200, longest in 2usize..40) {
            let ids: Vec<u32> = (0..len as u32).collect();
            let mut targets = Vec::new();
            for window in windows(&ids, longest) {
                prop_assert!(window.ids.len() <= longest && window.targets() > 0);
                let pairs = window.ids.iter().zip(&window.supervised);
                targets.extend(pairs.filter(|(_, target)| **target).map(|(id, _)| *id));
            }
            prop_assert_eq!(targets, ids[1..].to_vec());
        }
    }
}
