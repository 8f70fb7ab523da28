//! The selectors of lists and watches, as texts for the server and as judgement for the model.

use serde_json::Value;

use crate::harness::Dice;

/// Which objects somebody wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selector {
    All,
    Team(&'static str),
    NotTeam(&'static str),
    TeamIn(&'static [&'static str]),
    NoTeam,
    Name(&'static str),
    NotName(&'static str),
}

impl Selector {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        match dice.below(10) {
            0 => Self::Team("red"),
            1 => Self::NotTeam("red"),
            2 => Self::TeamIn(&["red", "blue"]),
            3 => Self::NoTeam,
            4 => Self::Name("a"),
            5 => Self::NotName("a"),
            _ => Self::All,
        }
    }

    /// For a URL, with the ampersand before it.
    pub(super) fn query(&self) -> String {
        match self {
            Self::All => String::new(),
            Self::Team(team) => format!("&labelSelector=team%3D{team}"),
            Self::NotTeam(team) => format!("&labelSelector=team%21%3D{team}"),
            Self::TeamIn(teams) => format!("&labelSelector=team+in+%28{}%29", teams.join("%2C")),
            Self::NoTeam => "&labelSelector=%21team".to_owned(),
            Self::Name(name) => format!("&fieldSelector=metadata.name%3D{name}"),
            Self::NotName(name) => format!("&fieldSelector=metadata.name%21%3D{name}"),
        }
    }

    pub(super) fn selects(&self, namespace: Option<&str>, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let (team, name) = (metadata["labels"]["team"].as_str(), metadata["name"].as_str().unwrap_or_default());
        let here = namespace.is_none_or(|n| metadata["namespace"] == n);
        here && match self {
            Self::All => true,
            Self::Team(wanted) => team == Some(wanted),
            Self::NotTeam(unwanted) => team != Some(unwanted),
            Self::TeamIn(wanted) => team.is_some_and(|t| wanted.contains(&t)),
            Self::NoTeam => team.is_none(),
            Self::Name(wanted) => name == *wanted,
            Self::NotName(unwanted) => name != *unwanted,
        }
    }
}
