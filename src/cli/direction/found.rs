//! What `direction extract` and `direction select` share: prompts, their activations, the candidates.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::{
    cli::{failure::Usage, interrupt, output::Out, progress::Bar},
    model::{Checkpoint, fetch::Progress as _},
    steer::{
        self, Candidate, EncodedPrompt, Method, Options, RefusalTokens, Residuals, Sets, Sizes,
        SteerError, Where,
    },
    text::suites::Suite,
};

/// Prompts and ways to make directions.
#[derive(clap::Args, Debug, Clone)]
#[group(skip)]
pub(super) struct FindArgs {
    /// How directions are made; repeatable [default: means]
    #[arg(long = "method", value_enum, value_name = "HOW")]
    methods: Vec<MethodArg>,
    /// A suite file with harmful and harmless rows in train, validation and test, instead of the built-in ones; repeatable
    #[arg(long, value_name = "FILE")]
    suite: Vec<PathBuf>,
    /// Most train prompts of a class
    #[arg(long, default_value_t = Sizes::default().train, value_name = "N")]
    train: usize,
    /// Most validation prompts of a class
    #[arg(long, default_value_t = Sizes::default().validation, value_name = "N")]
    validation: usize,
    /// Most test prompts of a class
    #[arg(long, default_value_t = Sizes::default().test, value_name = "N")]
    test: usize,
    /// Keep only harmful prompts that the model refuses by the refusal score, and harmless ones that it does not, for making
    /// and choosing (Arditi et al.)
    #[arg(long)]
    filter: bool,
    /// Prompts of a pass
    #[arg(long, default_value_t = 16, value_name = "N")]
    batch: usize,
    /// Seed of every random choice
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MethodArg {
    /// Difference of class means
    Means,
    /// The same, whitened by the covariance within classes
    Whitened,
    /// First component of paired differences, not centred
    Pca,
    /// Weights of a logistic probe
    Logistic,
}

impl From<MethodArg> for Method {
    fn from(method: MethodArg) -> Self {
        match method {
            MethodArg::Means => Self::Means,
            MethodArg::Whitened => Self::Whitened,
            MethodArg::Pca => Self::Pca,
            MethodArg::Logistic => Self::Logistic,
        }
    }
}

/// Candidates with what they were made of.
pub(super) struct Found {
    pub sets: Sets,
    /// Harmful and harmless: train, validation, test; filtered where that was asked for.
    pub encoded: [[Vec<EncodedPrompt>; 3]; 2],
    pub tokens: RefusalTokens,
    pub candidates: Vec<Candidate>,
    /// Train activations of both classes.
    pub train: [Residuals; 2],
    /// Hash of the prompts, of the filter and of the methods.
    pub prompts: String,
}

impl FindArgs {
    pub fn methods(&self) -> Vec<Method> {
        let mut methods: Vec<Method> = self.methods.iter().map(|&m| m.into()).collect();
        if methods.is_empty() {
            methods.push(Method::Means);
        }
        methods.sort_unstable();
        methods.dedup();
        methods
    }

    pub fn find(&self, cp: &Checkpoint, filter: bool, out: &Out) -> anyhow::Result<Found> {
        anyhow::ensure!(
            (1..=4096).contains(&self.batch),
            "--batch: expected 1 to 4096, found {}",
            self.batch
        );
        let sizes = Sizes {
            train: self.train,
            validation: self.validation,
            test: self.test,
        };
        let sets = Sets::new(&self.suites()?, sizes, self.seed).map_err(advised)?;
        let tokens = steer::refusal_tokens(cp)?;
        let mut encoded = sets.encoded(cp)?;
        let filter = filter || self.filter;
        if filter {
            self.filtered(cp, &tokens, &mut encoded, out)?;
        }
        let layers: Vec<usize> = (0..cp.config().n_layers).collect();
        let all: Vec<EncodedPrompt> = (encoded.iter().flat_map(|c| &c[..2]).flatten())
            .cloned()
            .collect();
        let wheres = Where::all(&all);
        let read = |prompts: &[EncodedPrompt], what: &str| {
            self.counted(out, what, prompts.len(), |options| {
                steer::residuals(cp, prompts, &layers, &wheres, options)
            })
        };
        let [harmful, harmless] = &encoded;
        let train = [
            read(&harmful[0], "reading harmful train prompts")?,
            read(&harmless[0], "reading harmless train prompts")?,
        ];
        let held = [
            read(&harmful[1], "reading harmful validation prompts")?,
            read(&harmless[1], "reading harmless validation prompts")?,
        ];
        let mut candidates = Vec::new();
        for method in self.methods() {
            let made = steer::candidates_by(
                method,
                [&train[0], &train[1]],
                [&held[0], &held[1]],
                self.seed,
            );
            candidates.extend(made?);
            interrupt::check()?;
        }
        let names: Vec<&str> = self.methods().into_iter().map(Method::name).collect();
        let prompts = format!("{} filter={filter} {}", sets.hash(), names.join(","));
        Ok(Found {
            sets,
            encoded,
            tokens,
            candidates,
            train,
            prompts,
        })
    }

