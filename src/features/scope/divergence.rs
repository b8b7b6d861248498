//! How far the turns of two traces move the model's distribution on the tokens they share.

use candle_core::DType;

use super::tape::Tape;
use super::{Scope, Trace};
use crate::features::FeatureError;
use crate::hooks::Hooks;
use crate::model::{Batch, Decoder, KvCache, LogitsAt};
use crate::steer::kl;

/// Tokens whose logits are held at a time.
const CHUNK: usize = 32;

impl Scope {
    /// KL(a ‖ b), nats, of the next-token distributions after each token that both traces begin with. The shared tokens are
    /// run once under the turns of each, in the same chunks, so that it is exactly 0 where the turns do nothing else.
    ///
    /// # Errors
    /// Anything a pass can fail with.
    pub fn kl(&self, model: &Decoder, a: &Trace, b: &Trace) -> Result<Vec<f64>, FeatureError> {
        let pairs = a.steps.iter().zip(&b.steps);
        let shared: Vec<u32> = pairs
            .map_while(|(a, b)| (a.id == b.id).then_some(a.id))
            .collect();
        let side = |trace: &Trace| {
            let mut cache = KvCache::new(model.config(), 1, shared.len());
            cache.set_prompt_end(trace.prompt);
            let edits = self.edits(&Tape::default(), &trace.turns);
            (cache, Hooks::new().edits(edits))
        };
        let mut sides = [side(a), side(b)];
        let mut found = Vec::with_capacity(shared.len());
        for ids in shared.chunks(CHUNK) {
            let mut logits = Vec::with_capacity(2);
            for (cache, hooks) in &mut sides {
                let out =
                    model.forward_cached(&Batch::single(ids)?, cache, hooks, LogitsAt::All)?;
                let rows = out.logits()?.squeeze(0)?.to_dtype(DType::F32)?;
                logits.push(rows.to_vec2::<f32>()?);
            }
            let pairs = logits[0].iter().zip(&logits[1]);
            found.extend(pairs.map(|(a, b)| kl(a, b)));
        }
        Ok(found)
    }
}
