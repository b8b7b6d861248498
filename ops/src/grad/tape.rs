//! How gradients travel between kernels. Candle's tape adds each gradient to a buffer of zeros: two passes over memory and
//! two allocations at every edge, on a pool of threads that spins beside rayon's; a quarter of a backward went there.
//!
//! So each result stands on candle's tape as two nodes: a *source* of one number, whose inputs are the sources of the
//! inputs, and the *result* itself, made from its source. Kernels that follow are joined to the source, and hand their
//! gradient over in its [`Slot`], where a first one is taken as it is. Candle's own operations see only the result, whose
//! backward puts what they found into the same slot. What always holds: candle orders the nodes, so a source runs after
//! all that gives to it; the plain [`Tensor::backward`] works, any number of times. [`super::backward`] works once: each
//! node lets go of the numbers it has read, so that what the forward kept makes room for the gradients.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, ThreadId};

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Device, Layout, Result, Shape, Tensor,
    TensorId, bail,
};

use super::{Backward, leaves, tracks};
use crate::sum::add;

/// The kernel's result `values` as a tensor, on the tape if an input is; at most three inputs may be.
pub(crate) fn record(
    inputs: &[&Tensor],
    shape: impl Into<Shape>,
    values: Vec<f32>,
    backward: impl Backward,
) -> Result<Tensor> {
    record_storage(inputs, shape.into(), CpuStorage::F32(values), backward)
}

/// As [`record`], for a result of any type.
pub(crate) fn record_storage<B: Backward>(
    inputs: &[&Tensor],
    shape: Shape,
    values: CpuStorage,
    backward: B,
) -> Result<Tensor> {
    let slot = Arc::new(Slot {
        shape: shape.clone(),
        grads: Mutex::default(),
    });
    let entries: Vec<Option<Arc<Entry>>> = inputs.iter().map(|x| find(x)).collect();
    let source = Source {
        backward,
        inputs: Mutex::new(
            inputs
                .iter()
                .zip(&entries)
                .map(|(&x, entry)| match entry {
                    Some(entry) if !B::READS => entry.source.clone(),
                    _ => x.clone(),
                })
                .collect(),
        ),
        slots: entries
            .iter()
            .map(|e| Some(e.as_ref()?.slot.clone()))
            .collect(),
        slot: slot.clone(),
    };
    let joined: Vec<Tensor> = inputs
        .iter()
        .zip(&entries)
        .filter(|(x, _)| tracks(x))
        .map(|(x, entry)| entry.as_ref().map_or((*x).clone(), |e| e.source.clone()))
        .collect();
    let source = match joined.as_slice() {
        [a] => a.apply_op1(source)?,
        [a, b] => a.apply_op2(b, source)?,
        [a, b, c] => a.apply_op3(b, c, source)?,
        _ => bail!(
            "{}: {} inputs track, expected 1 to 3",
            B::NAME,
            joined.len()
        ),
    };
    let entry = Arc::new(Entry {
        source: source.clone(),
        slot,
        names: Mutex::default(),
    });
    let result = source.apply_op1(Reveal {
        ready: Mutex::new(Some((values, shape))),
        entry: entry.clone(),
    })?;
    entry.name(&result);
    Ok(result)
}

/// The same numbers in another shape. As [`Tensor::reshape`], but a kernel's result keeps its direct way to the kernels
/// that follow.
///
/// # Errors
/// Another number of elements.
pub fn reshape(x: &Tensor, shape: impl Into<Shape>) -> Result<Tensor> {
    let y = x.reshape(shape.into())?;
    if let Some(entry) = find(x).filter(|_| x.is_contiguous()) {
        entry.name(&y);
    }
    Ok(y)
}

/// Gradients of a result on their way, one for each thread that runs a backward.
struct Slot {
    shape: Shape,
    grads: Mutex<Vec<(ThreadId, Tensor)>>,
}

impl Slot {
    /// Adds a gradient, in the order of the calls.
    fn give(&self, grad: Tensor) -> Result<()> {
        let grad = grad.reshape(&self.shape)?.detach();
        let (mut grads, own) = (lock(&self.grads), thread::current().id());
        match grads.iter_mut().find(|(thread, _)| *thread == own) {
            Some((_, sum)) => *sum = add(sum, &grad)?,
            None => grads.push((own, grad)),
        }
        Ok(())
    }

    fn take(&self) -> Option<Tensor> {
        let (mut grads, own) = (lock(&self.grads), thread::current().id());
        let at = grads.iter().position(|(thread, _)| *thread == own)?;
        Some(grads.swap_remove(at).1)
    }
}

