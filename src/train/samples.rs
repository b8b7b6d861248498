//! What the model answers while it trains: greedy answers to prompts of the evaluation data, for the log.
//!
//! Always: nothing random is drawn and no weight is touched, so that a run with samples has the bits of one without.
//! Methods that draw answers themselves (`rollout/`) log theirs.

use serde_json::{Map, Value};

use super::TrainError;
use crate::hooks::Hooks;
use crate::model::{
    Decoder,
    generate::{Continue, GenerateOptions, generate},
    sample::SampleOptions,
};
use crate::text::Tokenizer;

/// Most tokens of an answer: enough to see what it does with the prompt.
const ANSWER: usize = 48;

/// `most` of the prompts, spread evenly over them: files often have one kind of prompt after the other.
pub fn spread(prompts: &[&[u32]], most: usize) -> Vec<Vec<u32>> {
    let n = most.min(prompts.len());
    let there = (0..n).map(|i| prompts[i * prompts.len() / n]);
    there
        .filter(|prompt| !prompt.is_empty())
        .map(<[u32]>::to_vec)
        .collect()
}

/// Fields of a `sample` row for each prompt.
///
/// # Errors
/// The model's.
pub fn answers(
    model: &Decoder,
    prompts: &[Vec<u32>],
    words: &Tokenizer,
) -> Result<Vec<Map<String, Value>>, TrainError> {
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    let room = model.config().max_positions().saturating_sub(longest);
    if prompts.is_empty() || room == 0 {
        return Ok(Vec::new());
    }
    let rows: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let options = GenerateOptions {
        max_new: ANSWER.min(room),
        sample: SampleOptions::default(),
        stop: words.stop_ids().to_vec(),
    };
    let mut go_on = |_, _| Continue::Yes;
    let said = generate(model, &rows, &options, &Hooks::new(), &mut go_on)?;
    prompts
        .iter()
        .zip(said)
        .map(|(prompt, answer)| {
            let mut fields = Map::new();
            fields.insert("of".into(), "eval".into());
            fields.insert("prompt".into(), words.decode(prompt, true)?.into());
            fields.insert("completion".into(), words.decode(&answer.ids, true)?.into());
            fields.insert("length".into(), answer.ids.len().into());
            fields.insert("ended".into(), answer.finished.into());
            Ok(fields)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn prompts_are_taken_from_the_whole_file() {
        let rows: Vec<Vec<u32>> = (0..10).map(|i| vec![i]).collect();
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        assert_eq!(spread(&rows, 4), [[0], [2], [5], [7]]);
        assert_eq!(spread(&rows[..2], 4), [[0], [1]]);
        assert!(spread(&[], 4).is_empty());
        assert!(spread(&[&[]], 1).is_empty(), "nothing was asked");
    }
}
