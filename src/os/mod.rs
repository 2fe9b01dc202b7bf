//! What the operating system offers: a container's CPU quota, the scheduler, files that hold secrets, names of hosts. The
//! only place with `unsafe` code.

pub mod cgroup;
pub mod names;
pub mod scheduler;
pub mod secret_file;

use std::io;

/// Why a file cannot be used, for a message to the operator: a refusal names the user of this process, because in a
/// container it is not the user that made the file.
pub fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("permission denied for user {}", rustix::process::geteuid().as_raw())
        }
        kind => kind.to_string(),
    }
}
