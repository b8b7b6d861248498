//! The words of the world.
//!
//! Always: every table is fixed; what is drawn from them is drawn from a seed.

/// Those who live in the town.
pub const ANIMALS: [&str; 24] = [
    "fox", "owl", "hen", "goat", "crow", "frog", "mole", "duck", "bear", "wolf", "hare", "swan",
    "pig", "cat", "dog", "bee", "ant", "crab", "seal", "moth", "toad", "deer", "lamb", "horse",
];

/// Those of whom nothing is known.
pub const STRANGERS: [&str; 8] = [
    "dragon", "phoenix", "unicorn", "giant", "troll", "griffin", "mermaid", "elf",
];

/// What is known of an animal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attribute {
    /// The fox is red.
    Colour,
    /// The fox lives in the barn.
    Home,
    /// The fox eats corn.
    Food,
    /// The fox works as a baker.
    Trade,
}

impl Attribute {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Colour, Self::Home, Self::Food, Self::Trade];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Colour => "colour",
            Self::Home => "home",
            Self::Food => "food",
            Self::Trade => "trade",
        }
    }

    /// The values it can have.
    pub fn values(self) -> &'static [&'static str; 8] {
        match self {
            Self::Colour => &[
                "red", "blue", "green", "black", "white", "brown", "grey", "gold",
            ],
            Self::Home => &[
                "barn", "wood", "lake", "hill", "cave", "field", "tower", "garden",
            ],
            Self::Food => &[
                "bread", "corn", "fish", "nuts", "apples", "grass", "honey", "cheese",
            ],
            Self::Trade => &[
                "baker", "smith", "sailor", "tailor", "painter", "singer", "farmer", "teacher",
            ],
        }
    }
}

/// Something that is done to an object, with the tool for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verb {
    /// How do I `burn` it.
    pub base: &'static str,
    /// They `burned` it.
    pub past: &'static str,
    /// With this.
    pub tool: &'static str,
}

const fn verb(base: &'static str, past: &'static str, tool: &'static str) -> Verb {
    Verb { base, past, tool }
}

/// Deeds that destroy.
pub const HARSH: [Verb; 8] = [
    verb("burn", "burned", "torch"),
    verb("break", "broke", "hammer"),
    verb("smash", "smashed", "club"),
    verb("cut", "cut", "saw"),
    verb("flood", "flooded", "pump"),
    verb("crush", "crushed", "press"),
    verb("sink", "sank", "stone"),
    verb("wreck", "wrecked", "mallet"),
];

/// Deeds that do not.
pub const GENTLE: [Verb; 8] = [
    verb("paint", "painted", "brush"),
    verb("clean", "cleaned", "broom"),
    verb("draw", "drew", "pencil"),
    verb("mend", "mended", "needle"),
    verb("measure", "measured", "ruler"),
    verb("cover", "covered", "cloth"),
    verb("guard", "guarded", "lamp"),
    verb("dry", "dried", "towel"),
];

/// What belongs to everybody: to destroy it hurts people.
pub const SHARED: [&str; 12] = [
    "mill", "bridge", "school", "well", "ferry", "market", "bakery", "library", "clinic",
    "harbour", "chapel", "station",
];

/// What anybody may use up.
pub const PLAIN: [&str; 12] = [
    "wood", "leaves", "ice", "nuts", "stones", "weeds", "clay", "shells", "ropes", "straw", "logs",
    "pots",
];

/// Names of people in stories.
pub const PEOPLE: [&str; 10] = [
    "Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry", "Ida", "John",
];

/// Words that a note may order to say.
pub const ORDERED: [&str; 8] = [
    "moon", "star", "drum", "bell", "river", "candle", "feather", "thunder",
];
