//! Which Apps a command works on: by name, by label, or all; and how it says what it did to one.

use clap::Args;
use serde_json::Value;

use crate::api::App;

use super::{
    context::{Context, Selection, name_of, served},
    error::CliError,
    habits,
    output::{self, Format, without_managed_fields},
    resources::{self, qualified},
    screen,
};

/// Names of Apps, `-l`, or `--all`.
#[derive(Args, Debug)]
pub(super) struct AppChoice {
    /// Names of Apps: `web`, `app/web`
    #[arg(value_name = "APP", add = super::complete::apps())]
    words: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// Every App in the namespace
    #[arg(short = 'A', long)]
    all: bool,
}

impl AppChoice {
    /// The Apps that are chosen.
    ///
    /// # Errors
    /// When none is, or one that is named is not there.
    pub(super) async fn apps(&self, context: &Context) -> Result<Vec<Value>, CliError> {
        let names = resources::apps(&self.words)?;
        let listed = self.all || !self.selection.is_empty();
        if names.is_empty() != listed {
            return Err(CliError::usage("which Apps?").help("name them, or choose by -l or --all"));
        }
        if listed {
            return Ok(context.list(served::<App>(), context.place(false), &self.selection).await?.1);
        }
        let mut apps = Vec::new();
        for name in names {
            let name = habits::own_name(&name, context).await?;
            apps.push(context.get(served::<App>(), context.namespace(), &name).await?);
        }
        Ok(apps)
    }

    /// Their names.
    pub(super) async fn names(&self, context: &Context) -> Result<Vec<String>, CliError> {
        Ok(self.apps(context).await?.iter().map(name_of).collect())
    }
}

/// Says in the form that was asked for what was done to an App: a line such as `app.appm.dev/web restarted`, or the App.
pub(super) fn done(format: &Format, name: &str, word: &str, app: Value) -> Result<(), CliError> {
    match format {
        Format::Table | Format::Wide => Ok(screen::line(format_args!("{} {word}", qualified(served::<App>(), name)))?),
        format => output::objects(format, vec![without_managed_fields(app)], false),
    }
}
