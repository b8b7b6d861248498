//! The logistic fit for fewer items than features, in one number for each item: w = Xᵀa.
//!
//! With the Gram matrix K = XXᵀ the logits are Ka + b, and at the minimum a/C + σ(Ka + b) − y, the gap of each item, is 0 (the
//! dual of Jaakkola and Haussler 1999; Rasmussen and Williams 2006, 3.4). Newton's step for the weights p(1 − p) of the items is
//! one solve with K + (CW)⁻¹, whose factor costs n³/6; so a factor is kept for several steps, and L-BFGS on w, of which
//! the gap is the gradient's row coefficients, makes up for weights that have moved on since. K·step comes out of the solve without
//! a product, and where rows are dependent a/C = −(p − y) still fixes every share. Next: [`crate::factor`].

use crate::factor::Factor;
use crate::kernels::{Rows, add, dot, products, sigmoid, total};
use crate::lanes::{Kernel, Lanes, Line, ZERO};

/// Steps that a factor serves, which is also how many are remembered; the first, made of no weights that were seen, serves fewer.
const SERVES: usize = 12;
const FIRST: usize = 5;
/// Weight p(1 − p) of all items in the first factor, for fits that start from zero, and the least weight in later ones.
const BEFORE: f64 = 0.1;
const LEAST: f64 = 1e-6;
/// Steps in all; ten to twenty is usual.
const STEPS: usize = 300;

/// A fit to make.
pub(crate) struct Dual<'a> {
    /// K, `[n, n]`.
    pub(crate) gram: &'a Rows,
    /// 1 and 0 by item, one half in the padding.
    pub(crate) targets: &'a [Line],
    pub(crate) c: f64,
    /// Length of the gradient, per item, to reach.
    pub(crate) found: f64,
    /// Where to start.
    pub(crate) start: Option<&'a Point>,
}

/// Weights as shares of rows, and the intercept.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub(crate) shares: Vec<Line>,
    pub(crate) bias: f64,
}

/// A step that was taken and what it changed in the gaps.
struct Pair {
    shares: Vec<Line>,
    /// K·shares.
    images: Vec<Line>,
    bias: f64,
    change: Vec<Line>,
    change_bias: f64,
    rho: f64,
    share: f64,
}

/// Where the descent is: a, b, Ka + b, p − y, a/C + p − y.
struct State {
    point: Point,
    logits: Vec<Line>,
    pulls: Vec<Line>,
    gaps: Vec<Line>,
    pull: f64,
}

/// What a factor was made of.
struct Model {
    factor: Factor,
    weights: Vec<Line>,
    /// (K + (CW)⁻¹)⁻¹·1, and its sum.
    ones: Vec<Line>,
    sum: f64,
}

impl Kernel for Dual<'_> {
    /// The minimum and the length of the gradient there, per item; `None` where it was not reached.
    type Out = Option<(Point, f64)>;

    #[inline(always)]
    fn run<V: Lanes>(self) -> Self::Out {
        let n = self.gram.count();
        let blocks = self.targets.len();
        let ones = crate::kernels::lines((0..n).map(|_| 1.0), 0.0);
        let mut state = self.state::<V>(&ones);
        let mut model = Model::room(n);
        if self.start.is_none() {
            model.weights.fill(Line([BEFORE; 8]));
        } else {
            state.weigh::<V>(self.targets, &mut model.weights);
        }
        model.make::<V>(self.gram, self.c, &ones)?;
        let mut pairs: Vec<Pair> = Vec::with_capacity(SERVES);
        let mut used = 0;
        let mut serves = if self.start.is_none() { FIRST } else { SERVES };
        let trace: f64 = (0..n).map(|i| self.gram.at(i, i)).sum();
        let steepest = 0.25 * (trace + n as f64) + 1.0 / self.c;
        let mut limit = (self.found * n as f64).powi(2) / steepest;
        let mut ahead = vec![ZERO; blocks];
        for _ in 0..STEPS {
            if used == serves {
                state.weigh::<V>(self.targets, &mut model.weights);
                model.make::<V>(self.gram, self.c, &ones)?;
                (used, serves) = (0, SERVES);
            }
            if pairs.len() == used {
                pairs.push(Pair::room(blocks));
            }
            let (known, free) = pairs.split_at_mut(used);
            let step = &mut free[0];
            model.downhill::<V>(self.c, &state, known, step, &ones);
            let slope = dot::<V>(&state.gaps, &step.images) + state.pull * step.bias;
            // −slope estimates twice what the loss is above its minimum, and bounds the gradient by the steepest curvature.
            if slope.is_nan() || slope >= 0.0 || -slope <= limit {
                let (checked, left) = self.check::<V>(state, &ones);
                if left <= self.found || slope.is_nan() || slope >= 0.0 {
                    return settled(checked.point, left, self.found);
                }
                (state, limit) = (checked, 0.01 * limit);
                continue;
            }
            let moves = self.along::<V>(&state, step, slope, &mut ahead, &ones);
            if self.advance::<V>(&mut state, step, moves, (&ahead, &ones)) {
                used += 1;
            } else {
                break;
            }
        }
        let (checked, left) = self.check::<V>(state, &ones);
        settled(checked.point, left, self.found)
    }
}

