//! Gradients of variables, collected beside candle's store while [`super::backward`] runs. Candle would add each to a
//! buffer of zeros, two passes over all weights; and a recomputed block (see `checkpoint`) has no other way to give those
//! of the weights inside it.

use std::cell::RefCell;

use candle_core::{Result, Tensor, backprop::GradStore};

use crate::sum::add;

thread_local! {
    /// One for each [`super::backward`] that runs on this thread, the innermost last.
    static STORES: RefCell<Vec<GradStore>> = const { RefCell::new(Vec::new()) };
}

/// Runs `walk` with a new store, and gives back what was put there.
pub(super) fn collected<R>(walk: impl FnOnce() -> R) -> (R, GradStore) {
    /// Takes the store off however `walk` ends.
    struct Open;
    impl Drop for Open {
        fn drop(&mut self) {
            STORES.with_borrow_mut(Vec::pop);
        }
    }
    STORES.with_borrow_mut(|stores| stores.push(GradStore::default()));
    let open = Open;
    let result = walk();
    let store = STORES.with_borrow_mut(|stores| stores.last_mut().map(std::mem::take));
    drop(open);
    (result, store.unwrap_or_default())
}

/// Whether somebody collects.
pub(super) fn wanted() -> bool {
    STORES.with_borrow(|stores| !stores.is_empty())
}

/// Puts the gradient of a variable, which nobody else holds, into the store; gives it back if there is none.
pub(super) fn give(var: &Tensor, grad: Tensor) -> Result<Option<Tensor>> {
    let before = STORES.with_borrow_mut(|stores| stores.last_mut().map(|store| store.remove(var)));
    let sum = match before {
        None => return Ok(Some(grad)),
        Some(None) => grad,
        Some(Some(before)) => add(&before, &grad)?,
    };
    STORES.with_borrow_mut(|stores| stores.last_mut().map(|store| store.insert(var, sum)));
    Ok(None)
}

/// What has been found for a variable so far, off the store, for somebody who adds to it and then [`give`]s it.
pub(crate) fn take(var: &Tensor) -> Option<Tensor> {
    STORES.with_borrow_mut(|stores| stores.last_mut().and_then(|store| store.remove(var)))
}

/// Puts a whole store's gradients into the innermost open one.
pub(super) fn give_all(found: GradStore) -> Result<()> {
    STORES.with_borrow_mut(|stores| match stores.last_mut() {
        Some(store) => store.extend(found),
        None => Ok(()),
    })
}
