//! How many bytes a store could have at most: what the machine, the control group and the file system have.
//!
//! Not what is free at this moment: that changes, and a daemon that starts today must start tomorrow. Only in a directory
//! free space counts, as nobody else gives back what lies there.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::statvfs;

use crate::error::{Error, Result};

/// Bytes for a store whose objects lie in a file in `directory`, or in memory.
///
/// # Errors
/// [`Error::Io`] when the system does not tell.
pub fn available(directory: Option<&Path>) -> Result<u64> {
    let Some(directory) = directory else { return memory() };
    let failed = |errno: nix::Error| Error::io(directory.display().to_string(), errno.into());
    let space = statvfs(directory).map_err(failed)?;
    let free = space.blocks_available().saturating_mul(space.fragment_size());
    match statfs(directory).map_err(failed)?.filesystem_type() {
        // One that does not tell its size, as ramfs, has what the machine has.
        _ if space.blocks() == 0 => memory(),
        TMPFS_MAGIC => Ok(free.min(memory()?)),
        _ => Ok(free),
    }
}

/// Memory of the machine, or of a control group that we are in and that may have less.
fn memory() -> Result<u64> {
    let meminfo = read("/proc/meminfo")?;
    let wrong = || Error::io("/proc/meminfo", std::io::Error::other("it has no MemTotal"));
    let machine = total(&meminfo).ok_or_else(wrong)?;
    // A kernel without control groups has no such file.
    let groups = limit_files(&read("/proc/self/cgroup").unwrap_or_default(), &read("/proc/self/mountinfo")?);
    // The file of a group without a limit says `max`, or a number beyond all memory; that of the topmost is not there.
    let limits = groups.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    Ok(limits.fold(machine, u64::min))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).map_err(|error| Error::io(path, error))
}

/// Bytes in the line `MemTotal: N kB`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The files with the limits of every control group that a process is in, and of those around them. `groups` is its
/// `/proc/PID/cgroup`, `mounts` its `/proc/PID/mountinfo`.
fn limit_files(groups: &str, mounts: &str) -> Vec<PathBuf> {
    let of_mount = |line| {
        let (file, root, mount) = group_mount(line)?;
        let own = groups.lines().find_map(|line| own_group(line, file == V2_LIMIT))?;
        // In a container the mount may show a part of the tree only, of which we are at the top.
        let below = Path::new(own).strip_prefix(root).unwrap_or(Path::new(""));
        Some(below.ancestors().map(|group| Path::new(mount).join(group).join(file)).collect::<Vec<_>>())
    };
    mounts.lines().filter_map(of_mount).flatten().collect()
}

/// The file that holds a group's limit in each version of control groups.
const V2_LIMIT: &str = "memory.max";
const V1_LIMIT: &str = "memory.limit_in_bytes";

/// From a line of mountinfo, `ID PARENT DEVICE ROOT MOUNT OPTIONS... - TYPE SOURCE OPTIONS`, where that mounts control
/// groups with memory: the file of limits, the group at the top and where it is mounted.
fn group_mount(line: &str) -> Option<(&'static str, &str, &str)> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let kind: Vec<&str> = kind.split(' ').collect();
    let file = match kind.as_slice() {
        ["cgroup2", ..] => V2_LIMIT,
        ["cgroup", _, options] if options.split(',').any(|option| option == "memory") => V1_LIMIT,
        _ => return None,
    };
    Some((file, mount.next()?, mount.next()?))
}

/// From a line `NUMBER:CONTROLLERS:GROUP`, where that is the one for memory in this version: the group.
fn own_group(line: &str, is_v2: bool) -> Option<&str> {
    let (number, rest) = line.split_once(':')?;
    let (controllers, group) = rest.split_once(':')?;
    let is_wanted = if is_v2 { number == "0" } else { controllers.split(',').any(|one| one == "memory") };
    is_wanted.then_some(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(groups: &str, mounts: &str) -> Vec<String> {
        limit_files(groups, mounts).iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn groups_of_version_2_and_those_around_them_count() {
        let mounts = "24 1 0:22 / /sys rw - sysfs sysfs rw\n\
                      30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let expected =
            ["user.slice/a.scope/", "user.slice/", ""].map(|group| format!("/sys/fs/cgroup/{group}memory.max"));
        assert_eq!(files("0::/user.slice/a.scope\n", mounts), expected);
    }

    #[test]
    fn groups_of_version_1_count_where_they_have_memory() {
        let mounts = "31 25 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      32 25 0:28 /docker/77 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      33 25 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let groups = "9:name=systemd:/\n4:memory,hugetlb:/docker/77/x\n1:cpu:/elsewhere\n0::/\n";
        let expected = ["memory/x/memory.limit_in_bytes", "memory/memory.limit_in_bytes", "unified/memory.max"];
        assert_eq!(files(groups, mounts), expected.map(|file| format!("/sys/fs/cgroup/{file}")));
        // A group outside of what is mounted: the mount's top is the best that can be seen.
        let top = ["/sys/fs/cgroup/memory/memory.limit_in_bytes"];
        assert_eq!(files("4:memory:/other", mounts), top);
    }

    #[test]
    fn odd_texts_name_no_files() {
        let mounts = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        for (groups, mounts) in
            [("", mounts), ("0::/", ""), ("0", mounts), ("0::/", "30 - cgroup2"), ("1:cpu:/", mounts)]
        {
            assert!(files(groups, mounts).is_empty(), "{groups:?} {mounts:?}");
        }
    }

    #[test]
    fn the_machine_has_memory_and_a_directory_has_room() {
        let text = fs::read_to_string("/proc/meminfo").unwrap();
        let machine = total(&text).unwrap();
        let memory = memory().unwrap();
        assert!(memory > 1 << 20 && memory <= machine, "{memory} of {machine}");
        assert!(available(Some(&std::env::temp_dir())).unwrap() > 1 << 20);
        let error = available(Some(Path::new("/no/such"))).unwrap_err().to_string();
        assert!(error.contains("/no/such"), "{error}");
        for text in ["", "MemTotal: many kB", "MemTotal: 18446744073709551615 kB"] {
            assert_eq!(total(text), None);
        }
    }
}