/// A gradient a little above what was asked for may be as close as the arithmetic gets.
fn settled(point: Point, left: f64, found: f64) -> Option<(Point, f64)> {
    (left <= found.max(1e-5)).then_some((point, left))
}

impl Dual<'_> {
    #[inline(always)]
    fn state<V: Lanes>(&self, ones: &[Line]) -> State {
        let zero = vec![ZERO; self.targets.len()];
        let mut state = State {
            point: self.start.cloned().unwrap_or_else(|| Point {
                shares: zero.clone(),
                bias: 0.0,
            }),
            logits: zero.clone(),
            pulls: zero.clone(),
            gaps: zero,
            pull: 0.0,
        };
        self.refresh::<V>(&mut state, ones);
        state
    }

    /// Everything anew from the shares and the intercept.
    #[inline(always)]
    fn refresh<V: Lanes>(&self, state: &mut State, ones: &[Line]) {
        products::<V>(self.gram, &state.point.shares, &mut state.logits);
        add::<V>(&mut state.logits, state.point.bias, ones);
        for ((pull, logit), target) in state.pulls.iter_mut().zip(&state.logits).zip(self.targets) {
            let p = sigmoid(V::load(logit));
            p.sub(V::load(target)).store(pull);
        }
        state.pull = total::<V>(&state.pulls);
        state.gaps.copy_from_slice(&state.pulls);
        add::<V>(&mut state.gaps, 1.0 / self.c, &state.point.shares);
    }

    /// The state without what rounding has added up, and the gradient's length per item.
    #[inline(always)]
    fn check<V: Lanes>(&self, mut state: State, ones: &[Line]) -> (State, f64) {
        self.refresh::<V>(&mut state, ones);
        let mut images = vec![ZERO; self.targets.len()];
        products::<V>(self.gram, &state.gaps, &mut images);
        let square = dot::<V>(&state.gaps, &images).max(0.0) + state.pull * state.pull;
        (state, square.sqrt() / self.gram.count() as f64)
    }

    /// How far to go along a step: where the convex loss along it stops falling, to a tenth of its first slope. `ahead`
    /// becomes p − y there.
    #[inline(always)]
    fn along<V: Lanes>(
        &self,
        state: &State,
        step: &Pair,
        start: f64,
        ahead: &mut [Line],
        ones: &[Line],
    ) -> f64 {
        let own = dot::<V>(&step.shares, &step.images) / self.c;
        let cross = dot::<V>(&state.point.shares, &step.images) / self.c;
        let bias = V::splat(step.bias);
        let (mut low, mut high, mut t) = (0.0, f64::INFINITY, 1.0);
        for _ in 0..40 {
            let (mut first, mut second) = (V::splat(0.0), V::splat(0.0));
            let one = V::splat(1.0);
            for (i, ahead) in ahead.iter_mut().enumerate() {
                let moved = bias.mul_add(V::load(&ones[i]), V::load(&step.images[i]));
                let p = sigmoid(moved.mul_add(V::splat(t), V::load(&state.logits[i])));
                let pull = p.sub(V::load(&self.targets[i]));
                pull.store(ahead);
                first = pull.mul_add(moved, first);
                second = p.mul(one.sub(p)).mul_add(moved.mul(moved), second);
            }
            let slope = cross + t * own + first.sum();
            if slope.abs() <= 0.1 * start.abs() {
                break;
            }
            if slope < 0.0 {
                low = t;
            } else {
                high = t;
            }
            let newton = t - slope / (own + second.sum());
            let between = if high.is_finite() {
                0.5 * (low + high)
            } else {
                2.0 * t
            };
            let inside = newton > low && newton < high && newton < 4.0 * t;
            t = if inside { newton } else { between };
        }
        t
    }

    /// Takes a step and notes what it changed. False where there was no curvature left in f64.
    #[inline(always)]
    fn advance<V: Lanes>(
        &self,
        state: &mut State,
        step: &mut Pair,
        times: f64,
        (ahead, ones): (&[Line], &[Line]),
    ) -> bool {
        step.bias *= times;
        let bias = V::splat(step.bias);
        let (factor, share) = (V::splat(times), V::splat(1.0 / self.c));
        for i in 0..ahead.len() {
            let shares = V::load(&step.shares[i]).mul(factor);
            let images = V::load(&step.images[i]).mul(factor);
            let all = V::load(&state.point.shares[i]).add(shares);
            let gap = all.mul_add(share, V::load(&ahead[i]));
            gap.sub(V::load(&state.gaps[i])).store(&mut step.change[i]);
            gap.store(&mut state.gaps[i]);
            all.store(&mut state.point.shares[i]);
            let logit = V::load(&state.logits[i]).add(images);
            bias.mul_add(V::load(&ones[i]), logit)
                .store(&mut state.logits[i]);
            shares.store(&mut step.shares[i]);
            images.store(&mut step.images[i]);
        }
        state.pulls.copy_from_slice(ahead);
        let pull = total::<V>(ahead);
        state.point.bias += step.bias;
        step.change_bias = pull - state.pull;
        state.pull = pull;
        let curvature = dot::<V>(&step.change, &step.images) + step.bias * step.change_bias;
        step.rho = 1.0 / curvature;
        curvature > 0.0
    }
}

