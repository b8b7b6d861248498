//! The words of the toy model, made in memory: bytes, frequent English words, and a ChatML template.
//!
//! Always: any text comes back as it went in, since every byte is a token; a frequent word is one token with and without
//! its leading space; other words fall to pairs of letters. It is stated as the metadata of a GGUF file and read by the
//! reader of GGUF files, so nothing about it is special. The model itself is `crate::model::toy`.

use std::collections::BTreeSet;

use super::byte_level::piece;
use super::{ChatTemplate, GgufMetadata, TextError, Tokenizer};

/// The control tokens: beginning of text, and ChatML's two.
const CONTROL: [&str; 3] = ["<|begin|>", "<|im_start|>", "<|im_end|>"];

/// ChatML with a beginning token in front, so that attention has a first token to sink to.
const TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message.role }}\n\
    {{ message.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Joined in this order where a text has no word of the list.
const MERGES: &str = "t h;i n;e r;a n;r e;o n;e s;o r;e n;a t;i s;i t;o u;a l;a r;s t;e d;in g;i c;l e;r o;l l;c h;u r;\
    e l;v e;i on;c o;d e;m e;s e;k e;u n;o m;a s;p l;i l;t e;n e;u s";

/// Whole words, each also with a leading space.
const WORDS: &str = "the of and to a in is you that it he was for on are as with his they I at be this have from or one \
    had by word but not what all were we when your can said there use an each which she do how their if will up other \
    about out many then them these so some her would make like him into time has look two more write go see number no \
    way could people my than first water been call who oil its now find long down day did get come made may part The \
    What How Why Who Where When A It He She We You They In Is Are Do Can Please Hello Yes No me our us am over new \
    sound take only little work know place year live back give most very after thing just name good sentence man think \
    say great where help through much before line right too mean old any same tell boy follow came want show also \
    around form three small set put end does another well large must big even such because turn here why ask went men \
    read need land different home move try kind hand picture again change off play spell air away animal house point \
    page letter mother answer found study still learn should world high every near add food between own below country \
    plant last school father keep tree never start city earth eye light thought head under story saw left few while \
    along might close something seem next hard open example begin life always those both paper together got group \
    often run important until children side feet car night walk white sea began grow took river four carry state once \
    book hear stop without second late miss idea enough eat face watch far really almost let above girl mountain cut \
    young talk soon list song being leave family system user assistant model token word capital France Paris Germany \
    Berlin Italy Rome Spain London England cat dog sat mat red blue green black king queen not yes sorry cannot safe \
    harm lock pick key door fire bomb make weapon poison steal hack code secret";

/// The tokenizer and template.
///
/// # Errors
/// None that a test of this file would not show.
pub fn words() -> Result<(Tokenizer, ChatTemplate), TextError> {
    let metadata = Metadata::new();
    let tokenizer = Tokenizer::from_gguf(&metadata)?;
    let template = ChatTemplate::with_tokens(
        [("default".to_owned(), TEMPLATE.to_owned())].into(),
        tokenizer.special_tokens(),
    )?;
    Ok((tokenizer, template))
}

/// The vocabulary as a GGUF file would state it.
struct Metadata {
    tokens: Vec<String>,
    kinds: Vec<i64>,
    merges: Vec<String>,
}

impl Metadata {
    fn new() -> Self {
        let merges: Vec<String> = MERGES.split(';').map(|m| m.trim().to_owned()).collect();
        let bytes = (0..=u8::MAX).map(|byte| piece(&[byte]));
        let merged = merges.iter().map(|merge| merge.replace(' ', ""));
        let spelled = WORDS
            .split_whitespace()
            .flat_map(|word| [piece(word.as_bytes()), piece(format!(" {word}").as_bytes())]);
        let mut seen = BTreeSet::new();
        let mut tokens: Vec<String> = bytes.chain(merged).chain(spelled).collect();
        tokens.retain(|token| seen.insert(token.clone()));
        let mut kinds = vec![1; tokens.len()];
        tokens.extend(CONTROL.map(str::to_owned));
        kinds.extend([3; CONTROL.len()]);
        Self {
            tokens,
            kinds,
            merges,
        }
    }

    fn id(&self, control: usize) -> u64 {
        (self.tokens.len() - CONTROL.len() + control) as u64
    }
}

impl GgufMetadata for Metadata {
    fn str(&self, key: &str) -> Option<&str> {
        match key {
            "tokenizer.ggml.model" => Some("gpt2"),
            // Takes a word of the vocabulary whole, without merges that lead to it.
            "tokenizer.ggml.pre" => Some("llama-bpe"),
            _ => None,
        }
    }

    fn u64(&self, key: &str) -> Option<u64> {
        match key {
            "tokenizer.ggml.bos_token_id" => Some(self.id(0)),
            "tokenizer.ggml.eos_token_id" => Some(self.id(2)),
            _ => None,
        }
    }

    fn bool(&self, key: &str) -> Option<bool> {
        (key == "tokenizer.ggml.add_bos_token").then_some(true)
    }

    fn strings(&self, key: &str) -> Option<&[String]> {
        match key {
            "tokenizer.ggml.tokens" => Some(&self.tokens),
            "tokenizer.ggml.merges" => Some(&self.merges),
            _ => None,
        }
    }

    fn ints(&self, key: &str) -> Option<&[i64]> {
        (key == "tokenizer.ggml.token_type").then_some(&self.kinds)
    }

    fn floats(&self, _: &str) -> Option<&[f32]> {
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::text::{Message, Vars};

    #[test]
    fn frequent_words_are_one_token_and_look_like_words() {
        let (tokenizer, _) = words().unwrap();
        let ids = tokenizer.encode("The capital of France is", true).unwrap();
        let shown: Vec<String> = ids.iter().map(|&id| tokenizer.token(id)).collect();
        assert_eq!(
            shown,
            ["<|begin|>", "The", " capital", " of", " France", " is"]
        );
        assert!((500..1500).contains(&tokenizer.vocab_size()));
        // A word that is not listed: letters, or pairs of them.
        let ids = tokenizer.encode(" zebra", false).unwrap();
        let shown: Vec<String> = ids.iter().map(|&id| tokenizer.token(id)).collect();
        assert_eq!(shown, [" ", "z", "e", "b", "r", "a"]);
    }

    #[test]
    fn the_template_is_chatml_and_begins_with_the_beginning_token() {
        let (tokenizer, template) = words().unwrap();
        let messages = [Message::new("system", "x"), Message::user("Hello")];
        let text = template.render(&messages, true, &Vars::default()).unwrap();
        assert_eq!(
            text,
            "<|begin|><|im_start|>system\nx<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
        );
        let ids = tokenizer.encode(&text, false).unwrap();
        assert_eq!(Some(ids[0]), tokenizer.bos());
        assert!(tokenizer.is_special(ids[1]));
        assert_eq!(tokenizer.token(tokenizer.stop_ids()[0]), "<|im_end|>");
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in "\\PC*|[a-zA-Z ,.!?\\n\\t]*|.*") {
            let (tokenizer, _) = words().unwrap();
            let ids = tokenizer.encode(&text, false).unwrap();
            prop_assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
        }
    }
}
