//! Text to token ids and back, the same for a Hugging Face folder and a GGUF file.
//!
//! Ids are those of the model's embedding rows. Truncation and padding that a `tokenizer.json` may ask for are
//! switched off: a text always gives all its ids. Reading folders is in `tokenizer_folder`, GGUF metadata in
//! [`super::gguf_tokenizer`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::ops::Range;
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};
use tokenizers::DecoderWrapper;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;

use super::byte_level;
use super::error::TextError;

/// How the stored spelling of a token relates to its text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pieces {
    /// GPT-2's spelling of bytes.
    Bytes,
    /// SentencePiece: `▁` is a space, `<0x0A>` a byte.
    Sentence {
        /// Decoding removes one space at the very beginning.
        drops_first_space: bool,
    },
    /// Pieces that only the whole decoder can join (word pieces and the like).
    Joined,
}

/// What a file says about the tokens with a role, besides the vocabulary itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Roles {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub pad: Option<u32>,
    pub unk: Option<u32>,
    /// Further ids that end a generation.
    pub stop: Vec<u32>,
    /// Explicit wish, stronger than the post-processor.
    pub add_bos: Option<bool>,
    pub add_eos: Option<bool>,
}

/// A tokenizer with the roles of its tokens.
///
/// ```no_run
/// # fn main() -> Result<(), candlescope::text::TextError> {
/// let tokenizer = candlescope::text::Tokenizer::from_folder("checkpoint".as_ref())?;
/// let ids = tokenizer.encode("The capital of France is", true)?;
/// assert_eq!(tokenizer.decode(&ids, true)?, "The capital of France is");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    pieces: Pieces,
    roles: Roles,
    stop: Vec<u32>,
    /// What `encode(_, true)` puts before and after the text.
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    vocab_size: usize,
}

