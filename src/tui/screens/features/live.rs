//! The oscilloscope on the features screen: opened on the chosen latents, it has the screen until Esc.
//!
//! Always: while it is open the screen asks nothing of its own, so that every failure that comes back is the pane's.

use super::FeaturesScreen;
use super::scope::ScopePane;
use crate::tui::screen::Context;

/// Opens it as soon as nothing else is waited for.
pub(super) fn open(screen: &mut FeaturesScreen, cx: &mut Context) {
    screen.opening = true;
    begin(screen, cx);
}

/// Lanes begin with the latents that are turned, and the chosen one; without any they follow the prompt.
pub(super) fn begin(screen: &mut FeaturesScreen, cx: &mut Context) {
    let Some(open) = screen.open.as_ref().filter(|_| screen.opening) else {
        return;
    };
    if screen.pending.waits() {
        return;
    }
    let mut latents: Vec<usize> = screen.turned.iter().map(|edit| edit.latent).collect();
    if let Some(latent) = screen.page.last().copied()
        && !latents.contains(&latent)
    {
        latents.push(latent);
    }
    let mut pane = ScopePane::new(open.splice.clone(), &latents);
    pane.refresh(cx);
    (screen.pane, screen.opening) = (Some(pane), false);
}

/// Esc: stops what is generated, then closes the pane.
pub(super) fn cancel(screen: &mut FeaturesScreen, cx: &mut Context) -> bool {
    let Some(pane) = &mut screen.pane else {
        return std::mem::take(&mut screen.opening);
    };
    if !pane.cancel(cx) {
        close(screen, cx);
    }
    true
}

pub(super) fn close(screen: &mut FeaturesScreen, cx: &mut Context) {
    if let Some(mut pane) = screen.pane.take() {
        pane.close(cx);
    }
    screen.opening = false;
}

/// What it says of the token under its cursor.
pub(super) fn spoken(screen: &FeaturesScreen) -> Option<Vec<String>> {
    let name = |latent: usize| screen.label(latent).map(|(text, _)| text);
    Some(screen.pane.as_ref()?.spoken(&name))
}
