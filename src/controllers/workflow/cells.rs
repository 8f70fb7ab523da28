//! The cells of a job: every combination of its matrix, named and bounded as `appm workflow lint` says.

use super::scope::Here;
use crate::{
    api::JobStatus,
    policy::workflow::{MOST_JOBS, matrix},
};

/// Each cell by its name, in order. A job without a matrix is its only cell. `others`: the jobs that the run has already.
///
/// # Errors
/// If the matrix cannot be evaluated, is none, or makes more jobs than a run may have.
pub(super) fn cells(here: &Here<'_>, others: usize) -> Result<Vec<(String, JobStatus)>, String> {
    let Some(place) = here.job else { return Ok(Vec::new()) };
    let Some(matrix) = place.job.strategy.as_ref().and_then(|strategy| strategy.matrix.as_ref()) else {
        return Ok(vec![(place.key.to_owned(), JobStatus::default())]);
    };
    let cells = matrix::cells(place.key, &here.json(matrix)?).map_err(|(field, why)| match field.as_str() {
        "" => format!("strategy.matrix: {why}"),
        field => format!("strategy.matrix.{field}: {why}"),
    })?;
    if others + cells.len() > MOST_JOBS {
        return Err(format!("strategy.matrix: its {} cells would make more than {MOST_JOBS} jobs", cells.len()));
    }
    let status = |cell: matrix::Cell| {
        let matrix = cell.values.into_iter().collect();
        (cell.name, JobStatus { job: place.key.to_owned(), matrix, ..JobStatus::default() })
    };
    Ok(cells.into_iter().map(status).collect())
}