impl Tokenizer {
    /// Joins a pipeline and the roles of its tokens; `vocab_size` is the highest id plus one.
    pub(super) fn new(
        mut inner: tokenizers::Tokenizer,
        roles: Roles,
        vocab_size: usize,
    ) -> Result<Self, TextError> {
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|e| TextError::library("switching truncation off", e))?;
        let (mut prefix, mut suffix) = added_by_post_processor(&inner)?;
        apply_wish(&mut prefix, roles.bos, roles.add_bos);
        apply_wish(&mut suffix, roles.eos, roles.add_eos);
        let stop: BTreeSet<u32> = roles.stop.iter().copied().chain(roles.eos).collect();
        let pieces = pieces_of(inner.get_decoder());
        Ok(Self {
            inner,
            pieces,
            roles,
            stop: stop.into_iter().collect(),
            prefix,
            suffix,
            vocab_size,
        })
    }

    /// Token ids of a text; `add_special` puts the beginning and end tokens around it that the model was trained
    /// with. Special tokens spelled out in the text become their ids.
    ///
    /// # Errors
    /// [`TextError::Library`] if the pipeline refuses the text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TextError> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|e| TextError::library("encoding", e))?;
        if !add_special {
            return Ok(encoding.get_ids().to_vec());
        }
        Ok([&self.prefix, encoding.get_ids(), &self.suffix].concat())
    }

    /// Token ids without added tokens, each with the range of bytes of `text` it was made from. Tokens that are
    /// parts of one character share its range; leading spaces may be left out of it.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_with_offsets(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>, TextError> {
        let encoding = self
            .inner
            .encode(text, false)
            .map_err(|e| TextError::library("encoding", e))?;
        Ok(encoding
            .get_ids()
            .iter()
            .copied()
            .zip(
                encoding
                    .get_offsets()
                    .iter()
                    .map(|&(start, end)| start..end),
            )
            .collect())
    }

    /// The text of some ids; bytes that are no text turn into U+FFFD, ids that are no token into nothing.
    ///
    /// # Errors
    /// [`TextError::Library`] if the decoder refuses.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TextError> {
        self.inner
            .decode(ids, skip_special)
            .map_err(|e| TextError::library("decoding", e))
    }

    /// One token as text, for display: with its leading space, a part of a character as U+FFFD.
    pub fn token(&self, id: u32) -> String {
        match self.token_bytes(id) {
            Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            None => format!("[{id}?]"),
        }
    }

    /// The bytes that a token stands for; `None` if the vocabulary has no such id. For word-piece vocabularies
    /// this is the piece as stored.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let added = self
            .inner
            .get_added_vocabulary()
            .get_added_tokens_decoder()
            .get(&id);
        if let Some(added) = added {
            return Some(added.content.clone().into_bytes());
        }
        let piece = self.inner.id_to_token(id)?;
        Some(match self.pieces {
            Pieces::Bytes => byte_level::piece_bytes(&piece),
            Pieces::Sentence { .. } => match byte_fallback(&piece) {
                Some(byte) => vec![byte],
                None => piece.replace('▁', " ").into_bytes(),
            },
            Pieces::Joined => piece.into_bytes(),
        })
    }

    /// The id of a token by its stored spelling, e.g. `<|im_end|>` or `Ġthe`.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Whether this is a control token, which `skip_special` leaves out.
    pub fn is_special(&self, id: u32) -> bool {
        self.inner
            .get_added_vocabulary()
            .get_added_tokens_decoder()
            .get(&id)
            .is_some_and(|token| token.special)
    }

    /// Highest token id plus one, added tokens included: the embedding rows a model needs at least.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Beginning-of-sequence token.
    pub fn bos(&self) -> Option<u32> {
        self.roles.bos
    }

    /// End-of-sequence token; [`Tokenizer::stop_ids`] has all that end a generation.
    pub fn eos(&self) -> Option<u32> {
        self.roles.eos
    }

    /// Padding token, if one is named.
    pub fn pad(&self) -> Option<u32> {
        self.roles.pad
    }

    /// All ids that end a generation, ascending.
    pub fn stop_ids(&self) -> &[u32] {
        &self.stop
    }

    /// Refuses a model with fewer embedding rows than this tokenizer has ids. More rows are fine: padding.
    ///
    /// # Errors
    /// [`TextError::VocabMismatch`].
    pub fn check_vocab(&self, model_vocab: usize) -> Result<(), TextError> {
        if self.vocab_size <= model_vocab {
            return Ok(());
        }
        let max_id = self.vocab_size as u32 - 1;
        Err(TextError::VocabMismatch {
            max_id,
            token: self.token(max_id),
            model_vocab,
        })
    }

    /// SHA-256, in hex, of all that decides which ids a text gets: normaliser, splitting, model, added tokens and
    /// the tokens put around a text.
    pub fn hash(&self) -> String {
        let added: BTreeMap<_, _> = self.inner.get_added_tokens_decoder().into_iter().collect();
        let parts = (
            self.inner.get_normalizer(),
            self.inner.get_pre_tokenizer(),
            self.inner.get_model(),
            added,
            (&self.prefix, &self.suffix),
        );
        hex_digest(&serde_json::to_vec(&parts).expect("every part of a pipeline has a JSON form"))
    }

    /// The tokens with a role by the names that templates use (`bos_token`, …).
    pub fn special_tokens(&self) -> BTreeMap<String, String> {
        [
            ("bos_token", self.roles.bos),
            ("eos_token", self.roles.eos),
            ("pad_token", self.roles.pad),
            ("unk_token", self.roles.unk),
        ]
        .into_iter()
        .filter_map(|(name, id)| Some((name.to_owned(), self.inner.id_to_token(id?)?)))
        .collect()
    }

    /// Writes `tokenizer.json`, `tokenizer_config.json` and `generation_config.json`, so that the folder reads
    /// back as this tokenizer. The chat template is saved by [`super::ChatTemplate::save`].
    ///
    /// # Errors
    /// [`TextError::Write`], [`TextError::Library`].
    pub fn save(&self, dir: &Path) -> Result<(), TextError> {
        let tokenizer = self
            .inner
            .to_string(true)
            .map_err(|e| TextError::library("writing tokenizer.json", e))?;
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": false,
            "add_bos_token": !self.prefix.is_empty(),
            "add_eos_token": !self.suffix.is_empty(),
        });
        for (name, token) in self.special_tokens() {
            config[name] = token.into();
        }
        let mut generation = json!({ "eos_token_id": self.stop });
        for (key, id) in [
            ("bos_token_id", self.roles.bos),
            ("pad_token_id", self.roles.pad),
        ] {
            if let Some(id) = id {
                generation[key] = id.into();
            }
        }
        write(&dir.join("tokenizer.json"), &tokenizer)?;
        write(&dir.join("tokenizer_config.json"), &format!("{config:#}\n"))?;
        write(
            &dir.join("generation_config.json"),
            &format!("{generation:#}\n"),
        )
    }

    pub(super) fn pieces(&self) -> Pieces {
        self.pieces
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size)
            .field("pieces", &self.pieces)
            .field("roles", &self.roles)
            .field("prefix", &self.prefix)
            .field("suffix", &self.suffix)
            .finish_non_exhaustive()
    }
}

