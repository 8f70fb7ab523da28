//! What can be suspended, and goes on when it is resumed.

use serde_json::json;

use super::{
    context::{Context, served},
    error::CliError,
    output::{self, Format, OutputArgs, without_managed_fields},
    resources::qualified,
    screen,
};
use crate::api::Kind;

/// Sets `spec.suspend` of objects of a kind, and says `word` of each, or shows it.
pub(super) async fn set<K: Kind>(
    (names, form): (&[String], &OutputArgs),
    (suspend, word): (bool, &str),
    context: &Context,
) -> Result<(), CliError> {
    for name in names {
        let patch = json!({"spec": {"suspend": suspend}});
        let object = context.patch(served::<K>(), context.namespace(), name, "", &patch).await?;
        match &form.output {
            Format::Table | Format::Wide => screen::line(format_args!("{} {word}", qualified(served::<K>(), name)))?,
            format => output::objects(format, vec![without_managed_fields(object)], false)?,
        }
    }
    Ok(())
}
