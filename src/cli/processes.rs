//! The processes of an instance, drawn as a tree: for `appm describe instance` and `appm top --tree`.

use crate::{
    api::{InstanceProcesses, ProcessFigures},
    client::http::Request,
};

use super::{
    context::{Context, instance_processes_path},
    error::{CliError, Exit},
    table::Table,
    top::mebibytes,
};

/// Asks for the processes of an instance. Of one that is gone by now, and of a server that knows nothing of processes, there are none.
pub(super) async fn of(context: &Context, namespace: &str, name: &str) -> Result<InstanceProcesses, CliError> {
    match context.call(Request::get(instance_processes_path(namespace, name))).await {
        Ok(answer) => Ok(serde_json::from_value(answer.json()?).unwrap_or_default()),
        Err(error) if error.exit == Exit::NotFound => Ok(InstanceProcesses::default()),
        Err(error) => Err(error),
    }
}

/// A row for each: its name below that of its parent, pid, cores, memory, threads, time.
pub(super) fn rows(processes: &InstanceProcesses) -> Vec<[String; 6]> {
    let names = names(&processes.items);
    let shown = processes.items.iter().zip(names).map(|(figures, name)| {
        [
            name,
            figures.pid.to_string(),
            format!("{:.0}m", (figures.cpu_cores * 1000.0).ceil()),
            mebibytes(figures.memory_bytes),
            figures.threads.to_string(),
            time(figures.cpu_seconds),
        ]
    });
    let mut rows: Vec<_> = shown.collect();
    let hidden = (processes.total as usize).saturating_sub(rows.len());
    if hidden > 0 {
        rows.push([
            format!("and {hidden} more"),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
        ]);
    }
    rows
}

/// The same with headings.
pub(super) fn table(processes: &InstanceProcesses) -> Table {
    let mut table = Table::new(["NAME", "PID", "CPU", "MEMORY", "THREADS", "TIME"]);
    rows(processes).into_iter().for_each(|row| table.add(row));
    table
}

/// Each name with the branch that it hangs on. Processes come each after its parent.
fn names(all: &[ProcessFigures]) -> Vec<String> {
    let parent = |figures: &ProcessFigures| all.iter().position(|other| other.pid == figures.ppid);
    let parents: Vec<Option<usize>> = all.iter().map(parent).collect();
    let is_last = |at: usize| !parents[at + 1..].contains(&parents[at]);
    let name = |(at, figures): (usize, &ProcessFigures)| {
        let mut branch = if is_last(at) { "└─ " } else { "├─ " }.to_owned();
        let mut above = parents[at];
        while let Some(parent) = above {
            branch.insert_str(0, if is_last(parent) { "   " } else { "│  " });
            above = parents[parent].filter(|grandparent| *grandparent < parent);
        }
        let ended = if figures.state == "Z" { " (ended)" } else { "" };
        format!("{branch}{}{ended}", figures.name)
    };
    all.iter().enumerate().map(name).collect()
}

/// Minutes and seconds, as ps(1) has it.
fn time(seconds: f64) -> String {
    let hundredths = (seconds * 100.0).round();
    format!("{:.0}:{:05.2}", (hundredths / 6000.0).floor(), hundredths % 6000.0 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_hang_below_their_parents() {
        let all: Vec<_> = [(1, 0, "sh"), (2, 1, "make"), (3, 2, "cc"), (4, 2, "cc"), (5, 1, "cat"), (9, 0, "left")]
            .map(|(pid, ppid, name)| ProcessFigures { pid, ppid, name: name.to_owned(), ..ProcessFigures::default() })
            .into();
        let drawn = ["├─ sh", "│  ├─ make", "│  │  ├─ cc", "│  │  └─ cc", "│  └─ cat", "└─ left"];
        assert_eq!(names(&all), drawn);
        let all = InstanceProcesses { items: all, total: 8, ..InstanceProcesses::default() };
        assert_eq!(rows(&all).last().unwrap()[0], "and 2 more");
    }

    #[test]
    fn time_is_in_minutes_and_seconds() {
        assert_eq!([0.0, 0.07, 61.5, 3600.0].map(time), ["0:00.00", "0:00.07", "1:01.50", "60:00.00"]);
    }
}
