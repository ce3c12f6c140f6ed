//! Why something could not be served.
//!
//! Invariant: every variant names the place.
//! Never here: hints and exit codes; `cli` derives them.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a mount or server did not come to be, or did not end in good order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// There is nothing at the mount point.
    #[error("mount point {} is not there", .path.display())]
    PointMissing {
        /// The mount point.
        path: PathBuf,
    },
    /// The mount point is no folder.
    #[error("mount point {} is not a folder", .path.display())]
    PointNoFolder {
        /// The mount point.
        path: PathBuf,
    },
    /// The mount point is not empty.
    #[error("mount point {} is not empty", .path.display())]
    PointNotEmpty {
        /// The mount point.
        path: PathBuf,
    },
    /// Something is mounted there.
    #[error("{what} is mounted on {} already", .path.display())]
    PointMounted {
        /// The mount point.
        path: PathBuf,
        /// The kind of file system.
        what: String,
    },
    /// What was mounted there has no process any more, and is not ours.
    #[error("what is mounted on {} does not answer: its process has ended", .path.display())]
    PointDead {
        /// The mount point.
        path: PathBuf,
    },
    /// The mount point and a repository overlap.
    #[error("mount point {} overlaps the repository in {}", .path.display(), .repository.display())]
    PointOverlaps {
        /// The mount point.
        path: PathBuf,
        /// The repository.
        repository: PathBuf,
    },
    /// The mount point cannot be looked at.
    #[error("mount point {} cannot be read", .path.display())]
    Point {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel has no FUSE.
    #[error("this system has no /dev/fuse, so nothing can be mounted")]
    FuseMissing,
    /// This user may not use FUSE.
    #[error("this user may not open /dev/fuse, so nothing can be mounted")]
    FuseForbidden,
    /// Who is not root needs a helper that is not installed.
    #[error("fusermount3 is not installed, without which only root can mount")]
    FuseHelperMissing,
    /// Others may look only if the system's administrator allows that.
    #[error("--allow-other is not allowed to users other than root on this system")]
    OthersForbidden,
    /// The system refused.
    #[error("{} cannot be mounted on", .path.display())]
    Mount {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system refused to unmount.
    #[error("{} cannot be unmounted", .path.display())]
    Unmount {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than this machine would reach an address.
    #[error("other machines can reach {address}, and whoever does would read every snapshot without a password")]
    AddressExposed {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be had.
    #[error("nothing can listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A job panicked: a bug.
    #[error(transparent)]
    Panicked(#[from] source::blocking::Panicked),
}