    fn suites(&self) -> anyhow::Result<Vec<Suite>> {
        if self.suite.is_empty() {
            let builtin = ["harmful", "harmless"].map(Suite::builtin);
            return Ok(builtin.into_iter().collect::<Result<_, _>>()?);
        }
        let files = self.suite.iter().map(|path| Suite::from_jsonl(path));
        Ok(files.collect::<Result<_, _>>()?)
    }

    /// Drops train and validation prompts on the wrong side of a refusal score of 0.
    fn filtered(
        &self,
        cp: &Checkpoint,
        tokens: &RefusalTokens,
        encoded: &mut [[Vec<EncodedPrompt>; 3]; 2],
        out: &Out,
    ) -> anyhow::Result<()> {
        let names = [
            ["harmful train prompts", "harmful validation prompts"],
            ["harmless train prompts", "harmless validation prompts"],
        ];
        for (class, (sets, names)) in encoded.iter_mut().zip(names).enumerate() {
            for (prompts, name) in sets.iter_mut().zip(names) {
                let none = crate::hooks::Hooks::new();
                let scores = self.counted(out, "scoring prompts", prompts.len(), |options| {
                    steer::refusal_scores(cp, prompts, &none, tokens, options)
                })?;
                let before = prompts.len();
                let kept = |score: f64| if class == 0 { score > 0.0 } else { score < 0.0 };
                let mut scores = scores.into_iter();
                prompts.retain(|_| scores.next().is_some_and(kept));
                out.note(&format!(
                    "filter: {} of {before} {name} kept",
                    prompts.len()
                ));
                if prompts.len() < 4 {
                    return Err(Usage::new(
                        format!("the filter leaves {} of {before} {name}, at least 4 are needed", prompts.len()),
                        "a model that does not refuse has no refusal direction to find this way; without the filter the default policy reports that",
                    )
                    .into());
                }
            }
        }
        Ok(())
    }

    /// Runs something that counts prompts, with progress.
    pub fn counted<T>(
        &self,
        out: &Out,
        what: &str,
        total: usize,
        run: impl FnOnce(&Options) -> Result<T, SteerError>,
    ) -> anyhow::Result<T> {
        let bar = Bar::counting(out);
        bar.start(what, Some(total as u64));
        let seen = std::cell::Cell::new(0);
        let progress = |done: usize, _: usize| {
            bar.advance(done.saturating_sub(seen.get()) as u64);
            seen.set(done.max(seen.get()));
        };
        let options = Options {
            batch: self.batch,
            progress: Some(&progress),
            cancel: Some(interrupt::flag()),
        };
        let found = run(&options);
        bar.done();
        match found {
            Err(SteerError::Interrupted) => Err(interrupt::Interrupted.into()),
            found => found.map_err(advised),
        }
    }
}

/// With a hint where there is one.
pub(super) fn advised(error: SteerError) -> anyhow::Error {
    match error {
        SteerError::TooFew { .. } => Usage::new(
            error.to_string(),
            "a suite needs rows labelled harmful and harmless in each of train, validation and test",
        )
        .into(),
        SteerError::Model(inner) => anyhow::Error::new(*inner),
        other => other.into(),
    }
}
