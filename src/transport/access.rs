//! Who may connect to a store: mode and group of its socket, and what is asked of the credentials of each peer.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::socket::UnixCredentials;
use nix::unistd::{Gid, Group, fchownat, getuid};

use crate::error::{Error, Result};

/// Mode of a socket for its user alone, and for its group as well.
const PRIVATE: u32 = 0o600;
const SHARED_WITH_GROUP: u32 = 0o660;
/// To connect is to write, says the kernel: the bits that let others than the user in.
const OTHERS_MAY_CONNECT: u32 = 0o022;

/// Who may connect. By default the user of the store, and root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    mode: u32,
    group: Option<Gid>,
}

impl Default for Access {
    fn default() -> Self {
        Self { mode: PRIVATE, group: None }
    }
}

impl Access {
    /// A socket of `mode`, an octal number, that belongs to `group`, a name or a number. With a group and no mode the
    /// group may connect.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming a mode that is none or shuts the store's own user out, or an unknown group.
    pub fn new(mode: Option<&str>, group: Option<&str>) -> Result<Self> {
        let default = if group.is_some() { SHARED_WITH_GROUP } else { PRIVATE };
        let mode = mode.map_or(Ok(default), parse_mode)?;
        Ok(Self { mode, group: group.map(find_group).transpose()? })
    }

    /// Gives the socket file at `path`, which was made for the user alone, its group and mode. `identity` is its device
    /// and inode: should another file lie there by now, or a link to one, that is left as it is.
    ///
    /// # Errors
    /// [`Error::Io`], such as EPERM for a group that the user is not in.
    pub fn grant(self, path: &Path, identity: Option<(u64, u64)>) -> Result<()> {
        if self == Self::default() {
            return Ok(());
        }
        let failed = |what: &str, error| Error::io(format!("{what} of {}", path.display()), error);
        let file = open_itself(path).map_err(|error| failed("open", error))?;
        let found = file.metadata().map_err(|error| failed("fstat", error))?;
        if identity != Some((found.dev(), found.ino())) {
            return Err(Error::AddressInUse(format!("{} was replaced by another file", path.display())));
        }
        fchownat(&file, "", None, self.group, AtFlags::AT_EMPTY_PATH)
            .map_err(|errno| failed("change of the group", errno.into()))?;
        // A descriptor made with O_PATH has no fchmod; this is the way to the file that it stands for.
        fs::set_permissions(format!("/proc/self/fd/{}", file.as_raw_fd()), Permissions::from_mode(self.mode))
            .map_err(|error| failed("chmod", error))
    }

    /// Lets a peer in or not. Where the mode is for others too, the kernel has asked who they are. Where it is not, who
    /// comes here came past the mode: it was changed meanwhile, or the peer may ignore modes.
    ///
    /// # Errors
    /// [`Error::Io`] with EACCES, naming process and user, for whoever may not connect.
    pub fn admit(self, peer: &UnixCredentials) -> Result<()> {
        let uid = peer.uid();
        if uid == getuid().as_raw() || uid == 0 || self.mode & OTHERS_MAY_CONNECT != 0 {
            return Ok(());
        }
        let who = format!("process {} (uid {uid}) at a socket of mode {:04o}", peer.pid(), self.mode);
        Err(Error::io(who, Errno::EACCES.into()))
    }
}

fn parse_mode(text: &str) -> Result<u32> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| mode & !0o777 == 0 && mode & PRIVATE == PRIVATE);
    let wrong = || format!("mode {text}: not an octal number from 600 to 777 in which the user may read and write");
    mode.ok_or_else(|| Error::InvalidArgument(wrong()))
}

fn find_group(name: &str) -> Result<Gid> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    let found = Group::from_name(name).map_err(|errno| Error::io(format!("look-up of group {name}"), errno.into()))?;
    found.map(|group| group.gid).ok_or_else(|| Error::InvalidArgument(format!("there is no group {name}")))
}

/// The file at `path` itself, also where it is a link or a socket. The descriptor only says which file is meant.
fn open_itself(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_and_never_shut_the_user_out() {
        for (text, mode) in [("600", 0o600), ("0660", 0o660), ("777", 0o777)] {
            assert_eq!(Access::new(Some(text), None).unwrap().mode, mode);
        }
        for text in ["", "rw", "608", "060", "0", "1600", "4600", "-600", "99999999999"] {
            let error = Access::new(Some(text), None).unwrap_err().to_string();
            assert!(error.contains(&format!("mode {text}:")), "{error}");
        }
    }

    #[test]
    fn a_group_is_a_name_or_a_number_and_may_connect() {
        let access = Access::new(None, Some("root")).unwrap();
        assert_eq!(access, Access { mode: 0o660, group: Some(Gid::from_raw(0)) });
        assert_eq!(access, Access::new(Some("660"), Some("0")).unwrap());
        let error = Access::new(None, Some("no-such-group")).unwrap_err().to_string();
        assert!(error.contains("no-such-group"), "{error}");
    }

    #[test]
    fn strangers_are_let_in_only_by_a_mode_for_others() {
        let peer = |uid| UnixCredentials::from(libc::ucred { pid: 77, uid, gid: uid });
        let stranger = getuid().as_raw() + 4321;
        for own in [0, getuid().as_raw()] {
            Access::default().admit(&peer(own)).unwrap();
        }
        let error = Access::new(Some("644"), None).unwrap().admit(&peer(stranger)).unwrap_err().to_string();
        assert!(error.contains("process 77") && error.contains(&format!("uid {stranger}")), "{error}");
        for mode in ["660", "606", "666"] {
            Access::new(Some(mode), None).unwrap().admit(&peer(stranger)).unwrap();
        }
    }

    #[test]
    fn a_link_in_the_place_of_the_socket_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, victim) = (directory.path().join("s"), directory.path().join("victim"));
        fs::write(&victim, b"").unwrap();
        fs::set_permissions(&victim, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        let metadata = fs::metadata(&victim).unwrap();
        let access = Access::new(Some("666"), None).unwrap();
        assert!(access.grant(&path, Some((metadata.dev(), metadata.ino()))).is_err());
        assert_eq!(fs::metadata(&victim).unwrap().mode() & 0o777, 0o600);
    }
}
