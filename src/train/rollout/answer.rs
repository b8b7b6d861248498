//! An answer that was drawn: its tokens up to and with the first that ends it.

/// One answer to one prompt.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// The prompt's tokens.
    pub prompt: Vec<u32>,
    /// The answer's tokens, the one that ended it included; at least one.
    pub ids: Vec<u32>,
    /// Whether it ended by itself.
    pub ended: bool,
    /// The prompt without special tokens.
    pub prompt_text: String,
    /// The answer without special tokens.
    pub text: String,
}

impl Answer {
    /// Of tokens that were drawn: what follows the first of `stop` is cut off.
    pub fn new(prompt: &[u32], drawn: &[u32], stop: &[u32]) -> Self {
        let end = drawn.iter().position(|id| stop.contains(id));
        Self {
            prompt: prompt.to_vec(),
            ids: drawn[..end.map_or(drawn.len(), |end| end + 1)].to_vec(),
            ended: end.is_some(),
            ..Self::default()
        }
    }

    /// Prompt and answer.
    pub fn row(&self) -> Vec<u32> {
        [self.prompt.as_slice(), &self.ids].concat()
    }

    /// Its tokens without the one that ended it.
    pub fn said(&self) -> &[u32] {
        &self.ids[..self.ids.len() - usize::from(self.ended)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_first_end_is_cut_off() {
        let answer = Answer::new(&[1, 2], &[5, 9, 6, 9], &[8, 9]);
        assert_eq!((answer.ids.as_slice(), answer.ended), (&[5, 9][..], true));
        assert_eq!(answer.said(), [5]);
        assert_eq!(answer.row(), [1, 2, 5, 9]);
        let answer = Answer::new(&[1], &[5, 6], &[9]);
        assert_eq!((answer.said(), answer.ended), (&[5, 6][..], false));
    }
}
