//! The shim and the disk, on a program that is simpler than appm: coreutils.

use std::{fs, path::Path, process::Command};

use super::{
    build_shim,
    disk::{Disk, Image, read_journal},
};

/// Runs a shell script in a directory `data` under the shim. Returns the disk, and the directory's real files.
fn run(script: &str) -> (Disk, Image) {
    let root = tempfile::tempdir().unwrap();
    let (data, journal) = (root.path().join("data"), root.path().join("journal"));
    fs::create_dir(&data).unwrap();
    fs::write(data.join("before"), "old").unwrap();
    let mut disk = Disk::read(&data);
    let status = Command::new("sh")
        .args(["-euc", script])
        .current_dir(&data)
        .env("LD_PRELOAD", build_shim(root.path()))
        .env("POWERLOSS_ROOT", &data)
        .env("POWERLOSS_JOURNAL", &journal)
        .status();
    assert!(status.unwrap().success());
    if journal.exists() {
        read_journal(&journal).iter().for_each(|record| disk.play(record, true));
    }
    let real = Disk::read(&data).live();
    assert!(disk.live() == real, "{script}: played back {:?}, really {real:?}", disk.live());
    (disk, real)
}

/// What a power loss after the script leaves of one file, if nothing that was not synced survives.
fn survives(script: &str, file: &str) -> Option<String> {
    let image = run(script).0.after_power_loss(&mut || false);
    image.get(Path::new(file)).map(|bytes| String::from_utf8(bytes.clone()).unwrap())
}

#[test]
fn only_what_was_synced_survives_and_names_need_their_directory() {
    let cases: &[(&str, &str, Option<&str>)] = &[
        // A file that was there before is safe until it is touched.
        ("true", "before", Some("old")),
        ("printf new > before", "before", Some("old")),
        ("printf new > before; sync before", "before", Some("new")),
        ("printf new >> before; sync before; printf lost >> before", "before", Some("oldnew")),
        // A new name needs its directory, new bytes need their file.
        ("printf new > file; sync file", "file", None),
        ("printf new > file; sync .", "file", Some("")),
        ("printf new > file; sync file .", "file", Some("new")),
        ("mkdir d; printf new > d/file; sync d/file d", "d/file", None),
        ("mkdir d; printf new > d/file; sync d/file d .", "d/file", Some("new")),
        // Replacing a file by renaming.
        ("printf new > tmp; mv tmp before", "before", Some("old")),
        ("printf new > tmp; sync tmp; mv tmp before", "before", Some("old")),
        ("printf new > tmp; sync tmp; mv tmp before; sync .", "before", Some("new")),
        ("printf new > tmp; mv tmp before; sync .", "before", Some("")),
        // Removing and shortening.
        ("rm before", "before", Some("old")),
        ("rm before; sync .", "before", None),
        ("truncate -s 1 before", "before", Some("old")),
        ("truncate -s 1 before; sync before", "before", Some("o")),
        ("ln before hard; sync .", "hard", Some("old")),
        ("cp before copy; sync copy .", "copy", Some("old")),
        ("printf new | dd of=before bs=1 seek=3 conv=notrunc,fdatasync status=none", "before", Some("oldnew")),
    ];
    for (script, file, left) in cases {
        assert_eq!(survives(script, file).as_deref(), *left, "`{script}`, then the power fails: {file}");
    }
}

#[test]
fn any_part_of_what_was_not_synced_may_survive() {
    let (disk, _) = run("printf a >> before; printf b >> before; printf c >> before");
    let kept = |mut which: u8| {
        let image = disk.after_power_loss(&mut || {
            which >>= 1;
            which & 1 == 1
        });
        String::from_utf8(image[Path::new("before")].clone()).unwrap()
    };
    assert_eq!([kept(0b0010), kept(0b0100), kept(0b1010), kept(0b1110)], ["olda", "old\0b", "olda\0c", "oldabc"]);
}