/// SHA-256 in hex.
pub(super) fn hex_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), TextError> {
    std::fs::write(path, text).map_err(|source| TextError::Write {
        path: path.to_owned(),
        source,
    })
}

/// What the post-processor puts before and after a text, found by letting it work on one.
fn added_by_post_processor(
    inner: &tokenizers::Tokenizer,
) -> Result<(Vec<u32>, Vec<u32>), TextError> {
    let encode = |special| {
        inner
            .encode("a", special)
            .map_err(|e| TextError::library("encoding a probe", e))
    };
    let (with, without) = (encode(true)?, encode(false)?);
    let (with, bare) = (with.get_ids(), without.get_ids().len());
    let at = (0..=with.len().saturating_sub(bare))
        .find(|&at| with[at..].starts_with(without.get_ids()))
        .unwrap_or(0);
    Ok((
        with[..at].to_vec(),
        with.get(at + bare..).unwrap_or_default().to_vec(),
    ))
}

/// `true` puts the token there if nothing is, `false` removes what is there; without a wish all stays.
fn apply_wish(around: &mut Vec<u32>, token: Option<u32>, wish: Option<bool>) {
    match (wish, token) {
        (Some(true), Some(token)) if around.is_empty() => around.push(token),
        (Some(false), _) => around.clear(),
        _ => {}
    }
}

fn pieces_of(decoder: Option<&DecoderWrapper>) -> Pieces {
    match decoder {
        Some(DecoderWrapper::ByteLevel(_)) => Pieces::Bytes,
        Some(DecoderWrapper::Metaspace(m)) => Pieces::Sentence {
            drops_first_space: m.get_prepend_scheme() != PrependScheme::Never,
        },
        Some(DecoderWrapper::Sequence(steps)) => {
            let steps = steps.get_decoders();
            if steps
                .iter()
                .any(|s| matches!(s, DecoderWrapper::ByteLevel(_)))
            {
                return Pieces::Bytes;
            }
            let metaspace = steps
                .iter()
                .find(|s| matches!(s, DecoderWrapper::Metaspace(_)));
            if let Some(metaspace) = metaspace {
                return pieces_of(Some(metaspace));
            }
            if steps
                .iter()
                .any(|s| matches!(s, DecoderWrapper::ByteFallback(_)))
            {
                let strips = |s: &DecoderWrapper| matches!(s, DecoderWrapper::Strip(s) if s.content == ' ' && s.start > 0);
                return Pieces::Sentence {
                    drops_first_space: steps.iter().any(strips),
                };
            }
            Pieces::Joined
        }
        _ => Pieces::Joined,
    }
}

/// The byte of a piece such as `<0x0A>`.
fn byte_fallback(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2)
        .then(|| u8::from_str_radix(digits, 16).ok())
        .flatten()
}
