//! Direct preference losses: DPO and its family. Which there are, their formulas and options: `kinds.rs`.

use candle_core::Tensor;

use super::{
    Kind, LossError, Metrics, Options, Scored, beside,
    error::within,
    kinds::Resolved,
    numbers, same_length,
    stable::{log_one_minus_exp, log_sigmoid, sigmoid},
};

/// What a batch of pairs gives: log-probabilities summed over the tokens of each completion, its end included.
#[derive(Debug, Clone, Copy)]
pub struct Pairs<'a> {
    /// The policy's, of the chosen completions: `[pairs]`, on the tape.
    pub chosen: &'a Tensor,
    /// The policy's, of the rejected completions: `[pairs]`, on the tape.
    pub rejected: &'a Tensor,
    /// The reference's, chosen and rejected: `[pairs]` each.
    pub reference: Option<(&'a Tensor, &'a Tensor)>,
    /// Tokens of the chosen completions.
    pub chosen_tokens: &'a [usize],
    /// Tokens of the rejected completions.
    pub rejected_tokens: &'a [usize],
    /// For ORPO: log-probabilities of prompts and chosen completions summed over the batch (a scalar, on the tape), and how
    /// many tokens that is over the whole accumulation window.
    pub likelihood: Option<(&'a Tensor, usize)>,
}

/// A preference loss with its options.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preference {
    kind: Kind,
    with: Resolved,
}

/// The tensors of a batch, `[pairs]` each.
struct Terms {
    /// `lp - ref`, or `lp` where there is no reference.
    chosen: Tensor,
    rejected: Tensor,
    /// The same over tokens.
    mean_chosen: Tensor,
    mean_rejected: Tensor,
    /// Log-ratios of chosen to rejected: the policy's, and the reference's, or the policy's again without one.
    policy: Tensor,
    reference: Tensor,
}

impl Preference {
    /// A loss with these options.
    ///
    /// # Errors
    /// An option that the loss does not read, or outside its range.
    pub fn new(kind: Kind, options: &Options) -> Result<Self, LossError> {
        let with = options.resolve(kind)?;
        Ok(Self { kind, with })
    }

    /// Which.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// `β`.
    pub fn beta(&self) -> f64 {
        self.with.beta
    }

    /// The loss, divided by `count`: the pairs of the whole accumulation window.
    ///
    /// Metrics: `rewards/{chosen,rejected,margins,accuracies}`, where a reward is `β` times the log-ratio to the reference,
    /// for ORPO and SimPO `β lp/n`, for SLiC-HF `lp`; `logps/{chosen,rejected}` (sums over tokens); for ORPO `nll_loss`,
    /// `log_odds_chosen`, `log_odds_ratio`.
    ///
    /// # Errors
    /// Inputs of other lengths; a reference or likelihood that is missing or that the loss has no use for.
    pub fn of(&self, pairs: &Pairs, count: usize) -> Result<Scored, LossError> {
        self.check(pairs, count)?;
        let terms = Terms::new(pairs)?;
        let mut metrics = self.metrics(pairs, &terms)?;
        let each = self.each(&terms, &mut metrics)?;
        let mut loss = (each.sum_all()? / count as f64)?;
        if let Some((logps, tokens)) = pairs.likelihood {
            let nll = (logps.neg()? / tokens as f64)?;
            metrics.put(
                "nll_loss",
                super::Metric::Mean {
                    sum: -numbers(logps)?.iter().sum::<f64>() * count as f64 / tokens as f64,
                    count: pairs.chosen_tokens.len() as f64,
                },
            );
            loss = (loss + nll)?;
        }
        Ok(Scored { loss, metrics })
    }

