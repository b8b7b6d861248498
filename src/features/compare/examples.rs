//! For each latent the few tokens that show it best.

use serde::{Deserialize, Serialize};

/// A token at which a latent was seen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Which context.
    pub context: usize,
    /// Where in it.
    pub position: usize,
    /// The latent's value on the first and on the second model; twice the same for a crosscoder, which has one.
    pub values: [f32; 2],
}

/// The best of each latent, the best first; of equals the earlier token.
#[derive(Debug, Clone)]
pub struct Examples {
    most: usize,
    best: Vec<Vec<(f32, Example)>>,
}

impl Examples {
    /// At most so many of each latent.
    pub fn new(latents: usize, most: usize) -> Self {
        let best = vec![Vec::new(); latents];
        Self { most, best }
    }

    /// Takes in one with its score.
    pub fn add(&mut self, latent: usize, score: f32, example: Example) {
        let Some(best) = self.best.get_mut(latent) else {
            return;
        };
        let at = best.partition_point(|(other, _)| *other >= score);
        if at < self.most {
            best.insert(at, (score, example));
            best.truncate(self.most);
        }
    }

    /// Those of a latent.
    pub fn of(&self, latent: usize) -> Vec<Example> {
        let best = self.best.get(latent).map_or(&[][..], Vec::as_slice);
        best.iter().map(|(_, example)| *example).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_stay_in_order() {
        let mut examples = Examples::new(2, 2);
        for (position, score) in [1.0, 3.0, 2.0, 3.0, 0.5].into_iter().enumerate() {
            let example = Example {
                context: 0,
                position,
                values: [score, 0.0],
            };
            examples.add(1, score, example);
            examples.add(9, score, example);
        }
        let found: Vec<usize> = examples.of(1).iter().map(|e| e.position).collect();
        assert_eq!(found, [1, 3]);
        assert!(examples.of(0).is_empty() && examples.of(9).is_empty());
    }
}
