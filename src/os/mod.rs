//! What the operating system offers: a container's CPU quota, the scheduler, files that hold secrets. The only place with
//! `unsafe` code.

pub mod cgroup;
pub mod scheduler;
pub mod secret_file;
