//! The screens. Adding one is a folder here and a line in [`table`].

pub mod attention;
pub mod audit;
pub mod course;
pub mod diff;
pub mod directions;
pub mod features;
pub mod generate;
pub mod hooks;
pub mod lens;
pub mod models;
mod other;
mod pending;
pub mod probes;
mod run;
pub mod time;
pub mod training;
mod unready;

use super::screen::Screen;

/// All screens, in the order of their numbers.
pub fn table() -> Vec<Box<dyn Screen>> {
    vec![
        Box::new(lens::LensScreen::default()),
        Box::new(attention::AttentionScreen::default()),
        Box::new(generate::GenerateScreen::default()),
        Box::new(audit::AuditScreen::default()),
        Box::new(hooks::HooksScreen::default()),
        Box::new(models::ModelsScreen::default()),
        Box::new(training::TrainingScreen::default()),
        Box::new(directions::DirectionsScreen::default()),
        Box::new(probes::ProbesScreen::default()),
        Box::new(features::FeaturesScreen::default()),
        Box::new(time::TimeScreen::default()),
        Box::new(diff::DiffScreen::default()),
        Box::new(course::CourseScreen::default()),
    ]
}
