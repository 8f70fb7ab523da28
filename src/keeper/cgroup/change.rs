//! Other limits for an attempt that runs, written into the groups that it was started in.

use std::{io, path::PathBuf};

use super::{Controller, Group, Setting, denied, limits, limits::Version, look::working_set, write};
use crate::drivers::{LimitError, Limits};

impl Group {
    /// Gives everybody in it other limits, in force at once; what is not limited any more is lifted.
    ///
    /// # Errors
    /// When it uses more memory than it may have then, or was started without a group for what is to be limited. What can be
    /// changed is changed all the same.
    pub(in crate::keeper) fn change(&self, wanted: &Limits) -> Result<(), LimitError> {
        if let Some(limit) = wanted.memory {
            // The kernel's second version would end processes, the first would try for long to make room.
            let used = self.dirs.iter().find_map(|dir| working_set(dir)).unwrap_or(0);
            if used > limit {
                return Err(LimitError::InUse(memory_in_use(used, limit)));
            }
        }
        let (mut left, missing) = self.settings(wanted);
        // Twice: one of two limits that hang together (memory, and memory with swap) must be moved before the other.
        let mut refused = None;
        for _turn in 0..2 {
            refused = None;
            left.retain(|(path, setting)| match write(path, &setting.value) {
                Ok(()) => false,
                Err(error) => {
                    if setting.required {
                        refused = Some((path.clone(), setting.value.clone(), error));
                    }
                    true
                }
            });
        }
        match (refused, missing) {
            (Some((_, _, error)), _) if error.kind() == io::ErrorKind::ResourceBusy => {
                let limit = wanted.memory.unwrap_or(0);
                Err(LimitError::InUse(memory_in_use(
                    self.dirs.iter().find_map(|dir| working_set(dir)).unwrap_or(limit),
                    limit,
                )))
            }
            (Some((path, value, error)), _) => {
                Err(LimitError::Unavailable(denied(&format!("write {value} to"), &path, &error).to_string()))
            }
            (None, Some(file)) => Err(LimitError::Unavailable(format!(
                "it was started without a control group that has `{file}`: it gets its limits when it is restarted"
            ))),
            (None, None) => Ok(()),
        }
    }

    /// What to write where; and a file that is needed and not there.
    fn settings(&self, wanted: &Limits) -> (Vec<(PathBuf, Setting)>, Option<&'static str>) {
        let (mut found, mut missing) = (Vec::new(), None);
        let version = |dir: &PathBuf| if dir.join("cgroup.controllers").exists() { Version::V2 } else { Version::V1 };
        for controller in Controller::ALL {
            let in_dirs = self.dirs.iter().flat_map(|dir| {
                let settings = limits::settings(controller, wanted, version(dir));
                settings.into_iter().chain(limits::lifted(controller, wanted, version(dir))).map(move |s| (dir, s))
            });
            let there = in_dirs.filter_map(|(dir, setting)| {
                let path = setting.files.iter().map(|file| dir.join(file)).find(|path| path.exists())?;
                Some((path, setting))
            });
            let there: Vec<_> = there.collect();
            if limits::needed(wanted).contains(&(controller, true)) && there.is_empty() {
                missing = limits::settings(controller, wanted, Version::V2).first().map(|setting| setting.files[0]);
            }
            found.extend(there);
        }
        (found, missing)
    }
}

/// The sentence of a refusal.
pub fn memory_in_use(used: u64, limit: u64) -> String {
    let mebi = |bytes: u64| bytes.div_ceil(1 << 20);
    format!("it uses {} MiB of memory, which is more than the {} MiB that it is to have", mebi(used), mebi(limit))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A group of plain files.
    fn group(files: &[(&str, &str)]) -> (tempfile::TempDir, Group) {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| fs::write(dir.path().join(name), text).unwrap());
        let dirs = vec![dir.path().to_owned()];
        (dir, Group { dirs })
    }

    #[test]
    fn limits_are_moved_and_lifted_in_the_files_of_each_version() {
        let two = [
            ("cgroup.controllers", ""),
            ("memory.current", "9"),
            ("memory.max", ""),
            ("cpu.max", ""),
            ("pids.max", ""),
        ];
        let one =
            [("memory.limit_in_bytes", ""), ("cpu.cfs_quota_us", ""), ("cpu.cfs_period_us", ""), ("pids.max", "")];
        let wanted = Limits { memory: Some(4096), pids: Some(7), ..Limits::default() };
        for (files, read) in [
            (&two[..], [("memory.max", "4096"), ("cpu.max", "max 100000"), ("pids.max", "7")]),
            (&one, [("memory.limit_in_bytes", "4096"), ("cpu.cfs_quota_us", "-1"), ("pids.max", "7")]),
        ] {
            let (dir, group) = group(files);
            assert_eq!(group.change(&wanted), Ok(()));
            for (name, text) in read {
                assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), text, "{name}");
            }
        }
    }

    #[test]
    fn less_memory_than_is_used_and_what_has_no_group_is_refused() {
        let (_dir, small) = group(&[("cgroup.controllers", ""), ("memory.current", "9000000"), ("memory.max", "")]);
        let less = Limits { memory: Some(1 << 20), ..Limits::default() };
        let said = "it uses 9 MiB of memory, which is more than the 1 MiB that it is to have";
        assert_eq!(small.change(&less), Err(LimitError::InUse(said.to_owned())));
        let other = Limits { pids: Some(1), ..Limits::default() };
        assert!(matches!(small.change(&other), Err(LimitError::Unavailable(why)) if why.contains("`pids.max`")));
        assert!(matches!(Group::default().change(&less), Err(LimitError::Unavailable(_))));
        assert_eq!(Group::default().change(&Limits::default()), Ok(()));
    }
}