impl State {
    /// The weights p(1 − p) of the items.
    #[inline(always)]
    fn weigh<V: Lanes>(&self, targets: &[Line], weights: &mut [Line]) {
        for ((weight, pull), target) in weights.iter_mut().zip(&self.pulls).zip(targets) {
            let p = V::load(pull).add(V::load(target));
            let own = p.mul(V::splat(1.0).sub(p));
            own.max(V::splat(LEAST)).store(weight);
        }
    }
}

impl Pair {
    fn room(blocks: usize) -> Self {
        let zero = vec![ZERO; blocks];
        Self {
            shares: zero.clone(),
            images: zero.clone(),
            bias: 0.0,
            change: zero,
            change_bias: 0.0,
            rho: 0.0,
            share: 0.0,
        }
    }
}

impl Model {
    fn room(n: usize) -> Self {
        let zero = vec![ZERO; n.div_ceil(8)];
        Self {
            factor: Factor::room(n),
            weights: zero.clone(),
            ones: zero,
            sum: 0.0,
        }
    }

    /// Factors anew for the weights.
    #[inline(always)]
    fn make<V: Lanes>(&mut self, gram: &Rows, c: f64, ones: &[Line]) -> Option<()> {
        for (ridge, weight) in self.ones.iter_mut().zip(&self.weights) {
            V::splat(1.0 / c).div(V::load(weight)).store(ridge);
        }
        if !self.factor.fill::<V>(gram, &self.ones) {
            return None;
        }
        self.ones.copy_from_slice(ones);
        self.factor.solve::<V>(&mut self.ones);
        self.sum = total::<V>(&self.ones);
        Some(())
    }

    /// The two loops of L-BFGS (Nocedal 1980), Newton's step for the factor's weights between them. Fills in `step`.
    #[inline(always)]
    fn downhill<V: Lanes>(
        &self,
        c: f64,
        state: &State,
        known: &mut [Pair],
        step: &mut Pair,
        ones: &[Line],
    ) {
        let (gaps, mut pull) = (&mut step.change, state.pull);
        gaps.copy_from_slice(&state.gaps);
        for pair in known.iter_mut().rev() {
            pair.share = pair.rho * (dot::<V>(&pair.images, gaps) + pair.bias * pull);
            add::<V>(gaps, -pair.share, &pair.change);
            pull -= pair.share * pair.change_bias;
        }
        for ((share, gap), weight) in step.shares.iter_mut().zip(&*gaps).zip(&self.weights) {
            V::load(gap).div(V::load(weight)).store(share);
        }
        self.factor.solve::<V>(&mut step.shares);
        let outside = c * (total::<V>(gaps) - pull);
        step.bias = (total::<V>(&step.shares) - outside) / self.sum;
        add::<V>(&mut step.shares, -step.bias, &self.ones);
        let (penalty, bias) = (V::splat(-1.0 / c), V::splat(-step.bias));
        for i in 0..gaps.len() {
            let left = V::load(&step.shares[i]).mul_add(penalty, V::load(&gaps[i]));
            let image = left.div(V::load(&self.weights[i]));
            bias.mul_add(V::load(&ones[i]), image)
                .store(&mut step.images[i]);
        }
        for pair in known {
            let back = dot::<V>(&pair.change, &step.images) + pair.change_bias * step.bias;
            let times = pair.share - pair.rho * back;
            add::<V>(&mut step.shares, times, &pair.shares);
            add::<V>(&mut step.images, times, &pair.images);
            step.bias += times * pair.bias;
        }
        for lines in [&mut step.shares, &mut step.images] {
            for line in lines.iter_mut() {
                V::splat(0.0).sub(V::load(line)).store(line);
            }
        }
        step.bias = -step.bias;
    }
}
