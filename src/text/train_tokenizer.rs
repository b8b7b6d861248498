//! A tokenizer made from texts: byte-level BPE (Sennrich et al. 2016; Radford et al. 2019), trained by the tokenizers library.
//!
//! Always: every byte is a word, so any text comes back as it went in; the control tokens come first, the bytes follow, then
//! merges in the order of their frequency; the same texts give the same tokenizer. The first control token begins and ends
//! a document.

use std::collections::HashSet;

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer as Pipeline};

use super::error::TextError;
use super::tokenizer::{Roles, Tokenizer};

/// A pair of words that occurs once is no word.
const LEAST: u64 = 2;

impl Tokenizer {
    /// Trains a tokenizer of at most `vocab` words on texts; few texts give fewer. `control` are its control tokens, at
    /// least one.
    ///
    /// # Errors
    /// No control token, a `vocab` without room for bytes and control tokens, or the library's.
    pub fn train<'a>(
        texts: impl Iterator<Item = &'a str> + Send,
        vocab: usize,
        control: &[String],
    ) -> Result<Self, TextError> {
        let doing = "training a tokenizer";
        let failed = |e: &dyn std::fmt::Display| TextError::library(doing, e);
        let bytes: HashSet<char> = ByteLevel::alphabet().into_iter().collect();
        let Some(end) = control.first() else {
            return Err(failed(&"it needs a control token that ends a text"));
        };
        let least = bytes.len() + control.len();
        if vocab < least {
            let why = format!("a vocabulary of {vocab} has no room for 256 bytes and {control:?}");
            return Err(failed(&why));
        }
        let trainer = BpeTrainer::builder()
            .vocab_size(vocab)
            .min_frequency(LEAST)
            .show_progress(false)
            .initial_alphabet(bytes)
            .special_tokens(
                (control.iter())
                    .map(|token| AddedToken::from(token.as_str(), true))
                    .collect(),
            )
            .build();
        let mut inner = Pipeline::new(BPE::default());
        let splits = ByteLevel::new(false, true, true);
        inner.with_pre_tokenizer(Some(splits));
        inner.with_decoder(Some(splits));
        inner
            .train(&mut TrainerWrapper::BpeTrainer(trainer), texts)
            .map_err(|e| failed(&e))?;
        let id = inner.token_to_id(end);
        let id = id.ok_or_else(|| failed(&format!("`{end}` is no word of it")))?;
        let around = TemplateProcessing::builder()
            .try_single(format!("{end}:0 $A:0"))
            .and_then(|b| b.try_pair(format!("{end}:0 $A:0 $B:1")))
            .map_err(|e| failed(&e))?
            .special_tokens(vec![(end.clone(), id)])
            .build()
            .map_err(|e| failed(&e))?;
        inner.with_post_processor(Some(around));
        let words = inner.get_vocab_size(true);
        let roles = Roles {
            bos: Some(id),
            eos: Some(id),
            ..Roles::default()
        };
        Self::new(inner, roles, words)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TEXTS: [&str; 4] = [
        "low low low low low lower lower newest newest newest newest newest newest widest widest widest",
        "the cat sat on the mat; the dog sat on the log, and the cat saw the dog",
        "naïve café 東京 🙂",
        "",
    ];

    fn trained(vocab: usize) -> Tokenizer {
        let control = ["<|endoftext|>".to_owned(), "<|pad|>".to_owned()];
        Tokenizer::train(TEXTS.into_iter(), vocab, &control).unwrap()
    }

    #[test]
    fn merges_are_those_of_the_paper() {
        // Counted by hand: `e s` stands in newest (6) and widest (3); so does `s t`, whose letters come later. Then `es t` (9);
        // `l o` in low (5), lower (2) and log (1); and of ` lo` and `low`, 7 each, the one whose first part comes first.
        let first = trained(262);
        let merged: Vec<String> = (258..262).map(|id| first.token(id)).collect();
        assert_eq!(merged, ["es", "est", "lo", " lo"]);
        let tokenizer = trained(400);
        for word in [" newest", " low", " the", " sat"] {
            let ids = tokenizer.encode(word, false).unwrap();
            assert_eq!(ids.len(), 1, "{word}");
        }
        // Stands once, so it is spelled.
        assert!(tokenizer.encode("café", false).unwrap().len() > 1);
        assert_eq!(tokenizer.id_of("<|endoftext|>"), Some(0));
        assert_eq!(tokenizer.id_of("<|pad|>"), Some(1));
        // Bytes in the order of their spelling: `!` is the first.
        assert_eq!(tokenizer.id_of("!"), Some(2));
        assert_eq!(trained(258).vocab_size(), 258);
        assert_eq!(trained(260).vocab_size(), 260);
    }

    #[test]
    fn the_same_texts_give_the_same_tokenizer() {
        let first = trained(330).hash();
        for _ in 0..5 {
            assert_eq!(trained(330).hash(), first);
        }
    }

    #[test]
    fn any_text_comes_back_and_so_does_the_tokenizer() {
        let tokenizer = trained(300);
        let dir = tempfile::tempdir().unwrap();
        tokenizer.save(dir.path()).unwrap();
        let back = Tokenizer::from_folder(dir.path()).unwrap();
        assert_eq!(back.hash(), tokenizer.hash());
        assert_eq!((back.bos(), back.stop_ids()), (Some(0), [0u32].as_slice()));
        for text in [
            "Καλημέρα\n\t 東京 🙂\u{0}",
            "",
            " the  cat",
            "x<|endoftext|>y",
        ] {
            let ids = tokenizer.encode(text, false).unwrap();
            assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
            assert_eq!(
                back.encode(text, true).unwrap(),
                [&[0], ids.as_slice()].concat()
            );
        }
    }

    #[test]
    fn a_vocabulary_without_room_is_refused() {
        let control = ["<|endoftext|>".to_owned()];
        let error = Tokenizer::train(TEXTS.into_iter(), 256, &control).unwrap_err();
        assert!(error.to_string().contains("256 bytes"), "{error}");
    }
}