    fn check(&self, pairs: &Pairs, count: usize) -> Result<(), LossError> {
        let loss = self.kind.name();
        let n = pairs.chosen.elem_count();
        same_length("rejected log-probabilities", n, pairs.rejected.elem_count())?;
        same_length(
            "lengths of chosen completions",
            n,
            pairs.chosen_tokens.len(),
        )?;
        same_length(
            "lengths of rejected completions",
            n,
            pairs.rejected_tokens.len(),
        )?;
        within(count >= n, loss, "count", "all pairs of the window", count)?;
        let lengths = pairs.chosen_tokens.iter().chain(pairs.rejected_tokens);
        let least = lengths.copied().min().unwrap_or(0);
        within(
            least > 0,
            loss,
            "tokens of a completion",
            "1 or more",
            least,
        )?;
        match (self.kind.needs_reference(), pairs.reference) {
            (true, None) => {
                let what = "log-probabilities of a reference";
                return Err(LossError::Missing { loss, what });
            }
            (false, Some(_)) => {
                return Err(LossError::Ignored {
                    loss,
                    option: "reference",
                    why: "it compares chosen with rejected alone",
                });
            }
            (true, Some((chosen, rejected))) => {
                same_length("the reference's chosen", n, chosen.elem_count())?;
                same_length("the reference's rejected", n, rejected.elem_count())?;
            }
            (false, None) => {}
        }
        match (self.kind.needs_likelihood(), pairs.likelihood) {
            (true, None) => {
                let what = "the likelihood of prompts and chosen completions";
                Err(LossError::Missing { loss, what })
            }
            (true, Some((_, 0))) => within(false, loss, "likelihood", "1 token or more", 0),
            (false, Some(_)) => Err(LossError::Ignored {
                loss,
                option: "likelihood",
                why: "only orpo adds it",
            }),
            _ => Ok(()),
        }
    }

    fn each(&self, t: &Terms, metrics: &mut Metrics) -> Result<Tensor, LossError> {
        let w = &self.with;
        let delta = || &t.chosen - &t.rejected;
        let mean_delta = || &t.mean_chosen - &t.mean_rejected;
        let scaled = |x: &Tensor| x * w.beta;
        Ok(match self.kind {
            Kind::Sigmoid => self.smoothed(&scaled(&delta()?)?)?,
            Kind::SigmoidNorm => self.smoothed(&scaled(&mean_delta()?)?)?,
            Kind::Simpo => self.smoothed(&(scaled(&mean_delta()?)? - w.gamma)?)?,
            Kind::Robust => {
                let x = scaled(&delta()?)?;
                let right = (log_sigmoid(&x)? * -(1.0 - w.epsilon))?;
                let wrong = (log_sigmoid(&x.neg()?)? * w.epsilon)?;
                ((right + wrong)? / (1.0 - 2.0 * w.epsilon))?
            }
            Kind::Hinge => (1.0 - scaled(&delta()?)?)?.relu()?,
            Kind::IpoMean => (mean_delta()? - 0.5 / w.beta)?.sqr()?,
            Kind::IpoSum => (delta()? - 0.5 / w.beta)?.sqr()?,
            Kind::ExoPair => {
                let x = scaled(&delta()?)?;
                let side = |x: &Tensor, target: f64| sigmoid(x)? * (log_sigmoid(x)? - target.ln())?;
                (side(&x, 1.0 - w.epsilon)? + side(&x.neg()?, w.epsilon)?)?
            }
            Kind::NcaPair => {
                let (c, r) = (scaled(&t.chosen)?, scaled(&t.rejected)?);
                let against = (log_sigmoid(&c.neg()?)? + log_sigmoid(&r.neg()?)?)?;
                (log_sigmoid(&c)? + (against * 0.5)?)?.neg()?
            }
            Kind::BcoPair => {
                let (c, r) = (scaled(&t.chosen)?, scaled(&t.rejected)?);
                (log_sigmoid(&c)? + log_sigmoid(&r.neg()?)?)?.neg()?
            }
            Kind::Aot => {
                let delta = (sorted(&t.policy)? - sorted(&t.reference)?)?;
                self.smoothed(&scaled(&delta)?)?
            }
            Kind::AotUnpaired => {
                let delta = (sorted(&t.chosen)? - sorted(&t.rejected)?)?;
                self.smoothed(&scaled(&delta)?)?
            }
            Kind::ApoZero => {
                let (c, r) = (scaled(&t.chosen)?, scaled(&t.rejected)?);
                ((1.0 - sigmoid(&c)?)? + sigmoid(&r)?)?
            }
            Kind::ApoDown => {
                let x = scaled(&delta()?)?;
                (sigmoid(&scaled(&t.chosen)?)? + (1.0 - sigmoid(&x)?)?)?
            }
            Kind::SppoHard => {
                let half = 0.5 / w.beta;
                ((&t.chosen - half)?.sqr()? + (&t.rejected + half)?.sqr()?)?
            }
            Kind::Discopop => {
                let x = scaled(&delta()?)?;
                let share = sigmoid(&(&x / w.tau)?)?;
                let logistic = log_sigmoid(&x)?.neg()?;
                let exponential = x.neg()?.exp()?;
                ((logistic * (1.0 - &share)?)? + (exponential * share)?)?
            }
            Kind::SlicHf => {
                let rank = ((&t.rejected - &t.chosen)? + w.delta)?.relu()?;
                (rank - (&t.chosen * w.lambda)?)?
            }
            Kind::Orpo => self.odds(t, metrics)?,
        })
    }

