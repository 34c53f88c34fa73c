//! A Kho that sees a small disk of its own, which a test can fill and write-protect.
//!
//! What it is: the server runs in a mount namespace (Linux), where a folder is a `tmpfs` of a few
//! megabytes. The account of the tests is root, or may make user namespaces.
//! What it guarantees: the rest of the machine does not see the disk, and it is gone with the
//! server, however that ends.
//! On failure: it panics with what the system said, so that a machine that cannot do it is known.

use std::fs::{File, remove_file};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::output::run;

/// The view of the process `id` on its disks.
pub struct View {
    id: u32,
}

/// `command`, run where `folder` is a disk of `mebibytes`.
pub fn on_small_disk(command: &Command, folder: &Path, mebibytes: u32) -> Command {
    const SCRIPT: &str = "mkdir -p \"$KHO_TESTS_DISK\" \
         && mount -t tmpfs -o \"size=$KHO_TESTS_SIZE\" none \"$KHO_TESTS_DISK\" \
         && unset KHO_TESTS_DISK KHO_TESTS_SIZE && exec \"$@\"";
    let mut apart = Command::new("unshare");
    if !is_root() {
        apart.args(["--user", "--map-root-user"]);
    }
    apart.args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT, "sh"]);
    apart.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => apart.env(name, value),
            None => apart.env_remove(name),
        };
    }
    apart.env("KHO_TESTS_DISK", folder).env("KHO_TESTS_SIZE", format!("{mebibytes}m"));
    apart
}

impl View {
    pub fn of(id: u32) -> View {
        View { id }
    }

    /// What the process calls `path`, for us.
    pub fn path(&self, path: &Path) -> PathBuf {
        let below = path.strip_prefix("/").unwrap_or(path);
        Path::new("/proc").join(self.id.to_string()).join("root").join(below)
    }

    /// Takes the last byte of the disk that holds `folder`.
    pub fn fill(&self, folder: &Path) {
        let path = self.path(folder).join("filler");
        let mut file = File::create(path).unwrap_or_else(|error| panic!("no filler: {error}"));
        for size in [1 << 20, 1 << 16, 1 << 12, 1] {
            let zeros = vec![0_u8; size];
            while file.write_all(&zeros).is_ok() {}
        }
    }

    /// Gives it back.
    pub fn free(&self, folder: &Path) {
        let removed = remove_file(self.path(folder).join("filler"));
        removed.unwrap_or_else(|error| panic!("the filler stays: {error}"));
    }

    /// Makes `folder` one that can only be read, for files that are not open yet.
    pub fn protect(&self, folder: &Path) {
        self.shell(folder, "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\"");
    }

    /// Undoes [`View::protect`].
    pub fn release(&self, folder: &Path) {
        self.shell(folder, "umount --lazy \"$0\"");
    }

    fn shell(&self, folder: &Path, script: &str) {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.id.to_string());
        if !is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.args(["--mount", "sh", "-c", script]).arg(folder);
        run(&mut command, "", Duration::from_secs(60)).expect_success();
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0)
}