/// What is known of a result by its identity; it lives as long as the result's storage is on the tape.
struct Entry {
    source: Tensor,
    slot: Arc<Slot>,
    /// The result's own identity and those of its reshaped views.
    names: Mutex<Vec<TensorId>>,
}

impl Entry {
    fn name(self: &Arc<Self>, x: &Tensor) {
        lock(&self.names).push(x.id());
        lock(registry()).insert(x.id(), Arc::downgrade(self));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let names = std::mem::take(&mut *lock(&self.names));
        let mut registry = lock(registry());
        for name in names {
            registry.remove(&name);
        }
    }
}

/// Results on the tape by identity; candle's tensors have no room for it themselves.
fn registry() -> &'static Mutex<HashMap<TensorId, Weak<Entry>>> {
    static REGISTRY: OnceLock<Mutex<HashMap<TensorId, Weak<Entry>>>> = OnceLock::new();
    REGISTRY.get_or_init(Mutex::default)
}

fn find(x: &Tensor) -> Option<Arc<Entry>> {
    // The guard is let go before the entry can be, whose drop locks again.
    let found = lock(registry()).get(&x.id()).map(Weak::clone);
    found?.upgrade()
}

/// The data behind these locks is whole after every statement, so a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a node of one number holds, and gives back as its gradient.
fn nought() -> Result<Tensor> {
    Tensor::zeros(1, DType::F32, &Device::Cpu)
}

/// The node of one number.
struct Source<B> {
    backward: B,
    /// The inputs, or the sources of those whose numbers are not read. None are left after [`super::backward`].
    inputs: Mutex<Vec<Tensor>>,
    /// For each input that is a kernel's result, where its gradient goes.
    slots: Vec<Option<Arc<Slot>>>,
    slot: Arc<Slot>,
}

impl<B: Backward> Source<B> {
    /// The gradients of the inputs that track, in their order: as they are, or a nought for those that went into a slot.
    fn back<const N: usize>(&self) -> Result<[Option<Tensor>; N]> {
        let Some(grad) = self.slot.take() else {
            bail!("{}: its result got no gradient", B::NAME);
        };
        let inputs = if leaves::wanted() {
            std::mem::take(&mut *lock(&self.inputs))
        } else {
            lock(&self.inputs).clone()
        };
        if inputs.is_empty() {
            bail!(
                "{}: its inputs are gone: candlescope_ops::backward has run over this loss, and runs once",
                B::NAME
            );
        }
        let read: Vec<&Tensor> = inputs.iter().collect();
        let grads = self.backward.gradients(&read, &grad)?;
        drop(grad);
        let mut given = Vec::with_capacity(N);
        for ((input, slot), grad) in inputs.iter().zip(&self.slots).zip(grads) {
            if !tracks(input) {
                continue;
            }
            given.push(match (slot, grad) {
                (Some(slot), Some(grad)) => {
                    slot.give(grad)?;
                    Some(nought()?)
                }
                (None, Some(grad)) if input.is_variable() => {
                    let own = if B::FRESH { grad } else { grad.copy()? };
                    leaves::give(input, own)?
                }
                (_, grad) => grad,
            });
        }
        match given.try_into() {
            Ok(given) => Ok(given),
            Err(_) => bail!("{}: its backward has not one gradient an input", B::NAME),
        }
    }
}

fn one_number() -> (CpuStorage, Shape) {
    (CpuStorage::F32(vec![0.0]), Shape::from(1))
}

impl<B: Backward> CustomOp1 for Source<B> {
    fn name(&self) -> &'static str {
        B::NAME
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(one_number())
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        let [a] = self.back()?;
        Ok(a)
    }
}

impl<B: Backward> CustomOp2 for Source<B> {
    fn name(&self) -> &'static str {
        B::NAME
    }
    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(one_number())
    }
    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [a, b] = self.back()?;
        Ok((a, b))
    }
}

impl<B: Backward> CustomOp3 for Source<B> {
    fn name(&self) -> &'static str {
        B::NAME
    }
    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(one_number())
    }
    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [a, b, c] = self.back()?;
        Ok((a, b, c))
    }
}

/// The node of the result. Only candle's own operations ask for its backward.
struct Reveal {
    /// Until candle has taken it.
    ready: Mutex<Option<(CpuStorage, Shape)>>,
    entry: Arc<Entry>,
}

impl CustomOp1 for Reveal {
    fn name(&self) -> &'static str {
        "result"
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        match lock(&self.ready).take() {
            Some(result) => Ok(result),
            None => bail!("result: taken twice"),
        }
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        self.entry.slot.give(grad.clone())?;
        Ok(Some(nought()?))
    }
}