    /// `-(1-ε) log σ(x) - ε log σ(-x)`.
    fn smoothed(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let epsilon = self.with.epsilon;
        let right = log_sigmoid(x)?.neg()?;
        if epsilon == 0.0 {
            return Ok(right);
        }
        (right * (1.0 - epsilon))? - (log_sigmoid(&x.neg()?)? * epsilon)?
    }

    fn odds(&self, t: &Terms, metrics: &mut Metrics) -> Result<Tensor, LossError> {
        let odds = |mean: &Tensor| mean - log_one_minus_exp(mean)?;
        let log_odds = (odds(&t.mean_chosen)? - odds(&t.mean_rejected)?)?;
        let ratio = log_sigmoid(&log_odds)?;
        metrics.mean("log_odds_chosen", numbers(&log_odds)?);
        metrics.mean("log_odds_ratio", numbers(&ratio)?);
        Ok((ratio * -self.with.beta)?)
    }

    fn metrics(&self, pairs: &Pairs, t: &Terms) -> Result<Metrics, LossError> {
        let (c, r, factor) = match self.kind {
            Kind::Orpo | Kind::Simpo => (&t.mean_chosen, &t.mean_rejected, self.with.beta),
            Kind::SlicHf => (&t.chosen, &t.rejected, 1.0),
            _ => (&t.chosen, &t.rejected, self.with.beta),
        };
        let (c, r) = (numbers(c)?, numbers(r)?);
        let both = || c.iter().zip(&r);
        let mut metrics = Metrics::new();
        metrics.mean("rewards/chosen", c.iter().map(|x| factor * x));
        metrics.mean("rewards/rejected", r.iter().map(|x| factor * x));
        metrics.mean("rewards/margins", both().map(|(c, r)| factor * (c - r)));
        metrics.mean(
            "rewards/accuracies",
            both().map(|(c, r)| f64::from(u8::from(c > r))),
        );
        metrics.mean("logps/chosen", numbers(pairs.chosen)?);
        metrics.mean("logps/rejected", numbers(pairs.rejected)?);
        Ok(metrics)
    }
}

impl Terms {
    fn new(pairs: &Pairs) -> Result<Self, LossError> {
        let less = |x: &Tensor, of: Option<&Tensor>| match of {
            Some(reference) => x - reference.detach(),
            None => Ok(x.clone()),
        };
        let chosen = less(pairs.chosen, pairs.reference.map(|r| r.0))?;
        let rejected = less(pairs.rejected, pairs.reference.map(|r| r.1))?;
        let over = |x: &Tensor, tokens: &[usize]| -> Result<Tensor, LossError> {
            let tokens: Vec<f64> = tokens.iter().map(|&n| n as f64).collect();
            Ok((x / beside(&tokens, x)?)?)
        };
        let policy = (pairs.chosen - pairs.rejected)?;
        Ok(Self {
            reference: match pairs.reference {
                Some((chosen, rejected)) => (chosen - rejected)?.detach(),
                None => policy.detach(),
            },
            policy,
            mean_chosen: over(&chosen, pairs.chosen_tokens)?,
            mean_rejected: over(&rejected, pairs.rejected_tokens)?,
            chosen,
            rejected,
        })
    }
}

/// Numbers `[n]` in ascending order; gradients go to where each came from.
fn sorted(x: &Tensor) -> Result<Tensor, LossError> {
    let values = numbers(x)?;
    let mut order: Vec<u32> = (0..values.len() as u32).collect();
    order.sort_by(|&a, &b| values[a as usize].total_cmp(&values[b as usize]));
    Ok(x.index_select(&Tensor::new(order, x.device())?, 0)?)
}
